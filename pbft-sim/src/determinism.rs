//! For authors of applications: does an application do the same every time?
//!
//! ```
//! use pbft_sim::determinism::Determinism;
//! use pbft_sim::ledger::{Ledger, Seen};
//!
//! let operations = (0_u8..50).map(|number| vec![number]);
//! let ledger = || Box::new(Ledger::new(Seen::default())) as Box<_>;
//! let summary = Determinism::new(ledger).operations(operations).runs(4).seed(1).check()?;
//! assert_eq!(summary.operations, 50);
//! # Ok::<(), pbft_sim::determinism::Divergence>(())
//! ```
//!
//! The first run is the measure: a snapshot after every slot, one thread, no restore. The others run the very
//! same slots under other circumstances, on none of which results and pages may depend:
//!
//! * other instances, so that every `HashMap` iterates in another order: each std `RandomState` has keys of
//!   its own, a second construction is enough to differ from the first;
//! * other addresses: the states of the first run stay where they are, and garbage of odd sizes comes and
//!   goes;
//! * other threads, changing from slot to slot, and a process in which the first run has been before;
//! * snapshots after other slots, and restores into fresh applications and into ones that lag behind.
//!
//! Results are compared operation by operation, pages after every slot that both runs took a snapshot of.
//! What passes is not proven: a clock that shows the same second twice is not found, nor is a difference
//! between machines or builds.

mod divergence;
mod run;

use pbft_core::application::Application;
use pbft_core::limits::Constants;
use pbft_core::types::Digest;

pub use self::divergence::{Difference, Divergence};
use self::run::{CLIENTS, Conduct, Found, Runner, compare, slots};
use crate::keys::Keys;
use crate::options::Options;

/// The most requests of a slot and the most operations of a request.
const GROUP_MAX: u64 = 4;
/// How often chance is tried again when the guilty operation is looked for.
const ATTEMPTS: u64 = 4;

/// Runs an application repeatedly over the same operations and looks for the first difference.
#[derive(Clone)]
pub struct Determinism<Factory> {
    factory: Factory,
    operations: Vec<Vec<u8>>,
    runs: usize,
    seed: u64,
}

/// What was done without finding a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many operations each run executed.
    pub operations: usize,
    /// In how many slots.
    pub slots: usize,
    /// How many snapshots all runs took together.
    pub snapshots: usize,
    /// How many of them an application was restored from.
    pub restores: usize,
    /// The digest of the state after the last slot; null if there were no operations.
    pub digest: Digest,
}

impl<Factory: Fn() -> Box<dyn Application>> Determinism<Factory> {
    /// A check of the applications that `factory` makes, all of them in the state before the first operation.
    pub fn new(factory: Factory) -> Self {
        Determinism { factory, operations: Vec::new(), runs: 4, seed: 1 }
    }

    /// The operations, in the order in which every run executes them.
    #[must_use]
    pub fn operations(self, operations: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Determinism { operations: operations.into_iter().collect(), ..self }
    }

    /// How many runs to compare, at least two. More of them find what differs only now and then.
    #[must_use]
    pub fn runs(self, runs: usize) -> Self {
        Determinism { runs: runs.max(2), ..self }
    }

