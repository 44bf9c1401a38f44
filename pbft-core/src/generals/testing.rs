//! What the generals' unit tests share: keys, paths, and a post without faults.

use alloc::vec::Vec;

use super::chain::Occasion;
use super::oral::{self, Message};
use super::{Choice, General, Path, Setting};
use crate::crypto::{Author, Ed25519Signer, Ed25519Verifier, Hasher, Signer, Verifier};
use crate::types::{ReplicaId, Signature};

pub(super) fn setting(n: u64, m: u64) -> Setting {
    Setting::new(n, m, General(1)).unwrap()
}

pub(super) fn path(ids: &[u8]) -> Path {
    Path::new(ids.iter().copied().map(General)).unwrap()
}

pub(super) fn message(ids: &[u8], value: i128) -> Message<i128> {
    Message { path: path(ids), value }
}

pub(super) fn lieutenant(n: u64, m: u64, id: u8) -> oral::Lieutenant<i128> {
    oral::Lieutenant::new(setting(n, m), General(id), Choice::Majority, 0).unwrap()
}

/// Keys of n generals, general k's at index k - 1.
pub(super) struct Keys {
    pub(super) signers: Vec<Ed25519Signer>,
    pub(super) verifier: Ed25519Verifier,
    pub(super) occasion: Occasion,
}

impl Keys {
    pub(super) fn new(n: u8, m: u64) -> Self {
        let signers: Vec<_> = (0..n).map(|index| Ed25519Signer::from_seed(&[index; 32])).collect();
        let keys: Vec<_> = signers.iter().map(Ed25519Signer::public).collect();
        let verifier = Ed25519Verifier::of_keys(&keys).unwrap();
        let occasion = Occasion { setting: setting(u64::from(n), m), number: 7 };
        Keys { signers, verifier, occasion }
    }

    pub(super) fn signer(&self, id: u8) -> &Ed25519Signer {
        &self.signers[usize::from(id) - 1]
    }
}

/// Signatures that cost little, for tests that need thousands: a hash under the general's number.
pub(super) struct Cheap(pub(super) u8);

impl Cheap {
    fn sign_as(id: u32, preimage: &[u8]) -> Signature {
        let mut hasher = Hasher::new("cheap");
        hasher.number(u64::from(id));
        hasher.field(preimage);
        let half = hasher.finish().0;
        Signature(core::array::from_fn(|index| half[index % 32]))
    }
}

impl Signer for Cheap {
    fn sign(&self, preimage: &[u8]) -> Signature {
        Cheap::sign_as(u32::from(self.0) - 1, preimage)
    }
}

impl Verifier for Cheap {
    fn verify(&self, author: Author, preimage: &[u8], signature: &Signature) -> bool {
        matches!(author, Author::Replica(ReplicaId(id)) if Cheap::sign_as(id, preimage) == *signature)
    }
}
