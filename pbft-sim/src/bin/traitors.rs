//! Runs every traitor, alone and colluding, over many seeds and writes the table of docs/traitors.md.
//!
//! Exit codes: 0 all safe and in time; 1 a property was violated; 2 usage; 3 something was not done in time.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::Parser;
use pbft_core::types::ReplicaId;
use pbft_sim::progress::bar;
use pbft_sim::traitor::names;
use pbft_sim::{MILLIS, Options, Report, SECONDS, Simulation, Spec, Verdict};

/// Run every traitor as backup and as primary at n = 4, and the colluding sets at n = 7.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Seeds for each traitor and role
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// Only traitors whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Write the table here, between its two marks, instead of printing it
    #[arg(long)]
    write: Option<PathBuf>,
    /// Threads
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// Sets that run together (PITFALLS 2.2). The three liars about view changes need f = 3.
const COLLUDING: [(usize, &[&str]); 7] = [
    (7, &["equivocating_primary", "nv_rewriter"]),
    (7, &["vc_liar_omits", "vc_liar_forges+checkpoint_liar"]),
    (10, &["vc_liar_omits", "vc_liar_forges", "checkpoint_liar"]),
    (7, &["twin", "twin"]),
    (7, &["poisoned_donor", "checkpoint_liar"]),
    (7, &["slow_primary", "flooder"]),
    (7, &["seq_exhauster", "vc_spammer"]),
];

/// One line of the table.
struct Case {
    name: String,
    role: &'static str,
    replicas: usize,
    traitors: Vec<(ReplicaId, Spec)>,
}

/// What came of its runs.
#[derive(Default, Clone)]
struct Tally {
    runs: u64,
    convicted: u64,
    violated: Vec<(u64, String)>,
    late: Vec<(u64, String)>,
    views: u64,
    kept: Option<f64>,
}

fn cases(only: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for name in names().filter(|name| name.contains(only)) {
        // The primary of view 0, or of the first view that a view change leads to.
        let primary = u32::from(name.starts_with("nv_"));
        for (role, id) in [("backup", 3), ("primary", primary)] {
            let traitors = name.parse().ok().map(|spec| (ReplicaId(id), spec));
            let traitors = traitors.into_iter().collect();
            cases.push(Case { name: name.to_owned(), role, replicas: 4, traitors });
        }
    }
    for (replicas, set) in COLLUDING {
        let name = set.join(", ");
        if !name.contains(only) {
            continue;
        }
        let ids = (0..).map(ReplicaId);
        let traitors = ids.zip(set.iter().filter_map(|name| name.parse().ok())).collect();
        cases.push(Case { name, role: "together", replicas, traitors });
    }
    cases
}

fn run(options: Options) -> Result<Report, String> {
    Ok(Simulation::new(options).map_err(|error| error.to_string())?.run())
}

/// How much of the fault-free throughput is left in the long run: the same load with and without the
/// traitor, in simulated time.
fn throughput_kept(case: &Case) -> Result<f64, String> {
    let load = |traitors| {
        let options = Options {
            clients: 4,
            requests_per_client: 1500,
            in_flight_max: 4,
            delay: (4 * MILLIS, 6 * MILLIS),
            liveness_bound: 600 * SECONDS,
            ..Options::fault_free(1, case.replicas)
        };
        run(options.with_traitors(traitors))
    };
    let (honest, lying) = (load(Vec::new())?, load(case.traitors.clone())?);
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    let rate = |report: &Report| report.committed as f64 / report.time.max(1) as f64;
    Ok(rate(&lying) / rate(&honest))
}

fn judge(case: &Case, seeds: u64) -> Result<Tally, String> {
    let mut tally = Tally::default();
    for seed in 0..seeds {
        let options = Options::for_traitors(seed, case.replicas, case.traitors.clone());
        let report = run(options)?;
        tally.runs += 1;
        tally.convicted += u64::from(report.evidence > 0);
        tally.views += u64::from(report.goals.views_entered > 0);
        match report.verdict {
            Verdict::Pass => {}
            Verdict::Violated(violation) => tally.violated.push((seed, violation.to_string())),
            Verdict::NoProgress(what) => tally.late.push((seed, what)),
        }
    }
    tally.kept = Some(throughput_kept(case)?);
    Ok(tally)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let cases = cases(&arguments.only);
    let started = Instant::now();
    let bar = bar(u64::try_from(cases.len()).unwrap_or(0), "cases");
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(vec![None; cases.len()]);
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(at) else { return };
                    let outcome = judge(case, arguments.seeds);
                    let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(slot) = outcomes.get_mut(at) {
                        *slot = Some(outcome);
                    }
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut tallies = Vec::new();
    for outcome in outcomes.into_iter().flatten() {
        match outcome {
            Ok(tally) => tallies.push(tally),
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::from(2);
            }
        }
    }
    report(&arguments, &cases, &tallies, started.elapsed().as_secs())
}

fn report(arguments: &Arguments, cases: &[Case], tallies: &[Tally], seconds: u64) -> ExitCode {
    let table = table(cases, tallies);
    match &arguments.write {
        None => println!("{table}"),
        Some(path) => {
            if let Err(error) = write_between_marks(path, &table) {
                eprintln!("error: {}: {error}", path.display());
                return ExitCode::from(2);
            }
        }
    }
    let (mut violated, mut late) = (false, false);
    for (case, tally) in cases.iter().zip(tallies) {
        for (what, seeds) in [("violated", &tally.violated), ("late", &tally.late)] {
            for (seed, words) in seeds {
                println!(
                    "{what}: {} as {}, n {}, seed {seed}: {words}",
                    case.name, case.role, case.replicas
                );
            }
        }
        violated |= !tally.violated.is_empty();
        late |= !tally.late.is_empty();
    }
    let runs: u64 = tallies.iter().map(|tally| tally.runs).sum();
    println!("{runs} runs in {seconds} s");
    ExitCode::from(if violated {
        1
    } else if late {
        3
    } else {
        0
    })
}

fn table(cases: &[Case], tallies: &[Tally]) -> String {
    let mut text = String::from(
        "| traitor | role | n | runs | with a view change | violations | late | convicted in | throughput kept |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for (case, tally) in cases.iter().zip(tallies) {
        let share = |part: u64| (100 * part).checked_div(tally.runs).unwrap_or(0);
        let kept = tally.kept.map_or_else(String::new, |kept| format!("{:.0} %", 100.0 * kept));
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} % | {} | {} | {} % | {kept} |",
            case.name,
            case.role,
            case.replicas,
            tally.runs,
            share(tally.views),
            tally.violated.len(),
            tally.late.len(),
            share(tally.convicted),
        );
    }
    text
}

const BEGIN: &str = "<!-- table: begin -->\n";
const END: &str = "<!-- table: end -->";

fn write_between_marks(path: &PathBuf, table: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let (before, rest) = text.split_once(BEGIN).ok_or("no mark for the table's begin")?;
    let (_, after) = rest.split_once(END).ok_or("no mark for the table's end")?;
    std::fs::write(path, format!("{before}{BEGIN}{table}{END}{after}"))
        .map_err(|error| error.to_string())
}
