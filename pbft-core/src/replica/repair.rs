//! Repair of lost messages: everyone tells what it holds, and is sent what it lacks (PROTOCOL section 8).
//!
//! QUIC resends lost packets, but a reconnect loses whatever was under way, and queues drop when they are
//! full. So nothing relies on a message arriving because it was sent (PITFALLS C12).

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use super::{Action, Outbox, Reason, Replica, ReplicaId, Sequence, Statement, To, Verdict};
use crate::message::{Held, Message, ReplicaSet, Status};
use crate::types::{Instant, Time};

/// When statuses were said and answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Repair {
    next_status: Option<Instant>,
    answered: BTreeMap<ReplicaId, Instant>,
}

impl Repair {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next_status
    }
}

impl Replica {
    pub(super) fn on_wake(&mut self, now: Time, out: &mut Outbox) -> Verdict {
        let mut verdict = Verdict::Ignored(Reason::NotDue);
        if let Some(awaited) = self.timer.expired(now.instant) {
            self.on_timeout(now, awaited, out);
            verdict = Verdict::Accepted;
        }
        if self.fetcher.deadline().is_some_and(|due| now.instant >= due) {
            self.fetch_bodies(now.instant, out);
            verdict = Verdict::Accepted;
        }
        let now = now.instant;
        if self.repair.next_status.is_some_and(|due| now >= due) {
            self.say_status(now, To::All, out);
            self.catch_up(now, out);
            self.relay_head(now, out);
            verdict = Verdict::Accepted;
        }
        verdict
    }

    /// The request the timer runs for goes to the primary again: it may have had no room when it was
    /// relayed, and a client must not be able to end a view by asking the backups alone.
    fn relay_head(&mut self, now: Instant, out: &mut Outbox) {
        if self.is_primary() || self.is_changing() {
            return;
        }
        let primary = self.cluster.primary(self.views.active);
        if let Some(request) = self.pending.head_to_relay(now, self.limits.repair_delay) {
            relay(primary, Message::Request(request), out);
        }
    }

    /// Says what is held here. A status promises nothing, so a non-voting replica says it too.
    pub(super) fn say_status(&mut self, now: Instant, to: To, out: &mut Outbox) {
        if to == To::All {
            self.repair.next_status = Some(now.after(self.limits.status_interval));
        }
        let statement = Statement::Status(self.status());
        out.push(Action::Say { to, statement, batch: None });
    }

    fn status(&self) -> Status {
        let constants = self.cluster.constants();
        let stable = self.window.stable();
        let most = usize::try_from(2 * constants.window).unwrap_or(usize::MAX);
        let everyone = self.everyone();
        let slots = self
            .window
            .slots()
            .filter(|(sequence, _)| *sequence > self.executed)
            .take(most)
            .map(|(sequence, slot)| slot.held(sequence, self.views.active, everyone))
            .collect();
        Status {
            view: self.views.active,
            // What a lost store may have voted for counts as voted for.
            voted_view: self.views.voted.max(self.amnesia.silent_through.unwrap_or_default()),
            slow_primary: self.pace.is_slow(),
            stable,
            executed: self.executed,
            checkpoints: self.checkpoints.senders(stable.plus(constants.checkpoint_interval)),
            view_changes: self.view_changes_held(),
            slots,
            asks: self.asks(),
            answers: self.amnesia.askers.iter().map(|(peer, asked)| (*peer, *asked)).collect(),
        }
    }

    /// Sends the peer what it lacks and is held here, oldest first, within a budget. A status is a hint:
    /// nothing of it is believed, and answers come no more often than the repair delay allows.
    pub(super) fn on_status(
        &mut self,
        now: Time,
        peer: ReplicaId,
        status: &Status,
        out: &mut Outbox,
    ) -> Verdict {
        self.hear_answer(peer, status, out);
        if status.view == self.views.active {
            self.hear_of_pace(now, peer, status.slow_primary, out);
        }
        let now = now.instant;
        let delay = self.limits.repair_delay;
        if self.repair.answered.get(&peer).is_some_and(|at| now.since(*at) < delay) {
            return Verdict::Ignored(Reason::TooSoon);
        }
        self.repair.answered.insert(peer, now);
        self.repair_views(now, peer, status, out);
        self.repair_checkpoint(now, peer, status, out);
        self.repair_slots(now, peer, status, out);
        Verdict::Accepted
    }

    fn repair_checkpoint(&self, now: Instant, peer: ReplicaId, status: &Status, out: &mut Outbox) {
        let delay = self.limits.repair_delay;
        let stable = self.window.stable();
        if status.stable < stable {
            if now.since(self.checkpoints.proof_at) >= delay
                && let Some(proof) = &self.checkpoints.proof
            {
                relay(peer, Message::Stable(proof.clone()), out);
            }
            return;
        }
        let next = status.stable.plus(self.cluster.constants().checkpoint_interval);
        if !status.checkpoints.contains(self.id)
            && now.since(self.checkpoints.said_at) >= delay
            && let Some(signed) = self.checkpoints.signed(self.id, next)
        {
            relay(peer, Message::Statement(signed), out);
        }
    }

