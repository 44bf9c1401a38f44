//! The doors from unchecked to checked: [`verify`] and [`sign`].
//!
//! The replica takes nothing but [`Verified`], and no code outside this file can make one. What is
//! checked here is *validity*: a function of the bytes and the configuration alone, so that correct
//! replicas never split over one message. Whether a valid message is acted on is the replica's affair.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::certificate::Signatures;
use crate::cluster::Cluster;
use crate::crypto::{Author, Hasher, Kind, Signer, Verifier, preimage};
use crate::message::{Batch, Message, Request, RequestBody, Signed, Statement, Status, Vote};
use crate::types::{ClientId, Digest, ReplicaId, Sequence, Signature, View};

/// A message all of whose signatures and shapes hold. Only [`verify`] and [`sign`] make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified(Message);

impl Verified {
    /// What was verified.
    pub fn message(&self) -> &Message {
        &self.0
    }

    /// Takes the message out; it is unchecked again for everyone else.
    pub fn into_message(self) -> Message {
        self.0
    }
}

/// Why a message is void. Each is grounds for closing the connection it came by: no correct replica sends
/// such a thing, and none relays it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Forgery {
    /// The claimed sender is no member.
    #[error("sender {0} is no member")]
    UnknownReplica(ReplicaId),
    /// The claimed client is not admitted.
    #[error("client {0} is not admitted")]
    UnknownClient(ClientId),
    /// A signature is not its claimed author's.
    #[error("signature is not {0:?}'s")]
    Signature(Author),
    /// A PrePrepare of somebody who is not the primary of its view.
    #[error("pre-prepare by {0}, who is not the primary")]
    NotPrimary(ReplicaId),
    /// A Prepare of the primary of its view, who says PrePrepare instead.
    #[error("prepare by the primary {0}")]
    PrimaryPrepared(ReplicaId),
    /// A slot that can never be ordered: 0, or near the integer limit.
    #[error("slot {0} is out of range")]
    Slot(Sequence),
    /// The null digest in view 0, where no new view can have named it.
    #[error("null digest in view 0")]
    NullDigest,
    /// A body whose digest is not the one it comes with.
    #[error("body does not have the digest it comes with")]
    BodyDigest,
    /// A batch that is empty or exceeds a cluster constant.
    #[error("batch is empty or exceeds a cluster constant")]
    BatchBounds,
    /// A request that exceeds a cluster constant or has an impossible number.
    #[error("request exceeds a cluster constant or has an impossible number")]
    RequestBounds,
    /// A checkpoint at a slot where none is taken.
    #[error("checkpoint at {0}, which is no multiple of the interval")]
    CheckpointSlot(Sequence),
    /// A certificate with too few, too many, repeated or unordered signers.
    #[error("certificate does not list exactly a quorum of distinct signers")]
    Signers,
    /// A status with slots repeated, unordered, or more than two windows of them.
    #[error("status lists more than two windows of slots, or not in order")]
    StatusBounds,
    /// A PrePrepare was expected and something else was found.
    #[error("another kind of statement where a pre-prepare belongs")]
    Kind,
}

/// Signatures already found good, so that none is paid for twice. Bounded: two generations, the older
/// dropped when the newer is full.
#[derive(Clone, Debug)]
pub struct Cache {
    young: BTreeSet<Digest>,
    old: BTreeSet<Digest>,
    generation_max: usize,
}

impl Cache {
    /// A cache of at most `2 * generation_max` signatures, 32 bytes and a tree entry each.
    pub fn new(generation_max: usize) -> Self {
        Cache { young: BTreeSet::new(), old: BTreeSet::new(), generation_max }
    }

    fn contains(&self, key: &Digest) -> bool {
        self.young.contains(key) || self.old.contains(key)
    }

    fn insert(&mut self, key: Digest) {
        if self.young.len() >= self.generation_max {
            self.old = core::mem::take(&mut self.young);
        }
        self.young.insert(key);
    }
}

impl Default for Cache {
    /// Room for 32,768 signatures.
    fn default() -> Self {
        Cache::new(16_384)
    }
}

/// Signs a statement of `sender`: the copy to send.
pub fn sign(
    cluster: &Cluster,
    signer: &dyn Signer,
    sender: ReplicaId,
    statement: Statement,
) -> Signed {
    let signature = signer.sign(&statement.preimage(cluster, sender));
    Signed { sender, statement, signature }
}

/// What a node itself has just said, as it comes back to its own replica: [`sign`] made the signature, so
/// none is checked.
pub fn sign_message(
    cluster: &Cluster,
    signer: &dyn Signer,
    sender: ReplicaId,
    statement: Statement,
    batch: Option<Arc<Batch>>,
) -> Verified {
    let signed = sign(cluster, signer, sender, statement);
    Verified(match batch {
        Some(batch) => Message::Proposal { pre_prepare: signed, batch },
        None => Message::Statement(signed),
    })
}

/// Checks a message whole: membership and bounds first, signatures last, stopping at the first fault.
///
/// # Errors
/// The first fault found. The cache then holds only signatures that were found good.
pub fn verify(
    cluster: &Cluster,
    verifier: &dyn Verifier,
    cache: &mut Cache,
    message: Message,
) -> Result<Verified, Forgery> {
    let mut door = Door { cluster, verifier, cache };
    match &message {
        Message::Statement(signed) => door.signed(signed)?,
        Message::Proposal { pre_prepare, batch } => door.proposal(pre_prepare, batch)?,
        Message::Request(request) => door.request(request)?,
        Message::Committed { certificate, batch } => {
            door.vote(&certificate.vote)?;
            if let Some(batch) = batch
                && batch.digest() != certificate.vote.digest
            {
                return Err(Forgery::BodyDigest);
            }
            door.quorum(&certificate.commits, &certificate.statement(), cluster.quorum())?;
        }
        Message::Stable(proof) => {
            door.checkpoint_slot(proof.sequence())?;
            door.quorum(&proof.signatures, &proof.statement(), cluster.quorum())?;
        }
    }
    Ok(Verified(message))
}

