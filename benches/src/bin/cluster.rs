//! Measures a cluster of real processes. From the root of the tree:
//!
//! ```text
//! cargo run --release -p pbft-benches --bin cluster -- report          # everything, into docs/benchmarks
//! cargo run --release -p pbft-benches --bin cluster -- run --clients 64 --callers 1
//! cargo run --release -p pbft-benches --bin cluster -- run --rate 20000 --series run.json --sample-memory
//! cargo run --release -p pbft-benches --bin cluster -- plot run.json run.svg
//! ```
//!
//! Exit codes: 0 done; 1 nothing to show, and why; 2 an option that cannot be used.

#![allow(missing_docs)]

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use pbft_benches::failure::Failure;
use pbft_benches::load;
use pbft_benches::machine::Machine;
use pbft_benches::measure::{Run, Watch, measure};
use pbft_benches::outcome::{Measured, Printed};
use pbft_benches::series::Series;
use pbft_benches::workload::Workload;
use pbft_benches::{plot, replica, report, smoke};

/// Measures clusters: every replica and every group of clients is a process of its own.
#[derive(Parser)]
#[command(name = "cluster", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure one workload
    Run(RunArguments),
    /// Measure everything and write the report with its pictures
    Report(report::Arguments),
    /// Draw a series that `run --series` wrote
    Plot {
        /// The series
        file: PathBuf,
        /// The picture, SVG
        output: PathBuf,
    },
    /// See in a few seconds that clusters of processes commit something
    Smoke {
        /// Directory on the disk that is to be used [default: where temporary files go]
        #[arg(long)]
        directory: Option<PathBuf>,
    },
    #[command(hide = true)]
    Replica(replica::Arguments),
    #[command(hide = true)]
    Load {
        #[arg(long)]
        plan: String,
    },
}

#[derive(Args)]
struct RunArguments {
    #[command(flatten)]
    workload: Workload,
    /// Measure so many times; the median and the range are shown
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Directory on the disk that is to be used [default: where temporary files go]
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Write throughput and latency over time to this file, of the last run
    #[arg(long, value_name = "FILE")]
    series: Option<PathBuf>,
    /// Milliseconds of one point of the series
    #[arg(long, default_value_t = 100, value_name = "MS")]
    series_interval: u64,
    /// Put the memory of each process into the series
    #[arg(long, requires = "series")]
    sample_memory: bool,
    /// Also say what processor time is spent on; needs perf, and costs a few percent
    #[arg(long)]
    profile: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn run(arguments: &RunArguments) -> Result<(), Failure> {
    if arguments.runs == 0 {
        return Err(Failure::usage("--runs", 0, "take at least 1"));
    }
    if !(10..=60_000).contains(&arguments.series_interval) {
        let remedy = "take milliseconds from 10 to 60000";
        return Err(Failure::usage("--series-interval", arguments.series_interval, remedy));
    }
    let watch = Watch {
        directory: arguments.directory.clone(),
        series_ms: arguments.series.as_ref().map(|_| arguments.series_interval),
        sample_memory: arguments.sample_memory,
        profile: arguments.profile,
        quiet: false,
    };
    let disk = arguments.directory.clone().unwrap_or_else(std::env::temp_dir);
    let machine = Machine::here(&disk);
    let mut runs = Vec::new();
    for _ in 0..arguments.runs {
        let Run { result, series } = measure(&arguments.workload, &watch)?;
        runs.push(result);
        if let (Some(series), Some(path)) = (series, &arguments.series) {
            series.write(path)?;
        }
    }
    let measured = Measured::new(arguments.workload.clone(), runs);
    if arguments.json {
        print(&serde_json::to_string(&Printed { machine, measured })?)
    } else {
        print(&format!("{}\n{}", machine.describe(), measured.describe()))
    }
}

/// To a reader who may have left.
fn print(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(arguments) => run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Plot { file, output } => plot::course(&Series::read(&file)?, &output),
        Command::Smoke { directory } => smoke::run(directory),
        Command::Load { plan } => load::run(&serde_json::from_str(&plan)?),
        Command::Replica(arguments) => {
            // The node has a thread and a runtime of its own; this one only answers.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(replica::run(&arguments))
        }
    }
}

fn main() -> ExitCode {
    match dispatch(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit_code()
        }
    }
}
