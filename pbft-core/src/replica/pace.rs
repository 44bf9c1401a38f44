//! A floor under the primary's pace (PITFALLS F1; Clement et al., Aardvark, 2009).
//!
//! The time-out alone lets a primary delay every proposal to just below it. So a backup also adds up the
//! time that passes while it could go on and has nothing to go on with: everything dispatched is executed,
//! the next slot is not proposed here, and either the oldest request it relayed waits, or the slot is known to
//! others (f + 1 said Commit, or a later one was proposed first). A correct primary causes that for a
//! message's way only, so short waits do not count: what is short follows from how long slots take at
//! best once they are proposed. The sum is forgotten at a quarter of the rate of time. A replica that sees two
//! time-outs wasted says so in its status until it is made good, and f + 1 that say so at a time leave the view
//! together: one with a bad link to the primary stays, and f that lie need a correct one that agrees.
//!
//! What it does not see: a quarter of the time, waits below an eighth of the time-out, and requests that
//! only the primary knows, because their client has not asked everyone yet.

use alloc::collections::BTreeSet;
use core::time::Duration;

use super::timer::Awaited;
use super::{ClientId, Outbox, Replica, ReplicaId, RequestNumber, Sequence, Time, To};
use crate::replica::view::Cause;
use crate::types::Instant;

/// Wasted time is forgotten this many times as slowly as time passes.
const LEAK: u32 = 4;
/// So many time-outs wasted are too much; below half of that it is made good.
const WASTED_MAX: u32 = 2;
/// A proposal may take so many times as long as a slot takes after it.
const PATIENCE: u32 = 8;

/// What a replica waits for although it could go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    /// The oldest request it knows is not proposed.
    Request(ClientId, RequestNumber),
    /// The next slot, known to others, was not proposed here.
    Slot(Sequence),
}

/// What is lacking, the sum of the waits for it, and since when the present one lasts.
#[derive(Clone, Copy, Debug)]
struct Wait {
    lack: Lack,
    waited: Duration,
    since: Option<Instant>,
}

/// How the primary of the active view is doing.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    /// How long a slot takes from PrePrepare to decision when all goes well: the best of late, forgotten
    /// slowly, as a primary that is slow on purpose spoils every average.
    usual: Option<Duration>,
    /// Slots that should have been proposed here.
    unheard: BTreeSet<Sequence>,
    wait: Option<Wait>,
    /// Time wasted and not forgotten yet, as of `counted`.
    wasted: Duration,
    counted: Instant,
    slow: bool,
    /// Who finds the primary of this view slow, by its last status.
    finders: BTreeSet<ReplicaId>,
}

impl Pace {
    /// This process was stopped: what it waited for may be in its backlog.
    pub(super) fn forgive(&mut self) {
        self.wait = None;
    }

    /// Whether this replica finds the primary slow.
    pub(super) fn is_slow(&self) -> bool {
        self.slow
    }

    /// Another primary starts with a clean slate.
    pub(super) fn enter_view(&mut self) {
        *self = Pace { usual: self.usual, ..Pace::default() };
    }

    /// A slot was decided so long after its PrePrepare.
    pub(super) fn note_slot(&mut self, took: Duration) {
        // Decided in the same moment it was proposed last of all, which says nothing about slots.
        if took.is_zero() {
            return;
        }
        self.usual = Some(match self.usual {
            Some(usual) if usual < took => usual + (took - usual) / 64,
            _ => took,
        });
    }

    /// The longest wait that counts for nothing. For a request never less than an eighth of the time-out,
    /// which a disk or a scheduler may take, never more than half of it; for a slot that others know, which is
    /// two messages late already, less.
    fn patience(&self, lack: Lack, timeout: Duration) -> Duration {
        let most = timeout / 2;
        let (times, least) = match lack {
            Lack::Request(..) => (PATIENCE, timeout / 8),
            Lack::Slot(_) => (2, timeout / 32),
        };
        self.usual.map_or(most, |usual| usual.saturating_mul(times).clamp(least, most))
    }

