//! A floor under the primary's pace (PITFALLS F1; Clement et al., Aardvark, 2009).
//!
//! The time-out alone lets a primary delay every proposal to just below it. So a backup also looks at what
//! a correct primary never does for long: leave a request that it was told of waiting while nothing is in
//! flight; and send a proposal to some only, so that the others hear of the slot by f + 1 Commits and must
//! have it repaired. How long is too long follows from how long slots take once they are proposed,
//! which a primary alone does not decide. A replica to which more than a fifth of the proposals come late says
//! so in its status, and f + 1 that say so leave the view together: one with a bad link to the primary
//! stays, and one that lies moves nobody.
//!
//! What it does not see: a delay below an eighth of the time-out, and requests that only the primary
//! knows, because their client has not asked everyone yet.

use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

use super::{Outbox, Replica, ReplicaId, Sequence, Time, To};
use crate::replica::view::Cause;
use crate::types::Instant;

/// What a late proposal counts; a prompt one takes 1 off.
const LATE: u32 = 4;
/// So much is slow: four late proposals in a row, or more than one in five for long enough.
const LATENESS_MAX: u32 = 16;
/// A proposal may take so many times as long as a slot takes after it.
const PATIENCE: u32 = 8;

/// How the primary of the active view is doing.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    /// How long a slot takes from PrePrepare to decision when all goes well: the best of late, forgotten slowly,
    /// as a primary that is slow on purpose spoils every average.
    usual: Option<Duration>,
    /// The highest slot proposed in this view.
    proposed: Sequence,
    /// Since when a request waits and nothing is in flight.
    idle_since: Option<Instant>,
    /// Slots that f + 1 others have said Commit for and that were not proposed here, since when.
    unheard: BTreeMap<Sequence, Instant>,
    lateness: u32,
    /// When a proposal last came late although nothing was in flight.
    struck: Instant,
    /// Who finds the primary of this view slow.
    finders: BTreeSet<ReplicaId>,
    slow: bool,
}

impl Pace {
    /// Whether something proposed is not yet given to the state.
    pub(super) fn is_busy(&self, dispatched: Sequence) -> bool {
        self.proposed > dispatched
    }

    /// Called after every input: whether the primary now leaves a request waiting.
    pub(super) fn note(&mut self, idle: bool, dispatched: Sequence, now: Instant) {
        while self.unheard.first_entry().is_some_and(|first| *first.key() <= dispatched) {
            self.unheard.pop_first();
        }
        self.idle_since = if idle { self.idle_since.or(Some(now)) } else { None };
    }

    /// This process was stopped: what it waited for may be in its backlog.
    pub(super) fn forgive(&mut self) {
        self.idle_since = None;
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
        self.usual = Some(match self.usual {
            Some(usual) if usual < took => usual + (took - usual) / 64,
            _ => took,
        });
    }

    /// The longest wait that a correct primary may cause: never less than an eighth of the time-out, which
    /// a disk or a scheduler may take, never more than half of it.
    fn floor(&self, timeout: Duration) -> Duration {
        let most = timeout / 2;
        self.usual.map_or(most, |usual| (usual * PATIENCE).clamp(timeout / 8, most))
    }

    /// How much later than f + 1 Commits, which are three messages further on, a proposal may come.
    fn detour(&self, timeout: Duration) -> Duration {
        let most = timeout / 2;
        self.usual.map_or(most, |usual| (usual * 2).clamp(timeout / 32, most))
    }

    /// A proposal has come, from the primary or by repair; says whether too many came late.
    fn judge(&mut self, sequence: Sequence, now: Instant, timeout: Duration) -> bool {
        self.proposed = self.proposed.max(sequence);
        let idle = self.idle_since.take().map(|since| now.since(since));
        let unheard = self.unheard.remove(&sequence).map(|since| now.since(since));
        let late = idle.is_some_and(|waited| waited >= self.floor(timeout))
            || unheard.is_some_and(|waited| waited >= self.detour(timeout));
        if late {
            self.lateness = self.lateness.saturating_add(LATE);
            if idle.is_some() {
                self.struck = now;
            }
        } else if now.since(self.struck) >= timeout / 2 {
            // Right after a late one a prompt one makes nothing good: its request was held back just as long,
            // while the other's was looked at.
            self.lateness = self.lateness.saturating_sub(1);
        }
        self.lateness >= LATENESS_MAX
    }