struct Door<'a> {
    cluster: &'a Cluster,
    verifier: &'a dyn Verifier,
    cache: &'a mut Cache,
}

impl Door<'_> {
    fn signature(
        &mut self,
        author: Author,
        preimage: &[u8],
        signature: &Signature,
    ) -> Result<(), Forgery> {
        let mut hasher = Hasher::new("verified");
        hasher.field(preimage);
        hasher.fixed(&signature.0);
        let key = hasher.finish();
        if self.cache.contains(&key) {
            return Ok(());
        }
        if !self.verifier.verify(author, preimage, signature) {
            return Err(Forgery::Signature(author));
        }
        self.cache.insert(key);
        Ok(())
    }

    fn member(&self, replica: ReplicaId) -> Result<(), Forgery> {
        if self.cluster.contains(replica) { Ok(()) } else { Err(Forgery::UnknownReplica(replica)) }
    }

    fn vote(&self, vote: &Vote) -> Result<(), Forgery> {
        if vote.sequence == Sequence(0) || vote.sequence > Sequence::MAX {
            return Err(Forgery::Slot(vote.sequence));
        }
        if vote.digest == Digest::NULL && vote.view == View(0) {
            return Err(Forgery::NullDigest);
        }
        Ok(())
    }

    fn checkpoint_slot(&self, sequence: Sequence) -> Result<(), Forgery> {
        let interval = self.cluster.constants().checkpoint_interval;
        if sequence.is_checkpoint(interval) && sequence <= Sequence::MAX {
            Ok(())
        } else {
            Err(Forgery::CheckpointSlot(sequence))
        }
    }

    fn status(&self, status: &Status) -> Result<(), Forgery> {
        let window = self.cluster.constants().window;
        let bounded = u64::try_from(status.slots.len()).is_ok_and(|slots| slots <= 2 * window);
        let mut pairs = status.slots.iter().zip(status.slots.iter().skip(1));
        if bounded && pairs.all(|(slot, next)| slot.sequence < next.sequence) {
            Ok(())
        } else {
            Err(Forgery::StatusBounds)
        }
    }

    fn signed(&mut self, signed: &Signed) -> Result<(), Forgery> {
        let sender = signed.sender;
        self.member(sender)?;
        match &signed.statement {
            Statement::PrePrepare(vote) => {
                self.vote(vote)?;
                if self.cluster.primary(vote.view) != sender {
                    return Err(Forgery::NotPrimary(sender));
                }
            }
            Statement::Prepare(vote) => {
                self.vote(vote)?;
                if self.cluster.primary(vote.view) == sender {
                    return Err(Forgery::PrimaryPrepared(sender));
                }
            }
            Statement::Commit(vote) => self.vote(vote)?,
            Statement::Checkpoint(checkpoint) => self.checkpoint_slot(checkpoint.sequence)?,
            Statement::Status(status) => self.status(status)?,
        }
        let preimage = signed.statement.preimage(self.cluster, sender);
        self.signature(Author::Replica(sender), &preimage, &signed.signature)
    }

    fn proposal(&mut self, pre_prepare: &Signed, batch: &Batch) -> Result<(), Forgery> {
        let Statement::PrePrepare(vote) = &pre_prepare.statement else {
            return Err(Forgery::Kind);
        };
        // The digest was recomputed from the body when it was decoded (PITFALLS A7).
        if batch.digest() != vote.digest {
            return Err(Forgery::BodyDigest);
        }
        let constants = self.cluster.constants();
        let count = batch.requests().len();
        let bytes = batch.wire_bytes();
        let within = count >= 1
            && u32::try_from(count).is_ok_and(|count| count <= constants.batch_requests_max)
            && u32::try_from(bytes).is_ok_and(|bytes| bytes <= constants.batch_bytes_max);
        if !within {
            return Err(Forgery::BatchBounds);
        }
        self.signed(pre_prepare)?;
        batch.requests().iter().try_for_each(|request| self.request(request))
    }

    fn request(&mut self, request: &Request) -> Result<(), Forgery> {
        let client = request.client();
        if !self.cluster.admits(client) {
            return Err(Forgery::UnknownClient(client));
        }
        let constants = self.cluster.constants();
        let operations = request.operations();
        let fits = |bytes: usize, bound: u32| u32::try_from(bytes).is_ok_and(|b| b <= bound);
        let within = request.number().is_valid()
            && fits(operations.count(), constants.request_operations_max)
            && fits(RequestBody::batch_bytes(operations), constants.batch_bytes_max)
            && operations.iter().all(|one| fits(one.len(), constants.operation_bytes_max));
        if !within {
            return Err(Forgery::RequestBounds);
        }
        let author = Author::Client(client);
        let preimage = preimage(self.cluster, Kind::Request, author, &request.digest().0);
        self.signature(author, &preimage, request.signature())
    }

    fn quorum(
        &mut self,
        signatures: &Signatures,
        statement: &Statement,
        quorum: usize,
    ) -> Result<(), Forgery> {
        if signatures.len() != quorum || !signatures.are_distinct() {
            return Err(Forgery::Signers);
        }
        for (replica, signature) in signatures.iter() {
            self.member(replica)?;
            let preimage: Vec<u8> = statement.preimage(self.cluster, replica);
            self.signature(Author::Replica(replica), &preimage, signature)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "signed_test.rs"]
mod tests;
