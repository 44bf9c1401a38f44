//! The doors from unchecked to checked: [`verify`] and [`sign`].
//!
//! The replica takes nothing but [`Verified`], and no code outside this file can make one. What is
//! checked here is *validity*: a function of the bytes and the configuration alone, so that correct
//! replicas never split over one message. Whether a valid message is acted on is the replica's affair.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::iter::repeat;

use crate::certificate::{PreparedCertificate, Signatures, StableProof};
use crate::cluster::Cluster;
use crate::crypto::{Author, Claim, Hasher, Kind, Signer, Verifier, preimage};
use crate::evidence::Evidence;
use crate::limits::FETCH_BODIES_MAX;
use crate::message::{
    Batch, Fetch, Message, NewView, Request, RequestBody, Signed, Statement, Status, ViewChange,
    Vote,
};
use crate::types::{ClientId, Digest, ReplicaId, Sequence, Signature, View};

/// How much of a message is checked. It differs only for a ViewChange, whose certificates cost hundreds
/// of signatures: its sender's word is enough to join, and only what becomes part of a NewView must hold
/// whole. [`crate::replica::Replica::scrutiny`] says which it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scrutiny {
    /// Of a ViewChange its sender, its shape and its outer signature; of everything else all.
    Outer,
    /// All.
    Whole,
}

/// A message whose signatures and shapes hold. Only [`verify`] and [`sign_message`] make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    message: Message,
    scrutiny: Scrutiny,
    own_hand: bool,
}

impl Verified {
    /// What was verified.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// How much of it was.
    pub fn scrutiny(&self) -> Scrutiny {
        self.scrutiny
    }

    /// Whether it was signed here, with [`sign_message`], and did not come from outside.
    pub fn is_own_hand(&self) -> bool {
        self.own_hand
    }

    /// Takes the message out; it is unchecked again for everyone else.
    pub fn into_message(self) -> Message {
        self.message
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
    /// A PrePrepare or NewView of somebody who is not the primary of its view.
    #[error("pre-prepare or new view by {0}, who is not the primary")]
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
    /// A status with slots or senders repeated, unordered, or too many of them.
    #[error("status lists more than two windows of slots or all members, or not in order")]
    StatusBounds,
    /// A view near the integer limit, or a ViewChange or NewView for view 0, which nobody votes for.
    #[error("view {0} is out of range")]
    View(View),
    /// A ViewChange with a part that does not hold. One bad part voids the whole (PITFALLS D3).
    #[error("view change is void: {0}")]
    ViewChange(VoidReason),
    /// A NewView with a part that does not hold, although its primary signed it.
    #[error("new view {view} is void: {reason}")]
    NewView {
        /// For which view.
        view: View,
        /// Why.
        reason: VoidReason,
    },
    /// Bodies asked for twice, not in order, or too many.
    #[error("more than {FETCH_BODIES_MAX} bodies asked for, or not in order")]
    FetchBounds,
    /// Evidence that convicts nobody: fabricated, or against a statement that holds.
    #[error("evidence that proves nothing against replica {0}")]
    Evidence(ReplicaId),
    /// A PrePrepare was expected and something else was found.
    #[error("another kind of statement where a pre-prepare belongs")]
    Kind,
}

/// Which part of a ViewChange or NewView does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum VoidReason {
    /// The stable proof's slot is no checkpoint slot.
    #[error("stable proof at a slot where no checkpoint is taken")]
    StableSlot,
    /// The stable proof does not list exactly Q distinct signers.
    #[error("stable proof without exactly a quorum of distinct signers")]
    StableSigners,
    /// A signature in the stable proof is not its signer's.
    #[error("stable proof with a wrong signature")]
    StableSignature,
    /// A certificate for a slot outside (h, h + L].
    #[error("certificate outside the window")]
    OutsideWindow,
    /// Certificates out of order, or two for one slot.
    #[error("certificates out of order, or two for one slot")]
    Order,
    /// A certificate of the view voted for, or of a later one.
    #[error("certificate of a view that is not lower")]
    CertificateView,
    /// A certificate for the null digest in view 0.
    #[error("null digest in view 0")]
    NullDigest,
    /// A certificate does not list exactly Q - 1 distinct backups of its view.
    #[error("certificate without exactly Q - 1 distinct backups")]
    CertificateSigners,
    /// A signature in a certificate is not its signer's.
    #[error("certificate with a wrong signature")]
    CertificateSignature,
    /// A NewView that does not hold exactly Q ViewChanges of distinct senders, ascending, its own among them.
    #[error("not exactly a quorum of view changes, the primary's own among them")]
    Changes,
    /// A NewView that holds a ViewChange for another view.
    #[error("a view change for another view")]
    OtherView,
    /// A ViewChange in a NewView that its claimed sender did not sign.
    #[error("a view change with a wrong signature")]
    ChangeSignature,
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
    let message = match batch {
        Some(batch) => Message::Proposal { pre_prepare: signed, batch },
        None => Message::Statement(signed),
    };
    Verified { message, scrutiny: Scrutiny::Whole, own_hand: true }
}

