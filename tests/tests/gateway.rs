//! A gateway and its users as real processes over QUIC on loopback, driven only through their command line.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pbft_tests::{Cluster, Gateway, binary, code, counter, stderr, stdout};
use serde_json::Value;

#[test]
fn users_add_get_and_load_through_a_gateway_and_the_sum_is_right() {
    let cluster = Cluster::start_with_users(4, 8);
    let mut gateway = Gateway::start(&cluster);
    let (first, second) = (cluster.path("user-0"), cluster.path("user-1"));
    assert_eq!(stdout(&counter(&["add", &first, "5"])), "5");
    assert_eq!(stdout(&counter(&["add", &second, "-7"])), "-2");
    assert_eq!(stdout(&counter(&["get", &first])), "-2");
    let users: Vec<String> = (0..8).map(|id| cluster.path(&format!("user-{id}"))).collect();
    let mut arguments = vec!["load"];
    arguments.extend(users.iter().map(String::as_str));
    arguments.extend(["--operations", "300", "--concurrency", "2", "--json"]);
    let load = counter(&arguments);
    assert_eq!(code(&load), 0, "{}", stderr(&load));
    let report: Value = serde_json::from_str(&stdout(&load)).unwrap();
    assert_eq!((report["committed"].as_u64(), report["unknown"].as_u64()), (Some(300), Some(0)));
    // The direct path beside it, and a refusal of the application through the gateway.
    assert_eq!(cluster.value(), 298);
    let overflow = counter(&["add", &first, &i64::MAX.to_string()]);
    assert_eq!(code(&overflow), 1);
    assert!(stderr(&overflow).contains("overflows"), "{}", stderr(&overflow));

    // Two gateways with one key would use the same numbers.
    let twice = counter(&["gateway", &cluster.path("gateway")]);
    assert_eq!(code(&twice), 2);
    assert!(stderr(&twice).contains("in use by another process"), "{}", stderr(&twice));
    gateway.signal("-TERM");
    assert_eq!(gateway.wait(), Some(0));

    let gone = counter(&["add", &first, "1", "--timeout", "500ms"]);
    assert_eq!(code(&gone), 1, "{}", stderr(&gone));
    assert!(stderr(&gone).contains("not sent: no connection"), "{}", stderr(&gone));
    assert_eq!(cluster.value(), 298);
}

#[test]
fn a_gateway_killed_in_the_middle_leaves_the_outcome_unknown_and_is_there_again() {
    let cluster = Cluster::start_with_users(4, 1);
    let mut gateway = Gateway::start(&cluster);
    let user = cluster.path("user-0");
    assert_eq!(stdout(&counter(&["add", &user, "1"])), "1");
    // Without a quorum what is sent stays under way.
    for id in [2, 3] {
        cluster.signal(id, "-STOP");
    }
    let add = Command::new(binary())
        .args(["add", &user, "10", "--timeout", "60s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The gateway has it once a backup that runs waits in vain for a request to be executed.
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let backup = &cluster.status()[1];
        if backup["in_view_change"] == true || backup["view"].as_u64() > Some(0) {
            break;
        }
        assert!(Instant::now() < end, "the request never came to a replica: {backup}");
    }
    gateway.kill();
    let output = add.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("unknown"), "{}", stderr(&output));
    for id in [2, 3] {
        cluster.signal(id, "-CONT");
    }
    let _gateway = Gateway::start(&cluster);
    let again = counter(&["add", &user, "100", "--timeout", "30s"]);
    assert_eq!(code(&again), 0, "{}", stderr(&again));
    // What was unknown happened once or not at all.
    let value: i64 = stdout(&again).parse().unwrap();
    assert!(value == 111 || value == 101, "{value}");
}

#[test]
fn what_is_misconfigured_is_refused_with_file_and_remedy() {
    let cluster = Cluster::init_with_users(4, 2);
    let none = counter(&["gateway", &cluster.path("client-0")]);
    assert_eq!(code(&none), 2);
    assert!(stderr(&none).contains("users.toml is missing"), "{}", stderr(&none));
    let user = format!("{}/user.toml", cluster.path("user-0"));
    let text = std::fs::read_to_string(&user).unwrap();
    std::fs::write(&user, text.replace("gateway_key = \"", "gateway_key = \"x")).unwrap();
    let bad = counter(&["get", &cluster.path("user-0")]);
    assert_eq!(code(&bad), 2);
    let said = stderr(&bad);
    assert!(said.contains("user.toml: gateway_key = x") && said.contains("64 hex"), "{said}");
}
