//! What a run was like while it went on: throughput, latency and memory, interval by interval.

use std::collections::BTreeMap;
use std::path::Path;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::record::{Interval, add_pairs, histogram};

/// One interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Its end, in milliseconds since the measured time began.
    pub at_ms: u64,
    pub ops_per_second: f64,
    /// Of operations that ended in it; absent when none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
    /// Bytes of memory of each process at its end.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resident_bytes: BTreeMap<String, u64>,
}

/// A whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    pub title: String,
    pub interval_ms: u64,
    pub points: Vec<Point>,
    /// What was done, and when, in milliseconds.
    pub events: Vec<(u64, String)>,
}

impl Series {
    /// # Errors
    /// No such file, or no series.
    pub fn read(path: &Path) -> Result<Series, Failure> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::usage("FILE", path.display(), error))?;
        serde_json::from_str(&text).map_err(|error| {
            Failure::usage("FILE", path.display(), format!("not written by --series: {error}"))
        })
    }

    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        std::fs::write(path, serde_json::to_string(self)?)
            .map_err(|error| Failure::of(path.display(), error))
    }
}

/// Puts together what several processes say of the same intervals, and forgets what it need not keep.
pub struct Merge {
    interval_ms: u64,
    sources: usize,
    open: BTreeMap<u64, (usize, u64, Histogram<u64>)>,
    done: BTreeMap<u64, Point>,
    resident: BTreeMap<u64, BTreeMap<String, u64>>,
}

impl Merge {
    pub fn new(interval_ms: u64, sources: usize) -> Self {
        let (open, done, resident) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Merge { interval_ms, sources, open, done, resident }
    }

    pub fn add(&mut self, interval: &Interval) {
        let entry = self.open.entry(interval.index).or_insert_with(|| (0, 0, histogram()));
        entry.0 += 1;
        entry.1 += interval.committed;
        add_pairs(&mut entry.2, &interval.latencies);
        if entry.0 == self.sources {
            self.close(interval.index);
        }
    }

    fn close(&mut self, index: u64) {
        let Some((_, committed, latencies)) = self.open.remove(&index) else { return };
        let point = Point {
            at_ms: (index + 1) * self.interval_ms,
            ops_per_second: committed as f64 * 1000.0 / self.interval_ms as f64,
            p99_us: (!latencies.is_empty()).then(|| latencies.value_at_quantile(0.99)),
            resident_bytes: BTreeMap::new(),
        };
        self.done.insert(index, point);
    }

    /// Memory of the processes, so many milliseconds into the measured time.
    pub fn resident(&mut self, at_ms: u64, bytes: BTreeMap<String, u64>) {
        self.resident.insert(at_ms / self.interval_ms, bytes);
    }

    pub fn finish(mut self, title: String, events: Vec<(u64, String)>) -> Series {
        let open: Vec<u64> = self.open.keys().copied().collect();
        open.into_iter().for_each(|index| self.close(index));
        for (index, bytes) in self.resident {
            if let Some(point) = self.done.get_mut(&index) {
                point.resident_bytes = bytes;
            }
        }
        let points = self.done.into_values().collect();
        Series { title, interval_ms: self.interval_ms, points, events }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_of_two_processes_become_one_point() {
        let mut merge = Merge::new(100, 2);
        let interval = |index, committed, latency| Interval {
            index,
            committed,
            latencies: vec![(latency, committed)],
        };
        merge.add(&interval(0, 10, 100));
        merge.add(&interval(1, 5, 100));
        merge.add(&interval(0, 10, 200));
        merge.add(&Interval { index: 1, ..Interval::default() });
        merge.add(&Interval { index: 2, ..Interval::default() });
        merge.resident(150, [("replica-0".to_owned(), 7)].into());
        let series = merge.finish("title".to_owned(), vec![(120, "killed".to_owned())]);
        let points: Vec<_> =
            series.points.iter().map(|it| (it.at_ms, it.ops_per_second, it.p99_us)).collect();
        assert_eq!(points, [(100, 200.0, Some(200)), (200, 50.0, Some(100)), (300, 0.0, None)]);
        assert_eq!(series.points[1].resident_bytes["replica-0"], 7);
    }
}