    /// What slots, threads, snapshots and restores follow from.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Determinism { seed, ..self }
    }

    /// Runs and compares.
    ///
    /// # Errors
    /// The first difference found, brought down to one operation where it comes again.
    pub fn check(&self) -> Result<Summary, Divergence> {
        let unusable = |what| self.divergence(0, what, "before the first slot".to_owned());
        let mut options = Options::fault_free(self.seed, 4);
        options.clients = CLIENTS;
        options.constants = Constants::default();
        let keys = Keys::new(&options).map_err(|error| unusable(Difference::unusable(error)))?;
        let runner = Runner { keys: &keys, factory: &self.factory };
        let slots = slots(&keys, self.seed, &self.operations, GROUP_MAX).map_err(unusable)?;

        let first = runner.run(&slots, Conduct::plain(self.seed));
        if let Some(found) = compare(&slots, &first, &first) {
            return Err(self.diagnose(&runner, found, "in the first run".to_owned()));
        }
        let last = first.slots.last();
        let mut summary = Summary {
            operations: first.slots.iter().map(|slot| slot.outcomes.len()).sum(),
            slots: slots.len(),
            snapshots: slots.len(),
            restores: 0,
            digest: last.and_then(|slot| slot.digests.last()).copied().unwrap_or(Digest::NULL),
        };
        for (run, number) in (2..=self.runs).zip(1..) {
            let seed = self.seed.wrapping_add(number);
            let other = runner.run(&slots, Conduct::varied(seed, slots.len()));
            let (snapshots, restores) = other.counts();
            if let Some(found) = compare(&slots, &first, &other) {
                let text = format!(
                    "in run {run} of {}, on other threads, at other addresses, with {snapshots} snapshots \
                     instead of {} and {} restores before",
                    self.runs,
                    first.counts().0,
                    found.restores
                );
                return Err(self.diagnose(&runner, found, text));
            }
            summary.snapshots += snapshots;
            summary.restores += restores;
        }
        Ok(summary)
    }

    /// Brings a difference down to one operation and to the circumstance that makes it, by runs with one
    /// operation in each slot.
    fn diagnose(&self, runner: &Runner<'_>, found: Found, circumstance: String) -> Divergence {
        let result = matches!(found.what, Difference::Result { .. });
        if result && found.restores == 0 {
            return self.divergence(found.operation, found.what, circumstance);
        }
        let suspects = self.operations.get(..=found.last).unwrap_or(&self.operations);
        let slots = slots(runner.keys, self.seed, suspects, 1).unwrap_or_default();
        let trial = |count: usize, conduct: Conduct| {
            let slots = slots.get(..count).unwrap_or(&slots);
            let first = runner.run(slots, Conduct::plain(self.seed));
            compare(slots, &first, &runner.run(slots, conduct))
        };
        let count = slots.len();

        // Nothing is restored: what differs now does so by itself.
        let seeds = (0..ATTEMPTS).map(|attempt| self.seed.wrapping_add(attempt));
        let alone = seeds.filter_map(|seed| trial(count, Conduct::disturbed(seed, 1000)));
        if let Some(found) = alone.min_by_key(|found| found.operation) {
            let text = "with one operation in each slot, on other threads, at other addresses, \
                        without any restore";
            return self.divergence(found.operation, found.what, text.to_owned());
        }
        // One snapshot at the end instead of one after every slot: pages not written although they changed.
        let rare = |count| trial(count, Conduct::disturbed(self.seed, 0));
        if let Some((_, found)) = least(1, count, rare) {
            let text = "with one operation in each slot and a snapshot after the last one only, \
                        instead of one after each, so that `checkpoint` left out a page that had changed";
            let state = matches!(found.what, Difference::State { .. });
            let operation = if state { found.last } else { found.operation };
            return self.divergence(operation, found.what, text.to_owned());
        }
        let disturbed = || Conduct::disturbed(self.seed, 1000);
        if let Some(found) = trial(count, disturbed().restoring()) {
            let once = |after| trial(count, disturbed().restoring_after(after));
            // Right before the operation, or right after it if what was restored is written otherwise.
            let operation = found.operation;
            let lost = least(0, operation.saturating_sub(1), once);
            let lost = lost.or_else(|| least(operation, operation, once)).map(|(lost, _)| lost);
            let text = "with one operation and one restore in each slot".to_owned();
            return self.divergence(found.operation, found.what.restored(lost), text);
        }
        let text = format!(
            "{circumstance}; not again with one operation in each slot, so it may be any up to operation {}",
            found.last
        );
        let what = if found.restores == 0 { found.what } else { found.what.restored(None) };
        self.divergence(found.operation, what, text)
    }

    fn divergence(&self, operation: usize, what: Difference, circumstance: String) -> Divergence {
        let bytes = self.operations.get(operation).cloned().unwrap_or_default();
        Divergence { operation, bytes, what: Box::new(what), circumstance }
    }
}

/// The least number from `low` to `high` that shows a difference, if `high` does: more can only show more.
fn least(
    mut low: usize,
    mut high: usize,
    differs: impl Fn(usize) -> Option<Found>,
) -> Option<(usize, Found)> {
    let mut found = differs(high)?;
    while low < high {
        let middle = low.midpoint(high);
        match differs(middle) {
            Some(earlier) => (high, found) = (middle, earlier),
            None => low = middle + 1,
        }
    }
    Some((high, found))
}
