//! Traitors on real nodes, as real processes: what they do, what convicts them, and what one too many breaks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pbft_tests::{Cluster, code, counter, stderr, stdout};
use serde_json::{Value, json};

fn demo(arguments: &[&str]) -> (i32, Value) {
    let output = counter(&[&["demo", "--json"], arguments].concat());
    let text = stdout(&output);
    let report = serde_json::from_str(&text);
    (code(&output), report.unwrap_or_else(|_| panic!("{text}{}", stderr(&output))))
}

/// The files that replica `id` has written, once there is one.
fn evidence_of(cluster: &Cluster, id: usize) -> Vec<PathBuf> {
    let directory = cluster.path(&format!("replica-{id}/evidence"));
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let files = fs::read_dir(&directory).into_iter().flatten();
        let mut files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|it| it == "evidence"));
        files.sort();
        if !files.is_empty() {
            return files;
        }
        assert!(Instant::now() < end, "replica {id} has written no evidence");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_equivocating_primary_is_convicted_by_files_that_anyone_can_check() {
    let mut cluster = Cluster::init(4);
    for id in 1..4 {
        cluster.start_replica(id);
    }
    cluster.start_replica_with(0, &["--traitor", "equivocating_primary"]);
    let report = cluster.load(500, 4).report();
    assert_eq!((&report["committed"], &report["unknown"]), (&500.into(), &0.into()));
    assert_eq!(cluster.value(), 500);
    cluster.until_agreed(&[1, 2, 3]);

    let file = evidence_of(&cluster, 1).remove(0);
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("0-pre-prepare-view0-slot"), "{name}");
    let file = file.to_str().unwrap();
    let own = cluster.path("cluster.toml");
    let proven = counter(&["evidence", file, "--cluster", &own]);
    assert_eq!(code(&proven), 0, "{}", stderr(&proven));
    let text = stdout(&proven);
    assert!(text.contains("replica 0 signed two pre-prepares in view 0"), "{text}");
    let proven = counter(&["evidence", file, "--cluster", &own, "--json"]);
    let proven: Value = serde_json::from_str(&stdout(&proven)).unwrap();
    assert_eq!((&proven["proven"], &proven["replica"]), (&json!(true), &json!(0)));
    assert_eq!(proven["offence"], "equivocation");

    // Half of it is nothing; under other keys it convicts nobody.
    let half = cluster.path("half");
    let bytes = fs::read(file).unwrap();
    fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(code(&counter(&["evidence", &half, "--cluster", &own])), 2);
    assert_eq!(code(&counter(&["evidence", file, "--cluster", &half])), 2);
    let others = Cluster::init(4);
    let other = others.path("cluster.toml");
    let unproven = counter(&["evidence", file, "--cluster", &other, "--json"]);
    assert_eq!(code(&unproven), 1);
    let unproven: Value = serde_json::from_str(&stdout(&unproven)).unwrap();
    assert_eq!(unproven["proven"], false);

    let status = cluster.status();
    for honest in &status[1..] {
        let convictions = honest["convictions"].as_array().unwrap();
        assert!(convictions.len() <= 16);
        assert_eq!(
            (&convictions[0]["replica"], &convictions[0]["kind"]),
            (&json!(0), &json!("pre-prepare"))
        );
        assert!(honest["evidence"].as_u64().unwrap() >= 1);
        assert!(honest["view"].as_u64().unwrap() >= 1);
    }
}

#[test]
fn what_is_no_traitor_is_refused_with_all_there_are() {
    let cluster = Cluster::init(4);
    let replica = cluster.path("replica-0");
    let unknown: [&[&str]; 2] =
        [&["replica", &replica, "--traitor", "judas"], &["demo", "--traitor", "0=judas"]];
    for arguments in unknown {
        let output = counter(arguments);
        assert_eq!(code(&output), 2);
        let text = stderr(&output);
        assert!(text.contains("judas") && text.contains("equivocating_primary"), "{text}");
    }
    let wrong: [&[&str]; 4] = [
        &["--traitor", "4=silent"],
        &["--traitor", "silent"],
        &["--traitor", "0=silent", "--traitor", "0=censor"],
        &["--traitor", "0=silent,loud=1"],
    ];
    for arguments in wrong {
        let output = counter(&[&["demo"], arguments].concat());
        assert_eq!(code(&output), 2, "{arguments:?}: {}", stdout(&output));
    }
}