/// Checks a message: membership and bounds first, signatures last, stopping at the first fault.
///
/// # Errors
/// The first fault found. The cache then holds only signatures that were found good.
pub fn verify(
    cluster: &Cluster,
    verifier: &dyn Verifier,
    cache: &mut Cache,
    message: Message,
    scrutiny: Scrutiny,
) -> Result<Verified, Forgery> {
    let mut door = Door { cluster, verifier, cache };
    match &message {
        Message::Statement(signed) => door.signed(signed, scrutiny)?,
        Message::Proposal { pre_prepare, batch } => door.proposal(pre_prepare, batch)?,
        Message::Request(request) => door.requests(core::slice::from_ref(request))?,
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
        // Its digest was recomputed on decoding, and whoever asked for that digest knows it certified.
        Message::Body { batch, .. } => door.batch_bounds(batch)?,
        Message::Evidence(evidence) => door.evidence(evidence)?,
        // Transfers prove what they receive by themselves; the replica takes none of it.
        Message::Ask(_) | Message::Part(_) => return Err(Forgery::Kind),
    }
    Ok(Verified { message, scrutiny, own_hand: false })
}

/// Proof that the signer of a message which [`verify`] refused did sign it: a message of its own for the
/// replica. `None` if anyone could have made it up.
pub fn void(
    cluster: &Cluster,
    verifier: &dyn Verifier,
    cache: &mut Cache,
    message: &Message,
) -> Option<Verified> {
    let evidence = match message {
        Message::Statement(signed) => Evidence::of_void(signed.clone(), None),
        Message::Proposal { pre_prepare, batch } => {
            Evidence::of_void(pre_prepare.clone(), Some(Arc::clone(batch)))
        }
        _ => None,
    };
    let message = Message::Evidence(Arc::new(evidence?));
    verify(cluster, verifier, cache, message, Scrutiny::Whole).ok()
}

/// So many requests are checked together: enough that what they share is spread thin, few enough that one that does not
/// hold makes no work of many.
const GROUP: usize = 32;

struct Door<'a> {
    cluster: &'a Cluster,
    verifier: &'a dyn Verifier,
    cache: &'a mut Cache,
}

