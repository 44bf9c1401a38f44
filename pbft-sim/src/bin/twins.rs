//! Enumerates all Twins scenarios of a depth for four replicas and checks each.
//!
//! Exit codes: 0 nothing violated; 1 a violation, printed with the line that replays it; 2 usage.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::Parser;
use pbft_core::limits::ConfigError;
use pbft_core::types::ReplicaId;
use pbft_sim::SECONDS;
use pbft_sim::progress::bar;
use pbft_sim::twins::{Enumeration, HOPS, Outcome, Scenario, read_twins};

/// Run every scenario of partitions around a replica that exists twice.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Rounds of a scenario
    #[arg(long, default_value_t = 5)]
    depth: usize,
    /// Sides into which the instances fall at most: 2 or 3
    #[arg(long, default_value_t = 2)]
    sides: usize,
    /// Which replica exists twice: 0 to 3, several as 0+1, none, or all, one after another
    #[arg(long, default_value = "all")]
    twin: String,
    /// Message delays in a round after its time-outs: 3 parts Prepares from Commits
    #[arg(long, default_value_t = HOPS)]
    hops: usize,
    /// Join one leaf in so many again and have it finish; 0 for none
    #[arg(long, default_value_t = 64)]
    heal_every: u64,
    /// Threads
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    /// Run one scenario, as a violation prints it, and say everything about it
    #[arg(long)]
    replay: Option<Scenario>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let code = match &arguments.replay {
        Some(scenario) => replay(scenario),
        None => enumerate(&arguments),
    };
    code.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

fn replay(scenario: &Scenario) -> Result<ExitCode, ConfigError> {
    let outcome = scenario.replay(|line| println!("{line}"))?;
    match &outcome.violation {
        Some(violation) => println!("violated: {}", violation.text),
        None => println!("nothing violated, healed in {} time-outs", outcome.healing_timeouts),
    }
    Ok(code(&outcome))
}

fn code(outcome: &Outcome) -> ExitCode {
    ExitCode::from(u8::from(outcome.violation.is_some()))
}

impl Arguments {
    /// One enumeration for each choice of twins.
    fn enumerations(&self) -> Result<Vec<Enumeration>, ConfigError> {
        let choices: Vec<Vec<ReplicaId>> = match self.twin.as_str() {
            "all" => (0..4).map(|twin| vec![ReplicaId(twin)]).collect(),
            text => vec![read_twins(text)?],
        };
        let enumeration = |twins| Enumeration {
            twins,
            depth: self.depth,
            sides: self.sides,
            hops: self.hops,
            heal_every: self.heal_every,
            max: None,
        };
        Ok(choices.into_iter().map(enumeration).collect())
    }
}

fn enumerate(arguments: &Arguments) -> Result<ExitCode, ConfigError> {
    let started = Instant::now();
    let enumerations = arguments.enumerations()?;
    let (mut parts, mut all) = (Vec::new(), 0_u64);
    for enumeration in &enumerations {
        let first = 0..enumeration.partitions()?.len();
        parts.extend(first.map(|first| (enumeration, first)));
        all = all.saturating_add(enumeration.scenarios()?);
    }
    let bar = bar(all, "scenarios");
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let part = next.fetch_add(1, Ordering::Relaxed);
                    let Some((enumeration, first)) = parts.get(part) else { return };
                    let outcome = enumeration.run_first(*first, |done| bar.inc(done));
                    if outcome.as_ref().map_or(true, |outcome| outcome.violation.is_some()) {
                        stop.store(true, Ordering::Relaxed);
                    }
                    let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                    outcomes.push((part, outcome));
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    // The violation named is the first in the order of the enumeration, whichever thread was faster.
    outcomes.sort_by_key(|(part, _)| *part);
    let mut total = Outcome::default();
    for (_, outcome) in outcomes {
        total.add(outcome?);
    }
    let elapsed = started.elapsed().as_secs_f64();
    if arguments.json {
        print_json(arguments, &total, elapsed);
    } else {
        print(arguments, &total, elapsed);
    }
    Ok(code(&total))
}

#[expect(clippy::cast_precision_loss, reason = "rates for people")]
fn rates(total: &Outcome, elapsed: f64) -> (f64, f64, f64) {
    let elapsed = elapsed.max(1e-9);
    let per_second = total.scenarios as f64 / elapsed;
    let simulated = total.simulated_micros as f64 / SECONDS as f64;
    (per_second, simulated, simulated / elapsed)
}

fn print(arguments: &Arguments, total: &Outcome, elapsed: f64) {
    let (per_second, simulated, ratio) = rates(total, elapsed);
    println!(
        "twin {}, depth {}, {} sides, {} hops: {} scenarios, {} rounds in {elapsed:.1} s",
        arguments.twin,
        arguments.depth,
        arguments.sides,
        arguments.hops,
        total.scenarios,
        total.nodes
    );
    println!("{per_second:.0} scenarios/s, {:.1} million per hour", per_second * 3600.0 / 1e6);
    println!("{simulated:.0} simulated seconds: {ratio:.0} per real second");
    println!("deepest view: {}", total.views_reached);
    println!(
        "{} executed both requests unaided; {} joined again, all done within {} time-outs",
        total.committed_both, total.healed, total.healing_timeouts
    );
    match &total.violation {
        None => println!("verdict: nothing violated"),
        Some(violation) => {
            println!("verdict: violated: {}", violation.text);
            println!("  replay: twins --replay {}", violation.scenario);
        }
    }
}

fn print_json(arguments: &Arguments, total: &Outcome, elapsed: f64) {
    let (per_second, simulated, ratio) = rates(total, elapsed);
    let violation = total.violation.as_ref().map_or("null".to_owned(), |violation| {
        // Neither text holds a character that JSON would have escaped.
        let (text, scenario) = (&violation.text, &violation.scenario);
        format!("{{\"text\":\"{text}\",\"replay\":\"{scenario}\"}}")
    });
    println!(
        "{{\"twin\":\"{}\",\"depth\":{},\"sides\":{},\"hops\":{},\"heal_every\":{},\"jobs\":{},\
         \"scenarios\":{},\"nodes\":{},\"seconds\":{elapsed:.3},\"scenarios_per_second\":{per_second:.1},\
         \"scenarios_per_hour\":{:.0},\"simulated_seconds\":{simulated:.1},\
         \"simulated_per_real\":{ratio:.1},\"deepest_view\":{},\"committed_both\":{},\"healed\":{},\
         \"healing_timeouts\":{},\"violation\":{violation}}}",
        arguments.twin,
        arguments.depth,
        arguments.sides,
        arguments.hops,
        arguments.heal_every,
        arguments.jobs,
        total.scenarios,
        total.nodes,
        per_second * 3600.0,
        total.views_reached,
        total.committed_both,
        total.healed,
        total.healing_timeouts,
    );
}
