//! Counting outcomes and latencies in a process of clients, and carrying them to the parent.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use pbft_app::Submitted;
use serde::{Deserialize, Serialize};

/// A latency in microseconds and how often it occurred.
pub type Pairs = Vec<(u64, u64)>;

/// Up to ten minutes, three digits: what percentiles are read from.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("bounds that hold")
}

/// Two digits: one for each short interval of a series.
fn coarse() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 2).expect("bounds that hold")
}

pub fn to_pairs(histogram: &Histogram<u64>) -> Pairs {
    histogram
        .iter_recorded()
        .map(|value| (value.value_iterated_to(), value.count_at_value()))
        .collect()
}

pub fn add_pairs(histogram: &mut Histogram<u64>, pairs: &Pairs) {
    for (value, count) in pairs {
        histogram.saturating_record_n(*value, *count);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// What a process of clients did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LoadResult {
    /// Operations whose outcome came in the measured time.
    pub committed: u64,
    /// Over the whole run.
    pub refused: u64,
    pub unknown: u64,
    /// Why the first was refused.
    pub refusal: Option<String>,
    /// Operations due in the measured time of an open loop that were never begun: too many were under way.
    pub unsent: u64,
    /// The longest time in the measured one without any outcome, in microseconds.
    pub longest_stall: u64,
    pub latencies: Pairs,
}

/// Operations that ended in one interval of a series.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub index: u64,
    pub committed: u64,
    pub latencies: Pairs,
}

/// Where all callers of a process count.
pub struct Recorder {
    from: Instant,
    until: Instant,
    /// Of an open loop latencies count for operations due in the measured time, whenever they end: those that end
    /// late are the ones that matter. Of a closed loop for those that end in it.
    open_loop: bool,
    result: LoadResult,
    latencies: Histogram<u64>,
    last: Instant,
    series: Option<Series>,
}

struct Series {
    length: Duration,
    index: u64,
    committed: u64,
    latencies: Histogram<u64>,
}

impl Recorder {
    pub fn new(from: Instant, until: Instant, open_loop: bool, series: Option<Duration>) -> Self {
        let of = |length| Series { length, index: 0, committed: 0, latencies: coarse() };
        Recorder {
            from,
            until,
            open_loop,
            result: LoadResult::default(),
            latencies: histogram(),
            last: from,
            series: series.map(of),
        }
    }

    /// One operation, due then, has ended now.
    pub fn note(&mut self, due: Instant, now: Instant, outcome: &Submitted) {
        match outcome {
            Submitted::Unknown => self.result.unknown += 1,
            Submitted::Refused(why) => {
                self.result.refused += 1;
                self.result.refusal.get_or_insert_with(|| why.to_string());
            }
            Submitted::Committed(_) => self.committed(due, now),
        }
    }

    fn committed(&mut self, due: Instant, now: Instant) {
        let is_measured = |at: Instant| self.from <= at && at < self.until;
        let latency = micros(now.saturating_duration_since(due));
        if is_measured(if self.open_loop { due } else { now }) {
            self.latencies.saturating_record(latency);
        }
        if is_measured(now) {
            self.result.committed += 1;
            let gap = micros(now.saturating_duration_since(self.last));
            self.result.longest_stall = self.result.longest_stall.max(gap);
            self.last = self.last.max(now);
            if let Some(series) = &mut self.series {
                series.committed += 1;
                series.latencies.saturating_record(latency);
            }
        }
    }

    /// So many operations that were due from `due` on were never begun. They took at least until the end.
    pub fn unsent(&mut self, due: Instant, count: u64) {
        self.result.unsent += count;
        let least = micros(self.until.saturating_duration_since(due));
        self.latencies.saturating_record_n(least.max(1), count);
    }

    /// When the present interval of the series ends, if it is not the last.
    pub fn interval_end(&self) -> Option<Instant> {
        let series = self.series.as_ref()?;
        let end = self.from + series.length.saturating_mul(u32::try_from(series.index).ok()? + 1);
        (end <= self.until).then_some(end)
    }

    /// The interval of the series that ended with `now`, if one did.
    pub fn interval(&mut self, now: Instant) -> Option<Interval> {
        if now < self.interval_end()? {
            return None;
        }
        let series = self.series.as_mut()?;
        let interval = Interval {
            index: series.index,
            committed: std::mem::take(&mut series.committed),
            latencies: to_pairs(&series.latencies),
        };
        series.latencies.reset();
        series.index += 1;
        Some(interval)
    }

    pub fn finish(&mut self) -> LoadResult {
        let gap = micros(self.until.saturating_duration_since(self.last));
        self.result.longest_stall = self.result.longest_stall.max(gap);
        self.result.latencies = to_pairs(&self.latencies);
        std::mem::take(&mut self.result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    const DONE: Submitted = Submitted::Committed(bytes::Bytes::new());

    #[test]
    fn a_closed_loop_counts_what_ends_in_the_measured_time() {
        let start = Instant::now();
        let mut recorder = Recorder::new(at(start, 100), at(start, 200), false, None);
        for (due, end) in [(0, 99), (50, 150), (120, 160), (190, 210)] {
            recorder.note(at(start, due), at(start, end), &DONE);
        }
        recorder.note(start, at(start, 250), &Submitted::Unknown);
        let result = recorder.finish();
        assert_eq!((result.committed, result.unknown, result.refused), (2, 1, 0));
        assert_eq!(result.latencies.iter().map(|(_, count)| count).sum::<u64>(), 2);
        assert_eq!(result.longest_stall, 50_000);
    }

    #[test]
    fn an_open_loop_counts_latency_from_when_operations_were_due() {
        let start = Instant::now();
        let mut recorder = Recorder::new(start, at(start, 100), true, None);
        recorder.note(at(start, 10), at(start, 20), &DONE);
        recorder.note(at(start, 50), at(start, 500), &DONE);
        recorder.unsent(at(start, 40), 3);
        let result = recorder.finish();
        assert_eq!((result.committed, result.unsent), (1, 3));
        let mut latencies = histogram();
        add_pairs(&mut latencies, &result.latencies);
        assert_eq!(latencies.len(), 5);
        assert!(latencies.max() >= 449_000 && latencies.value_at_quantile(0.5) >= 59_000);
    }

    #[test]
    fn a_series_has_an_interval_for_every_length_even_an_empty_one() {
        let start = Instant::now();
        let length = Some(Duration::from_millis(10));
        let mut recorder = Recorder::new(start, at(start, 30), false, length);
        recorder.note(start, at(start, 5), &DONE);
        assert_eq!(recorder.interval(at(start, 9)), None);
        let first = recorder.interval(at(start, 25)).unwrap();
        assert_eq!((first.index, first.committed, first.latencies.len()), (0, 1, 1));
        let second = recorder.interval(at(start, 25)).unwrap();
        assert_eq!((second.index, second.committed), (1, 0));
        assert!(second.latencies.is_empty());
        assert_eq!(recorder.interval(at(start, 25)), None);
        assert_eq!(recorder.interval(at(start, 90)).unwrap().index, 2);
        assert_eq!(recorder.interval(at(start, 90)), None);
    }
}
