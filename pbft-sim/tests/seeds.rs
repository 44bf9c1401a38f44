//! Seeds as tests: the swarm in small, exact counts without faults, and equal traces.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use pbft_core::types::Sequence;
use pbft_sim::{DiskFaults, Faults, Goals, Options, Power, Report, Simulation, Verdict};

fn run(options: Options) -> Report {
    Simulation::new(options).unwrap().run()
}

#[test]
fn the_first_hundred_seeds_pass_all_checkers_and_see_everything_there_is_to_see() {
    let (mut goals, mut faults) = (Goals::default(), Faults::default());
    for seed in 0..100 {
        let report = run(Options::from_seed(seed));
        let passed = report.verdict == Verdict::Pass;
        assert!(passed, "seed {seed}: {}", report.verdict);
        goals.add(&report.goals);
        faults.add(&report.faults);
    }
    // INV25: a campaign that has not seen these proves little.
    for (name, count) in goals.counters().into_iter().chain(faults.counters()) {
        assert!(*count > 0, "never seen: {name}");
    }
}

/// INV16 and INV19 are among the checkers of a run without faults: 2n(n - 1) per slot, exactly.
#[test]
fn inv16_without_faults_every_slot_costs_exactly_2n_n_minus_1_messages() {
    for n in [4, 5, 6, 7, 10, 13] {
        for seed in 0..4 {
            let report = run(Options::fault_free(seed, n));
            assert_eq!(report.verdict, Verdict::Pass, "n = {n}, seed {seed}");
            assert!(report.slots >= Sequence(75));
        }
    }
}

#[test]
fn inv24_two_runs_of_a_seed_give_one_trace_and_two_seeds_give_two() {
    // 19 signs with ed25519, the others with keyed hashes.
    let traces = [7, 9, 19].map(|seed| {
        let one = run(Options::from_seed(seed));
        assert_eq!(one, run(Options::from_seed(seed)), "seed {seed}");
        one.trace
    });
    assert!(traces[0] != traces[1] && traces[1] != traces[2]);
}

/// PITFALLS 2.6: one silent backup of four costs nothing but its own part.
#[test]
fn p4_f_stopped_backups_do_not_stop_the_service() {
    for (n, stopped) in [(4, vec![3]), (7, vec![2, 5]), (10, vec![1, 4, 9])] {
        let options = Options {
            crashes: stopped.into_iter().map(|replica| (replica, 0)).collect(),
            ..Options::fault_free(3, n)
        };
        let report = run(options);
        assert_eq!(report.verdict, Verdict::Pass, "n = {n}");
    }
}

/// PITFALLS G11: with one more than f stopped nothing is decided, and nothing wrong is.
#[test]
fn m9_more_than_f_stopped_backups_stop_progress_and_nothing_else() {
    let crashes = vec![(2, 0), (3, 0)];
    let report = run(Options { crashes, ..Options::fault_free(3, 4) });
    assert!(matches!(report.verdict, Verdict::NoProgress(_)), "{}", report.verdict);
    assert_eq!((report.slots, report.committed), (Sequence(0), 0));
}

/// A slow disk, or a link of 200 ms there and back, is no faulty primary: no view changes, and so no storm.
#[test]
fn f8_a_slow_disk_or_a_slow_link_changes_no_view() {
    for n in [4, 7] {
        let calm = Options { requests_per_client: 30, ..Options::fault_free(4, n) };
        let link = Options { delay: (90_000, 110_000), ..calm.clone() };
        let disk = Options { slowness: 50, ..calm };
        for options in [link, disk] {
            let report = run(options);
            assert_eq!(report.verdict, Verdict::Pass, "n = {n}");
            assert_eq!(report.goals.views_entered, 0, "n = {n}");
        }
    }
}

/// PITFALLS E7: f silent replicas, whichever they are, cost at most one view change each.
#[test]
fn e7_each_replica_in_turn_may_be_gone() {
    for gone in 0..4 {
        let crashes = vec![(gone, 100_000)];
        let report = run(Options { crashes, ..Options::fault_free(9, 4) });
        assert_eq!(report.verdict, Verdict::Pass, "r{gone}");
        let changes = if gone == 0 { 3 } else { 0 };
        assert_eq!(report.goals.views_entered, changes, "r{gone}");
    }
}

