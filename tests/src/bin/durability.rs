//! Real replicas through many power cuts, kills and damaged stores:
//!
//! ```text
//! cargo build --release --example counter
//! cargo run --release -p pbft-tests --bin durability -- power --times 200
//! cargo run --release -p pbft-tests --bin durability -- rolling --seconds 600
//! cargo run --release -p pbft-tests --bin durability -- damage --times 200
//! ```
//!
//! Ends with 0 if everything held, with 1 and what did not otherwise.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use pbft_sim::progress::bar;
use pbft_sim::random::Random;
use pbft_tests::Cluster;
use pbft_tests::durability::{Outcome, damage, power_cut, rolling_kills};

/// Takes four replicas through what disks and power do
#[derive(Parser)]
struct Arguments {
    /// Draws the same again
    #[arg(long, default_value_t = 1, global = true)]
    seed: u64,
    #[command(subcommand)]
    campaign: Campaign,
}

#[derive(Subcommand)]
enum Campaign {
    /// Kill all replicas at once under load, and start them again
    Power {
        /// How often
        #[arg(long, default_value_t = 200)]
        times: u64,
    },
    /// Kill one replica after the other under load, and start it again
    Rolling {
        /// For how long
        #[arg(long, default_value_t = 600)]
        seconds: u64,
    },
    /// Flip a bit of a stopped replica's store, and start it
    Damage {
        /// How often
        #[arg(long, default_value_t = 200)]
        times: u64,
    },
}

fn main() -> ExitCode {
    let Arguments { seed, campaign } = Arguments::parse();
    match run(campaign, &mut Random::new(seed)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("error: {what} (--seed {seed})");
            ExitCode::FAILURE
        }
    }
}

fn run(campaign: Campaign, chance: &mut Random) -> Result<(), String> {
    let since = Instant::now();
    match campaign {
        Campaign::Power { times } => {
            let mut cluster = Cluster::start(4);
            let bar = bar(times, "power cuts");
            let (mut committed, mut unknown, mut stall) = (0, 0, 0);
            for _ in 0..times {
                let summary = power_cut(&mut cluster, chance)?;
                committed += summary.committed;
                unknown += summary.unknown;
                stall = stall.max(summary.longest_stall);
                bar.inc(1);
            }
            bar.finish_and_clear();
            println!(
                "{times} power cuts in {:.0?}: {committed} acknowledged operations, {unknown} of unknown outcome; every acknowledged one is there, none twice; longest time without an outcome {} ms",
                since.elapsed(),
                stall / 1_000_000
            );
        }
        Campaign::Rolling { seconds } => {
            let mut cluster = Cluster::start(4);
            let bar = bar(seconds, "seconds of rolling kills");
            let mut killed = 0;
            let lasting = Duration::from_secs(seconds);
            let summary = rolling_kills(&mut cluster, chance, lasting, |kills| {
                killed = kills;
                bar.set_position(since.elapsed().as_secs().min(seconds));
            })?;
            bar.finish_and_clear();
            println!(
                "{killed} kills in {seconds} s: {} operations, {} of unknown outcome; linearizable, no evidence against anyone; longest time without an outcome {} ms",
                summary.committed,
                summary.unknown,
                summary.longest_stall / 1_000_000
            );
        }
        Campaign::Damage { times } => {
            let bar = bar(times, "damaged stores");
            let (mut whole, mut silent, mut refused) = (0, 0, 0);
            for _ in 0..times {
                let (outcome, what) = damage(chance)?;
                match outcome {
                    Outcome::Started => whole += 1,
                    Outcome::WithoutVote => silent += 1,
                    Outcome::Refused => refused += 1,
                }
                bar.println(format!("{what}: {outcome:?}"));
                bar.inc(1);
            }
            bar.finish_and_clear();
            println!(
                "{times} damaged stores in {:.0?}: {whole} started as if nothing had happened, {silent} started without voting, {refused} refused; no wrong vote, no panic",
                since.elapsed()
            );
        }
    }
    Ok(())
}
