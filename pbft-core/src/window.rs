//! The slots a replica is working on.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::certificate::{CommitCertificate, PreparedCertificate, Signatures};
use crate::message::{Batch, Held, ReplicaSet, Signed, Statement, Vote};
use crate::types::{Digest, Instant, ReplicaId, Sequence, Signature, View};

/// The first valid vote of each sender for one slot, of one kind and view. It is final (PITFALLS A5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Votes(BTreeMap<ReplicaId, (Vote, Signature)>);

impl Votes {
    /// The vote of `sender`, if it has one here.
    pub fn of(&self, sender: ReplicaId) -> Option<&(Vote, Signature)> {
        self.0.get(&sender)
    }

    /// Counts a vote unless its sender has one already.
    pub fn insert(&mut self, sender: ReplicaId, vote: Vote, signature: Signature) {
        self.0.entry(sender).or_insert((vote, signature));
    }

    /// The signatures of `needed` distinct senders whose vote is exactly `vote`: view, slot and digest
    /// (PITFALLS A2, A6). `None` if there are fewer.
    pub fn matching(&self, vote: &Vote, needed: usize) -> Option<Signatures> {
        let equal = self.0.iter().filter(|(_, (theirs, _))| theirs == vote);
        let signatures = Signatures::new(
            equal.map(|(sender, (_, signature))| (*sender, *signature)).take(needed),
        );
        (signatures.len() == needed).then_some(signatures)
    }

    /// How many votes are here.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no vote is here.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose votes are here.
    pub fn senders(&self) -> ReplicaSet {
        self.0.keys().copied().collect()
    }

    /// The distinct votes held.
    pub fn votes(&self) -> impl Iterator<Item = &Vote> {
        self.0.values().map(|(vote, _)| vote)
    }
}

/// The PrePrepare accepted for a slot. Never replaced inside its view (PITFALLS A8).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Accepted {
    /// As the primary signed it.
    pub signed: Signed,
    /// What it says.
    pub vote: Vote,
    /// When it was accepted.
    pub at: Instant,
}

/// Everything held about one place in the order.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    /// The PrePrepare accepted in the active view, its body at hand or not.
    pub accepted: Option<Accepted>,
    /// A proposal for a slot above h + L, untouched until h moves: one per slot (PITFALLS C2).
    pub early: Option<(Signed, Arc<Batch>)>,
    /// The digest that the active view's NewView names for this slot, if it names one.
    pub carried: Option<Digest>,
    /// Bodies of the accepted, the carried, the prepared and the decided digest, and of none else.
    bodies: Vec<Arc<Batch>>,
    /// Backups' Prepares of the active view.
    pub prepares: Votes,
    /// Commits of the active view.
    pub commits: Votes,
    /// The certificate of the highest view in which the slot was ever prepared here, its body at hand.
    /// No view change drops it; only a later view's replaces it (PROTOCOL section 3, rule 3).
    pub prepared: Option<PreparedCertificate>,
    /// Proof that the slot is decided.
    pub committed: Option<CommitCertificate>,
    /// When the last own vote was said or the certificate formed: nothing is repeated before it can have
    /// arrived.
    pub spoken_at: Instant,
}

impl Slot {
    /// The body with `digest`, if it is here. The null request has none.
    pub fn body_of(&self, digest: &Digest) -> Option<&Arc<Batch>> {
        self.bodies.iter().find(|body| body.digest() == *digest)
    }

    /// All bodies held here, that of a proposal not yet looked at included.
    pub fn bodies(&self) -> impl Iterator<Item = &Arc<Batch>> {
        self.bodies.iter().chain(self.early.iter().map(|(_, batch)| batch))
    }

    /// Whether nothing is missing to execute or to certify `digest`: null needs no body.
    pub fn has_body(&self, digest: &Digest) -> bool {
        *digest == Digest::NULL || self.body_of(digest).is_some()
    }

