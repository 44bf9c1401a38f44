//! The Byzantine generals, to play with: OM(m), SM(m), vector agreement, traitors of your own making.
//!
//! What it shows: why three generals cannot agree about one traitor and four can, what each of them hears in
//! each round, how it votes, and how few lies it takes where n <= 3m. `docs/generals.md` goes on from here to
//! PBFT. Commands to try:
//!
//! ```text
//! cargo run --release --example generals -- om --n 4 --m 1 --traitors 3
//! cargo run --release --example generals -- om --n 3 --m 1 --traitors 3         # one general fewer
//! cargo run --release --example generals -- om --n 7 --m 2 --traitors 1,6 --strategy parity --svg tree.svg
//! cargo run --release --example generals -- search --n 6 --m 2 --traitors 5,6   # the fewest lies that do it
//! cargo run --release --example generals -- vector --n 4 --m 1 --traitors 2 --values 10,20,30,40
//! cargo run --release --example generals -- sm --n 3 --m 1 --traitors 1 --script script.json
//! cargo run --release --example generals -- exercise7                           # and: matrix
//! ```
//!
//! All with `--json`. Exit codes: 0 computed, whatever came of it; 2 usage, size, m > n - 2, or a script that
//! signs what its traitors cannot; 1 a file that cannot be written.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Serialize;

mod arguments;
mod figure;
mod lecture;
mod om;
mod search;
mod sm;
mod svg;
mod vector;
mod words;

/// The Byzantine generals: OM(m), SM(m) and vector agreement with traitors.
#[derive(Parser)]
#[command(name = "generals", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Oral messages, OM(m): one commander, its order relayed in m + 1 rounds
    Om(om::Om),
    /// Every general is commander once, all at once: a vector of n values
    Vector(vector::Vector),
    /// Signed messages, SM(m): chains of ed25519 signatures
    Sm(sm::Sm),
    /// Exercise 7 of the lecture: seven generals, 1 and 2 are traitors, what does 3 receive?
    Exercise7(lecture::Exercise7),
    /// The lecture's matrix: four generals, 1 is a traitor, under majority and under median
    Matrix(lecture::Matrix),
    /// Look for the fewest lies that break IC1 or IC2 in OM(m)
    Search(search::Search),
}

/// How a command ended when it did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Exit code 1: a file cannot be written.
    Failed(String),
    /// Exit code 2: usage, size, or a script that cannot be.
    Usage(String),
}

/// Everything that is refused before a run is usage.
pub(crate) fn usage(error: impl std::fmt::Display) -> Failure {
    Failure::Usage(error.to_string())
}

/// What a command has to show.
pub(crate) struct Shown {
    /// On the standard output.
    pub(crate) text: String,
    /// On the standard error: what should be known about it.
    pub(crate) warnings: Vec<String>,
}

/// One JSON object on one line.
pub(crate) fn to_json(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(text + "\n")
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let paint = words::Paint(colour);
    let outcome = match &arguments.command {
        Command::Om(om) => om.run(paint),
        Command::Vector(vector) => vector.run(paint),
        Command::Sm(sm) => sm.run(paint),
        Command::Exercise7(exercise) => exercise.run(paint),
        Command::Matrix(matrix) => matrix.run(paint),
        Command::Search(search) => search.run(paint),
    };
    let (code, message) = match outcome {
        Ok(Shown { text, warnings }) => {
            warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            // Whoever reads no further, such as `head`, has read enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(Failure::Failed(message)) => (1, message),
        Err(Failure::Usage(message)) => (2, message),
    };
    eprintln!("error: {message}");
    ExitCode::from(code)
}
