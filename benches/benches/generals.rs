//! What the generals cost: `cargo bench -p pbft-benches --bench generals`. Half a minute, one thread.
//!
//! OM(m): whole runs, all generals and both traitors' lies included. SM(m): whole runs with ed25519 keys, and
//! what a lieutenant pays to check one chain, by its length. Every figure is the median of several runs.

#![allow(clippy::unwrap_used, clippy::cast_precision_loss, clippy::indexing_slicing, missing_docs)]

use std::time::{Duration, Instant};

use pbft_benches::here;
use pbft_core::crypto::{Ed25519Signer, Ed25519Verifier};
use pbft_core::generals::chain::{Chain, Occasion};
use pbft_core::generals::{Choice, General, SetChoice, Setting};
use pbft_sim::generals::oral;
use pbft_sim::generals::script::{Line, Script};
use pbft_sim::generals::signed::{self, Keys};
use pbft_sim::generals::strategy::Named;

fn setting(n: u64, m: u64) -> Setting {
    Setting::new(n, m, General(1)).unwrap()
}

/// The median of so many runs.
fn median(runs: usize, mut run: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            let since = Instant::now();
            run();
            since.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[runs / 2]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn oral_messages() {
    println!("\n| OM(m) | n | messages | ms | us per message |\n|---|---|---|---|---|");
    for (n, m) in [(4, 1), (7, 2), (10, 3), (13, 4), (19, 4)] {
        let setting = setting(n, m);
        let traitors = (1..=u8::try_from(m).unwrap()).map(General).collect();
        let (choice, default) = (Choice::Majority, 0);
        let case = oral::Case { setting, traitors, order: 1, choice, default };
        let strategy: Named = "hash:7".parse().unwrap();
        let mut messages = 0;
        let time = median(if n < 13 { 21 } else { 3 }, || {
            let outcome = oral::run(&case, &strategy, &mut |_| {}).unwrap();
            assert!(outcome.holds());
            messages = outcome.sent.iter().sum::<u64>();
        });
        let each = time.as_secs_f64() * 1e6 / messages as f64;
        println!("| OM({m}) | {n} | {messages} | {:.2} | {each:.2} |", millis(time));
    }
}

fn signed_messages() {
    println!("\n| SM(m) | n | commander | messages | ms |\n|---|---|---|---|---|");
    for (n, m, splits) in [
        (4_u8, 2, false),
        (4, 2, true),
        (10, 3, false),
        (10, 3, true),
        (31, 10, true),
        (99, 33, true),
    ] {
        let setting = setting(u64::from(n), m);
        let traitors = if splits { [General(1)].into() } else { [].into() };
        let (choice, default) = (SetChoice::Single, 0);
        let case = signed::Case { setting, traitors, order: 1, choice, default };
        // One order to the even generals, another to the odd ones: everyone hears and relays both.
        let line = |id: u8| Line {
            sender: General(1),
            receiver: General(id),
            value: i128::from(id % 2),
            chain: vec![General(1)],
        };
        let lines = if splits { (2..=n).map(line).collect() } else { Vec::new() };
        let script = Script([(1, lines)].into());
        let keys = Keys::ed25519(n);
        let mut messages = 0;
        let time = median(3, || {
            let outcome = signed::run(&case, &script, &keys).unwrap();
            assert!(outcome.ic1.is_ok() && outcome.ic2.is_ok());
            messages = outcome.sent.iter().sum::<u64>();
        });
        let who = if splits { "signs two orders" } else { "loyal" };
        println!("| SM({m}) | {n} | {who} | {messages} | {:.2} |", millis(time));
    }
}

fn verification() {
    println!("\n| signatures in a chain | us to check | us each |\n|---|---|---|");
    let signers: Vec<Ed25519Signer> =
        (1..=34_u8).map(|index| Ed25519Signer::from_seed(&[index; 32])).collect();
    let public: Vec<_> = signers.iter().map(Ed25519Signer::public).collect();
    let verifier = Ed25519Verifier::of_keys(&public).unwrap();
    let occasion = Occasion { setting: setting(34, 32), number: 1 };
    for length in [1, 2, 3, 5, 11, 33] {
        let mut chain = Chain::unsigned(1_i128);
        for (signer, id) in signers.iter().zip(1_u8..).take(length) {
            chain = chain.signed(&occasion, General(id), signer);
        }
        let time = median(201, || chain.check_signatures(&occasion, &verifier).unwrap());
        let micros = time.as_secs_f64() * 1e6;
        println!("| {length} | {micros:.0} | {:.1} |", micros / length as f64);
    }
}

fn main() {
    println!("{}", here());
    oral_messages();
    signed_messages();
    verification();
}
