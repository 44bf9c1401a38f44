//! What a simulated replica runs on besides its disk: clocks that are not right.

use pbft_core::types::Instant;

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
