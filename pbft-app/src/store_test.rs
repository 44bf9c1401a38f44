use pbft_core::certificate::{Signatures, StableProof};
use pbft_core::cluster::ClusterConfig;
use pbft_core::limits::Constants;
use pbft_core::message::Checkpoint;
use pbft_core::types::{PublicKey, WriteId};

use super::*;
use crate::storage::Storage;

const REPLICA: ReplicaId = ReplicaId(0);

fn cluster(name: &str) -> Cluster {
    let config = ClusterConfig {
        name: name.to_owned(),
        members: vec![PublicKey([1; 32])],
        clients: Vec::new(),
        constants: Constants::default(),
        development: true,
    };
    Cluster::new(config).unwrap()
}

fn made() -> (tempfile::TempDir, Cluster) {
    let (directory, cluster) = (tempfile::tempdir().unwrap(), cluster("test"));
    Store::create(directory.path(), &cluster, REPLICA).unwrap();
    (directory, cluster)
}

fn stable(slot: u64) -> Record {
    let checkpoint = Checkpoint { sequence: Sequence(slot), digest: Digest([1; 32]) };
    Record::Stable(StableProof { checkpoint, signatures: Signatures::default() })
}

/// One run of the replica: starts it, writes a record, ends.
fn run(path: &Path, cluster: &Cluster, slot: u64) -> History {
    let mut store = Store::open(path, cluster, REPLICA).unwrap();
    let history = store.history();
    store.note_start().unwrap();
    let Kind::Disk(disk) = &mut store.kind else { panic!("on the disk") };
    disk.journal.append(WriteId(1), stable(slot));
    disk.journal.commit().unwrap();
    history
}

