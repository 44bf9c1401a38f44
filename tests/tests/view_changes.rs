//! Faulty primaries and replicas left behind, as real processes under real load.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pbft_tests::history::History;
use pbft_tests::{Cluster, binary, code, stderr, stdout};
use serde_json::Value;

/// What a client waits before it asks everyone, then what a replica waits, then a second.
const ONE_VIEW_MS: u64 = 300 + 1000 + 1000;

fn counts(report: &Value) -> (u64, u64, u64) {
    let count = |field: &str| report[field].as_u64().unwrap();
    (count("committed"), count("unknown"), count("refused"))
}

fn assert_views(cluster: &Cluster, replicas: &[usize], view: u64, changes: u64) {
    let status = cluster.status();
    for id in replicas {
        let it = &status[*id];
        assert_eq!((&it["view"], &it["view_changes"]), (&view.into(), &changes.into()), "{it}");
        assert_eq!(it["evidence"], 0);
        assert!(!it["view_change_cause"].as_str().unwrap().is_empty());
    }
}

#[test]
fn the_primary_killed_under_load_costs_one_view_change_and_nothing_else() {
    let mut cluster = Cluster::start(4);
    let load = cluster.load(6000, 8);
    cluster.until_value(200);
    cluster.kill(0);
    let report = load.report();
    assert_eq!(counts(&report), (6000, 0, 0));
    let stall = report["longest_stall_ms"].as_u64().unwrap();
    assert!(stall <= ONE_VIEW_MS, "{stall} ms");
    assert_eq!(cluster.value(), 6000);
    assert_views(&cluster, &[1, 2, 3], 1, 1);
    cluster.until_agreed(&[1, 2, 3]);
    // Started again it has lost its memory-only store: it follows into the view, fetches the state, and
    // promises nothing.
    cluster.start_replica(0);
    cluster.until_agreed(&[0, 1, 2, 3]);
}

#[test]
fn the_primary_stopped_under_load_costs_one_view_change_and_comes_back_by_itself() {
    let cluster = Cluster::start(4);
    let load = cluster.load(6000, 8);
    cluster.until_value(200);
    cluster.signal(0, "-STOP");
    let report = load.report();
    assert_eq!(counts(&report), (6000, 0, 0));
    let stall = report["longest_stall_ms"].as_u64().unwrap();
    assert!(stall <= ONE_VIEW_MS, "{stall} ms");
    assert_eq!(cluster.value(), 6000);
    assert_views(&cluster, &[1, 2, 3], 1, 1);
    cluster.signal(0, "-CONT");
    cluster.until_agreed(&[0, 1, 2, 3]);
    assert_views(&cluster, &[0, 1, 2, 3], 1, 1);
}

/// SEEDS: linearizable through it all, by the real times of real clients.
#[test]
fn a_history_with_the_primary_killed_in_it_is_linearizable() {
    let mut cluster = Cluster::start(4);
    let out = cluster.path("history.jsonl");
    let mut history = Command::new(binary())
        .args(["history", &cluster.path("client-0"), "--concurrency", "4", "--seconds", "4"])
        .args(["--out", &out])
        .spawn()
        .unwrap();
    cluster.until_value(200);
    cluster.kill(0);
    assert!(history.wait().unwrap().success());
    History::read(Path::new(&out)).check(0, cluster.value()).unwrap();
    assert_views(&cluster, &[1, 2, 3], 1, 1);
}

#[test]
fn seven_replicas_survive_two_primaries_in_a_row() {
    let mut cluster = Cluster::start(7);
    let load = cluster.load(3000, 8);
    cluster.until_value(200);
    cluster.kill(1);
    cluster.kill(0);
    let report = load.report();
    assert_eq!(counts(&report), (3000, 0, 0));
    let stall = report["longest_stall_ms"].as_u64().unwrap();
    // The second view waits twice as long as the first.
    assert!(stall <= ONE_VIEW_MS + 2000, "{stall} ms");
    assert_eq!(cluster.value(), 3000);
    assert_views(&cluster, &[2, 3, 4, 5, 6], 2, 1);
    cluster.until_agreed(&[2, 3, 4, 5, 6]);
}

#[test]
fn a_replica_stopped_for_100_000_operations_catches_up_while_load_goes_on() {
    let cluster = Cluster::start(4);
    cluster.signal(3, "-STOP");
    let first = cluster.load(100_000, 256).report();
    assert_eq!(counts(&first), (100_000, 0, 0));
    let load = cluster.load(20_000, 8);
    cluster.until_value(100_100);
    let behind = cluster.status()[0]["last_executed"].as_u64().unwrap();
    cluster.signal(3, "-CONT");
    // It is past where the others were when it came back before the load has ended.
    let end = Instant::now() + Duration::from_secs(60);
    while cluster.status()[3]["last_executed"].as_u64().is_none_or(|slot| slot < behind) {
        assert!(Instant::now() < end, "it never caught up: {:?}", cluster.status());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(counts(&load.report()), (20_000, 0, 0));
    cluster.until_agreed(&[0, 1, 2, 3]);
    assert_eq!(cluster.value(), 120_000);
    assert_eq!(cluster.status()[0]["view_changes"], 0);
}

#[test]
fn with_f_plus_one_stopped_nothing_wrong_is_said_and_everything_recovers_without_a_restart() {
    let cluster = Cluster::start(4);
    assert_eq!(stdout(&cluster.client("add", &["1"])), "1");
    // The primary is one of them.
    cluster.signal(0, "-STOP");
    cluster.signal(3, "-STOP");
    let stuck = cluster.client("add", &["10", "--timeout", "3s"]);
    assert_eq!(code(&stuck), 3, "{}", stderr(&stuck));
    cluster.signal(0, "-CONT");
    cluster.signal(3, "-CONT");
    let again = cluster.client("add", &["100", "--timeout", "30s"]);
    assert_eq!(code(&again), 0, "{}", stderr(&again));
    let value: i64 = stdout(&again).parse().unwrap();
    assert!(value == 111 || value == 101, "{value}");
    cluster.until_agreed(&[0, 1, 2, 3]);
}
