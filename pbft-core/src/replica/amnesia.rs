//! A lost store: what was promised is not known any more, so nothing is promised until nothing new can
//! contradict it (PROTOCOL section 9; PITFALLS G10).
//!
//! The replica counts towards f meanwhile. It asks the others, and of n - f of them who answer, at most f - 1
//! lie, so at least one correct one was in every quorum that ever moved this replica on:
//!
//! - Every checkpoint that let this replica vote was executed by one of them, so once all they executed
//!   is proven stable here, at c0, no vote was ever said above c0 + L. From a stable checkpoint at or above
//!   c0 + 2L on no slot is open for which one could have been.
//! - Every view that this replica was in was voted for by Q - f correct others, so it said nothing of a view
//!   above M + 1, where M is the (Q - f)-th highest that they voted for. In views up to M + 1 it stays silent
//!   for good: an old ViewChange of its own may be on its way into a NewView that knows nothing of new votes.
//!
//! An answer names what was asked with, the wall clock at the start of this run, so that nothing said before
//! the loss and delayed since counts as one.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Action, Outbox, Record, Replica, ReplicaId, Sequence, Standing, View};
use crate::message::Status;
use crate::types::{WallTime, WriteId};

/// What a replica that has lost its store has learnt, and what it asks others with.
#[derive(Clone, Debug, Default)]
pub(super) struct Amnesia {
    /// When this run started, by its own clock; answers name it.
    asked: WallTime,
    /// The first answer of each other replica: the checkpoint it may have taken, the view it voted for.
    answers: BTreeMap<ReplicaId, (Sequence, View)>,
    /// c0, once n - f answers are proven.
    reached: Option<Sequence>,
    /// Nothing is said of views up to this one, ever again.
    pub(super) silent_through: Option<View>,
    /// The write that holds the end of the loss; promises wait for it.
    pub(super) write: WriteId,
    /// What others who have lost their store ask with, answered in every status.
    pub(super) askers: BTreeMap<ReplicaId, WallTime>,
}

impl Amnesia {
    pub(super) fn start(&mut self, now: WallTime) {
        self.asked = now;
    }
}

impl Replica {
    /// Whether promises about `view` may be made: not without a store, and not in views that a lost store
    /// may have been about.
    pub(super) fn may_promise_in(&self, view: View) -> bool {
        let silent = self.amnesia.silent_through.is_some_and(|last| view <= last);
        self.standing == Standing::Voting && !silent
    }

    /// How it stands in the view it is in, for people.
    pub(super) fn shown_standing(&self) -> Standing {
        match self.standing {
            Standing::Voting if !self.may_promise_in(self.views.voted) => Standing::Silent,
            Standing::Voting if !self.may_vote(self.dispatched.next()) => Standing::Abstaining,
            standing => standing,
        }
    }

    /// What the own status asks with, if this replica needs answers.
    pub(super) fn asks(&self) -> Option<WallTime> {
        (self.standing == Standing::NonVoting).then_some(self.amnesia.asked)
    }

    /// Remembers what a peer asks with, and takes its answer.
    pub(super) fn hear_answer(&mut self, peer: ReplicaId, status: &Status, out: &mut Outbox) {
        match status.asks {
            Some(asked) => self.amnesia.askers.insert(peer, asked),
            None => self.amnesia.askers.remove(&peer),
        };
        let answer = (self.id, self.amnesia.asked);
        if self.standing != Standing::NonVoting
            || peer == self.id
            || !status.answers.contains(&answer)
        {
            return;
        }
        let interval = self.cluster.constants().checkpoint_interval;
        let taken = status.executed.checkpoint_at_or_below(interval).max(status.stable);
        self.amnesia.answers.entry(peer).or_insert((taken, status.voted_view));
        self.reinstate(out);
    }

    /// Ends the loss once nothing new can contradict what was forgotten.
    pub(super) fn reinstate(&mut self, out: &mut Outbox) {
        if self.standing != Standing::NonVoting {
            return;
        }
        let needed = self.cluster.n() - self.cluster.f();
        let stable = self.window.stable();
        let answers = &self.amnesia.answers;
        if self.amnesia.reached.is_none() {
            // A claim counts once it is proven, so that a liar can claim what it likes.
            let proven = answers.values().filter(|(taken, _)| *taken <= stable).count();
            self.amnesia.reached = (proven >= needed).then_some(stable);
        }
        let Some(reached) = self.amnesia.reached else { return };
        if stable < reached.plus(2 * self.cluster.constants().window) {
            return;
        }
        // At least Q - f others voted for any view that this replica was in; those of them that have not
        // answered are no more than have not answered at all. So the rank-th highest is as high as that view.
        let mut voted: Vec<View> = answers.values().map(|(_, voted)| *voted).collect();
        voted.sort_unstable_by(|one, other| other.cmp(one));
        let silent = (self.cluster.n() - 1).saturating_sub(voted.len());
        let rank = (self.cluster.quorum() - self.cluster.f()).saturating_sub(silent);
        let Some(highest) = voted.get(rank.saturating_sub(1)) else { return };
        let through = highest.next().unwrap_or(View::MAX);
        self.standing = Standing::Voting;
        self.amnesia.silent_through = Some(through);
        self.amnesia.write = self.journal.persist(Record::Reinstated { through }, out);
        out.push(Action::Reinstated { through });
        self.speak_again(out);
    }
}

#[cfg(test)]
#[path = "amnesia_test.rs"]
mod tests;
