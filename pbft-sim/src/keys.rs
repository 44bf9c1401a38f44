//! Signatures of a simulation: keyed SHA-256 behind the same traits as ed25519, many times cheaper.
//!
//! A signer holds its own key only, so a traitor cannot sign for anyone else; the verifier stands for the
//! mathematics and knows them all. Every twentieth seed uses ed25519 instead (PITFALLS N2).

use std::sync::{Arc, Mutex, PoisonError};

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use curve25519_dalek::traits::IsIdentity;
use pbft_core::cluster::{Cluster, ClusterConfig};
use pbft_core::crypto::{Author, Claim, Ed25519Signer, Ed25519Verifier, Signer, Verifier};
use pbft_core::limits::ConfigError;
use pbft_core::types::{ClientId, PublicKey, ReplicaId, Signature};
use sha2::{Digest as _, Sha256, Sha512};

use crate::options::Options;

/// The cluster of a run and everything that signs and verifies in it.
pub struct Keys {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Judges all signatures.
    pub verifier: Arc<dyn Verifier>,
    seed: u64,
    ed25519: bool,
    lax: Lax,
}

/// The first signature that was accepted although the one strict rule refuses it (PITFALLS I1).
pub type Lax = Arc<Mutex<Option<String>>>;

impl Keys {
    /// Derives all keys from the seed.
    ///
    /// # Errors
    /// Options that make no cluster.
    pub fn new(options: &Options) -> Result<Self, ConfigError> {
        let Options { seed, ed25519, .. } = *options;
        let public = |author| match ed25519 {
            true => Ed25519Signer::from_seed(&secret(seed, author)).public(),
            false => PublicKey(Sha256::digest(secret(seed, author)).into()),
        };
        let count = |count: usize| 0..u32::try_from(count).unwrap_or(0);
        let replicas = count(options.replicas).map(|id| Author::Replica(ReplicaId(id)));
        let clients = count(options.clients).map(|id| Author::Client(ClientId(id)));
        let cluster = Arc::new(Cluster::new(ClusterConfig {
            name: format!("simulation {seed}"),
            members: replicas.map(public).collect(),
            clients: clients.map(public).collect(),
            constants: options.constants.clone(),
            development: options.replicas < 4,
        })?);
        let lax = Lax::default();
        let verifier: Arc<dyn Verifier> = match ed25519 {
            true => Arc::new(Watched {
                verifier: Ed25519Verifier::new(&cluster)?,
                cluster: Arc::clone(&cluster),
                lax: Arc::clone(&lax),
            }),
            false => Arc::new(KeyedVerifier { seed, cluster: Arc::clone(&cluster) }),
        };
        Ok(Keys { cluster, verifier, seed, ed25519, lax })
    }

    /// The signer of one author: its own key and no other.
    pub fn signer(&self, author: Author) -> Arc<dyn Signer> {
        let secret = secret(self.seed, author);
        match self.ed25519 {
            true => Arc::new(Ed25519Signer::from_seed(&secret)),
            false => Arc::new(KeyedSigner(secret)),
        }
    }
}

impl Keys {
    /// The same key for signatures that no correct signer makes, if signatures are ed25519.
    pub fn edge(&self, author: Author) -> Option<Arc<EdgeSigner>> {
        let secret = secret(self.seed, author);
        self.ed25519.then(|| Arc::new(EdgeSigner::new(&secret)))
    }

    /// Where a signature shows up that was accepted although the one strict rule refuses it.
    pub fn lax(&self) -> &Lax {
        &self.lax
    }
}

/// An ed25519 key in the hands of someone who signs otherwise than RFC 8032 says.
pub struct EdgeSigner {
    scalar: Scalar,
    public: [u8; 32],
}

impl EdgeSigner {
    fn new(seed: &[u8; 32]) -> EdgeSigner {
        let hash: [u8; 64] = Sha512::digest(seed).into();
        let low: [u8; 32] = std::array::from_fn(|at| hash.get(at).copied().unwrap_or(0));
        let scalar = Scalar::from_bytes_mod_order(clamp_integer(low));
        let public = EdwardsPoint::mul_base(&scalar).compress().to_bytes();
        EdgeSigner { scalar, public }
    }

