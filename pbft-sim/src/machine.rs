//! What a simulated replica runs on: a store that survives crashes, and clocks that are not right.

use pbft_core::replica::Record;
use pbft_core::types::{Instant, Sequence, WriteId};

use crate::traitor::prune;

/// What survives a crash: the records that were durable, kept in memory. The archive's snapshots
/// survive with it.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) durable: Vec<Record>,
    /// Of this life, in order.
    pub(crate) appended: Vec<(WriteId, Record)>,
}

impl Store {
    pub(crate) fn sync(&mut self, up_to: WriteId) {
        let synced = self.appended.iter().take_while(|(id, _)| *id <= up_to).count();
        self.durable.extend(self.appended.drain(..synced).map(|(_, record)| record));
    }

    pub(crate) fn discard(&mut self, below: Sequence) {
        prune(&mut self.durable, below);
    }
}

/// A replica's two clocks, which run apart from the simulation's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SkewedClock {
    /// Ahead by so many microseconds on the wall.
    pub(crate) ahead: u64,
    /// The monotonic clock's rate in per mille, since `since`, when it showed `shown`.
    pub(crate) rate: u64,
    pub(crate) since: u64,
    pub(crate) shown: u64,
}

impl SkewedClock {
    pub(crate) fn instant(&self, now: u64) -> Instant {
        Instant(self.shown + (now - self.since) * self.rate / 1000)
    }

    /// Simulated microseconds until the clock shows `due`.
    pub(crate) fn until(&self, now: u64, due: Instant) -> u64 {
        (due.0.saturating_sub(self.instant(now).0) * 1000).div_ceil(self.rate)
    }

    pub(crate) fn set_rate(&mut self, now: u64, rate: u64) {
        self.shown = self.instant(now).0;
        self.since = now;
        self.rate = rate;
    }
}
