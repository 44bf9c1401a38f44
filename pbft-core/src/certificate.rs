//! Certificates: Q signatures of distinct replicas under one statement.
//!
//! A certificate lists its signers in ascending order, each once, exactly as many as its kind needs, so
//! that it has one encoding and nobody counts twice (PITFALLS A2). Signers are counted by replica, never
//! by signature bytes.

use alloc::vec::Vec;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

use crate::message::{Checkpoint, Statement, Vote};
use crate::types::{ReplicaId, Sequence, Signature};
use crate::wire;

/// Signatures of distinct replicas, ascending by replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Signatures(Vec<(ReplicaId, Signature)>);

impl Signatures {
    /// Sorts the signatures by signer and keeps one for each.
    pub fn new(signatures: impl IntoIterator<Item = (ReplicaId, Signature)>) -> Self {
        let mut list: Vec<_> = signatures.into_iter().collect();
        list.sort_by_key(|(replica, _)| *replica);
        list.dedup_by_key(|(replica, _)| *replica);
        Signatures(list)
    }

    /// Signers and signatures as they stand: what came from outside may be in any order and repeat.
    pub fn iter(&self) -> impl Iterator<Item = (ReplicaId, &Signature)> {
        self.0.iter().map(|(replica, signature)| (*replica, signature))
    }

    /// How many signatures there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the signers ascend strictly, so that each stands once.
    pub fn are_distinct(&self) -> bool {
        self.0.iter().zip(self.0.iter().skip(1)).all(|((one, _), (next, _))| one < next)
    }

    /// A list as an attacker might send it: neither sorted nor free of repetition. For tests of checks.
    #[doc(hidden)]
    pub fn raw(list: Vec<(ReplicaId, Signature)>) -> Self {
        Signatures(list)
    }
}

impl Encode for Signatures {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        wire::encode_list(&self.0, encoder)
    }
}

impl<Context> Decode<Context> for Signatures {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Signatures(wire::decode_list(decoder, 68)?))
    }
}
wire::borrow_decode!(Signatures);

/// A PrePrepare and Q - 1 matching Prepares of distinct backups of its view.
///
/// Fixes the order inside its view; carried into later views by view changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct PreparedCertificate {
    /// View, slot and digest.
    pub vote: Vote,
    /// The signature of the view's primary under the PrePrepare.
    pub pre_prepare: Signature,
    /// The backups' signatures under the Prepare.
    pub prepares: Signatures,
}

/// Q matching Commits: same view, slot and digest. With the body it is enough to execute, in any mode.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct CommitCertificate {
    /// View, slot and digest.
    pub vote: Vote,
    /// The signatures under the Commit.
    pub commits: Signatures,
}

impl CommitCertificate {
    /// The statement every signature is under.
    pub fn statement(&self) -> Statement {
        Statement::Commit(self.vote)
    }
}

/// Q equal Checkpoints: the state after their slot is final and everything before it may be forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct StableProof {
    /// Slot and state digest.
    pub checkpoint: Checkpoint,
    /// The signatures under the Checkpoint.
    pub signatures: Signatures,
}

impl StableProof {
    /// The statement every signature is under.
    pub fn statement(&self) -> Statement {
        Statement::Checkpoint(self.checkpoint)
    }

    /// The slot it is about.
    pub fn sequence(&self) -> Sequence {
        self.checkpoint.sequence
    }
}
