//! Twins: small enumerations as tests, and that the checker bites.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use pbft_core::types::{ReplicaId, View};
use pbft_sim::twins::{Enumeration, HOPS, Outcome, Scenario};

fn enumeration(twins: &[u32], depth: usize) -> Enumeration {
    let twins = twins.iter().copied().map(ReplicaId).collect();
    Enumeration { twins, depth, sides: 2, hops: HOPS, heal_every: 1, max: None }
}

fn run(enumeration: &Enumeration) -> Outcome {
    enumeration.run(|_| {}).unwrap()
}

fn assert_healed(enumeration: &Enumeration) -> Outcome {
    let outcome = run(enumeration);
    assert_eq!(outcome.violation, None, "{enumeration:?}");
    assert_eq!(outcome.scenarios, enumeration.scenarios().unwrap());
    assert_eq!(outcome.healed, outcome.scenarios, "every leaf was joined and finished");
    outcome
}

#[test]
fn one_twin_breaks_nothing_wherever_the_partition_changes() {
    for twin in 0..4 {
        for hops in 1..=5 {
            let outcome = assert_healed(&Enumeration { hops, ..enumeration(&[twin], 2) });
            assert_eq!((outcome.scenarios, outcome.nodes), (256, 272));
        }
        let outcome = assert_healed(&enumeration(&[twin], 3));
        // An enumeration in which nothing ever happens, or nothing ever stalls, proves little.
        assert!(outcome.committed_both > 0 && outcome.committed_both < outcome.scenarios);
        assert!(outcome.views_reached >= View(1));
    }
}

#[test]
fn one_twin_breaks_nothing_among_three_sides() {
    for twin in 0..4 {
        let outcome = assert_healed(&Enumeration { sides: 3, ..enumeration(&[twin], 2) });
        assert_eq!(outcome.scenarios, 41 * 41);
    }
}

/// The twin leads view 1 twice: one NewView carries a certificate of view 0, by the other one the slot is
/// decided differently. Replica 3 hears the decision first and must not take the NewView for a second one.
#[test]
fn a_second_new_view_of_the_primary_halts_nobody() {
    let scenario: Scenario = "1:4:02-13b,01-2-3b,012b-3".parse().unwrap();
    let outcome = scenario.replay(|_| {}).unwrap();
    assert_eq!((outcome.violation, outcome.healed), (None, 1));
}

#[test]
fn without_a_twin_partitions_break_nothing() {
    let outcome = assert_healed(&enumeration(&[], 4));
    assert_eq!(outcome.scenarios, 8_u64.pow(4));
}

/// With f + 1 twins agreement is not promised: a checker that stays silent then is worth nothing.
#[test]
fn two_twins_make_correct_replicas_disagree_and_the_scenario_replays() {
    let enumeration = Enumeration { heal_every: 0, ..enumeration(&[0, 1], 2) };
    let violation = run(&enumeration).violation.unwrap();
    assert!(violation.text.ends_with("differently"), "{}", violation.text);
    let text = violation.scenario.to_string();
    let scenario: Scenario = text.parse().unwrap();
    assert_eq!(scenario, violation.scenario);
    let mut said = Vec::new();
    let replayed = scenario.replay(|line| said.push(line.to_owned())).unwrap();
    assert_eq!(replayed.violation, Some(violation));
    assert_eq!(said.len(), scenario.rounds.len());
}

#[test]
fn parts_come_to_the_same_as_the_whole_and_so_does_a_second_run() {
    let enumeration = Enumeration { heal_every: 7, ..enumeration(&[2], 2) };
    let mut reported = 0;
    let whole = enumeration.run(|done| reported += done).unwrap();
    assert_eq!(reported, whole.scenarios);
    assert!(whole.healed > 0 && whole.healed < whole.scenarios / 4);
    let mut parts = Outcome::default();
    for first in 0..enumeration.partitions().unwrap().len() {
        parts.add(enumeration.run_first(first, |_| {}).unwrap());
    }
    assert_eq!(parts, whole);
    assert_eq!(run(&enumeration), whole);
    assert_eq!(run(&Enumeration { max: Some(10), ..enumeration }).scenarios, 10);
}

#[test]
fn scenarios_read_what_they_print_and_refuse_the_rest() {
    for text in ["0:3:013-2a,012a-3", "0+1:64:0123ab", "none:1:0-1-2-3,0123"] {
        assert_eq!(text.parse::<Scenario>().unwrap().to_string(), text);
    }
    // Sides in another order are the same partition.
    assert_eq!("0:3:2a-310".parse::<Scenario>().unwrap().to_string(), "0:3:013-2a");
    for text in [
        "",
        "0:3",
        "4:3:0123",
        "0+0:3:0123aa",
        "0:x:0123a",
        "0:3:0123",
        "0:3:0123ab",
        "0:3:0123aa",
        "0:3:0123a:",
        "0:3:0123a,",
    ] {
        assert!(text.parse::<Scenario>().is_err(), "{text}");
    }
}

#[test]
fn settings_that_make_no_enumeration_are_refused() {
    let good = enumeration(&[0], 2);
    for bad in [
        Enumeration { depth: 0, ..good.clone() },
        Enumeration { depth: 17, ..good.clone() },
        Enumeration { sides: 1, ..good.clone() },
        Enumeration { sides: 4, ..good.clone() },
        Enumeration { twins: vec![ReplicaId(4)], ..good },
    ] {
        assert!(bad.run(|_| {}).is_err(), "{bad:?}");
    }
}
