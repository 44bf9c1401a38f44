//! The counter as real processes over QUIC on loopback, driven only through its command line.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pbft_tests::history::History;
use pbft_tests::{Cluster, binary, code, counter, stderr, stdout};
use serde_json::Value;

#[test]
fn four_processes_serve_every_command() {
    let mut cluster = Cluster::start(4);
    assert_eq!(stdout(&cluster.client("add", &["5"])), "5");
    assert_eq!(stdout(&cluster.client("add", &["-7"])), "-2");
    assert_eq!(cluster.value(), -2);

    let load = cluster.client("load", &["--operations", "300", "--concurrency", "16", "--json"]);
    assert_eq!(code(&load), 0, "{}", stderr(&load));
    let report: Value = serde_json::from_str(&stdout(&load)).unwrap();
    assert_eq!((report["committed"].as_u64(), report["unknown"].as_u64()), (Some(300), Some(0)));
    assert_eq!(cluster.value(), 298);

    let overflow = cluster.client("add", &[&i64::MAX.to_string()]);
    assert_eq!(code(&overflow), 1);
    assert!(stderr(&overflow).contains("overflows"), "{}", stderr(&overflow));

    let out = cluster.path("history.jsonl");
    let history =
        cluster.client("history", &["--concurrency", "4", "--seconds", "1", "--out", &out]);
    assert_eq!(code(&history), 0, "{}", stderr(&history));
    History::read(Path::new(&out)).check(298, cluster.value()).unwrap();

    cluster.until_agreed(&[0, 1, 2, 3]);
    for replica in cluster.status() {
        assert_eq!(replica["reachable"], true);
        assert_eq!((replica["view"].as_u64(), replica["evidence"].as_u64()), (Some(0), Some(0)));
    }
    for id in 0..4 {
        cluster.signal(id, "-TERM");
        let status = cluster.replicas[id].as_mut().unwrap().wait().unwrap();
        assert_eq!(status.code(), Some(0));
        cluster.replicas[id] = None;
    }
    let status = cluster.status();
    assert!(status.iter().all(|it| it["reachable"] == false && it["view"].is_null()));
}

#[test]
fn one_backup_killed_under_load_costs_nothing_but_its_own_reply() {
    let mut cluster = Cluster::start(4);
    let mut load = Command::new(binary())
        .args(["load", &cluster.path("client-0"), "--operations", "3000", "--concurrency", "8"])
        .arg("--json")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Under load means under load: the counter moves before the kill. Another client looks.
    let moved = || {
        let output = counter(&["get", &cluster.path("client-1")]);
        stdout(&output).parse::<i64>().unwrap_or(0) > 0
    };
    while !moved() {}
    cluster.replicas[3].as_mut().unwrap().kill().unwrap();
    let mut text = String::new();
    BufReader::new(load.stdout.take().unwrap()).read_line(&mut text).unwrap();
    assert_eq!(load.wait().unwrap().code(), Some(0));
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((report["committed"].as_u64(), report["unknown"].as_u64()), (Some(3000), Some(0)));
    assert_eq!(cluster.value(), 3000);
    cluster.until_agreed(&[0, 1, 2]);

    // Started again it has lost its memory-only store: it takes part without voting, and harms nobody.
    cluster.replicas[3].as_mut().unwrap().wait().unwrap();
    cluster.start_replica(3);
    assert_eq!(stdout(&cluster.client("add", &["1"])), "3001");
}

#[test]
fn with_two_of_four_paused_outcomes_are_unknown_in_time_and_service_returns_with_one() {
    let cluster = Cluster::start(4);
    assert_eq!(stdout(&cluster.client("add", &["1"])), "1");
    cluster.signal(2, "-STOP");
    cluster.signal(3, "-STOP");
    let since = Instant::now();
    let stuck = cluster.client("add", &["10", "--timeout", "1s"]);
    assert_eq!(code(&stuck), 3, "{}", stderr(&stuck));
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    assert!(stderr(&stuck).contains("unknown"), "{}", stderr(&stuck));
    cluster.signal(3, "-CONT");
    let again = cluster.client("add", &["100", "--timeout", "20s"]);
    assert_eq!(code(&again), 0, "{}", stderr(&again));
    // What was unknown happened once or not at all.
    let value: i64 = stdout(&again).parse().unwrap();
    assert!(value == 111 || value == 101, "{value}");
    cluster.signal(2, "-CONT");
    cluster.until_agreed(&[0, 1, 2, 3]);
    assert!([111, 101].contains(&cluster.value()));
}