    /// Called after every input with what is lacking now and the oldest request. Waits for the same are added
    /// up, however often something else is proposed in between.
    fn note(
        &mut self,
        now: Instant,
        lack: Option<Lack>,
        head: Option<(ClientId, RequestNumber)>,
        timeout: Duration,
    ) {
        if let Some(wait) = &mut self.wait
            && let Some(since) = wait.since.take()
        {
            wait.waited = wait.waited.saturating_add(now.since(since));
        }
        let over = self.wait.filter(|wait| match (wait.lack, lack) {
            (held, Some(now)) => held != now,
            (Lack::Request(client, number), None) => head != Some((client, number)),
            (Lack::Slot(_), None) => true,
        });
        if let Some(wait) = over {
            if wait.waited >= self.patience(wait.lack, timeout) {
                self.wasted = self.wasted.saturating_add(wait.waited);
            }
            self.wait = None;
        }
        if let Some(lack) = lack {
            let wait = self.wait.get_or_insert(Wait { lack, waited: Duration::ZERO, since: None });
            wait.since = Some(now);
        }
        self.wasted = self.wasted.saturating_sub(now.since(self.counted) / LEAK);
        self.counted = now;
    }

    /// Whether the verdict on the primary has changed.
    fn judge(&mut self, timeout: Duration) -> bool {
        let slow = match self.slow {
            false => self.wasted >= timeout * WASTED_MAX,
            true => self.wasted >= timeout * WASTED_MAX / 2,
        };
        let changed = slow != self.slow;
        self.slow = slow;
        changed
    }
}

impl Replica {
    /// A Commit of the active view was taken in, or a later proposal: whether the slots before it should have
    /// been proposed here.
    pub(super) fn watch_for_proposals(&mut self, sequence: Sequence, later: bool) {
        let join = self.cluster.join();
        let first = self.dispatched.max(self.views.carried_max()).next();
        // A correct primary proposes in order, and its link keeps the order.
        let mut slot = if later { first } else { sequence };
        while slot <= sequence && slot >= first {
            let known = later && slot < sequence
                || self.window.slot(slot).is_some_and(|it| it.commits.len() >= join);
            if known {
                self.pace.unheard.insert(slot);
            }
            slot = slot.next();
        }
    }

    /// What this replica could go on with and lacks through the primary's fault.
    fn lack(&self, awaited: Option<Awaited>) -> Option<Lack> {
        let next = self.dispatched.next();
        let behind = self.window.stable() > self.executed || self.restoring.is_some();
        if self.is_primary() || self.is_changing() || behind || self.executed < self.dispatched {
            return None;
        }
        let under_way = self.window.slot(next).is_some_and(|slot| {
            slot.accepted.is_some() || slot.early.is_some() || slot.decided().is_some()
        });
        if under_way {
            return None;
        }
        match awaited {
            _ if self.pace.unheard.contains(&next) => Some(Lack::Slot(next)),
            Some(Awaited::Request(client, number, _)) => Some(Lack::Request(client, number)),
            _ => None,
        }
    }

    /// Called after every input.
    pub(super) fn keep_pace(&mut self, now: Time, awaited: Option<Awaited>, out: &mut Outbox) {
        while self.pace.unheard.first().is_some_and(|slot| *slot <= self.dispatched) {
            self.pace.unheard.pop_first();
        }
        let lack = self.lack(awaited);
        let timeout = self.timer.timeout;
        self.pace.note(now.instant, lack, self.pending.head(), timeout);
        if self.pace.judge(timeout) && !self.is_primary() && !self.is_changing() {
            self.say_status(now.instant, To::All, out);
            self.hear_of_pace(now, self.id, self.pace.slow, out);
        }
    }

