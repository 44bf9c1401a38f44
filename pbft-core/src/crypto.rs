//! Hashing, signing domains, and the one ed25519 rule: strict, single.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;

use bincode::Encode;
use curve25519_dalek::{EdwardsPoint, Scalar};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256, Sha512};

use crate::cluster::Cluster;
use crate::limits::ConfigError;
use crate::types::{ClientId, Digest, PublicKey, ReplicaId, Signature};
use crate::wire;

/// Whose signature it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Author {
    /// A member of the cluster.
    Replica(ReplicaId),
    /// An admitted client.
    Client(ClientId),
}

/// What kind of statement is signed. Part of the preimage, so that a vote of one kind never passes for
/// one of another (PITFALLS I5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
#[repr(u8)]
pub enum Kind {
    /// A client's request.
    Request = 1,
    /// The primary's assignment of a batch to a slot.
    PrePrepare = 2,
    /// A backup's agreement to the assignment.
    Prepare = 3,
    /// A replica's word that the slot is prepared.
    Commit = 4,
    /// A replica's state digest after a checkpoint slot.
    Checkpoint = 5,
    /// What a replica holds: a hint for repair.
    Status = 6,
    /// What a replica takes along into a view.
    ViewChange = 7,
    /// The start of a view, with its justification.
    NewView = 8,
    /// A replica asks for bodies it lacks.
    Fetch = 9,
}

impl Kind {
    /// What it is called, in the words of the paper.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Request => "request",
            Kind::PrePrepare => "pre-prepare",
            Kind::Prepare => "prepare",
            Kind::Commit => "commit",
            Kind::Checkpoint => "checkpoint",
            Kind::Status => "status",
            Kind::ViewChange => "view-change",
            Kind::NewView => "new-view",
            Kind::Fetch => "fetch",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Makes signatures of one author. Must be deterministic: after a crash the same statement is signed
/// again and must come out equal (PROTOCOL section 4).
pub trait Signer: Send + Sync {
    /// Signs `preimage`, as [`preimage`] builds it.
    fn sign(&self, preimage: &[u8]) -> Signature;
}

/// Judges signatures of every member and client. Must give the same verdict on every replica.
pub trait Verifier: Send + Sync {
    /// Whether `signature` is `author`'s over `preimage`. An author without a key is refused.
    fn verify(&self, author: Author, preimage: &[u8], signature: &Signature) -> bool;

    /// What [`Verifier::verify`] says of each claim, in order; several at once may cost less.
    fn verify_each(&self, claims: &[Claim<'_>]) -> Vec<bool> {
        let verify = |it: &Claim<'_>| self.verify(it.author, it.preimage, it.signature);
        claims.iter().map(verify).collect()
    }
}

/// That a signature is somebody's.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Whose.
    pub author: Author,
    /// Over what.
    pub preimage: &'a [u8],
    /// The signature.
    pub signature: &'a Signature,
}

/// The bytes that are signed: protocol name, wire version, cluster id, epoch, kind, author, content.
///
/// The first byte differs from TLS 1.3's 64 spaces, so that no handshake signature passes for ours.
pub fn preimage(cluster: &Cluster, kind: Kind, author: Author, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + content.len());
    bytes.extend_from_slice(b"pbft\0");
    bytes.extend_from_slice(&wire::VERSION.to_le_bytes());
    bytes.extend_from_slice(&cluster.id().0);
    bytes.extend_from_slice(&cluster.epoch().0.to_le_bytes());
    bytes.push(kind as u8);
    let (tag, id) = match author {
        Author::Replica(replica) => (0, replica.0),
        Author::Client(client) => (1, client.0),
    };
    bytes.push(tag);
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(content);
    bytes
}

/// An ed25519 signing key.
pub struct Ed25519Signer(SigningKey);

impl Ed25519Signer {
    /// The key with this 32-byte seed (the private half of RFC 8032). Erased from memory on drop.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Ed25519Signer(SigningKey::from_bytes(seed))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }
}

impl Signer for Ed25519Signer {
    fn sign(&self, preimage: &[u8]) -> Signature {
        Signature(self.0.sign(preimage).to_bytes())
    }
}

impl fmt::Debug for Ed25519Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Ed25519Signer({:?}, private half withheld)", self.public())
    }
}

/// The parsed keys of a cluster. Every verdict is dalek's `verify_strict`: each signature for itself, no cofactor, no
/// malleable copies, so that all replicas judge alike (PITFALLS I1, I2).
#[derive(Clone, Debug)]
pub struct Ed25519Verifier {
    replicas: Vec<VerifyingKey>,
    clients: Vec<VerifyingKey>,
}

impl Ed25519Verifier {
    /// Parses all keys of `cluster` once.
    ///
    /// # Errors
    /// The first key that is no curve point in canonical form, or is weak (PITFALLS I3).
    pub fn new(cluster: &Cluster) -> Result<Self, ConfigError> {
        let parse_all = |role: &str, keys: &[PublicKey]| {
            let keys = keys.iter().enumerate();
            keys.map(|(index, key)| {
                parse_key(key).map_err(|fault| {
                    let field = alloc::format!("signing_key of {role} {index}");
                    ConfigError::new(field, key.to_hex(), fault.to_string())
                })
            })
            .collect::<Result<Vec<VerifyingKey>, ConfigError>>()
        };
        Ok(Ed25519Verifier {
            replicas: parse_all("replica", cluster.members())?,
            clients: parse_all("client", cluster.clients())?,
        })
    }

