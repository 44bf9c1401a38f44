//! Starting again from the journal: what was promised is known, what may have been promised is not said
//! otherwise (PROTOCOL sections 4 and 9).

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{
    Batch, Cluster, Limits, Outbox, Place, Record, Replica, ReplicaId, Sequence, Signed, Standing,
    Statement, View, Vote,
};
use crate::certificate::{PreparedCertificate, StableProof};
use crate::limits::ConfigError;
use crate::message::NewView;
use crate::new_view;
use crate::types::{Instant, Signature, WriteId};
use crate::window::{Accepted, Votes};

/// Slots for which votes may have been said and forgotten: PrePrepares and Prepares leave without a
/// record of their own, so after a restart none is said where one could contradict the forgotten one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Abstention {
    /// In the view that was active.
    view: View,
    /// h + 2L as of this start; nothing higher can have been said.
    until: Sequence,
}

/// A journal that no replica with these keys and limits wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// The configuration does not hold.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A NewView in the journal contradicts itself.
    #[error("the new view for view {0} in the journal names two digests for one slot")]
    NewView(View),
}

impl Replica {
    /// A replica that ran before, from what its journal holds, in the order in which it was written.
    /// Follow with [`super::Input::Restored`] for the snapshot at hand, if there is one, then
    /// [`super::Input::Start`].
    ///
    /// # Errors
    /// `id` is no member, the limits do not hold, or the journal contradicts itself.
    pub fn recover(
        id: ReplicaId,
        cluster: Arc<Cluster>,
        limits: Limits,
        journal: impl IntoIterator<Item = Record>,
    ) -> Result<Self, RecoverError> {
        let mut replica = Replica::new(id, cluster, limits)?;
        let mut proven: Option<StableProof> = None;
        let mut prepared: Vec<_> = Vec::new();
        let mut newest: Option<(Arc<NewView>, Option<Signature>)> = None;
        for record in journal {
            match record {
                Record::Prepared { certificate, batch } => prepared.push((certificate, batch)),
                Record::Checkpoint(checkpoint) => {
                    replica.checkpoints.note_own(checkpoint.sequence, checkpoint.digest);
                }
                Record::Stable(proof) => raise(&mut proven, Some(proof)),
                Record::ViewChange(change) => {
                    raise(&mut proven, change.stable.clone());
                    replica.views.voted = replica.views.voted.max(change.view);
                    replica.views.own = Some(change);
                }
                Record::NewView { new_view, signature } => {
                    for change in &new_view.changes {
                        raise(&mut proven, change.change.stable.clone());
                    }
                    newest = Some((new_view, signature));
                }
                Record::Lost => replica.standing = Standing::NonVoting,
                Record::Reinstated { through } => {
                    replica.standing = Standing::Voting;
                    replica.amnesia.silent_through = Some(through);
                }
            }
        }
        if let Some(proof) = proven {
            replica.adopt_proven(proof);
        }
        if let Some((new_view, signature)) = newest {
            replica.resume_view(&new_view, signature)?;
        }
        replica.abstention = Abstention {
            view: replica.views.active,
            until: replica.window.stable().plus(2 * replica.cluster.constants().window),
        };
        for (certificate, batch) in prepared {
            replica.resume_slot(certificate, batch);
        }
        Ok(replica)
    }

    fn adopt_proven(&mut self, proof: StableProof) {
        self.journal.recover_stable(proof.sequence());
        self.window.advance(proof.sequence());
        self.next_proposal = proof.sequence().next();
        self.checkpoints.recover(proof);
    }

    fn resume_view(
        &mut self,
        new_view: &Arc<NewView>,
        signature: Option<Signature>,
    ) -> Result<(), RecoverError> {
        let view = new_view.view;
        let changes = new_view.changes.iter().map(|change| &*change.change);
        let plan = new_view::plan(view, changes).map_err(|_| RecoverError::NewView(view))?;
        self.window.enter_view(&plan.digests);
        self.next_proposal = plan.max.max(self.window.stable()).next();
        self.views.active = view;
        self.views.voted = self.views.voted.max(view);
        self.views.started = if self.is_primary() { view } else { View(0) };
        self.views.unsigned = signature.is_none().then(|| Arc::clone(new_view));
        self.views.new_view = signature.map(|signature| Signed {
            sender: self.cluster.primary(view),
            statement: Statement::NewView(Arc::clone(new_view)),
            signature,
        });
        self.views.plan = Some(plan);
        Ok(())
    }

