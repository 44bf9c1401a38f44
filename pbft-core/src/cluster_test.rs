use alloc::string::ToString;
use alloc::vec;

use super::*;
use crate::types::PublicKey;

fn keys(count: usize, tag: u8) -> Vec<PublicKey> {
    (0..count)
        .map(|i| {
            PublicKey([[tag], [u8::try_from(i).unwrap()]].concat().repeat(16).try_into().unwrap())
        })
        .collect()
}

fn config(n: usize) -> ClusterConfig {
    ClusterConfig {
        name: "test".to_string(),
        members: keys(n, 1),
        clients: keys(2, 2),
        constants: Constants::default(),
        development: n < 4,
    }
}

/// The table of PITFALLS 2.6 and SEEDS M7.
#[test]
fn a1_quorum_table() {
    let rows = [
        (1, 0, 1),
        (4, 1, 3),
        (5, 1, 4),
        (6, 1, 4),
        (7, 2, 5),
        (8, 2, 6),
        (9, 2, 6),
        (10, 3, 7),
        (13, 4, 9),
    ];
    for (n, f, quorum) in rows {
        let cluster = Cluster::new(config(n)).unwrap();
        assert_eq!((cluster.f(), cluster.quorum(), cluster.join()), (f, quorum, f + 1), "n = {n}");
    }
}

/// Two quorums share a correct replica, and the correct replicas alone reach one.
#[test]
fn a1_quorums_intersect_in_a_correct_replica_for_every_n() {
    for n in 1..=MEMBERS_MAX {
        let small = Constants { checkpoint_interval: 2, window: 4, ..Constants::default() };
        let cluster = Cluster::new(ClusterConfig { constants: small, ..config(n) }).unwrap();
        let (f, quorum) = (cluster.f(), cluster.quorum());
        assert!(2 * quorum > n + f, "n = {n}: quorums meet in f replicas only");
        assert!(n - f >= quorum, "n = {n}: f silent replicas block progress");
    }
}

#[test]
fn a_window_whose_new_view_fits_no_frame_is_refused() {
    let error = Cluster::new(config(MEMBERS_MAX)).unwrap_err();
    assert_eq!((error.field.as_str(), error.value.as_str()), ("window", "64"));
    assert!(error.remedy.contains("smaller window"), "{error}");
}

/// Else a client with the last number of its window would stop every replica.
#[test]
fn windows_that_do_not_fit_the_pages_of_the_sessions_are_refused() {
    let clients = |count: usize| -> Vec<PublicKey> {
        (0..count)
            .map(|i| PublicKey([i.to_le_bytes(), [9; 8]].concat().repeat(2).try_into().unwrap()))
            .collect()
    };
    let constants = Constants { client_window: 4096, ..Constants::default() };
    let with = |count| ClusterConfig {
        clients: clients(count),
        constants: constants.clone(),
        ..config(4)
    };
    let error = Cluster::new(with(CLIENTS_MAX)).unwrap_err();
    assert_eq!((error.field.as_str(), error.value.as_str()), ("client_window", "4096"));
    Cluster::new(with(CLIENTS_MAX - 1)).unwrap();
}

#[test]
fn fewer_than_four_replicas_must_be_asked_for() {
    for n in 0..4 {
        let error = Cluster::new(ClusterConfig { development: false, ..config(n) }).unwrap_err();
        assert_eq!((error.field.as_str(), error.value), ("members", n.to_string()));
    }
    assert!(Cluster::new(ClusterConfig { development: true, ..config(0) }).is_err());
    assert!(Cluster::new(config(MEMBERS_MAX + 1)).is_err());
}

#[test]
fn i3_a_key_used_twice_is_refused_by_value() {
    let mut twice = config(4);
    twice.clients[1] = twice.members[2];
    let error = Cluster::new(twice.clone()).unwrap_err();
    assert_eq!((error.field.as_str(), error.value), ("signing_key", twice.members[2].to_hex()));
}

#[test]
fn every_part_of_the_configuration_changes_the_cluster_id() {
    let id = |config: ClusterConfig| Cluster::new(config).unwrap().id();
    let base = id(config(4));
    let mut variants = vec![config(5)];
    variants.push(ClusterConfig { name: "other".to_string(), ..config(4) });
    variants.push(ClusterConfig { clients: keys(1, 2), ..config(4) });
    let mut swapped = config(4);
    swapped.members.swap(0, 1);
    variants.push(swapped);
    let constants = [
        Constants { checkpoint_interval: 16, ..Constants::default() },
        Constants { window: 128, ..Constants::default() },
        Constants { client_window: 100, ..Constants::default() },
        Constants { batch_requests_max: 10, ..Constants::default() },
        Constants { batch_bytes_max: 1 << 20, ..Constants::default() },
        Constants { request_operations_max: 10, ..Constants::default() },
        Constants { operation_bytes_max: 10, ..Constants::default() },
        Constants { results_bytes_max: 20_000, ..Constants::default() },
    ];
    variants.extend(constants.map(|constants| ClusterConfig { constants, ..config(4) }));
    let mut ids: Vec<Digest> = variants.into_iter().map(id).collect();
    ids.push(base);
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[test]
fn the_primary_rotates() {
    let cluster = Cluster::new(config(4)).unwrap();
    let primaries: Vec<u32> = (0..6).map(|view| cluster.primary(View(view)).0).collect();
    assert_eq!(primaries, [0, 1, 2, 3, 0, 1]);
}