    /// The digests whose bodies this slot has use for.
    fn wanted(&self) -> impl Iterator<Item = Digest> + '_ {
        let accepted = self.accepted.as_ref().map(|accepted| accepted.vote.digest);
        let prepared = self.prepared.as_ref().map(|prepared| prepared.vote.digest);
        let committed = self.committed.as_ref().map(|committed| committed.vote.digest);
        [committed, accepted, self.carried, prepared].into_iter().flatten()
    }

    /// Whether the body with `digest` is missing here.
    pub fn wants_body(&self, digest: &Digest) -> bool {
        self.wanted().any(|wanted| wanted == *digest) && !self.has_body(digest)
    }

    /// The carried digest, if its body is missing.
    pub fn missing_carried(&self) -> Option<Digest> {
        self.carried.filter(|digest| !self.has_body(digest))
    }

    /// Keeps a body if this slot has use for it, and drops those it has no use for any more.
    pub fn keep_body(&mut self, batch: Arc<Batch>) {
        if self.body_of(&batch.digest()).is_none() {
            self.bodies.push(batch);
        }
        self.drop_bodies();
    }

    fn drop_bodies(&mut self) {
        let wanted: Vec<Digest> = self.wanted().collect();
        self.bodies.retain(|body| wanted.contains(&body.digest()));
    }

    /// The certificate and its body, once both are here; the null request has no body.
    pub fn decided(&self) -> Option<(&CommitCertificate, Option<&Arc<Batch>>)> {
        let certificate = self.committed.as_ref()?;
        let digest = certificate.vote.digest;
        self.has_body(&digest).then(|| (certificate, self.body_of(&digest)))
    }

    /// The certificate of `view` or a later one, if the slot is prepared there.
    pub fn prepared_in(&self, view: View) -> Option<&PreparedCertificate> {
        self.prepared.as_ref().filter(|prepared| prepared.vote.view >= view)
    }

    /// Another view begins: what was said in the old one counts no more, what it proved stays, and so
    /// does the body of the digest that is carried over.
    pub fn enter_view(&mut self, carried: Option<Digest>) {
        self.carried = carried;
        self.accepted = None;
        self.early = None;
        self.prepares = Votes::default();
        self.commits = Votes::default();
        self.drop_bodies();
    }

    /// Whether nothing is held here.
    fn is_empty(&self) -> bool {
        self.early.is_none() && self.wanted().next().is_none()
    }

    /// What a status says of this slot to others in `view`.
    pub fn held(&self, sequence: Sequence, view: View, everyone: ReplicaSet) -> Held {
        let digest = self.wanted().next();
        let prepared = self.prepared_in(view).is_some();
        Held {
            sequence,
            pre_prepare: self.accepted.is_some(),
            body: digest.is_some_and(|digest| self.has_body(&digest)),
            committed: self.committed.is_some(),
            // Once prepared, nobody's Prepare is needed any more.
            prepares: if prepared { everyone } else { self.prepares.senders() },
            commits: self.commits.senders(),
        }
    }

    /// A signed vote of a kind, as `sender` said it, for passing it on.
    pub fn vote_of(&self, sender: ReplicaId, commit: bool) -> Option<Signed> {
        let votes = if commit { &self.commits } else { &self.prepares };
        let (vote, signature) = votes.of(sender)?;
        let statement = if commit { Statement::Commit(*vote) } else { Statement::Prepare(*vote) };
        Some(Signed { sender, statement, signature: *signature })
    }
}

/// The slots between the watermarks, and those below that are not yet executed here.
#[derive(Clone, Debug)]
pub struct Window {
    stable: Sequence,
    length: u64,
    slots: BTreeMap<Sequence, Slot>,
}

/// Where a slot number lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At or below h.
    Below,
    /// In (h, h + L]: voted on.
    Inside,
    /// In (h + L, h + 2L]: kept, but not voted on before h moves.
    Ahead,
    /// Above h + 2L: dropped, repaired later.
    Above,
}

impl Window {
    /// An empty window of `length` slots above slot 0.
    pub fn new(length: u64) -> Self {
        Window { stable: Sequence(0), length, slots: BTreeMap::new() }
    }

    /// h, the last stable checkpoint.
    pub fn stable(&self) -> Sequence {
        self.stable
    }

    /// h + L, the highest slot that may be voted on.
    pub fn high(&self) -> Sequence {
        self.stable.plus(self.length)
    }

    /// Where `sequence` lies.
    pub fn place(&self, sequence: Sequence) -> Place {
        if sequence <= self.stable {
            Place::Below
        } else if sequence <= self.high() {
            Place::Inside
        } else if sequence <= self.high().plus(self.length) {
            Place::Ahead
        } else {
            Place::Above
        }
    }

    /// Whether Commits and commit certificates for `sequence` may be kept: in the window, or within two
    /// windows above what was executed, for one who is catching up.
    pub fn keeps_certificate(&self, sequence: Sequence, executed: Sequence) -> bool {
        let behind = sequence > executed && sequence <= executed.plus(2 * self.length);
        behind || matches!(self.place(sequence), Place::Inside | Place::Ahead)
    }

    /// The slot, if anything is held of it.
    pub fn slot(&self, sequence: Sequence) -> Option<&Slot> {
        self.slots.get(&sequence)
    }

    /// The slot, to change, made if need be. The caller has checked its place.
    pub fn slot_mut(&mut self, sequence: Sequence) -> &mut Slot {
        self.slots.entry(sequence).or_default()
    }

    /// All slots held, ascending.
    pub fn slots(&self) -> impl DoubleEndedIterator<Item = (Sequence, &Slot)> {
        self.slots.iter().map(|(sequence, slot)| (*sequence, slot))
    }

    /// Another view begins, which carries `digests` over: votes of the old one go, certificates and
    /// their bodies stay.
    pub fn enter_view(&mut self, digests: &BTreeMap<Sequence, Digest>) {
        for sequence in digests.keys().filter(|sequence| **sequence > self.stable) {
            self.slots.entry(*sequence).or_default();
        }
        for (sequence, slot) in &mut self.slots {
            slot.enter_view(digests.get(sequence).copied());
        }
        self.slots.retain(|_, slot| !slot.is_empty());
    }

    /// Moves h up. Slots at or below it stay until [`Window::take_done`] takes them.
    pub fn advance(&mut self, stable: Sequence) {
        self.stable = self.stable.max(stable);
    }

    /// Takes out the lowest slot if it is at or below h and executed.
    pub fn take_done(&mut self, executed: Sequence) -> Option<(Sequence, Slot)> {
        let entry = self.slots.first_entry()?;
        let done = *entry.key() <= self.stable && *entry.key() <= executed;
        done.then(|| entry.remove_entry())
    }

    /// Drops slots at or below h that lie too far above what was executed for a log to fill the gap: a
    /// replica that far behind has the state transferred (PITFALLS K1).
    pub fn drop_unreachable(&mut self, executed: Sequence) {
        let reach = executed.plus(2 * self.length);
        let stable = self.stable;
        self.slots.retain(|sequence, _| *sequence > stable || *sequence <= reach);
    }
}
