//! What a run shows: for machines and for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::profile::Profile;
use crate::workload::Workload;

/// Microseconds from before the client's signature, or from when an operation of an open loop was due.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

impl Latency {
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: histogram.max() }
    }
}

/// Processor seconds per million operations, over the measured time only.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Processor {
    pub total: f64,
    pub clients: f64,
    /// By replica; the unreplicated server alone.
    pub replicas: Vec<f64>,
    /// Of all replicas together, by thread.
    pub replica_threads: BTreeMap<String, f64>,
    /// How much of the total was spent inside the kernel, 0 to 1.
    pub kernel_share: f64,
    /// Cores kept busy, over everything.
    pub cores_busy: f64,
}

/// How full slots were, as a replica that ran throughout executed them.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Batches {
    pub slots_per_second: f64,
    pub operations_per_slot: f64,
    pub requests_per_slot: f64,
    pub operations_per_request: f64,
}

/// What a replica's journal did, the mean of all that ran throughout.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Journal {
    pub commits_per_operation: f64,
    pub commits_per_slot: f64,
    pub syncs_per_operation: f64,
    pub bytes_per_operation: f64,
    pub micros_per_commit: f64,
}

/// One measured run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunResult {
    pub ops_per_second: f64,
    /// Operations whose outcome came in the measured time.
    pub count: u64,
    pub seconds: f64,
    pub latency_us: Latency,
    pub refused: u64,
    pub unknown: u64,
    /// Due in the measured time of an open loop and never begun; their latency counts as what it was at least.
    pub unsent: u64,
    pub longest_stall_ms: u64,
    pub cpu_seconds_per_million: Processor,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batches: Option<Batches>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<Journal>,
    pub peak_resident_bytes: BTreeMap<String, u64>,
    /// Views entered in the measured time, by the replica that entered most.
    pub views_entered: u64,
    /// Pieces of evidence against traitors, by the replica that holds most.
    pub evidence: usize,
    /// What the client that floods got, operations per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flood_ops_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
}

/// Median and range of several runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let (median, low, high) = crate::median(values.into_iter().collect());
        Spread { median, low, high }
    }
}

/// The figures worth a median.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    pub ops_per_second: Spread,
    pub p50_us: Spread,
    pub p99_us: Spread,
    pub cpu_seconds_per_million: Spread,
}

/// A workload, measured once or more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    pub workload: Workload,
    pub summary: Summary,
    pub runs: Vec<RunResult>,
}

impl Measured {
    /// Of at least one run.
    pub fn new(workload: Workload, runs: Vec<RunResult>) -> Self {
        let of = |field: fn(&RunResult) -> f64| Spread::of(runs.iter().map(field));
        let summary = Summary {
            ops_per_second: of(|run| run.ops_per_second),
            p50_us: of(|run| run.latency_us.p50 as f64),
            p99_us: of(|run| run.latency_us.p99 as f64),
            cpu_seconds_per_million: of(|run| run.cpu_seconds_per_million.total),
        };
        Measured { workload, summary, runs }
    }

    /// The run whose throughput is next to the median.
    pub fn middle(&self) -> &RunResult {
        let median = self.summary.ops_per_second.median;
        let away = |run: &RunResult| (run.ops_per_second - median).abs();
        let nearest = self.runs.iter().min_by(|one, other| away(one).total_cmp(&away(other)));
        nearest.unwrap_or(&self.runs[0])
    }

