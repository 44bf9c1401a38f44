//! A replica that was left behind: from others' logs when little is missing, by state transfer when much
//! is; and one whose state is wrong (PROTOCOL section 5).

use super::{
    Action, ClientId, Instant, Mirror, Outbox, Reason, Replica, RequestNumber, Sequence, Time,
    Verdict,
};
use crate::types::Digest;

/// A state transfer under way. The host runs it ([`crate::transfer`]) and gives the result to the owner
/// of the state in one piece (PITFALLS G5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Restoring {
    /// The checkpoint asked for last.
    target: Sequence,
    /// Whether the own state is wrong and not only old: then nothing is said or answered meanwhile.
    pub(super) diverged: bool,
}

impl Replica {
    /// Whether the own state is known to be wrong.
    pub(super) fn is_diverged(&self) -> bool {
        self.restoring.is_some_and(|restoring| restoring.diverged)
    }

    /// Looks whether execution keeps up with the stable checkpoint. Log repair is given some patience
    /// per slot gained, unless the gap is more than anyone's window.
    pub(super) fn catch_up(&mut self, now: Instant, out: &mut Outbox) {
        let gap = self.window.stable().since(self.dispatched);
        if gap == 0 && self.restoring.is_none() {
            self.lagging = None;
            return;
        }
        match self.lagging {
            Some((dispatched, _)) if dispatched == self.dispatched => {}
            _ => self.lagging = Some((self.dispatched, now)),
        }
        let waited = self
            .lagging
            .is_some_and(|(_, since)| now.since(since) >= self.limits.catch_up_patience);
        let far = gap > 4 * self.cluster.constants().window;
        if far || waited || self.restoring.is_some() {
            let diverged = self.is_diverged();
            self.restore(diverged, out);
        }
    }

    /// Has the state of the last stable checkpoint transferred; a newer target replaces an older one.
    fn restore(&mut self, diverged: bool, out: &mut Outbox) {
        let Some(proof) = self.checkpoints.proof.clone() else { return };
        let target = proof.sequence();
        if self.restoring.is_some_and(|held| held.target >= target && held.diverged == diverged) {
            return;
        }
        self.restoring = Some(Restoring { target, diverged });
        out.push(Action::Restore { proof });
    }

    /// The own state differs from the one a quorum agreed on: this replica stops voting and answering
    /// and repairs itself (PITFALLS C5).
    pub(super) fn diverge(
        &mut self,
        sequence: Sequence,
        own: Digest,
        agreed: Digest,
        out: &mut Outbox,
    ) {
        out.push(Action::Diverged { after: self.settled, sequence, own, agreed });
        self.journal.silence();
        self.restoring = None;
        self.restore(true, out);
    }

    /// The owner of the state has installed a proven state: everything that follows from the old one is
    /// replaced by it.
    pub(super) fn on_restored(
        &mut self,
        now: Time,
        sequence: Sequence,
        digest: Digest,
        consumed: &[(ClientId, RequestNumber)],
        out: &mut Outbox,
    ) -> Verdict {
        let diverged = self.is_diverged();
        if sequence < self.dispatched && !diverged {
            return Verdict::Ignored(Reason::Unexpected);
        }
        if diverged {
            self.checkpoints.renounce_own();
        }
        self.restoring = None;
        self.lagging = None;
        self.executed = sequence;
        self.dispatched = sequence;
        self.settled = sequence;
        self.next_proposal = self.next_proposal.max(sequence.next());
        let window = self.cluster.constants().client_window;
        self.mirror = Mirror::new(window);
        for (client, number) in consumed {
            self.mirror.consume(*client, *number);
            self.pending.remove(*client, *number);
            self.pending.remove_stale(*client, *number, window);
        }
        self.checkpoints.go_on_from(sequence, digest);
        self.settle(out);
        self.retire();
        self.execute_ready(out);
        if diverged {
            self.speak_again(out);
        }
        self.catch_up(now.instant, out);
        Verdict::Accepted
    }
}