impl Door<'_> {
    fn signature(
        &mut self,
        author: Author,
        preimage: Vec<u8>,
        signature: &Signature,
    ) -> Result<(), Forgery> {
        self.signatures([(author, preimage, signature)])
    }

    /// All of them, those that are not known to be good together. What holds is known from then on, whatever else does
    /// not; the first that does not is named.
    fn signatures<'s>(
        &mut self,
        signed: impl IntoIterator<Item = (Author, Vec<u8>, &'s Signature)>,
    ) -> Result<(), Forgery> {
        let (mut keys, mut unknown) = (Vec::new(), Vec::new());
        for (author, preimage, signature) in signed {
            let mut hasher = Hasher::new("verified");
            hasher.field(&preimage);
            hasher.fixed(&signature.0);
            let key = hasher.finish();
            if !self.cache.contains(&key) {
                keys.push(key);
                unknown.push((author, preimage, signature));
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let claims: Vec<Claim<'_>> = unknown
            .iter()
            .map(|(author, preimage, signature)| Claim { author: *author, preimage, signature })
            .collect();
        // A verdict that is missing is no.
        let verdicts = self.verifier.verify_each(&claims).into_iter().chain(repeat(false));
        let mut forged = None;
        for ((key, claim), holds) in keys.into_iter().zip(&claims).zip(verdicts) {
            if holds {
                self.cache.insert(key);
            } else {
                forged = forged.or(Some(claim.author));
            }
        }
        forged.map_or(Ok(()), |author| Err(Forgery::Signature(author)))
    }

    fn member(&self, replica: ReplicaId) -> Result<(), Forgery> {
        if self.cluster.contains(replica) { Ok(()) } else { Err(Forgery::UnknownReplica(replica)) }
    }

    fn vote(&self, vote: &Vote) -> Result<(), Forgery> {
        if vote.sequence == Sequence(0) || vote.sequence > Sequence::MAX {
            return Err(Forgery::Slot(vote.sequence));
        }
        if vote.view > View::MAX {
            return Err(Forgery::View(vote.view));
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
        let changes = &status.view_changes;
        let mut senders = changes.iter().zip(changes.iter().skip(1));
        let mut askers = status.answers.iter().zip(status.answers.iter().skip(1));
        if bounded
            && changes.len() <= self.cluster.n()
            && status.answers.len() <= self.cluster.n()
            && status.view.max(status.voted_view) <= View::MAX
            && askers.all(|((one, _), (next, _))| one < next)
            && pairs.all(|(slot, next)| slot.sequence < next.sequence)
            && senders.all(|((one, _), (next, _))| one < next)
        {
            Ok(())
        } else {
            Err(Forgery::StatusBounds)
        }
    }

    fn fetch(fetch: &Fetch) -> Result<(), Forgery> {
        let mut pairs = fetch.bodies.iter().zip(fetch.bodies.iter().skip(1));
        let bounded = fetch.bodies.len() <= FETCH_BODIES_MAX;
        if bounded && pairs.all(|(one, next)| one < next) {
            Ok(())
        } else {
            Err(Forgery::FetchBounds)
        }
    }

    fn later_view(view: View) -> Result<(), Forgery> {
        if view == View(0) || view > View::MAX { Err(Forgery::View(view)) } else { Ok(()) }
    }

    /// What costs no signature: bounds, order, numbers of signers.
    fn view_change_shape(&self, change: &ViewChange) -> Result<(), VoidReason> {
        let constants = self.cluster.constants();
        let quorum = self.cluster.quorum();
        if let Some(proof) = &change.stable {
            self.checkpoint_slot(proof.sequence()).map_err(|_| VoidReason::StableSlot)?;
            if proof.signatures.len() != quorum || !proof.signatures.are_distinct() {
                return Err(VoidReason::StableSigners);
            }
        }
        let stable = change.stable_sequence();
        let mut last = stable;
        for certificate in &change.prepared {
            let vote = certificate.vote;
            if vote.sequence > stable.plus(constants.window) || vote.sequence <= stable {
                return Err(VoidReason::OutsideWindow);
            }
            if vote.sequence <= last {
                return Err(VoidReason::Order);
            }
            last = vote.sequence;
            if vote.view >= change.view {
                return Err(VoidReason::CertificateView);
            }
            if vote.view == View(0) && vote.digest == Digest::NULL {
                return Err(VoidReason::NullDigest);
            }
            let prepares = &certificate.prepares;
            let primary = self.cluster.primary(vote.view);
            if prepares.len() != quorum - 1
                || !prepares.are_distinct()
                || prepares
                    .iter()
                    .any(|(backup, _)| backup == primary || !self.cluster.contains(backup))
            {
                return Err(VoidReason::CertificateSigners);
            }
        }
        Ok(())
    }

    /// Every signature inside.
    fn view_change_whole(&mut self, change: &ViewChange) -> Result<(), VoidReason> {
        if let Some(proof) = &change.stable {
            self.stable_proof(proof).map_err(|_| VoidReason::StableSignature)?;
        }
        for certificate in &change.prepared {
            self.prepared(certificate).map_err(|_| VoidReason::CertificateSignature)?;
        }
        Ok(())
    }

    fn stable_proof(&mut self, proof: &StableProof) -> Result<(), Forgery> {
        self.quorum(&proof.signatures, &proof.statement(), self.cluster.quorum())
    }

    fn prepared(&mut self, certificate: &PreparedCertificate) -> Result<(), Forgery> {
        let vote = certificate.vote;
        let primary = self.cluster.primary(vote.view);
        let preimage = Statement::PrePrepare(vote).preimage(self.cluster, primary);
        self.signature(Author::Replica(primary), preimage, &certificate.pre_prepare)?;
        let needed = self.cluster.quorum() - 1;
        self.quorum(&certificate.prepares, &Statement::Prepare(vote), needed)
    }

    fn new_view_shape(&self, sender: ReplicaId, new_view: &NewView) -> Result<(), VoidReason> {
        let changes = &new_view.changes;
        let mut pairs = changes.iter().zip(changes.iter().skip(1));
        if changes.len() != self.cluster.quorum()
            || !pairs.all(|(one, next)| one.sender < next.sender)
            || !changes.iter().any(|change| change.sender == sender)
            || !changes.iter().all(|change| self.cluster.contains(change.sender))
        {
            return Err(VoidReason::Changes);
        }
        if changes.iter().any(|change| change.change.view != new_view.view) {
            return Err(VoidReason::OtherView);
        }
        changes.iter().try_for_each(|change| self.view_change_shape(&change.change))
    }

    fn new_view_whole(&mut self, new_view: &NewView) -> Result<(), VoidReason> {
        // Senders' signatures first: a traitor cannot have Q of them for a view of its choosing, so it
        // cannot make anyone check the hundreds inside.
        for change in &new_view.changes {
            let statement = Statement::ViewChange(Arc::clone(&change.change));
            let preimage = statement.preimage(self.cluster, change.sender);
            self.signature(Author::Replica(change.sender), preimage, &change.signature)
                .map_err(|_| VoidReason::ChangeSignature)?;
        }
        new_view.changes.iter().try_for_each(|change| self.view_change_whole(&change.change))
    }

    fn signed(&mut self, signed: &Signed, scrutiny: Scrutiny) -> Result<(), Forgery> {
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
            Statement::ViewChange(change) => {
                Self::later_view(change.view)?;
                self.view_change_shape(change).map_err(Forgery::ViewChange)?;
            }
            Statement::NewView(new_view) => {
                Self::later_view(new_view.view)?;
                if self.cluster.primary(new_view.view) != sender {
                    return Err(Forgery::NotPrimary(sender));
                }
            }
            Statement::Fetch(fetch) => Self::fetch(fetch)?,
        }
        let preimage = signed.statement.preimage(self.cluster, sender);
        self.signature(Author::Replica(sender), preimage, &signed.signature)?;
        match &signed.statement {
            Statement::ViewChange(change) if scrutiny == Scrutiny::Whole => {
                self.view_change_whole(change).map_err(Forgery::ViewChange)
            }
            Statement::NewView(new_view) => {
                let view = new_view.view;
                let outcome = self.new_view_shape(sender, new_view);
                outcome
                    .and_then(|()| self.new_view_whole(new_view))
                    .map_err(|reason| Forgery::NewView { view, reason })
            }
            _ => Ok(()),
        }
    }

    /// Evidence holds if its signer did sign what is in it and no correct replica would have.
    fn evidence(&mut self, evidence: &Evidence) -> Result<(), Forgery> {
        let accused = evidence.subject().replica;
        self.member(accused)?;
        for signed in evidence.statements() {
            let preimage = signed.statement.preimage(self.cluster, accused);
            self.signature(Author::Replica(accused), preimage, &signed.signature)?;
        }
        let holds = match evidence.void() {
            None => true,
            Some((statement, None)) => self.signed(statement, Scrutiny::Whole).is_err(),
            Some((statement, Some(batch))) => {
                // Only the body that the signer named is its word; any other is the relay's.
                let named = matches!(&statement.statement, Statement::PrePrepare(vote) if vote.digest == batch.digest());
                named && self.proposal(statement, batch).is_err()
            }
        };
        if holds { Ok(()) } else { Err(Forgery::Evidence(accused)) }
    }

    fn batch_bounds(&self, batch: &Batch) -> Result<(), Forgery> {
        let constants = self.cluster.constants();
        let count = batch.requests().len();
        let within = count >= 1
            && u32::try_from(count).is_ok_and(|count| count <= constants.batch_requests_max)
            && u32::try_from(batch.wire_bytes())
                .is_ok_and(|bytes| bytes <= constants.batch_bytes_max);
        if within { Ok(()) } else { Err(Forgery::BatchBounds) }
    }

    fn proposal(&mut self, pre_prepare: &Signed, batch: &Batch) -> Result<(), Forgery> {
        let Statement::PrePrepare(vote) = &pre_prepare.statement else {
            return Err(Forgery::Kind);
        };
        // The digest was recomputed from the body when it was decoded (PITFALLS A7).
        if batch.digest() != vote.digest {
            return Err(Forgery::BodyDigest);
        }
        self.batch_bounds(batch)?;
        self.signed(pre_prepare, Scrutiny::Whole)?;
        batch.requests().chunks(GROUP).try_for_each(|requests| self.requests(requests))
    }

    fn requests(&mut self, requests: &[Request]) -> Result<(), Forgery> {
        requests.iter().try_for_each(|request| self.request_shape(request))?;
        let cluster = self.cluster;
        self.signatures(requests.iter().map(|request| {
            let author = Author::Client(request.client());
            let preimage = preimage(cluster, Kind::Request, author, &request.digest().0);
            (author, preimage, request.signature())
        }))
    }

    /// What costs no signature.
    fn request_shape(&self, request: &Request) -> Result<(), Forgery> {
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
        if within { Ok(()) } else { Err(Forgery::RequestBounds) }
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
        signatures.iter().try_for_each(|(replica, _)| self.member(replica))?;
        let cluster = self.cluster;
        self.signatures(signatures.iter().map(|(replica, signature)| {
            (Author::Replica(replica), statement.preimage(cluster, replica), signature)
        }))
    }
}

#[cfg(test)]
#[path = "signed_test.rs"]
mod tests;