    fn repair_slots(&self, now: Instant, peer: ReplicaId, status: &Status, out: &mut Outbox) {
        let mut budget =
            Budget { slots: self.limits.repair_slots_max, bytes: self.limits.repair_bytes_max };
        let mut held = status.slots.iter().peekable();
        // More than the peer may keep is of no use to it.
        let keeps = status.executed.max(status.stable).plus(2 * self.cluster.constants().window);
        let last = self.window.slots().next_back().map_or(self.dispatched, |(last, _)| last);
        let last = last.max(self.dispatched).min(keeps);
        let mut sequence = status.executed.next();
        while sequence <= last && budget.slots > 0 {
            while held.peek().is_some_and(|slot| slot.sequence < sequence) {
                held.next();
            }
            let theirs = held.peek().filter(|slot| slot.sequence == sequence);
            let theirs = theirs.map_or_else(|| nothing(sequence), |slot| **slot);
            if !(theirs.committed && theirs.body) {
                self.repair_slot(now, peer, status, &theirs, &mut budget, out);
            }
            sequence = sequence.next();
        }
    }

    fn repair_slot(
        &self,
        now: Instant,
        peer: ReplicaId,
        status: &Status,
        theirs: &Held,
        budget: &mut Budget,
        out: &mut Outbox,
    ) {
        let sequence = theirs.sequence;
        let slot = self.window.slot(sequence);
        let kept = self.history.slot(sequence);
        // What was said a moment ago is still under way.
        let said_at = slot.map(|slot| slot.spoken_at).or(kept.map(|kept| kept.at));
        if said_at.is_some_and(|at| now.since(at) < self.limits.repair_delay) {
            return;
        }
        let decided = slot.and_then(|slot| slot.decided());
        let decided = decided.or(kept.map(|kept| (&kept.certificate, kept.batch.as_ref())));
        if let Some((certificate, batch)) = decided {
            let batch = batch.filter(|_| !theirs.body).map(Arc::clone);
            let bytes = batch.as_ref().map_or(0, |batch| batch.wire_bytes());
            if budget.take(bytes) {
                let certificate = certificate.clone();
                relay(peer, Message::Committed { certificate, batch }, out);
            }
            return;
        }
        let Some(slot) = slot else { return };
        if status.view != self.views.active || self.is_changing() {
            return;
        }
        if !theirs.pre_prepare
            && let Some(accepted) = &slot.accepted
        {
            let pre_prepare = accepted.signed.clone();
            let carried = sequence <= self.views.carried_max();
            match slot.body_of(&accepted.vote.digest) {
                Some(batch) if !carried && budget.take(batch.wire_bytes()) => {
                    let batch = Arc::clone(batch);
                    relay(peer, Message::Proposal { pre_prepare, batch }, out);
                }
                // Its body is fetched by digest, if it is missing at all.
                _ if carried => relay(peer, Message::Statement(pre_prepare), out),
                _ => {}
            }
        }
        for (commit, have) in [(false, theirs.prepares), (true, theirs.commits)] {
            if !have.contains(self.id)
                && let Some(signed) = slot.vote_of(self.id, commit)
            {
                relay(peer, Message::Statement(signed), out);
            }
        }
        // Whoever said them and was started again abstains and says none a second time: the certificate may be all
        // that is left of its Prepares.
        let certificate = slot.prepared_in(self.views.active);
        for (sender, _) in certificate.into_iter().flat_map(|it| it.prepares.iter()) {
            if sender != self.id
                && !theirs.prepares.contains(sender)
                && let Some(signed) = slot.vote_of(sender, false)
            {
                relay(peer, Message::Statement(signed), out);
            }
        }
    }
}

fn relay(peer: ReplicaId, message: Message, out: &mut Outbox) {
    out.push(Action::Relay { to: To::One(peer), message });
}

fn nothing(sequence: Sequence) -> Held {
    Held {
        sequence,
        pre_prepare: false,
        body: false,
        committed: false,
        prepares: ReplicaSet::default(),
        commits: ReplicaSet::default(),
    }
}

/// What one answer may still carry.
struct Budget {
    slots: usize,
    bytes: usize,
}

impl Budget {
    /// Takes one slot of so many bytes, if it fits; the first body of an answer always does.
    fn take(&mut self, bytes: usize) -> bool {
        let fits = self.slots > 0 && self.bytes > 0;
        if fits {
            self.slots -= 1;
            self.bytes = self.bytes.saturating_sub(bytes);
        } else {
            self.slots = 0;
        }
        fits
    }
}