#[test]
fn demo_ends_in_agreement_for_several_sizes() {
    for n in ["4", "7", "10"] {
        let output =
            counter(&["demo", "--replicas", n, "--operations", "200", "--seed", "1", "--json"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(report["agreement"], true);
        assert_eq!(
            (report["committed"].as_u64(), report["view_changes"].as_u64()),
            (Some(200), Some(0))
        );
        assert_eq!(report["value"].as_i64(), Some(20 * 55));
    }
}

/// Runs a command that must be refused as a configuration error, and returns what it says.
fn refused(arguments: &[&str]) -> String {
    let output = counter(arguments);
    assert_eq!(code(&output), 2, "{arguments:?}: {}", stderr(&output));
    assert!(stdout(&output).is_empty());
    stderr(&output)
}

fn edit(path: &str, change: impl FnOnce(String) -> String) {
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, change(text)).unwrap();
}

#[test]
fn what_is_misconfigured_is_refused_at_start_with_field_value_and_remedy() {
    let cluster = Cluster::init(4);
    let file = cluster.path("cluster.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    let (replica, client) = (cluster.path("replica-0"), cluster.path("client-0"));

    let exists = refused(&["init", cluster.directory.path().to_str().unwrap()]);
    assert!(exists.contains("exists already"), "{exists}");
    for n in ["0", "3"] {
        let directory = cluster.path(&format!("small-{n}"));
        let few = refused(&["init", &directory, "--replicas", n]);
        assert!(few.contains(&format!("members = {n}")), "{few}");
        assert!(!Path::new(&directory).exists());
    }
    refused(&["init", &cluster.path("ports"), "--base-port", "65535"]);
    refused(&["add", &client, "many"]);
    refused(&["get", &client, "--timeout", "soon"]);
    refused(&["no-such-command"]);

    type Change = fn(String) -> String;
    let cases: [(&str, Change, &str); 6] = [
        ("an unknown field", |text| text.replace("name =", "nmae ="), "nmae"),
        ("a cut file", |text| text[..text.rfind("[[client]]").unwrap()].to_owned(), "cluster_id"),
        ("a changed constant", |text| text.replace("window = 64", "window = 128"), "cluster_id"),
        ("a window too small", |text| text.replace("window = 64", "window = 63"), "twice"),
        ("a time-out of nothing", |text| text.replace("\"200ms\"", "\"0ms\""), "status_interval"),
        (
            "a weak key",
            |text| {
                let key = text.split("signing_key = \"").nth(1).unwrap()[..64].to_owned();
                text.replace(&key, &format!("01{}", "0".repeat(62)))
            },
            "weak",
        ),
    ];
    for (what, change, names) in cases {
        edit(&file, change);
        for arguments in [["replica", &replica], ["get", &client]] {
            let said = refused(&arguments);
            assert!(said.contains(names), "{what}: {said}");
        }
        std::fs::write(&file, &good).unwrap();
    }
    let (first, second) = (format!("{replica}/signing.pem"), cluster.path("replica-1/signing.pem"));
    std::fs::copy(&second, &first).unwrap();
    let said = refused(&["replica", &replica]);
    assert!(said.contains("tls_key"), "the key of another replica: {said}");
    std::fs::remove_file(&first).unwrap();
    let said = refused(&["replica", &replica]);
    assert!(said.contains("signing.pem"), "a missing key: {said}");
}

#[test]
fn ports_and_directories_in_use_are_refused() {
    let mut cluster = Cluster::init(4);
    cluster.start_replica(0);
    let said = refused(&["replica", &cluster.path("replica-0")]);
    assert!(said.contains("in use by another process"), "{said}");
    let text = std::fs::read_to_string(cluster.path("cluster.toml")).unwrap();
    let address = text.split("peer_address = \"").nth(2).unwrap().split('"').next().unwrap();
    let _taken = UdpSocket::bind(address).unwrap();
    let said = refused(&["replica", &cluster.path("replica-1")]);
    assert!(said.contains(address) && said.contains("in use"), "{said}");

    // No quorum: the first client waits, the second finds the directory locked; status is let in.
    let client = cluster.path("client-0");
    let mut waiting = Command::new(binary())
        .args(["get", &client, "--timeout", "3s"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The number is written once the lock is held.
    let end = Instant::now() + Duration::from_secs(2);
    let number = Path::new(&client).join("number");
    while !number.metadata().is_ok_and(|it| it.len() > 0) {
        assert!(Instant::now() < end, "never locked");
    }
    let said = refused(&["get", &client]);
    assert!(said.contains("in use by another process"), "{said}");
    assert_eq!(cluster.status()[0]["reachable"], true);
    assert_eq!(waiting.wait().unwrap().code(), Some(3));
}
