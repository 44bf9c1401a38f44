//! What a behaviour can see and do.

use std::sync::Arc;

use bytes::Bytes;
use pbft_core::certificate::{CommitCertificate, Signatures};
use pbft_core::hook::{Deed, Scene};
use pbft_core::message::{
    Batch, Checkpoint, Message, Signed, SignedViewChange, Statement, ViewChange, Vote,
};
use pbft_core::replica::{Action, To};
use pbft_core::signed::sign;
use pbft_core::types::{Digest, Instant, ReplicaId, Sequence, Signature, View, WallTime};

use super::{Kit, Notes};
use crate::random::Random;

/// The world of a traitor at one moment.
pub struct World<'a> {
    scene: Scene<'a>,
    /// What it has.
    pub kit: &'a Kit,
    /// What it remembers.
    pub notes: &'a Notes,
    /// Chance, from its seed.
    pub random: &'a mut Random,
    deeds: &'a mut Vec<Deed>,
}

impl<'a> World<'a> {
    pub(super) fn new(
        scene: Scene<'a>,
        kit: &'a Kit,
        notes: &'a Notes,
        random: &'a mut Random,
        deeds: &'a mut Vec<Deed>,
    ) -> Self {
        World { scene, kit, notes, random, deeds }
    }

    /// Both clocks and the honest replica.
    pub fn scene(&self) -> Scene<'a> {
        self.scene
    }

    /// The monotonic clock.
    pub fn now(&self) -> Instant {
        self.scene.now.instant
    }

    /// Who it is.
    pub fn me(&self) -> ReplicaId {
        self.kit.id
    }

    /// Everyone else.
    pub fn others(&self) -> impl Iterator<Item = ReplicaId> + use<> {
        let me = self.kit.id;
        self.kit.cluster.replicas().filter(move |replica| *replica != me)
    }

    /// The view its replica is in.
    pub fn view(&self) -> View {
        self.scene.replica.view()
    }

    /// The last slot its replica executed.
    pub fn executed(&self) -> Sequence {
        self.scene.replica.summary().executed
    }

    /// Whether its replica is the primary of its view.
    pub fn is_primary(&self) -> bool {
        self.kit.cluster.primary(self.view()) == self.kit.id
    }

    /// Does something as it is.
    pub fn pass(&mut self, deed: Deed) {
        self.deeds.push(deed);
    }

    /// Says something in its own name.
    pub fn say(&mut self, to: To, statement: Statement, batch: Option<Arc<Batch>>) {
        self.deeds.push(Deed::Act(Action::Say { to, statement, batch }));
    }

    /// Says something to everyone else, and nothing to its own replica.
    pub fn tell_others(&mut self, statement: &Statement, batch: Option<&Arc<Batch>>) {
        for to in self.others() {
            self.say(To::One(to), statement.clone(), batch.map(Arc::clone));
        }
    }

    /// Says to each what `version` makes of the statement, nothing where it makes nothing; its own replica
    /// hears the honest one.
    pub fn say_each(
        &mut self,
        honest: &Statement,
        batch: Option<&Arc<Batch>>,
        mut version: impl FnMut(&mut Random, ReplicaId) -> Option<Statement>,
    ) {
        self.say(To::One(self.me()), honest.clone(), batch.map(Arc::clone));
        for to in self.others() {
            if let Some(statement) = version(self.random, to) {
                self.say(To::One(to), statement, batch.map(Arc::clone));
            }
        }
    }

    /// Sends a message with whatever signatures are in it.
    pub fn send(&mut self, to: To, message: Message) {
        self.deeds.push(Deed::Act(Action::Relay { to, message }));
    }

    /// Sends bytes to everyone else.
    pub fn bytes(&mut self, to: ReplicaId, frame: Bytes) {
        self.deeds.push(Deed::Bytes { to, frame });
    }

    /// Signs in its own name.
    pub fn sign(&self, statement: Statement) -> Signed {
        sign(&self.kit.cluster, &*self.kit.signer, self.kit.id, statement)
    }

    /// A digest of nothing.
    pub fn digest(&mut self) -> Digest {
        random_digest(self.random)
    }

    /// A signature of nobody.
    pub fn signature(&mut self) -> Signature {
        let (one, two) = (random_digest(self.random), random_digest(self.random));
        let mut bytes = [0; 64];
        bytes.iter_mut().zip(one.0.iter().chain(&two.0)).for_each(|(out, byte)| *out = *byte);
        Signature(bytes)
    }

    /// A decision about the next slot that nobody else has a part in: `signatures` of this replica where those of
    /// a quorum belong, over its own Commit for a batch of its own.
    pub fn lonely_decision(&mut self, sign: impl Fn(&[u8], u64) -> Signature) -> Message {
        let batch = Arc::new(Batch::new(WallTime(self.random.below(1 << 40)), Vec::new()));
        let sequence = self.executed().next();
        let vote = Vote { view: self.view(), sequence, digest: batch.digest() };
        let preimage = Statement::Commit(vote).preimage(&self.kit.cluster, self.me());
        let count = u64::try_from(self.kit.cluster.quorum()).unwrap_or(0);
        let commits = (0..count).map(|one| (self.me(), sign(&preimage, one)));
        let certificate = CommitCertificate { vote, commits: Signatures::raw(commits.collect()) };
        Message::Committed { certificate, batch: Some(batch) }
    }

    /// An honest ViewChange for `view`, as its replica would say it.
    pub fn view_change(&self, view: View) -> ViewChange {
        let stable = self.notes.stable.clone();
        let low = stable.as_ref().map_or(Sequence(0), |proof| proof.sequence());
        let high = low.plus(self.kit.cluster.constants().window);
        let slots = self.scene.replica.window().slots();
        let prepared = slots.filter_map(|(_, slot)| slot.prepared.clone());
        let inside = prepared
            .filter(|it| it.vote.sequence > low && it.vote.sequence <= high && it.vote.view < view);
        ViewChange { view, prepared: inside.collect(), stable }
    }

    /// A ViewChange as a NewView carries it, signed in its own name.
    pub fn signed_change(&self, change: ViewChange) -> SignedViewChange {
        let change = Arc::new(change);
        let signed = self.sign(Statement::ViewChange(Arc::clone(&change)));
        SignedViewChange { sender: self.me(), change, signature: signed.signature }
    }
}