    fn sign(&self, preimage: &[u8], nonce: &Scalar) -> Signature {
        let point = EdwardsPoint::mul_base(nonce).compress().to_bytes();
        let mut hasher = Sha512::new();
        hasher.update(point);
        hasher.update(self.public);
        hasher.update(preimage);
        let challenge = Scalar::from_bytes_mod_order_wide(&hasher.finalize().into());
        let answer = (nonce + challenge * self.scalar).to_bytes();
        let mut bytes = [0; 64];
        let both = point.iter().chain(&answer);
        bytes.iter_mut().zip(both).for_each(|(out, byte)| *out = *byte);
        Signature(bytes)
    }

    /// A signature whose point is the neutral element: good for a lax verifier, refused by a strict one.
    pub fn of_small_order(&self, preimage: &[u8]) -> Signature {
        self.sign(preimage, &Scalar::ZERO)
    }

    /// A signature as good as any other and of other bytes, for every `number` (PITFALLS I4).
    pub fn again(&self, preimage: &[u8], number: u64) -> Signature {
        self.sign(preimage, &Scalar::from(number.saturating_add(2)))
    }
}

/// Sees to it that nothing is accepted which the one rule refuses, by another implementation of what is strict
/// in it: both points canonical and of large order, the scalar below the order of the group.
struct Watched {
    verifier: Ed25519Verifier,
    cluster: Arc<Cluster>,
    lax: Lax,
}

fn is_sound(point: &[u8]) -> bool {
    let point = CompressedEdwardsY::from_slice(point).ok();
    point.is_some_and(|compressed| {
        let large = |point: &EdwardsPoint| !point.mul_by_cofactor().is_identity();
        let canonical = |point: &EdwardsPoint| point.compress() == compressed;
        compressed.decompress().is_some_and(|point| large(&point) && canonical(&point))
    })
}

pub(crate) fn is_strict(key: &PublicKey, signature: &Signature) -> bool {
    let (point, answer) = signature.0.split_at(32);
    let below_order = <[u8; 32]>::try_from(answer)
        .is_ok_and(|answer| Scalar::from_canonical_bytes(answer).is_some().into());
    is_sound(&key.0) && is_sound(point) && below_order
}

impl Verifier for Watched {
    fn verify(&self, author: Author, preimage: &[u8], signature: &Signature) -> bool {
        self.verify_each(&[Claim { author, preimage, signature }]) == [true]
    }

    fn verify_each(&self, claims: &[Claim<'_>]) -> Vec<bool> {
        let verdicts = self.verifier.verify_each(claims);
        let accepted = claims.iter().zip(&verdicts).filter(|(_, accepted)| **accepted);
        for (Claim { author, signature, .. }, _) in accepted {
            let (keys, index) = match author {
                Author::Replica(replica) => (self.cluster.members(), replica.0),
                Author::Client(client) => (self.cluster.clients(), client.0),
            };
            let key = usize::try_from(index).ok().and_then(|index| keys.get(index));
            if !key.is_some_and(|key| is_strict(key, signature)) {
                let mut lax = self.lax.lock().unwrap_or_else(PoisonError::into_inner);
                lax.get_or_insert_with(|| format!("a signature of {author:?}: {signature:?}"));
            }
        }
        verdicts
    }
}

fn secret(seed: u64, author: Author) -> [u8; 32] {
    let (tag, id) = match author {
        Author::Replica(replica) => (0_u8, replica.0),
        Author::Client(client) => (1, client.0),
    };
    let mut hasher = Sha256::new();
    hasher.update(b"simulated key");
    hasher.update(seed.to_le_bytes());
    hasher.update([tag]);
    hasher.update(id.to_le_bytes());
    hasher.finalize().into()
}

fn tag(secret: &[u8; 32], preimage: &[u8]) -> Signature {
    let mut hasher = Sha256::new();
    hasher.update(secret);
    hasher.update(preimage);
    let half: [u8; 32] = hasher.finalize().into();
    let mut bytes = [0; 64];
    bytes.iter_mut().zip(half.iter().chain(&half)).for_each(|(out, byte)| *out = *byte);
    Signature(bytes)
}

struct KeyedSigner([u8; 32]);

impl Signer for KeyedSigner {
    fn sign(&self, preimage: &[u8]) -> Signature {
        tag(&self.0, preimage)
    }
}

struct KeyedVerifier {
    seed: u64,
    cluster: Arc<Cluster>,
}

impl Verifier for KeyedVerifier {
    fn verify(&self, author: Author, preimage: &[u8], signature: &Signature) -> bool {
        let known = match author {
            Author::Replica(replica) => self.cluster.contains(replica),
            Author::Client(client) => self.cluster.admits(client),
        };
        known && tag(&secret(self.seed, author), preimage) == *signature
    }
}
