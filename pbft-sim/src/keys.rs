//! Signatures of a simulation: keyed SHA-256 behind the same traits as ed25519, many times cheaper.
//!
//! A signer holds its own key only, so a traitor cannot sign for anyone else; the verifier stands for the
//! mathematics and knows them all. Every twentieth seed uses ed25519 instead (PITFALLS N2).

use std::sync::Arc;

use pbft_core::cluster::{Cluster, ClusterConfig};
use pbft_core::crypto::{Author, Ed25519Signer, Ed25519Verifier, Signer, Verifier};
use pbft_core::limits::ConfigError;
use pbft_core::types::{ClientId, PublicKey, ReplicaId, Signature};
use sha2::{Digest as _, Sha256};

use crate::options::Options;

/// The cluster of a run and everything that signs and verifies in it.
pub struct Keys {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Judges all signatures.
    pub verifier: Arc<dyn Verifier>,
    seed: u64,
    ed25519: bool,
}

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
        let verifier: Arc<dyn Verifier> = match ed25519 {
            true => Arc::new(Ed25519Verifier::new(&cluster)?),
            false => Arc::new(KeyedVerifier { seed, cluster: Arc::clone(&cluster) }),
        };
        Ok(Keys { cluster, verifier, seed, ed25519 })
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