    /// A prepared slot stands as it did: its certificate holds the PrePrepare and the Prepares.
    fn resume_slot(&mut self, certificate: PreparedCertificate, batch: Option<Arc<Batch>>) {
        let vote = certificate.vote;
        if self.window.place(vote.sequence) != Place::Inside {
            return;
        }
        let active = self.views.active;
        let primary = self.cluster.primary(vote.view);
        let slot = self.window.slot_mut(vote.sequence);
        if slot.prepared_in(vote.view).is_some() {
            return;
        }
        if vote.view == active {
            let statement = Statement::PrePrepare(vote);
            let signature = certificate.pre_prepare;
            let signed = Signed { sender: primary, statement, signature };
            slot.accepted = Some(Accepted { signed, vote, at: Instant(0) });
            let mut prepares = Votes::default();
            for (sender, signature) in certificate.prepares.iter() {
                prepares.insert(sender, vote, *signature);
            }
            slot.prepares = prepares;
            self.next_proposal = self.next_proposal.max(vote.sequence.next());
        }
        slot.prepared = Some(certificate);
        if let Some(batch) = batch {
            slot.keep_body(batch);
        }
    }

    /// Whether a PrePrepare or Prepare for `sequence` in the active view may be said: never where one
    /// may have been said before and forgotten. What the NewView names can only be said one way.
    pub(super) fn may_vote(&self, sequence: Sequence) -> bool {
        self.views.active != self.abstention.view
            || sequence > self.abstention.until
            || sequence <= self.views.carried_max()
    }

    /// While its state was wrong this replica said nothing. What it promised itself meanwhile, durably, it says now:
    /// the ViewChange it left its view with, and the Commits of what it prepared.
    pub(super) fn speak_again(&mut self, out: &mut Outbox) {
        let after = self.journal.last();
        // Without them, and with another replica down, h may never move again.
        for checkpoint in self.checkpoints.own_unsaid(self.window.stable()) {
            self.say(after, Statement::Checkpoint(checkpoint), None, out);
        }
        if self.say_change(after, out) {
            return;
        }
        let unsaid = |vote: &Vote| {
            let slot = self.window.slot(vote.sequence);
            slot.is_none_or(|slot| slot.commits.of(self.id).is_none())
        };
        let mine: Vec<Vote> = self.prepared_votes().into_iter().filter(unsaid).collect();
        self.say_commits(after, mine, out);
    }

    /// Says again what the journal implies was said: the same Commits, ViewChange, NewView, Checkpoints.
    pub(super) fn say_again(&mut self, out: &mut Outbox) {
        let none = WriteId(0);
        for checkpoint in self.checkpoints.own_above(self.window.stable()) {
            self.say(none, Statement::Checkpoint(checkpoint), None, out);
        }
        if let Some(new_view) = self.views.unsigned.take() {
            self.say(none, Statement::NewView(new_view), None, out);
        }
        if self.say_change(none, out) {
            return;
        }
        self.say_carried(out);
        let prepared = self.prepared_votes();
        self.say_commits(none, prepared, out);
    }

    /// Between views there is nothing to say but the own ViewChange.
    fn say_change(&mut self, after: WriteId, out: &mut Outbox) -> bool {
        if !self.is_changing() {
            return false;
        }
        if let Some(change) = self.views.own.clone() {
            self.say(after, Statement::ViewChange(change), None, out);
        }
        true
    }

    /// What is prepared in the active view.
    fn prepared_votes(&self) -> Vec<Vote> {
        let slots = self.window.slots();
        let prepared = slots.filter_map(|(_, slot)| slot.prepared.as_ref());
        let votes = prepared.map(|prepared| prepared.vote);
        votes.filter(|vote| vote.view == self.views.active).collect()
    }

    fn say_commits(&mut self, after: WriteId, votes: Vec<Vote>, out: &mut Outbox) {
        for vote in votes {
            self.say(after, Statement::Commit(vote), None, out);
        }
    }
}

fn raise(proven: &mut Option<StableProof>, proof: Option<StableProof>) {
    let held = proven.as_ref().map_or(Sequence(0), StableProof::sequence);
    if let Some(proof) = proof
        && proof.sequence() > held
    {
        *proven = Some(proof);
    }
}

#[cfg(test)]
#[path = "recover_test.rs"]
mod tests;