    /// Parses keys that belong to no cluster: replica `i` has the `i`-th, and there are no clients. For
    /// [`crate::generals`], whose signatures have a domain of their own.
    ///
    /// # Errors
    /// The first key that is not usable, or that stands there twice (PITFALLS I3), with its index.
    pub fn of_keys(keys: &[PublicKey]) -> Result<Self, (usize, KeyFault)> {
        let mut replicas = Vec::with_capacity(keys.len());
        for (index, key) in keys.iter().enumerate() {
            if keys.iter().take(index).any(|earlier| earlier == key) {
                return Err((index, KeyFault::Repeated));
            }
            replicas.push(parse_key(key).map_err(|fault| (index, fault))?);
        }
        Ok(Ed25519Verifier { replicas, clients: Vec::new() })
    }
}

impl Verifier for Ed25519Verifier {
    fn verify(&self, author: Author, preimage: &[u8], signature: &Signature) -> bool {
        self.verify_each(&[Claim { author, preimage, signature }]) == [true]
    }

    fn verify_each(&self, claims: &[Claim<'_>]) -> Vec<bool> {
        let claims = claims.iter().map(|claim| {
            let (keys, index) = match claim.author {
                Author::Replica(replica) => (&self.replicas, replica.0),
                Author::Client(client) => (&self.clients, client.0),
            };
            let key = usize::try_from(index).ok().and_then(|index| keys.get(index));
            (key, claim.preimage, claim.signature)
        });
        verify_strict(claims)
    }
}

/// Why a public key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// The bytes are not the canonical encoding of a curve point.
    #[error("not an ed25519 public key in canonical form; generate a new key")]
    Malformed,
    /// A small-order point, under which one signature fits almost any message.
    #[error("a weak key (small order); generate a new key")]
    Weak,
    /// Somebody else has it already.
    #[error("the key of another; generate a new key")]
    Repeated,
}

/// Checks that `key` may be configured: canonical and not weak.
///
/// # Errors
/// What is wrong with it.
pub fn check_key(key: &PublicKey) -> Result<(), KeyFault> {
    parse_key(key).map(|_| ())
}

fn parse_key(key: &PublicKey) -> Result<VerifyingKey, KeyFault> {
    let parsed = VerifyingKey::from_bytes(&key.0).map_err(|_| KeyFault::Malformed)?;
    if parsed.is_weak() {
        return Err(KeyFault::Weak);
    }
    // dalek accepts some non-canonical encodings of y; one key must have one spelling.
    if parsed.to_edwards().compress().to_bytes() != key.0 {
        return Err(KeyFault::Malformed);
    }
    Ok(parsed)
}

/// The eight points of small order, as they are encoded canonically.
const SMALL_ORDER: [[u8; 32]; 8] = small_order();

const fn small_order() -> [[u8; 32]; 8] {
    const ZERO: [u8; 32] = [0; 32];
    let (mut one, mut minus_one) = (ZERO, [0xff; 32]);
    one[0] = 1;
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    let low: [u8; 32] = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ];
    let high: [u8; 32] = [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ];
    const fn negative(mut point: [u8; 32]) -> [u8; 32] {
        point[31] |= 0x80;
        point
    }
    [one, minus_one, ZERO, negative(ZERO), low, negative(low), high, negative(high)]
}

/// The verdict of dalek's `verify_strict` on each signature, a third sooner; without a key it is no. Keys of small order
/// were refused when they were parsed.
///
/// The rule compares R as bytes with the canonical encoding of the point that it must be. So R is one of small order
/// exactly if its bytes are one of eight, and need not be decompressed; and the points of several signatures are encoded
/// together, with one inversion for all. Nothing else is shared: this is not what is known as batch verification.
fn verify_strict<'a>(
    claims: impl Iterator<Item = (Option<&'a VerifyingKey>, &'a [u8], &'a Signature)>,
) -> Vec<bool> {
    let mut points = Vec::with_capacity(claims.size_hint().0);
    let expected: Vec<Option<[u8; 32]>> = claims
        .map(|(key, message, signature)| {
            let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
            let (r, s) = (*signature.r_bytes(), *signature.s_bytes());
            let s: Scalar = Option::from(Scalar::from_canonical_bytes(s))?;
            let key = key.filter(|_| !SMALL_ORDER.contains(&r))?;
            let hash = Sha512::new().chain_update(r).chain_update(key).chain_update(message);
            let challenge = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
            let negated = -key.to_edwards();
            points
                .push(EdwardsPoint::vartime_double_scalar_mul_basepoint(&challenge, &negated, &s));
            Some(r)
        })
        .collect();
    let mut encoded = EdwardsPoint::compress_batch_alloc(&points).into_iter();
    let holds = |r: Option<[u8; 32]>| r.is_some_and(|r| encoded.next().is_some_and(|it| it.0 == r));
    expected.into_iter().map(holds).collect()
}

/// The verdict of the one rule on a key, a message and a signature, for test vectors.
pub fn verdict(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    let key = parse_key(key).ok();
    verify_strict([(key.as_ref(), message, signature)].into_iter()) == [true]
}

/// SHA-256 over a domain name and fields whose boundaries cannot be shifted.
#[derive(Clone)]
pub struct Hasher(Sha256);

impl Hasher {
    /// A hash in the domain `name`: digests of different domains never coincide.
    pub fn new(name: &str) -> Self {
        let mut hasher = Hasher(Sha256::new());
        hasher.fixed(b"pbft\0");
        hasher.field(name.as_bytes());
        hasher
    }

    /// Adds a field of variable length, its length first.
    pub fn field(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.update(bytes);
    }

    /// Adds a field whose length the domain fixes.
    pub fn fixed(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds a count.
    pub fn count(&mut self, count: usize) {
        self.number(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

#[cfg(test)]
#[path = "crypto_test.rs"]
mod tests;