    /// A replica finds the primary of the active view slow, or no more; f + 1 do not do so without reason.
    pub(super) fn hear_of_pace(
        &mut self,
        now: Time,
        finder: ReplicaId,
        slow: bool,
        out: &mut Outbox,
    ) {
        if !slow {
            self.pace.finders.remove(&finder);
            return;
        }
        self.pace.finders.insert(finder);
        if self.pace.finders.len() >= self.cluster.join()
            && !self.is_primary()
            && !self.is_changing()
            && let Some(next) = self.views.active.next()
        {
            self.leave_for(now, next, Cause::SlowPrimary(self.views.active), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::message::{Message, Statement};
    use crate::replica::Input;
    use crate::testing::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

    /// One request after the other, each left waiting for so many microseconds, then executed in five
    /// milliseconds; when the primary is found slow, in seconds.
    fn slow_after(pace: &mut Pace, waits: impl Iterator<Item = u64>) -> Option<u64> {
        let mut now = 1_000_000;
        for (number, waited) in (1..).zip(waits) {
            let head = (ClientId(0), RequestNumber(number));
            let lack = Some(Lack::Request(head.0, head.1));
            pace.note(Instant(now), lack, Some(head), TIMEOUT);
            now += waited;
            pace.note(Instant(now), None, Some(head), TIMEOUT);
            now += 5_000;
            pace.note(Instant(now), None, None, TIMEOUT);
            if pace.judge(TIMEOUT) {
                return Some(now / 1_000_000);
            }
        }
        None
    }

    fn usual(millis: u64) -> Pace {
        let mut pace = Pace::default();
        pace.note_slot(Duration::from_millis(millis));
        pace
    }

    #[test]
    fn f1_a_primary_that_proposes_just_before_each_time_out_is_found_slow() {
        let waits = core::iter::repeat_n(900_000, 20);
        assert_eq!(slow_after(&mut usual(5), waits), Some(3));
        // Between two late ones it may be as prompt as it likes.
        let waits = [900_000, 1000, 1000, 1000].into_iter().cycle().take(80);
        assert_eq!(slow_after(&mut usual(5), waits), Some(3));
    }

    #[test]
    fn f1_a_quarter_of_the_time_may_be_wasted_and_short_waits_do_not_count() {
        let prompt = core::iter::repeat_n(1000, 100);
        let waits = core::iter::once(150_000).chain(prompt).cycle().take(20_000);
        assert_eq!(slow_after(&mut usual(5), waits), None);
        assert_eq!(slow_after(&mut usual(5), core::iter::repeat_n(120_000, 500)), None);
    }

    #[test]
    fn f1_what_is_found_is_taken_back_when_it_is_made_good() {
        let mut pace = usual(5);
        slow_after(&mut pace, core::iter::repeat_n(900_000, 20));
        assert!(pace.is_slow());
        pace.note(Instant(60_000_000), None, None, TIMEOUT);
        assert!(pace.judge(TIMEOUT) && !pace.is_slow());
    }

    #[test]
    fn f8_slow_links_raise_what_is_allowed_and_nobody_raises_it_above_half() {
        let waits = || core::iter::repeat_n(400_000, 50);
        assert_eq!(slow_after(&mut usual(60), waits()), None, "480 ms where slots take 60");
        assert!(slow_after(&mut usual(5), waits()).is_some());
        let lack = Lack::Slot(Sequence(1));
        assert_eq!(usual(100_000).patience(lack, TIMEOUT), Duration::from_millis(500));
        let mut pace = usual(60);
        pace.note_slot(Duration::ZERO);
        assert_eq!(pace.usual, Some(Duration::from_millis(60)), "a proposal that came last");
    }

    #[test]
    fn f8_nothing_is_lacking_while_a_slot_is_executed_or_its_proposal_waits_for_the_window() {
        let world = World::new(4);
        let mut replica = world.replica(2);
        let batch = world.batch(&[1]);
        deliver(&world, &mut replica, world.proposal(1, &batch));
        for sender in [0, 1, 3] {
            deliver(&world, &mut replica, world.commit(sender, 1, batch.digest()));
        }
        let request = world.request(1, 1);
        deliver(&world, &mut replica, world.verify(Message::Request(request)).unwrap());
        let awaited = Awaited::Request(ClientId(1), RequestNumber(1), replica.view());
        assert_eq!(replica.lack(Some(awaited)), None, "slot 1 is being executed");
        let consumed = vec![(ClientId(0), RequestNumber(1))];
        drive(&world, &mut replica, Input::Executed { sequence: Sequence(1), consumed });
        let lack = Lack::Request(ClientId(1), RequestNumber(1));
        assert_eq!(replica.lack(Some(awaited)), Some(lack));
        let next = world.batch(&[2]);
        let signed = world.sign(0, Statement::PrePrepare(vote(2, next.digest())));
        replica.window.slot_mut(Sequence(2)).early = Some((signed, next));
        assert_eq!(replica.lack(Some(awaited)), None, "slot 2 was proposed and waits for h");
    }
}
