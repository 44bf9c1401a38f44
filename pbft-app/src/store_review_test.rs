//! What a review found about stores as a whole.

use std::fs;

use pbft_core::cluster::ClusterConfig;
use pbft_core::crypto::Ed25519Signer;
use pbft_core::limits::Constants;
use pbft_core::types::ReplicaId;

use super::*;

fn cluster() -> Cluster {
    let key = |kind: u8, index: u8| Ed25519Signer::from_seed(&[kind + 10 * index; 32]).public();
    Cluster::new(ClusterConfig {
        name: "test".to_owned(),
        members: vec![key(1, 0)],
        clients: vec![key(2, 0)],
        constants: Constants::default(),
        development: true,
    })
    .unwrap()
}

/// The journal finds room for its count in its own file; the header, a new file, does not. Twice.
#[test]
fn h7_starts_refused_by_a_full_disk_lose_no_store() {
    let (directory, cluster) = (tempfile::tempdir().unwrap(), cluster());
    let path = directory.path();
    Store::create(path, &cluster, ReplicaId(0)).unwrap();
    Store::open(path, &cluster, ReplicaId(0)).unwrap().note_start().unwrap();
    // In its way, as a full disk would be.
    let obstacle = path.join("store.toml.new");
    fs::create_dir(&obstacle).unwrap();
    for _ in 0..2 {
        Store::open(path, &cluster, ReplicaId(0)).unwrap().note_start().unwrap_err();
    }
    fs::remove_dir(&obstacle).unwrap();
    let store = Store::open(path, &cluster, ReplicaId(0)).unwrap();
    assert_eq!(store.history(), History::Kept, "{:?}", store.remarks());
}

/// A store that is there is not touched by an attempt to make one.
#[test]
fn h10_to_make_a_store_where_one_is_changes_nothing() {
    let (directory, cluster) = (tempfile::tempdir().unwrap(), cluster());
    let path = directory.path();
    Store::create(path, &cluster, ReplicaId(0)).unwrap();
    for _ in 0..3 {
        Store::open(path, &cluster, ReplicaId(0)).unwrap().note_start().unwrap();
    }
    Store::create(path, &cluster, ReplicaId(0)).unwrap_err();
    let store = Store::open(path, &cluster, ReplicaId(0)).unwrap();
    assert_eq!(store.history(), History::Kept, "{:?}", store.remarks());
}
