//! Traitors: up to f are harmless and caught, one more breaks agreement. The second half shows that the
//! checkers bite.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use pbft_core::types::ReplicaId;
use pbft_sim::traitor::names;
use pbft_sim::{Options, Report, Simulation, Verdict};

fn run(options: Options, traitors: &[(u32, &str)]) -> Report {
    let traitors = traitors.iter().map(|(id, spec)| (ReplicaId(*id), spec.parse().unwrap()));
    Simulation::new(options.with_traitors(traitors.collect())).unwrap().run()
}

fn quick(seed: u64, n: usize) -> Options {
    Options { requests_per_client: 30, ..Options::fault_free(seed, n) }
}

#[test]
fn p8_every_traitor_as_backup_and_as_primary_is_harmless() {
    assert_eq!(names().count(), 34);
    for name in names() {
        for me in [0, 3] {
            let report = run(quick(1, 4), &[(me, name)]);
            assert_eq!(report.verdict, Verdict::Pass, "r{me} {name}");
        }
    }
}

/// What breaks the protocol in writing is found in writing.
#[test]
fn p8_those_who_sign_what_they_must_not_are_convicted() {
    for (me, name) in [
        (0, "equivocating_primary"),
        (3, "equivocating_backup"),
        (0, "twin"),
        (0, "seq_exhauster"),
        (0, "forging_primary"),
        (3, "premature_committer"),
        (0, "vc_liar_omits"),
        (0, "vc_liar_forges"),
        (3, "checkpoint_liar"),
        (3, "two_faced_mutator"),
    ] {
        let convicted = (0..20).any(|seed| run(quick(seed, 4), &[(me, name)]).evidence > 0);
        assert!(convicted, "r{me} {name}");
    }
}

/// L9: f + 1 traitors that collude make two correct replicas execute different batches.
#[test]
fn l9_one_traitor_more_than_f_breaks_agreement_and_the_checker_says_so() {
    let report = run(quick(1, 4), &[(0, "equivocating_primary"), (1, "double_voter")]);
    match report.verdict {
        // Two decisions are found when they are made, before both are executed.
        Verdict::Violated(violation) => {
            let found = violation.property;
            assert!(["INV1 agreement", "INV2 commit stability"].contains(&found), "{found}");
        }
        other => panic!("two traitors of four went unnoticed: {other}"),
    }
}

/// INV13: what correct replicas kept convicts f + 1 of those who broke agreement, and nobody else.
#[test]
fn l9_a_fork_convicts_at_least_f_plus_1_of_its_makers() {
    let mut forks = 0;
    for seed in 0..20 {
        for n in [4, 7, 10] {
            let mut traitors = vec![(0, "equivocating_primary"), (1, "double_voter")];
            traitors
                .extend([(2, "equivocating_backup"), (3, "double_voter")].iter().take((n - 4) / 3));
            let swarm = Options::for_traitors(seed, n, Vec::new());
            for options in [quick(seed, n), swarm] {
                let report = run(options, &traitors);
                let Verdict::Violated(violation) = report.verdict else { continue };
                // More than f liars can also cheat a client, which convicts nobody.
                if violation.property == "INV22 client safety" {
                    continue;
                }
                // The judgement takes the fork's place when it fails.
                assert_ne!(violation.property, "INV13 accountability", "{violation}");
                assert!(report.convicted.len() > (n - 1) / 3, "n = {n}, seed {seed}: {violation}");
                forks += 1;
            }
        }
    }
    assert!(forks > 20, "{forks}");
}
