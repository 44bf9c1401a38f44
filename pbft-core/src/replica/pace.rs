//! A floor under the primary's pace (PITFALLS F1; Clement et al., Aardvark, 2009).
//!
//! The time-out alone lets a primary delay every proposal to just below it. So a backup also looks at what
//! a correct primary never does for long: leave a request that it was told of waiting while nothing is in
//! flight. How long is too long follows from how long slots take once they are proposed, which a primary
//! alone does not decide. A few such waits in one view, not made good by prompt ones, end the view. A prompt
//! one right after a late one makes nothing good: its request was held back just as long, while the other's
//! was looked at.
//!
//! What it does not see: a delay below an eighth of the time-out, and requests that only the primary
//! knows, because their client has not asked everyone yet.

use core::time::Duration;

use super::{Outbox, Replica, Sequence, Time};
use crate::replica::view::Cause;
use crate::types::Instant;

/// So many late proposals more than prompt ones end a view.
const STRIKES_MAX: u32 = 4;
/// A proposal may take so many times as long as a slot takes after it.
const PATIENCE: u32 = 8;

/// How the primary of the active view is doing.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    /// How long slots take from PrePrepare to execution: an average that forgets.
    usual: Option<Duration>,
    /// The highest slot proposed in this view.
    proposed: Sequence,
    /// Since when a request waits and nothing is in flight.
    idle_since: Option<Instant>,
    strikes: u32,
    /// When the last late proposal came.
    struck: Instant,
}

impl Pace {
    /// Whether something proposed is not yet given to the state.
    pub(super) fn is_busy(&self, dispatched: Sequence) -> bool {
        self.proposed > dispatched
    }

    /// Called after every input: whether the primary now leaves a request waiting.
    pub(super) fn note(&mut self, idle: bool, now: Instant) {
        self.idle_since = if idle { self.idle_since.or(Some(now)) } else { None };
    }

    /// This process was stopped: what it waited for may be in its backlog.
    pub(super) fn forgive(&mut self) {
        self.idle_since = None;
    }

    /// Another primary starts with a clean slate.
    pub(super) fn enter_view(&mut self) {
        *self = Pace { usual: self.usual, ..Pace::default() };
    }

    /// A slot was executed so long after its PrePrepare.
    pub(super) fn note_slot(&mut self, took: Duration) {
        self.usual = Some(self.usual.map_or(took, |usual| (usual * 7 + took) / 8));
    }

    /// The longest wait that a correct primary may cause: never less than an eighth of the time-out, which
    /// a disk or a scheduler may take, never more than half of it.
    fn floor(&self, timeout: Duration) -> Duration {
        let most = timeout / 2;
        self.usual.map_or(most, |usual| (usual * PATIENCE).clamp(timeout / 8, most))
    }

    /// A proposal has come; says whether the primary has now been late too often.
    fn judge(&mut self, sequence: Sequence, now: Instant, timeout: Duration) -> bool {
        self.proposed = self.proposed.max(sequence);
        let Some(since) = self.idle_since.take() else { return false };
        if now.since(since) >= self.floor(timeout) {
            self.strikes += 1;
            self.struck = now;
        } else if now.since(self.struck) >= timeout / 2 {
            self.strikes = self.strikes.saturating_sub(1);
        }
        self.strikes >= STRIKES_MAX
    }
}

impl Replica {
    /// A PrePrepare of the active view was accepted.
    pub(super) fn judge_pace(&mut self, now: Time, sequence: Sequence, out: &mut Outbox) {
        let late = self.pace.judge(sequence, now.instant, self.timer.timeout);
        if late
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
        pace.note(true, told);
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
        let waits = [900_000, 100_000].into_iter().cycle().take(40);
        assert!(
            !{ waits }
                .zip(1..)
                .any(|(waited, sequence)| propose_after(&mut pace, waited, sequence))
        );
    }

    #[test]
    fn f1_a_second_request_held_back_beside_the_first_makes_nothing_good() {
        let mut pace = Pace::default();
        pace.note_slot(Duration::from_millis(5));
        let mut ended = false;
        for round in 1..=4 {
            let told = Instant(round * 1_000_000);
            pace.note(true, told);
            ended |= pace.judge(Sequence(2 * round), Instant(told.0 + 900_000), TIMEOUT);
            // The first is executed, the second comes at once; both were told at the same time.
            pace.note(true, Instant(told.0 + 905_000));
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
}
