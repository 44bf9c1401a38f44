//! Crashes a replica, and then all of them, at every point of a short run.
//!
//! Exit codes: 0 every point survived; 1 one did not; 2 usage.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::Parser;
use pbft_core::limits::ConfigError;
use pbft_sim::crash_points::{self, CrashPoint, Kind, Outcome};
use pbft_sim::progress::bar;
use pbft_sim::{MILLIS, Options, Verdict};

/// Crash a replica, and all of them, just before and just after every record appended, message sent, commit and
/// snapshot made durable in a short run of four replicas, and see that everything promised is still there
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Seed of the run that is counted through
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only every Nth point
    #[arg(long, default_value_t = 1, value_name = "N")]
    every: usize,
    /// Only this one, as a failure names it: REPLICA:INDEX:before|after:one|all:lost|survives
    #[arg(long, value_name = "POINT")]
    point: Option<CrashPoint>,
    /// Runs at a time, each on a thread of its own
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

const REPLAY: &str = "cargo run --release -p pbft-sim --bin crash-points --";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = crash_points::options(arguments.seed);
    let done = match arguments.point {
        Some(point) => one(&options, point),
        None => all(&arguments, &options),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

fn one(options: &Options, point: CrashPoint) -> Result<ExitCode, ConfigError> {
    let outcome = crash_points::run(options, point)?;
    println!("seed {}: {options}", options.seed);
    match outcome.kind {
        None => println!("point {point}: the run ends before it"),
        Some(kind) => println!("point {point}: {kind}"),
    }
    let report = &outcome.report;
    println!(
        "{} slots, {} requests committed, {} simulated milliseconds",
        report.slots,
        report.committed,
        report.time / MILLIS
    );
    println!("trace: {}", report.trace);
    println!("verdict: {}", report.verdict);
    Ok(ExitCode::from(u8::from(!outcome.survived())))
}

#[derive(Default)]
struct Totals {
    crashes: usize,
    survived: usize,
    /// Of them, crashes with something on its way to a disk, so run both ways.
    both: usize,
    kinds: BTreeMap<Kind, usize>,
    failures: Vec<(CrashPoint, String)>,
    usage: Option<ConfigError>,
}

impl Totals {
    fn add(&mut self, point: CrashPoint, outcome: &Outcome) {
        self.crashes += 1;
        if let Some(kind) = outcome.kind {
            *self.kinds.entry(kind).or_default() += 1;
        }
        if outcome.survived() {
            self.survived += 1;
            return;
        }
        let what = match (&outcome.kind, &outcome.report.verdict) {
            (None, _) => "the run ends before it".to_owned(),
            (Some(kind), verdict) => format!("{kind}: {verdict}"),
        };
        self.failures.push((point, what));
    }
}

fn all(arguments: &Arguments, options: &Options) -> Result<ExitCode, ConfigError> {
    let started = Instant::now();
    let (report, points) = crash_points::count(options)?;
    if report.verdict != Verdict::Pass {
        println!("without a crash: {}", report.verdict);
        return Ok(ExitCode::from(1));
    }
    let crashes = crash_points::crashes(&points);
    let crashes: Vec<_> = crashes.chunks(4).step_by(arguments.every.max(1)).flatten().collect();
    let bar = bar(u64::try_from(crashes.len()).unwrap_or(0), "crashes");
    let (next, totals) = (AtomicUsize::new(0), Mutex::new(Totals::default()));
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                while let Some(point) = crashes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcomes = crash_points::run_both(options, **point);
                    let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
                    match outcomes {
                        Ok(outcomes) => {
                            totals.both += usize::from(outcomes.len() > 1);
                            for (point, outcome) in outcomes {
                                totals.add(point, &outcome);
                            }
                        }
                        Err(error) => totals.usage = Some(error),
                    }
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = totals.usage {
        return Err(error);
    }
    for (point, what) in &totals.failures {
        println!("point {point}: {what}");
        println!("  replay: {REPLAY} --seed {} --point {point}", options.seed);
    }
    let counted: usize = points.values().map(Vec::len).sum();
    let by_kind = Kind::ALL.map(|kind| {
        let count = points.values().flatten().filter(|it| **it == kind).count();
        format!("{count} of a {kind}")
    });
    println!(
        "without a crash: {} slots, {} views entered, {} stable checkpoints",
        report.slots, report.goals.views_entered, report.goals.stable
    );
    println!("{counted} points: {}", by_kind.join(", "));
    println!(
        "{} crashes: before and after, of one and of all, {} of them with what was under way lost and with it durable",
        totals.crashes, totals.both
    );
    println!(
        "{} survived, {} did not ({:.1} s)",
        totals.survived,
        totals.failures.len(),
        started.elapsed().as_secs_f64()
    );
    Ok(ExitCode::from(u8::from(!totals.failures.is_empty())))
}