/// L9: the control run. Without it nobody knows whether the others could fail.
#[test]
fn l9_one_traitor_too_many_breaks_agreement_and_the_demo_says_so() {
    let started = Instant::now();
    let arguments = ["--traitor", "0=equivocating_primary", "--traitor", "1=double_voter"];
    let (code, report) = demo(&arguments);
    assert_eq!((code, &report["agreement"]), (1, &json!(false)), "{report}");
    let names = json!([
        {"replica": 0, "name": "equivocating_primary"},
        {"replica": 1, "name": "double_voter"},
    ]);
    assert_eq!(report["traitors"], names);
    assert!(report["evidence"].as_array().unwrap().iter().any(|it| it["replica"] == 0));
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

fn assert_served(report: &Value) {
    assert_eq!(report["agreement"], true, "{report}");
    assert_eq!(
        (&report["committed"], &report["value"]),
        (&report["operations"], &report["expected"])
    );
}

#[test]
fn a_slow_primary_is_left_because_it_lets_requests_wait() {
    // With room below the time-out of 1 s, so that a busy machine does not make it that which ends the view.
    let slow = "0=slow_primary,delay_ms=600";
    let (code, report) = demo(&["--operations", "600", "--traitor", slow]);
    assert_eq!(code, 0, "{report}");
    assert_served(&report);
    let causes = report["view_change_causes"].as_array().unwrap();
    let named = |it: &Value| it["cause"].as_str().unwrap().contains("let requests wait");
    assert!(causes.iter().any(named), "{causes:?}");
    assert_eq!(report["evidence"], json!([]));
}

#[test]
fn forged_certificates_in_a_view_change_change_nothing() {
    let (code, report) = demo(&["--operations", "600", "--traitor", "0=vc_liar_forges"]);
    assert_eq!(code, 0, "{report}");
    assert_served(&report);
    assert!(report["view"].as_u64().unwrap() >= 1);
    // Nobody else is convicted for it.
    let others = report["evidence"].as_array().unwrap().iter().filter(|it| it["replica"] != 0);
    assert_eq!(others.count(), 0);
}

#[test]
fn a_donor_that_lies_is_blamed_and_the_state_fetched_from_others() {
    let (code, report) = demo(&["--traitor", "1=poisoned_donor"]);
    assert_eq!(code, 0, "{report}");
    assert_served(&report);
    let blamed = report["blamed_donors"].as_array().unwrap();
    assert!(blamed.iter().all(|donor| *donor == 1), "{blamed:?}");
}

/// INV15 on real nodes: what an honest replica holds under a flood stays within the bounds that
/// docs/traitors.md publishes, and does not grow with the flood.
#[test]
fn k8_floods_stay_within_the_published_memory() {
    // The bounds of all that a replica keeps, batches of the counter counted at 4 KiB each, and the process.
    let slots = 4 * 64;
    let kept = (64 << 20) + (64 << 20) + (16 << 20) + slots * (5 * 4096 + 8 * 160);
    let published = u64::try_from(kept).unwrap() + (64 << 20);
    for traitor in
        ["flooder,every_ms=1,burst=50", "vc_spammer,every_ms=1", "garbage_sender,every_ms=1"]
    {
        let mut cluster = Cluster::init(4);
        for id in 0..3 {
            cluster.start_replica(id);
        }
        cluster.start_replica_with(3, &["--traitor", traitor]);
        let early = cluster.load(1500, 8).report();
        assert_eq!(early["committed"], 1500, "{traitor}");
        let before = cluster.resident_bytes(1);
        let report = cluster.load(6000, 8).report();
        assert_eq!((&report["committed"], &report["unknown"]), (&6000.into(), &0.into()));
        let after = cluster.resident_bytes(1);
        println!("{traitor}: {} MiB, then {} MiB", before >> 20, after >> 20);
        assert!(after < published, "{traitor}: {after} bytes of {published}");
        // Four times the operations and the flood: replies and history fill their bounds, nothing else grows.
        assert!(after < before + (32 << 20), "{traitor}: from {before} to {after} bytes");
    }
}
