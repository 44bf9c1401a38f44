//! Execution in sequence order, by the owner of the state.

use alloc::sync::Arc;

use super::history::Decided;
use super::{Action, ClientId, Outbox, Reason, Replica, RequestNumber, Sequence, Time, Verdict};

impl Replica {
    /// Gives every slot that is decided, with its body, and next in order to the owner of the state.
    pub(super) fn execute_ready(&mut self, now: Time, out: &mut Outbox) {
        let interval = self.cluster.constants().checkpoint_interval;
        loop {
            let sequence = self.dispatched.next();
            let decided = self.window.slot(sequence).and_then(|slot| slot.decided());
            let Some((_, batch)) = decided else { break };
            let batch = Arc::clone(batch);
            self.dispatched = sequence;
            out.push(Action::Execute { sequence, batch, view: self.view });
            if sequence.is_checkpoint(interval) {
                out.push(Action::Snapshot { sequence });
            }
        }
        self.propose(now.wall, out);
    }

    pub(super) fn on_executed(
        &mut self,
        now: Time,
        sequence: Sequence,
        consumed: &[(ClientId, RequestNumber)],
        out: &mut Outbox,
    ) -> Verdict {
        if sequence != self.executed.next() || sequence > self.dispatched {
            return Verdict::Ignored(Reason::Unexpected);
        }
        self.executed = sequence;
        for (client, number) in consumed {
            self.mirror.consume(*client, *number);
            self.pending.remove(*client, *number);
            self.pending.remove_stale(*client, *number, self.cluster.constants().client_window);
        }
        // Requests that changed nothing, duplicates and stale ones, wait no more either.
        let batch = self.window.slot(sequence).and_then(|slot| slot.decided());
        if let Some((_, batch)) = batch {
            for request in batch.requests() {
                self.pending.remove(request.client(), request.number());
            }
        }
        self.retire();
        self.propose(now.wall, out);
        Verdict::Accepted
    }

    /// Moves slots that are executed and at or below h out of the window.
    pub(super) fn retire(&mut self) {
        while let Some((_, slot)) = self.window.take_done(self.executed) {
            if let (Some(certificate), Some(batch)) = (slot.committed, slot.body)
                && certificate.vote.digest == batch.digest()
            {
                let at = slot.spoken_at;
                self.history.push(Decided { certificate, batch, at }, &self.limits);
            }
        }
    }
}