    /// f + 1 others have said Commit for a slot that was not proposed here: one of them is correct.
    fn note_unheard(&mut self, sequence: Sequence, now: Instant) {
        self.unheard.entry(sequence).or_insert(now);
    }
}

impl Replica {
    /// A Commit of the active view was taken in: whether the slot should have been proposed here.
    pub(super) fn watch_for_proposal(&mut self, now: Time, sequence: Sequence) {
        let join = self.cluster.join();
        let Some(slot) = self.window.slot(sequence) else { return };
        let others = slot.commits.votes().count();
        if slot.accepted.is_none() && slot.committed.is_none() && others >= join {
            self.pace.note_unheard(sequence, now.instant);
        }
    }

    /// A PrePrepare of the active view was accepted, or a slot repaired without it.
    pub(super) fn judge_pace(&mut self, now: Time, sequence: Sequence, out: &mut Outbox) {
        let late = self.pace.judge(sequence, now.instant, self.timer.timeout);
        if late && !self.pace.slow && !self.is_primary() && !self.is_changing() {
            self.pace.slow = true;
            self.say_status(now.instant, To::All, out);
            self.hear_of_slowness(now, self.id, out);
        }
    }

    /// A replica finds the primary of the active view slow; f + 1 do not do so without reason.
    pub(super) fn hear_of_slowness(&mut self, now: Time, finder: ReplicaId, out: &mut Outbox) {
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
    use alloc::vec::Vec;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

    fn propose_after(pace: &mut Pace, waited: u64, sequence: u64) -> bool {
        let told = Instant(sequence * 2_000_000);
        pace.note(true, Sequence(0), told);
        pace.judge(Sequence(sequence), Instant(told.0 + waited), TIMEOUT)
    }

    #[test]
    fn f1_late_proposals_while_nothing_is_in_flight_end_the_view_and_prompt_ones_make_good() {
        let mut pace = Pace::default();
        pace.note_slot(Duration::from_millis(5));
        let ended: Vec<bool> =
            (1..=4).map(|sequence| propose_after(&mut pace, 900_000, sequence)).collect();
        assert_eq!(ended, [false, false, false, true]);
        let mut pace = Pace::default();
        pace.note_slot(Duration::from_millis(5));
        let waits = [900_000, 1000, 1000, 1000, 1000].into_iter().cycle().take(100);
        let late = { waits }.zip(1..).any(|(waited, slot)| propose_after(&mut pace, waited, slot));
        assert!(!late, "one in five is forgiven");
    }

    #[test]
    fn f1_a_second_request_held_back_beside_the_first_makes_nothing_good() {
        let mut pace = Pace::default();
        pace.note_slot(Duration::from_millis(5));
        let mut ended = false;
        for round in 1..=4 {
            let told = Instant(round * 1_000_000);
            pace.note(true, Sequence(0), told);
            ended |= pace.judge(Sequence(2 * round), Instant(told.0 + 900_000), TIMEOUT);
            // The first is executed, the second comes at once; both were told at the same time.
            pace.note(true, Sequence(0), Instant(told.0 + 905_000));
            ended |= pace.judge(Sequence(2 * round + 1), Instant(told.0 + 915_000), TIMEOUT);
        }
        assert!(ended);
    }

    #[test]
    fn f8_slow_links_raise_the_floor_and_a_full_pipeline_is_no_idle_primary() {
        let mut pace = Pace::default();
        pace.note_slot(Duration::from_millis(60));
        let late = |pace: &mut Pace| (1..20).any(|slot| propose_after(pace, 400_000, slot));
        assert!(!late(&mut pace), "480 ms are allowed where slots take 60");
        pace.note_slot(Duration::from_secs(100));
        assert_eq!(pace.floor(TIMEOUT), Duration::from_millis(500), "nobody raises it above half");
        assert!(pace.is_busy(Sequence(18)) && !pace.is_busy(Sequence(19)));
    }

    #[test]
    fn f1_proposals_that_reach_only_some_are_late_for_the_others() {
        let mut pace = Pace::default();
        pace.note_slot(Duration::from_millis(5));
        let mut ended = None;
        for slot in 1..100 {
            let heard = Instant(1_000_000 * slot);
            // Every third slot must be repaired.
            if slot % 3 == 0 {
                pace.note_unheard(Sequence(slot), heard);
            }
            if pace.judge(Sequence(slot), Instant(heard.0 + 200_000), TIMEOUT) {
                ended.get_or_insert(slot);
            }
        }
        assert_eq!(ended, Some(21));
    }
}
