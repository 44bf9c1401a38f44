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

/// All of them, in order, by the names that `--only` takes.
pub(crate) fn all() -> Vec<(&'static str, Measure)> {
    vec![
        ("goals", goals::measure),
        ("latency", curves::latency),
        ("split", profiles::measure),
        ("replicas", curves::replicas),
        ("payload", curves::payload),
        ("envelopes", curves::envelope_sizes),
        ("batches", curves::batches),
        ("view-change", faults::view_change),
        ("traitors", faults::traitors),
        ("fairness", faults::fairness),
    ]
}

/// 64 clients that sign each operation and wait for it.
fn singles() -> Workload {
    Workload { clients: 64, callers: 1, ..Workload::default() }
}

/// Envelopes of 64 operations from enough clients that batches of thousands form.
fn envelopes() -> Workload {
    Workload { clients: 32, callers: 128, envelope: 64, ..Workload::default() }
}
