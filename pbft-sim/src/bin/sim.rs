//! Runs seeds of the simulator: seed in, verdict out.
//!
//! Exit codes: 0 all passed; 1 a property was violated, or two runs of a seed differed; 2 usage;
//! 3 something was not done in time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::Parser;
use pbft_core::types::ReplicaId;
use pbft_sim::progress::bar;
use pbft_sim::traitor::SpecError;
use pbft_sim::{
    DiskFaults, Faults, Goals, MILLIS, Options, Power, Report, SECONDS, Simulation, Spec, Verdict,
};

/// Simulate PBFT clusters under faults and check them.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Run one seed and say everything about it
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run this many seeds
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many replicas, instead of what the seed says
    #[arg(long)]
    replicas: Option<usize>,
    /// Without any fault
    #[arg(long)]
    fault_free: bool,
    /// Make replica I a traitor: I=NAME[,key=value...]; may be repeated, also beyond f
    #[arg(long = "traitor", value_name = "I=NAME", value_parser = parse_traitor)]
    traitors: Vec<(u32, Spec)>,
    /// Real ed25519 signatures in every seed
    #[arg(long)]
    ed25519: bool,
    /// A bit flips in the state of one replica now and then
    #[arg(long)]
    upsets: bool,
    /// Disks with every fault there is: slow, failing, lost and torn syncs, rot, misdirected writes, no room, old
    /// backups, empty disks
    #[arg(long)]
    disk_faults: bool,
    /// Power is lost by all replicas at once, now and then and at the end; crash loops, rolling restarts
    #[arg(long)]
    power_loss: bool,
    /// How many requests each client makes, instead of what the seed says; ten minutes may pass until they are done
    #[arg(long)]
    requests: Option<u64>,
    /// Messages take half to all of so many milliseconds, instead of what the seed says
    #[arg(long, value_name = "MILLISECONDS")]
    delay: Option<u64>,
    /// Run every seed twice and compare the traces
    #[arg(long)]
    twice: bool,
    /// Run one seed after the other, stop at the first that fails and say how many that took
    #[arg(long, conflicts_with = "seed")]
    until_failure: bool,
    /// Seeds at a time, each on a thread of its own
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

fn parse_traitor(text: &str) -> Result<(u32, Spec), String> {
    let (id, spec) = text.split_once('=').ok_or("write it as I=NAME, such as 0=silent")?;
    let id = id.parse().map_err(|_| format!("{id:?} is no replica: take its number"))?;
    Ok((id, spec.parse().map_err(|error: SpecError| error.to_string())?))
}

impl Arguments {
    fn options(&self, seed: u64) -> Options {
        let traitors = self.traitors.iter();
        let traitors: Vec<_> = traitors.map(|(id, spec)| (ReplicaId(*id), spec.clone())).collect();
        let mut options = self.plain_options(seed);
        options.ed25519 |= self.ed25519;
        options.upsets |= self.upsets;
        if self.disk_faults {
            options.disk = DiskFaults::ALL;
        }
        if self.power_loss {
            options.power = Power::ALL;
        }
        if self.disk_faults || self.power_loss {
            // Seeds that are without faults otherwise need time for these.
            options.heal_at = options.heal_at.max(5 * SECONDS);
        }
        if let Some(requests) = self.requests {
            options.requests_per_client = requests;
            options.liveness_bound = options.liveness_bound.max(600 * SECONDS);
        }
        if let Some(millis) = self.delay {
            options.delay = (millis * MILLIS / 2, millis * MILLIS);
        }
        if traitors.is_empty() { options } else { options.with_traitors(traitors) }
    }

    fn plain_options(&self, seed: u64) -> Options {
        if self.fault_free {
            return Options::fault_free(seed, self.replicas.unwrap_or(4));
        }
        let mut options = Options::from_seed(seed);
        if let Some(replicas) = self.replicas {
            options.replicas = replicas;
            let n = u32::try_from(replicas).unwrap_or(0);
            options.crashes.retain(|(replica, _)| *replica < n);
            options.crashes.truncate(replicas.saturating_sub(1) / 3);
        }
        options
    }