fn records(path: &Path, cluster: &Cluster) -> Vec<Record> {
    let store = Store::open(path, cluster, REPLICA).unwrap();
    match store.kind {
        Kind::Disk(disk) => disk.records,
        Kind::Memory(_) => Vec::new(),
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn aside(path: &Path) -> Vec<u64> {
    let mut numbers: Vec<u64> = set_aside(path).unwrap().into_iter().map(|(n, _)| n).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn what_was_promised_in_one_run_is_known_in_the_next() {
    let (directory, cluster) = made();
    assert_eq!(run(directory.path(), &cluster, 1), History::Fresh);
    assert_eq!(records(directory.path(), &cluster), vec![stable(1)]);
    assert_eq!(run(directory.path(), &cluster, 2), History::Kept);
    assert_eq!(records(directory.path(), &cluster), vec![stable(2)]);
}

#[test]
fn a_start_that_is_refused_counts_for_nothing() {
    let (directory, cluster) = made();
    for _ in 0..3 {
        let store = Store::open(directory.path(), &cluster, REPLICA).unwrap();
        assert_eq!(store.history(), History::Fresh);
    }
}

#[test]
fn a_crash_between_the_two_counts_loses_nothing() {
    let (directory, cluster) = made();
    run(directory.path(), &cluster, 1);
    let mut store = Store::open(directory.path(), &cluster, REPLICA).unwrap();
    let Kind::Disk(disk) = &mut store.kind else { panic!("on the disk") };
    disk.journal.raise_runs().unwrap();
    drop(store);
    assert_eq!(run(directory.path(), &cluster, 2), History::Kept);
    assert_eq!(run(directory.path(), &cluster, 3), History::Kept);
}

#[test]
fn g10_yesterdays_backup_is_a_lost_store() {
    let (directory, cluster) = made();
    let (data, backup) = (directory.path().join(DATA), directory.path().join("backup"));
    run(directory.path(), &cluster, 1);
    copy(&data, &backup);
    run(directory.path(), &cluster, 2);
    fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    let store = Store::open(directory.path(), &cluster, REPLICA).unwrap();
    assert_eq!(store.history(), History::Lost);
    assert!(store.remarks()[0].contains("was in use for 1 starts"), "{:?}", store.remarks());
    assert!(store.remarks()[1].contains("data-damaged-1"), "{:?}", store.remarks());
    drop(store);
    // It stays lost, whatever happens to the runs after it.
    assert_eq!(run(directory.path(), &cluster, 9), History::Lost);
    assert_eq!(run(directory.path(), &cluster, 9), History::Lost);
    assert_eq!(aside(directory.path()), vec![1]);
}

#[test]
fn g10_a_run_with_memory_in_between_is_a_lost_store() {
    let (directory, cluster) = made();
    let header = HeaderFile::open(directory.path(), REPLICA, cluster.id()).unwrap();
    run(directory.path(), &cluster, 1);
    Store::in_memory(History::Lost, Some(header)).note_start().unwrap();
    assert_eq!(run(directory.path(), &cluster, 2), History::Lost);
}

#[test]
fn g10_a_store_that_is_gone_is_lost_even_before_the_first_start() {
    let (directory, cluster) = made();
    fs::remove_dir_all(directory.path().join(DATA)).unwrap();
    assert_eq!(run(directory.path(), &cluster, 1), History::Lost);
    assert_eq!(run(directory.path(), &cluster, 1), History::Lost);
}

#[test]
fn h8_a_crash_while_a_lost_store_is_replaced_leaves_it_lost() {
    let (directory, cluster) = made();
    run(directory.path(), &cluster, 1);
    let data = directory.path().join(DATA);
    // Set aside, and the new one half made.
    fs::rename(&data, directory.path().join("data-damaged-1")).unwrap();
    fs::create_dir(directory.path().join(FRESH)).unwrap();
    fs::write(directory.path().join(FRESH).join(JOURNAL), b"half").unwrap();
    assert_eq!(run(directory.path(), &cluster, 1), History::Lost);
    assert!(!directory.path().join(FRESH).exists());
}

#[test]
fn only_the_newest_damaged_store_is_kept() {
    let (directory, cluster) = made();
    for round in 1..4 {
        run(directory.path(), &cluster, 1);
        let path = directory.path().join(DATA).join(JOURNAL);
        let mut bytes = fs::read(&path).unwrap();
        // In both commit slots of the file's head.
        bytes[70] ^= 1;
        bytes[198] ^= 1;
        fs::write(&path, bytes).unwrap();
        let store = Store::open(directory.path(), &cluster, REPLICA).unwrap();
        assert_eq!(store.history(), History::Lost, "round {round}");
        assert!(store.remarks()[0].contains("damaged"), "{:?}", store.remarks());
        assert_eq!(aside(directory.path()), vec![round]);
    }
}

#[test]
fn h10_the_store_of_another_cluster_is_refused_and_stays_where_it_is() {
    let (directory, cluster) = made();
    let (other_directory, other) = (tempfile::tempdir().unwrap(), self::cluster("other"));
    Store::create(other_directory.path(), &other, REPLICA).unwrap();
    fs::remove_dir_all(directory.path().join(DATA)).unwrap();
    copy(&other_directory.path().join(DATA), &directory.path().join(DATA));
    match Store::open(directory.path(), &cluster, REPLICA) {
        Err(ConfigurationError::Store(StorageError::Foreign { error, .. })) => {
            assert_eq!(error.field, "cluster_id");
        }
        opened => panic!("{opened:?}"),
    }
    assert_eq!(aside(directory.path()), Vec::<u64>::new());
}

#[test]
fn damaged_snapshots_are_set_aside_and_no_promise_is_lost() {
    let (directory, cluster) = made();
    run(directory.path(), &cluster, 1);
    let path = directory.path().join(DATA).join(SNAPSHOTS);
    for damage in ["", "no database"] {
        fs::write(&path, damage).unwrap();
        let store = Store::open(directory.path(), &cluster, REPLICA).unwrap();
        assert_eq!(store.history(), History::Kept);
        assert!(store.remarks()[0].contains("the state is fetched"), "{:?}", store.remarks());
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(run(directory.path(), &cluster, 2), History::Kept);
}
