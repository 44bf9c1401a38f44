//! Test your own application against traitors, in a few lines.
//!
//! The application is a small bank. Its author wants to know two things before trusting it with money: does
//! it do the same on every replica, and does it keep its promise (no money is made or lost) although messages
//! are lost, replicas restart, and one replica of four is a traitor of any kind? `tests` below shows the same
//! as ordinary tests.
//!
//! ```text
//! cargo run --release --example bank                  # both checks, every traitor
//! cargo run --release --example bank -- twin 200      # one traitor, 200 seeds
//! cargo test --release --example bank
//! ```

use std::collections::BTreeMap;
use std::process::ExitCode;

use pbft_app::application::{encode_command, read_state};
use pbft_app::{Application, Context, Refusal, Service, Typed};
use pbft_sim::determinism::Determinism;
use pbft_sim::random::Random;
use pbft_sim::traitor::names;
use pbft_sim::trial::{Failed, Outcome, Trial};
use serde::{Deserialize, Serialize};

const ACCOUNTS: u64 = 8;
const OPENING: u64 = 100;

/// Accounts and what is on them.
#[derive(Serialize, Deserialize)]
struct Bank {
    accounts: BTreeMap<u64, u64>,
}

impl Default for Bank {
    fn default() -> Self {
        Bank { accounts: (0..ACCOUNTS).map(|account| (account, OPENING)).collect() }
    }
}

/// What clients may ask.
#[derive(Serialize, Deserialize)]
struct Transfer {
    from: u64,
    to: u64,
    amount: u64,
}

impl Service for Bank {
    type Command = Transfer;
    type Response = u64;

    fn execute(&mut self, _: &Context, transfer: Transfer) -> Result<u64, Refusal> {
        let Transfer { from, to, amount } = transfer;
        let balance = |account| self.accounts.get(&account).copied().unwrap_or(0);
        let left = balance(from).checked_sub(amount);
        let left = left.ok_or_else(|| Refusal::new(1, "not enough on the account"))?;
        if from != to {
            let received = balance(to).saturating_add(amount);
            self.accounts.insert(from, left);
            self.accounts.insert(to, received);
        }
        Ok(left)
    }
}

fn bank() -> Box<dyn Application> {
    Box::new(Typed::<Bank>::new())
}

/// What a client asks: any transfer, as the client library encodes it.
fn any_transfer(random: &mut Random) -> Vec<u8> {
    let (from, to) = (random.below(ACCOUNTS), random.below(ACCOUNTS));
    let transfer = Transfer { from, to, amount: random.below(OPENING) };
    encode_command::<Bank>(&transfer).map(|bytes| bytes.to_vec()).unwrap_or_default()
}

/// The promise: whatever happened, the sum is what it was.
fn no_money_is_made_or_lost(bank: &dyn Application, _: u64) -> Result<(), String> {
    let bank: Bank = read_state(bank).map_err(|error| error.to_string())?;
    let sum: u64 = bank.accounts.values().sum();
    if sum == ACCOUNTS * OPENING { Ok(()) } else { Err(format!("the accounts hold {sum}")) }
}

/// Four replicas of the bank under loss, partitions and restarts, with replica 0 a traitor.
fn trial(traitor: &str, seeds: u64) -> Result<Outcome, Failed> {
    Trial::new(bank, |random, _| any_transfer(random))
        .traitor(0, traitor)
        .seeds(0..seeds)
        .check_state(no_money_is_made_or_lost)
        .run()
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let only = arguments.next();
    let seeds = arguments.next().and_then(|seeds| seeds.parse().ok()).unwrap_or(10);
    let random = &mut Random::new(1);
    let operations: Vec<Vec<u8>> = (0..500).map(|_| any_transfer(random)).collect();
    match Determinism::new(bank).operations(operations).check() {
        Ok(summary) => println!("deterministic: {summary:?}"),
        Err(divergence) => {
            println!("{divergence}");
            return ExitCode::from(1);
        }
    }
    for name in names().filter(|name| only.as_ref().is_none_or(|only| only == name)) {
        match trial(name, seeds) {
            Ok(outcome) => println!(
                "{name:<22} {} runs, {} transfers committed, convicted in {} runs, no money made or lost",
                outcome.runs, outcome.committed, outcome.convicted
            ),
            Err(failed) => {
                println!("{name}: {failed}");
                return ExitCode::from(1);
            }
        }
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn no_traitor_makes_or_loses_money() {
        for name in ["equivocating_primary", "replaying_primary", "amnesiac", "reply_liar"] {
            let outcome = trial(name, 5).unwrap();
            assert!(outcome.committed > 0);
        }
    }

    #[test]
    fn the_bank_does_the_same_everywhere() {
        let random = &mut Random::new(2);
        let operations: Vec<Vec<u8>> = (0..200).map(|_| any_transfer(random)).collect();
        Determinism::new(bank).operations(operations).check().unwrap();
    }
}