/// Any digest.
pub(super) fn random_digest(random: &mut Random) -> Digest {
    let mut bytes = [0; 32];
    for chunk in bytes.chunks_mut(8) {
        let word = random.between(0, u64::MAX - 1).to_le_bytes();
        chunk.iter_mut().zip(word).for_each(|(out, byte)| *out = byte);
    }
    Digest(bytes)
}

/// Another digest than this.
pub(super) fn flip(digest: Digest) -> Digest {
    let mut bytes = digest.0;
    if let Some(first) = bytes.first_mut() {
        *first ^= 1;
    }
    Digest(bytes)
}

/// What is said to everyone, if that is what it is.
pub(super) fn said(deed: &Deed) -> Option<(&Statement, Option<&Arc<Batch>>)> {
    match deed {
        Deed::Act(Action::Say { to: To::All, statement, batch }) => {
            Some((statement, batch.as_ref()))
        }
        _ => None,
    }
}

/// A fresh proposal with its body, if that is what it is.
pub(super) fn proposal(deed: &Deed) -> Option<(Vote, Arc<Batch>)> {
    match said(deed)? {
        (Statement::PrePrepare(vote), Some(batch)) => Some((*vote, Arc::clone(batch))),
        _ => None,
    }
}

/// The vote in a statement about a slot.
pub(super) fn vote_in(statement: &Statement) -> Option<Vote> {
    match statement {
        Statement::PrePrepare(vote) | Statement::Prepare(vote) | Statement::Commit(vote) => {
            Some(*vote)
        }
        _ => None,
    }
}

/// The same kind of statement about another vote.
pub(super) fn revote(statement: &Statement, vote: Vote) -> Statement {
    match statement {
        Statement::PrePrepare(_) => Statement::PrePrepare(vote),
        Statement::Prepare(_) => Statement::Prepare(vote),
        Statement::Commit(_) => Statement::Commit(vote),
        other => other.clone(),
    }
}

/// A checkpoint of another state.
pub(super) fn other_state(checkpoint: Checkpoint) -> Statement {
    Statement::Checkpoint(Checkpoint { digest: flip(checkpoint.digest), ..checkpoint })
}
