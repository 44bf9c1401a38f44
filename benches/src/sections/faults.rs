//! What a dead primary, traitors and a client that floods cost.

use std::fmt::Write as _;

use pbft_sim::traitor::names;

use super::table::whole;
use crate::failure::Failure;
use crate::measure::Watch;
use crate::outcome::Measured;
use crate::plot;
use crate::report::{Bench, Point};
use crate::workload::{Storage, Workload};

/// A run in the middle of which the primary is killed.
pub(super) fn view_change(bench: &Bench<'_>) -> Result<(Vec<Point>, String), Failure> {
    let (seconds, at) = if bench.is_quick() { (4.0, 1.0) } else { (12.0, 4.0) };
    let workload = Workload {
        clients: 8,
        callers: 16,
        seconds,
        kill_primary_at: Some(at),
        ..Workload::default()
    };
    let watch = Watch { series_ms: Some(100), sample_memory: true, ..bench.watch() };
    let run = bench.run(&workload, &watch)?;
    let result = &run.result;
    let mut text = format!(
        "## A view change\n\n8 clients x 16 callers, n = 4, durable; the primary's process is killed after {at} s. Nothing was committed for {} ms;\n\
         views entered: {}; operations with an unknown outcome: {}.\n\n![a view change](view-change.svg)\n",
        result.longest_stall_ms, result.views_entered, result.unknown,
    );
    if let Some(series) = &run.series {
        plot::course(series, &bench.output.join("view-change.svg"))?;
        let killed = series.events.first().map_or(0, |(at_ms, _)| *at_ms);
        let rate = |wanted: &dyn Fn(u64) -> bool| {
            let points = series.points.iter().filter(|point| wanted(point.at_ms));
            let rates: Vec<f64> = points.map(|point| point.ops_per_second).collect();
            rates.iter().sum::<f64>() / rates.len().max(1) as f64
        };
        let back = killed + result.longest_stall_ms + 200;
        let _ = writeln!(
            text,
            "\nBefore: {} operations/s. After, with three replicas: {} operations/s.",
            whole(rate(&|at_ms| at_ms <= killed)),
            whole(rate(&|at_ms| at_ms > back)),
        );
    }
    let measured = Ok(Measured::new(workload, vec![run.result]));
    let (label, curve) = ("primary killed".to_owned(), String::new());
    Ok((vec![Point { label, x: at, curve, measured }], text))
}

/// A run without a traitor after so many with one, so that what else the machine does falls on all alike.
const BETWEEN: usize = 6;

/// Each traitor in the primary's place and as a backup.
pub(super) fn traitors(bench: &Bench<'_>) -> Result<(Vec<Point>, String), Failure> {
    let load =
        Workload { clients: 4, callers: 16, storage: Storage::Memory, ..Workload::default() };
    let few = ["equivocating_primary", "silent", "slow_primary"];
    let chosen = names().filter(|name| !bench.is_quick() || few.contains(name));
    let cases: Vec<(&str, u32)> = chosen.flat_map(|name| [(name, 0), (name, 3)]).collect();
    let mut text = String::from(
        "## Traitors\n\n4 clients x 16 callers, n = 4, in memory; replica 0 is the first primary, replica 3 a backup. Beside: the mean of the\n\
         runs without a traitor next to it. A view change that a traitor forces falls before or into the measured time.\n\n\
         | traitor | place | operations/s | p99 us | beside | p99 us | kept | views entered | evidence |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    let mut points = vec![bench.point("none", -1.0, "none", &load)?];
    for group in cases.chunks(BETWEEN) {
        let before = points.iter().rposition(|point| point.curve == "none").unwrap_or(0);
        let first = points.len();
        for (name, id) in group {
            let place = if *id == 0 { "primary" } else { "backup" };
            let load = Workload { traitor: vec![format!("{id}={name}")], ..load.clone() };
            points.push(bench.point(name, f64::from(*id), place, &load)?);
        }
        points.push(bench.point("none", -1.0, "none", &load)?);
        let honest = [before, points.len() - 1].map(|index| points[index].measured.as_ref().ok());
        let honest: Vec<&Measured> = honest.into_iter().flatten().collect();
        let mean = |field: fn(&Measured) -> f64| {
            honest.iter().map(|it| field(it)).sum::<f64>() / honest.len().max(1) as f64
        };
        let (rate, late) =
            (mean(|it| it.summary.ops_per_second.median), mean(|it| it.summary.p99_us.median));
        for point in &points[first..points.len() - 1] {
            let _ = write!(text, "| `{}` | {} | ", point.label, point.curve);
            let _ = match &point.measured {
                Err(why) => {
                    writeln!(text, "{why} | | {} | {} | 0 % | | |", whole(rate), whole(late))
                }
                Ok(measured) => {
                    let (summary, run) = (&measured.summary, measured.middle());
                    let rates = summary.ops_per_second.median;
                    writeln!(
                        text,
                        "{} | {} | {} | {} | {:.0} % | {} | {} |",
                        whole(rates),
                        whole(summary.p99_us.median),
                        whole(rate),
                        whole(late),
                        100.0 * rates / rate.max(1e-9),
                        run.views_entered,
                        run.evidence,
                    )
                }
            };
        }
    }
    Ok((points, text))
}

/// A polite client alone, and beside one that begins more operations than can be done.
pub(super) fn fairness(bench: &Bench<'_>) -> Result<(Vec<Point>, String), Failure> {
    let polite = Workload { callers: 1, ..Workload::default() };
    let mut points = Vec::new();
    for (label, flood) in [("alone", None), ("beside a flood", Some(1e6))] {
        let load = Workload { flood, ..polite.clone() };
        points.push(bench.point(label, flood.unwrap_or(0.0), "polite", &load)?);
    }
    let mut text = String::from(
        "## Fairness\n\nA polite client waits for each operation before the next. The other client begins a million operations a second,\n\
         thousands under way at once.\n\n\
         | polite client | operations/s | p50 us | p99 us | the flood's operations/s |\n|---|---|---|---|---|\n",
    );
    for point in &points {
        let _ = match &point.measured {
            Err(why) => writeln!(text, "| {} | {why} | | | |", point.label),
            Ok(measured) => {
                let (summary, run) = (&measured.summary, measured.middle());
                writeln!(
                    text,
                    "| {} | {} | {} | {} | {} |",
                    point.label,
                    whole(summary.ops_per_second.median),
                    whole(summary.p50_us.median),
                    whole(summary.p99_us.median),
                    run.flood_ops_per_second.map_or_else(|| "none".to_owned(), whole),
                )
            }
        };
    }
    Ok((points, text))
}
