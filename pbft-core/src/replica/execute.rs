//! Execution in sequence order, by the owner of the state.

use alloc::sync::Arc;

use super::history::Decided;
use super::{Action, ClientId, Outbox, Reason, Replica, RequestNumber, Sequence, Verdict};

impl Replica {
    /// Gives every slot that is decided, with its body, and next in order to the owner of the state.
    pub(super) fn execute_ready(&mut self, out: &mut Outbox) {
        // A state about to be replaced is not touched.
        if self.restoring.is_some() {
            return;
        }
        let interval = self.cluster.constants().checkpoint_interval;
        loop {
            let sequence = self.dispatched.next();
            let decided = self.window.slot(sequence).and_then(|slot| slot.decided());
            let Some((_, batch)) = decided else { break };
            let batch = batch.map(Arc::clone);
            self.dispatched = sequence;
            out.push(Action::Execute { sequence, batch, view: self.views.active });
            if sequence.is_checkpoint(interval) {
                out.push(Action::Snapshot { sequence });
            }
        }
    }

    pub(super) fn on_executed(
        &mut self,
        sequence: Sequence,
        consumed: &[(ClientId, RequestNumber)],
    ) -> Verdict {
        if sequence != self.executed.next() || sequence > self.dispatched {
            return Verdict::Ignored(Reason::Unexpected);
        }
        if self.is_diverged() {
            return Verdict::Ignored(Reason::Diverged);
        }
        self.executed = sequence;
        for (client, number) in consumed {
            self.mirror.consume(*client, *number);
            self.pending.remove(*client, *number);
            self.pending.remove_stale(*client, *number, self.cluster.constants().client_window);
        }
        // Requests that changed nothing, duplicates and stale ones, wait no more either.
        let decided = self.window.slot(sequence).and_then(|slot| slot.decided());
        if let Some((certificate, Some(batch))) = decided {
            let active = certificate.vote.view == self.views.active;
            if active && sequence > self.views.carried_max() && !self.is_changing() {
                self.timer.halve();
            }
            for request in batch.requests() {
                self.pending.remove(request.client(), request.number());
            }
        }
        self.retire();
        Verdict::Accepted
    }

    /// Moves slots that are executed and at or below h out of the window.
    pub(super) fn retire(&mut self) {
        while let Some((_, slot)) = self.window.take_done(self.executed) {
            if let Some((certificate, batch)) = slot.decided() {
                let (certificate, batch) = (certificate.clone(), batch.map(Arc::clone));
                let at = slot.spoken_at;
                self.history.push(Decided { certificate, batch, at }, &self.limits);
            }
        }
        self.window.drop_unreachable(self.executed);
    }
}