    /// The options that make a run what it is, for a replay.
    fn words(&self) -> String {
        let mut words = String::new();
        if self.fault_free {
            words.push_str(" --fault-free");
        }
        if let Some(replicas) = self.replicas {
            words.push_str(&format!(" --replicas {replicas}"));
        }
        if self.ed25519 {
            words.push_str(" --ed25519");
        }
        if self.upsets {
            words.push_str(" --upsets");
        }
        if self.disk_faults {
            words.push_str(" --disk-faults");
        }
        if self.power_loss {
            words.push_str(" --power-loss");
        }
        if let Some(requests) = self.requests {
            words.push_str(&format!(" --requests {requests}"));
        }
        if let Some(millis) = self.delay {
            words.push_str(&format!(" --delay {millis}"));
        }
        for (id, spec) in &self.traitors {
            words.push_str(&format!(" --traitor {id}={spec}"));
        }
        words
    }

    /// Runs a seed, twice if asked to. An error is a usage error.
    fn run(&self, seed: u64) -> Result<(Report, bool), String> {
        let run = || Simulation::new(self.options(seed)).map(Simulation::run);
        let report = run().map_err(|error| error.to_string())?;
        let same = !self.twice || run().map_err(|error| error.to_string())? == report;
        Ok((report, same))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) => one(&arguments, seed),
        None if arguments.until_failure => until_failure(&arguments),
        None => many(&arguments),
    }
}

fn code(report: &Report, same: bool) -> u8 {
    match report.verdict {
        Verdict::Violated(_) => 1,
        _ if !same => 1,
        Verdict::NoProgress(_) => 3,
        Verdict::Pass => 0,
    }
}