/// PITFALLS E1: as many primaries in a row as there may be faults.
#[test]
fn e1_f_dead_primaries_in_a_row_are_got_over_within_the_bound() {
    for (n, f) in [(4, 1), (7, 2), (10, 3), (13, 4)] {
        let crashes = (0..f).map(|replica| (replica, 0)).collect();
        let report = run(Options { crashes, ..Options::fault_free(2, n) });
        assert_eq!(report.verdict, Verdict::Pass, "n = {n}");
        let correct = u64::try_from(n).unwrap() - u64::from(f);
        assert_eq!(report.goals.views_entered, correct, "n = {n}: one view each, the right one");
    }
}

/// SEEDS P1: duplicates and reordering at 30 % and loss at 10 % still commit.
#[test]
fn p1_heavy_duplication_reordering_and_loss_still_commit() {
    for n in [4, 7, 10, 13] {
        let options = Options {
            duplication: 300,
            slow: 300,
            loss: 100,
            heal_at: 60 * pbft_sim::SECONDS,
            ..Options::fault_free(5, n)
        };
        let report = run(options);
        assert_eq!(report.verdict, Verdict::Pass, "n = {n}");
        assert!(report.faults.lost > 100 && report.faults.duplicated > 100);
    }
}

/// A service whose operations take a tenth of a second each is no slow primary's, and neither are links that
/// lose two messages in a hundred.
#[test]
fn f8_slow_operations_and_lost_messages_make_no_primary_slow() {
    for seed in 0..4 {
        let calm = Options {
            requests_per_client: 60,
            clients: 4,
            in_flight_max: 1,
            operations_max: 1,
            heal_at: 1,
            liveness_bound: 600 * pbft_sim::SECONDS,
            ..Options::fault_free(seed, 4)
        };
        // One loss in a thousand, so that clients may ask again: INV19 counts that.
        let slow = Options { execution: 500, loss: 1, ..calm.clone() };
        let lossy = Options { loss: 20, heal_at: 600 * pbft_sim::SECONDS, ..calm };
        for options in [slow, lossy] {
            let report = run(options);
            assert_eq!(report.verdict, Verdict::Pass, "seed {seed}");
            assert_eq!(report.goals.views_entered, 0, "seed {seed}");
        }
    }
}

/// PITFALLS C5: a flipped bit in one replica's state is found by that replica, harms no client and is repaired.
#[test]
fn c5_a_bit_flipped_in_one_state_is_noticed_and_repaired() {
    let mut upsets = 0;
    for seed in 0..8 {
        let options = Options {
            upsets: true,
            heal_at: 3 * pbft_sim::SECONDS,
            requests_per_client: 300,
            ..Options::fault_free(seed, 4)
        };
        let report = run(options);
        assert_eq!(report.verdict, Verdict::Pass, "seed {seed}");
        upsets += report.faults.upsets;
        assert!(report.goals.restored > 0, "seed {seed}");
    }
    assert!(upsets > 8, "{upsets}");
}

/// Every class of disk faults, losses of power, crash loops and rolling restarts in every run: nothing promised is
/// forgotten (INV9), nothing is said before it is durable (INV21), and the run ends well.
#[test]
fn disks_that_fail_within_f_copies_and_power_that_goes_lose_nothing() {
    let mut faults = Faults::default();
    for seed in 500..540 {
        let options = Options::from_seed(seed);
        let heal_at = options.heal_at.max(5 * pbft_sim::SECONDS);
        let (disk, power) = (DiskFaults::ALL, Power::ALL);
        let options = Options { disk, power, heal_at, ..options };
        let report = run(options);
        assert_eq!(report.verdict, Verdict::Pass, "seed {seed}");
        faults.add(&report.faults);
    }
    for (name, count) in faults.counters() {
        assert!(*count > 0, "never seen: {name}");
    }
}

/// A find. A replica has said its Checkpoint of slot 40 and holds that snapshot; it crashes, goes on from an earlier
/// one and fetches the state of slot 36, which is stable by then and takes the later snapshots' place. When 40 became
/// stable the digest that its journal names agreed, so it let the slots up to 40 go, and had neither them nor the
/// snapshot.
#[test]
fn g4_nothing_is_dropped_for_a_snapshot_that_a_transfer_took_away() {
    let options = Options::from_seed(2002);
    let (disk, power) = (DiskFaults::ALL, Power::ALL);
    let report = run(Options { disk, power, ..options });
    assert_eq!(report.verdict, Verdict::Pass);
}
