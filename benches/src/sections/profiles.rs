//! Where processor time goes.

use std::fmt::Write as _;

use super::{envelopes, singles};
use crate::failure::Failure;
use crate::measure::Watch;
use crate::outcome::Measured;
use crate::patterns::CATEGORIES;
use crate::report::{Bench, Point};
use crate::workload::Workload;

pub(super) fn measure(bench: &Bench<'_>) -> Result<(Vec<Point>, String), Failure> {
    let can_profile = crate::profile::check();
    let watch = Watch { profile: can_profile.is_ok(), ..bench.watch() };
    let loads = [
        ("one client", Workload { callers: 1, ..Workload::default() }),
        ("64 clients", singles()),
        ("envelopes of 64", envelopes()),
        ("envelopes of 64, 1 KiB", Workload { operation_bytes: 1024, ..envelopes() }),
    ];
    let mut points = Vec::new();
    for (index, (label, load)) in loads.into_iter().enumerate() {
        let workload = bench.timed(&load);
        let run = bench.run(&workload, &watch)?;
        let measured = Ok(Measured::new(workload, vec![run.result]));
        let (label, curve) = (label.to_owned(), "n = 4, durable".to_owned());
        points.push(Point { label, x: index as f64, curve, measured });
    }
    let mut text = String::from(
        "## Where processor time goes\n\nPercent of the processor time of all replicas and clients, n = 4, durable: samples of `perf`, sorted by the function at\n\
         hand (`benches/src/patterns.rs`). Field arithmetic that signing and checking share is not told apart.\n\n",
    );
    let measured: Vec<&Measured> =
        points.iter().filter_map(|point| point.measured.as_ref().ok()).collect();
    let head: Vec<&str> = points.iter().map(|point| point.label.as_str()).collect();
    let _ = writeln!(text, "| | {} |\n|---|{}", head.join(" | "), "---|".repeat(head.len()));
    let mut row = |name: &str, of: &dyn Fn(&Measured) -> f64| {
        let cells: Vec<String> = measured.iter().map(|it| format!("{:.1}", of(it))).collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    };
    if can_profile.is_ok() {
        for category in CATEGORIES {
            row(category, &|measured| {
                let profile = measured.middle().profile.as_ref();
                profile.and_then(|it| it.shares.get(category)).copied().unwrap_or(0.0)
            });
        }
    }
    let mut threads: Vec<String> = Vec::new();
    for measured in &measured {
        threads.extend(measured.middle().cpu_seconds_per_million.replica_threads.keys().cloned());
    }
    threads.sort();
    threads.dedup();
    let share = |measured: &Measured, seconds: f64| {
        100.0 * seconds / measured.middle().cpu_seconds_per_million.total.max(1e-9)
    };
    row("by thread: clients", &|it| share(it, it.middle().cpu_seconds_per_million.clients));
    for name in threads {
        row(&format!("by thread: {name}"), &|it| {
            let threads = &it.middle().cpu_seconds_per_million.replica_threads;
            share(it, threads.get(&name).copied().unwrap_or(0.0))
        });
    }
    row("in the kernel", &|it| 100.0 * it.middle().cpu_seconds_per_million.kernel_share);
    if can_profile.is_err() {
        text.push_str("\n`perf` was not there: only threads and the kernel's share are known.\n");
    }
    Ok((points, text))
}