fn one(arguments: &Arguments, seed: u64) -> ExitCode {
    let (report, same) = match arguments.run(seed) {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    println!("seed {seed}: {}", arguments.options(seed));
    println!(
        "{} slots, {} requests committed, {} events in {:.3} simulated seconds",
        report.slots,
        report.committed,
        report.events,
        seconds(report.time)
    );
    println!("{}", show(&report.faults));
    println!("{}", show_goals(&report.goals));
    println!("evidence: {}", report.evidence);
    if !report.convicted.is_empty() {
        println!("the kept statements convict {:?}", report.convicted);
    }
    println!("trace: {}", report.trace);
    if !same {
        println!("a second run of the seed gave another trace");
    }
    println!("verdict: {}", report.verdict);
    ExitCode::from(code(&report, same))
}

/// Searches the seeds for one that fails. Which one is being run is said before it runs: it may end the process.
fn until_failure(arguments: &Arguments) -> ExitCode {
    for (count, seed) in (1_u64..=arguments.seeds).zip(arguments.from..) {
        eprintln!("seed {seed}");
        let outcome = catch_unwind(AssertUnwindSafe(|| arguments.run(seed)));
        let (code, property, what) = match outcome {
            Ok(Err(error)) => {
                eprintln!("error: {error}");
                return ExitCode::from(2);
            }
            Ok(Ok((report, same))) => match code(&report, same) {
                0 => continue,
                code if same => (code, report.verdict.property(), report.verdict.to_string()),
                code => (code, "INV24 determinism of the run", "traces differ".to_owned()),
            },
            // What it says has gone to standard error.
            Err(_) => (1, "no panic", "the replica or the simulator panicked".to_owned()),
        };
        println!("found in {count} seeds: {property}");
        println!("seed {seed}: {what}");
        println!("  replay: {REPLAY} {seed}{}", arguments.words());
        return ExitCode::from(code);
    }
    println!("nothing found in {} seeds", arguments.seeds);
    ExitCode::SUCCESS
}

/// How a seed is run again; its number and options follow.
const REPLAY: &str = "cargo run --release -p pbft-sim --bin sim -- --seed";

#[derive(Default)]
struct Totals {
    passed: u64,
    failures: Vec<(u64, u8, String)>,
    slots: u64,
    committed: u64,
    time: u64,
    evidence: u64,
    faults: Faults,
    goals: Goals,
    progress: Vec<u64>,
    recovered: Vec<u64>,
    usage: Option<String>,
    /// The options that all seeds were run with.
    words: String,
}

fn many(arguments: &Arguments) -> ExitCode {
    let started = Instant::now();
    let next = AtomicU64::new(arguments.from);
    let end = arguments.from.saturating_add(arguments.seeds);
    let totals = Mutex::new(Totals { words: arguments.words(), ..Totals::default() });
    let bar = bar(arguments.seeds, "seeds");
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let outcome = arguments.run(seed);
                    let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
                    match outcome {
                        Ok((report, same)) => totals.add(seed, &report, same),
                        Err(error) => {
                            totals.usage = Some(error);
                            return;
                        }
                    }
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = &totals.usage {
        eprintln!("error: {error}");
        return ExitCode::from(2);
    }
    totals.print(started.elapsed().as_secs_f64());
    let codes = totals.failures.iter().map(|(_, code, _)| *code);
    // A violation outweighs slowness.
    ExitCode::from(codes.min().unwrap_or(0))
}

impl Totals {
    fn add(&mut self, seed: u64, report: &Report, same: bool) {
        match code(report, same) {
            0 => self.passed += 1,
            code => {
                let what = if same { report.verdict.to_string() } else { "traces differ".into() };
                self.failures.push((seed, code, what));
            }
        }
        self.slots += report.slots.0;
        self.committed += report.committed;
        self.time += report.time;
        self.evidence += u64::from(report.evidence > 0);
        self.faults.add(&report.faults);
        self.goals.add(&report.goals);
        self.progress.extend(report.first_progress);
        self.recovered.extend(report.recovered);
    }

    fn print(&self, elapsed: f64) {
        for (seed, _, what) in &self.failures {
            println!("seed {seed}: {what}");
            println!("  replay: {REPLAY} {seed}{}", self.words);
        }
        let failed = self.failures.len();
        let runs = self.passed + u64::try_from(failed).unwrap_or(0);
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = runs as f64 / elapsed.max(1e-9);
        println!(
            "{} slots, {} requests, {:.0} simulated seconds in {elapsed:.1} s: {rate:.1} seeds/s, {:.0} an hour",
            self.slots,
            self.committed,
            seconds(self.time),
            rate * 3600.0,
        );
        println!("{}", show(&self.faults));
        println!("{}", show_goals(&self.goals));
        println!("recovery after the last fault, in simulated milliseconds:");
        println!("  first request executed: {}", distribution(&self.progress));
        println!("  everything done, everyone level: {}", distribution(&self.recovered));
        println!("{} passed, {failed} failed", self.passed);
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds for people")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / SECONDS as f64
}

fn show(faults: &Faults) -> String {
    let mut drawn =
        faults.clone().counters().map(|(name, count)| format!("{count} {name}")).to_vec();
    if faults.upsets > 0 {
        drawn.push(format!("{} upsets", faults.upsets));
    }
    format!(
        "messages: {} lost, {} duplicated, {} corrupted, {} slowed, {} cut off\nfaults: {}",
        faults.lost,
        faults.duplicated,
        faults.corrupted,
        faults.slowed,
        faults.partitioned,
        drawn.join(", ")
    )
}

fn show_goals(goals: &Goals) -> String {
    let seen = goals.clone().counters().map(|(name, count)| format!("{count} {name}"));
    format!("seen: {}", seen.join(", "))
}

/// Least, median, nine in ten, all but one in a hundred, most.
fn distribution(micros: &[u64]) -> String {
    let mut sorted = micros.to_vec();
    sorted.sort_unstable();
    let at = |per_mille: usize| {
        let index = sorted.len().saturating_sub(1) * per_mille / 1000;
        sorted.get(index).map_or(0, |micros| micros / 1000)
    };
    let (least, most) = (at(0), at(1000));
    format!(
        "min {least}, p50 {}, p90 {}, p99 {}, max {most} ({} runs)",
        at(500),
        at(900),
        at(990),
        sorted.len()
    )
}
