//! What the report is made of: each section measures its points and writes its text.

mod curves;
mod faults;
mod goals;
mod profiles;
mod table;

use crate::failure::Failure;
use crate::report::{Bench, Point};
use crate::workload::Workload;

/// Measures a section: its points and its text.
pub(crate) type Measure = fn(&Bench<'_>) -> Result<(Vec<Point>, String), Failure>;

/// A section of the report.
pub(crate) struct Section {
    /// What `--only` calls it.
    pub(crate) name: &'static str,
    pub(crate) measure: Measure,
    /// How many runs it takes, and how many in a quick report; for each row of the goals so often.
    pub(crate) runs: u64,
    pub(crate) runs_quick: u64,
}

/// All of them, in order.
pub(crate) fn all() -> [Section; 10] {
    let section = |name, measure, runs, runs_quick| Section { name, measure, runs, runs_quick };
    [
        section("goals", goals::measure, 21, 21),
        section("latency", curves::latency, 12, 5),
        section("split", profiles::measure, 4, 4),
        section("replicas", curves::replicas, 8, 4),
        section("payload", curves::payload, 5, 2),
        section("envelopes", curves::envelope_sizes, 6, 2),
        section("batches", curves::batches, 6, 2),
        section("view-change", faults::view_change, 1, 1),
        section("traitors", faults::traitors, 81, 8),
        section("fairness", faults::fairness, 2, 2),
    ]
}

/// 64 clients that sign each operation and wait for it.
fn singles() -> Workload {
    Workload { clients: 64, callers: 1, ..Workload::default() }
}

/// Envelopes of 64 operations, each submitted as one, from enough clients that batches of thousands form.
fn envelopes() -> Workload {
    Workload {
        clients: 8,
        callers: 16,
        together: 64,
        envelope: 64,
        envelopes_in_flight: 16,
        ..Workload::default()
    }
}