    /// A table for people.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let Spread { median, low, high } = self.summary.ops_per_second;
        let several = self.runs.len() > 1;
        let _ = write!(text, "{}\n\n{median:>12.0} operations/s", self.workload.describe());
        if several {
            let _ = write!(text, "   median of {} runs, {low:.0} to {high:.0}", self.runs.len());
        }
        let run = self.middle();
        let Latency { p50, p90, p99, p999, max } = run.latency_us;
        let _ = write!(
            text,
            "\n{:>12} committed in {:.1} s, {} refused, {} unknown{}\n\
             latency us   p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, max {max}\n",
            run.count,
            run.seconds,
            run.refused,
            run.unknown,
            if run.unsent > 0 {
                format!(", {} due and not begun: beyond saturation", run.unsent)
            } else {
                String::new()
            },
        );
        let cpu = &run.cpu_seconds_per_million;
        let replicas: Vec<String> = cpu.replicas.iter().map(|it| format!("{it:.2}")).collect();
        let _ = writeln!(
            text,
            "CPU s per million operations   {:.2}: clients {:.2}, {} {}; {:.0} % in the kernel, {:.2} cores busy",
            cpu.total,
            cpu.clients,
            if self.workload.unreplicated { "server" } else { "replicas" },
            replicas.join(" "),
            100.0 * cpu.kernel_share,
            cpu.cores_busy,
        );
        let threads: Vec<String> =
            cpu.replica_threads.iter().map(|(name, it)| format!("{name} {it:.2}")).collect();
        let _ = writeln!(text, "  by thread of all replicas    {}", threads.join(", "));
        if let Some(batches) = run.batches {
            let _ = writeln!(
                text,
                "slots        {:.0}/s of {:.1} requests and {:.1} operations, {:.1} operations a request",
                batches.slots_per_second,
                batches.requests_per_slot,
                batches.operations_per_slot,
                batches.operations_per_request,
            );
        }
        if let Some(journal) = run.journal {
            let _ = writeln!(
                text,
                "journal      {:.4} commits, {:.4} fsyncs, {:.0} bytes per operation; {:.2} commits per slot, {:.0} us each",
                journal.commits_per_operation,
                journal.syncs_per_operation,
                journal.bytes_per_operation,
                journal.commits_per_slot,
                journal.micros_per_commit,
            );
        }
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let peaks: Vec<String> = run
            .peak_resident_bytes
            .iter()
            .map(|(name, bytes)| format!("{name} {:.0}", mib(*bytes)))
            .collect();
        let _ = writeln!(text, "peak MiB     {}", peaks.join(", "));
        if run.views_entered > 0 || self.workload.is_faulty() {
            let _ = writeln!(
                text,
                "views        {} entered; longest time without an outcome {} ms; {} pieces of evidence",
                run.views_entered, run.longest_stall_ms, run.evidence,
            );
        }
        if let Some(rate) = run.flood_ops_per_second {
            let _ = writeln!(text, "flood        {rate:.0} operations/s of the client that floods");
        }
        if let Some(profile) = &run.profile {
            let _ = write!(text, "\n{}", profile.describe());
        }
        text
    }
}

/// What `cluster run --json` prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Printed {
    pub machine: Machine,
    #[serde(flatten)]
    pub measured: Measured,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_runs_make_a_median_and_a_range() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, low: 1.0, high: 3.0 });
        assert_eq!(Spread::of([1.0, 2.0]).median, 1.5);
        let run = |ops_per_second: f64| RunResult { ops_per_second, ..RunResult::default() };
        let measured = Measured::new(Workload::default(), vec![run(5.0), run(9.0), run(7.0)]);
        assert_eq!(measured.summary.ops_per_second.median, 7.0);
        assert_eq!(measured.middle().ops_per_second, 7.0);
        let text = serde_json::to_string(&measured).unwrap();
        let read: Measured = serde_json::from_str(&text).unwrap();
        assert_eq!(read.summary.ops_per_second, measured.summary.ops_per_second);
    }

    #[test]
    fn percentiles_are_those_of_the_histogram() {
        let mut histogram = crate::record::histogram();
        (1..=1000).for_each(|value| histogram.record(value).unwrap());
        let latency = Latency::of(&histogram);
        assert_eq!((latency.p50, latency.p90, latency.p99, latency.max), (500, 900, 990, 1000));
    }
}
