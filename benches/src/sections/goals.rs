//! The rows that have goals, durable and in memory, beside an unreplicated server in the same run.

use std::fmt::Write as _;

use super::table::{HEAD, RULE, columns, whole};
use super::{envelopes, singles};
use crate::failure::Failure;
use crate::outcome::Measured;
use crate::report::{Bench, Point};
use crate::workload::{Storage, Workload};

/// What a row is to reach.
enum Goal {
    /// Operations per second, durable.
    Rate(f64),
    /// Milliseconds at the median, durable and in memory.
    Middle {
        disk: f64,
        memory: f64,
    },
    /// Percent of the throughput in memory, durable.
    Kept(f64),
    None,
}

struct Row {
    name: &'static str,
    workload: Workload,
    goals: Vec<Goal>,
}

fn rows() -> Vec<Row> {
    let row = |name, workload, goals| Row { name, workload, goals };
    let payload = |operation_bytes| Workload { operation_bytes, ..envelopes() };
    vec![
        row(
            "64 closed-loop clients, a signature for each operation",
            singles(),
            vec![Goal::Rate(12_000.0)],
        ),
        row(
            "signed envelopes of 64, 8 clients x 32 under way",
            Workload { callers: 32, envelopes_in_flight: 32, ..envelopes() },
            vec![Goal::Rate(500_000.0), Goal::Kept(80.0)],
        ),
        row(
            "the same with 1 KiB, 8 clients x 16 under way",
            payload(1024),
            vec![Goal::Rate(180_000.0)],
        ),
        row(
            "one closed-loop client",
            Workload { callers: 1, ..Workload::default() },
            vec![Goal::Middle { disk: 1.0, memory: 0.4 }],
        ),
        row("64 callers on one client", Workload::default(), vec![Goal::Rate(30_000.0)]),
        row("500 closed-loop clients", Workload { clients: 500, ..singles() }, vec![Goal::None]),
        row("signed envelopes of 64 with 512 bytes", payload(512), vec![Goal::None]),
    ]
}

const SIDES: [&str; 3] = ["durable", "memory", "unreplicated"];

fn on(side: &str, workload: &Workload) -> Workload {
    let storage = if side == "durable" { Storage::Disk } else { Storage::Memory };
    Workload { storage, unreplicated: side == "unreplicated", ..workload.clone() }
}

pub(super) fn measure(bench: &Bench<'_>) -> Result<(Vec<Point>, String), Failure> {
    let mut text = String::from(
        "## Goals\n\nClosed loop, n = 4, 16-byte operations unless said otherwise. Three servers turn and turn about: four durable\n\
         replicas, four in memory, and one unreplicated server of one thread with the same client signatures over the\n\
         same QUIC. Median of the runs and their range.\n\n",
    );
    let _ = writeln!(text, "| load | server | {HEAD} |\n|---|---|{RULE}|");
    let mut all = Vec::new();
    let mut verdicts = String::from("\n| load | goal | reached |\n|---|---|---|\n");
    for Row { name, workload, goals } in rows() {
        let mut runs = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..bench.runs() {
            for (side, runs) in SIDES.iter().zip(&mut runs) {
                let workload = bench.timed(&on(side, &workload));
                runs.push(bench.run(&workload, &bench.watch())?.result);
            }
        }
        let measured = SIDES
            .iter()
            .zip(runs)
            .map(|(side, runs)| Measured::new(bench.timed(&on(side, &workload)), runs));
        let measured: Vec<Measured> = measured.collect();
        for (side, measured) in SIDES.iter().zip(&measured) {
            let _ = writeln!(text, "| {name} | {side} | {} |", columns(measured));
        }
        for goal in goals {
            verdict(&mut verdicts, name, &goal, &measured[0], &measured[1]);
        }
        for (index, (side, measured)) in SIDES.iter().zip(measured).enumerate() {
            let (label, curve) = (name.to_owned(), (*side).to_owned());
            all.push(Point { label, x: index as f64, curve, measured: Ok(measured) });
        }
    }
    text.push_str(&verdicts);
    Ok((all, text))
}

fn verdict(text: &mut String, name: &str, goal: &Goal, disk: &Measured, memory: &Measured) {
    let rate = |measured: &Measured| measured.summary.ops_per_second.median;
    let millis = |measured: &Measured| measured.summary.p50_us.median / 1000.0;
    let (aim, got, holds) = match goal {
        Goal::None => return,
        Goal::Rate(least) => {
            let got = rate(disk);
            (format!("{}/s durable", whole(*least)), format!("{}/s", whole(got)), got >= *least)
        }
        Goal::Middle { disk: slow, memory: fast } => (
            format!("p50 of {slow} ms durable, {fast} ms in memory"),
            format!("{:.2} ms, {:.2} ms", millis(disk), millis(memory)),
            millis(disk) <= *slow && millis(memory) <= *fast,
        ),
        Goal::Kept(least) => {
            let kept = 100.0 * rate(disk) / rate(memory);
            (format!("{least} % of memory, durable"), format!("{kept:.0} %"), kept >= *least)
        }
    };
    let verdict = if holds { "yes" } else { "no" };
    let _ = writeln!(text, "| {name} | {aim} | {verdict}: {got} |");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Latency, RunResult};

    #[test]
    fn a_goal_is_reached_or_not() {
        let measured = |ops_per_second: f64, p50: u64| {
            let latency_us = Latency { p50, ..Latency::default() };
            let run = RunResult { ops_per_second, latency_us, ..RunResult::default() };
            Measured::new(Workload::default(), vec![run])
        };
        let (disk, memory) = (measured(80.0, 1_000), measured(100.0, 401));
        let mut text = String::new();
        for goal in [
            Goal::Rate(80.0),
            Goal::Rate(81.0),
            Goal::Kept(80.0),
            Goal::Middle { disk: 1.0, memory: 0.4 },
        ] {
            verdict(&mut text, "load", &goal, &disk, &memory);
        }
        let verdicts: Vec<bool> = text.lines().map(|line| line.contains("| yes: ")).collect();
        assert_eq!(verdicts, [true, false, true, false]);
    }

    #[test]
    fn every_row_can_be_run() {
        for row in rows() {
            for side in SIDES {
                on(side, &row.workload).check().unwrap();
            }
        }
    }
}
