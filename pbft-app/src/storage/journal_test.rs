use std::sync::Arc;

use pbft_core::certificate::{PreparedCertificate, Signatures, StableProof};
use pbft_core::message::{Batch, Checkpoint, NewView, ViewChange, Vote};
use pbft_core::types::{Signature, View, WallTime};

use super::super::FileMedium;
use super::super::faulty::Faulty;
use super::*;

const REPLICA: ReplicaId = ReplicaId(2);
const CLUSTER: Digest = Digest([7; 32]);

fn about() -> About {
    About { replica: REPLICA, cluster: CLUSTER, runs: 3 }
}

fn prepared(slot: u64) -> Record {
    let vote = Vote { view: View(1), sequence: Sequence(slot), digest: Digest([9; 32]) };
    let signature = Signature([7; 64]);
    let prepares = Signatures::new([(ReplicaId(0), signature), (ReplicaId(3), signature)]);
    let certificate = PreparedCertificate { vote, pre_prepare: signature, prepares };
    let batch = Some(Arc::new(Batch::new(WallTime(slot), Vec::new())));
    Record::Prepared { certificate, batch }
}

fn checkpoint(slot: u64) -> Checkpoint {
    Checkpoint { sequence: Sequence(slot), digest: Digest([1; 32]) }
}

fn stable(slot: u64) -> Record {
    let signatures = Signatures::new([(ReplicaId(0), Signature([3; 64]))]);
    Record::Stable(StableProof { checkpoint: checkpoint(slot), signatures })
}

fn view_change(view: u64) -> Record {
    Record::ViewChange(Arc::new(ViewChange { view: View(view), stable: None, prepared: vec![] }))
}

fn new_view(view: u64) -> Record {
    let new_view = Arc::new(NewView { view: View(view), changes: Vec::new() });
    Record::NewView { new_view, signature: None }
}

fn create(medium: &Arc<Faulty>) {
    Journal::create(path(), Arc::clone(medium) as Arc<dyn Medium>, &about(), &[]).unwrap();
}

fn path() -> &'static Path {
    Path::new("journal.redb")
}

fn open(medium: Arc<Faulty>) -> Result<(Journal, Vec<Record>), StorageError> {
    Journal::open(path(), medium, REPLICA, CLUSTER)
}

/// Groups of records as a replica writes them, with a discard now and then.
fn groups() -> Vec<(Vec<Record>, Option<u64>)> {
    vec![
        (vec![prepared(1), prepared(2)], None),
        (vec![prepared(3), view_change(4)], None),
        (vec![Record::Checkpoint(checkpoint(2)), stable(2)], None),
        (vec![prepared(4)], Some(2)),
        (vec![view_change(5), new_view(5), prepared(5)], None),
        (vec![stable(4), Record::Checkpoint(checkpoint(4))], None),
        (vec![new_view(6), prepared(6)], Some(4)),
    ]
}

/// Appends one group, numbered on from `id`.
fn give(journal: &mut Journal, id: &mut u64, records: Vec<Record>, discard: Option<u64>) {
    for record in records {
        *id += 1;
        journal.append(WriteId(*id), record);
    }
    if let Some(below) = discard {
        journal.discard(Sequence(below));
    }
}

/// Writes the groups until something fails; what was reported durable after each, and how it ended.
fn write(medium: &Arc<Faulty>) -> (usize, Result<(), StorageError>) {
    let mut journal = match open(Arc::clone(medium)) {
        Ok((journal, _)) => journal,
        Err(error) => return (0, Err(error)),
    };
    let mut done = 0;
    let mut id = 0;
    for (records, discard) in groups() {
        give(&mut journal, &mut id, records, discard);
        match journal.commit() {
            Ok(committed) => assert_eq!(committed.last, WriteId(id)),
            Err(error) => {
                // As a process that is gone: nothing is written on the way out.
                journal.guard().abandon();
                return (done, Err(error));
            }
        }
        done += 1;
    }
    journal.guard().abandon();
    (done, Ok(()))
}

/// What the journal is to hold after so many groups.
fn expected(groups_done: usize) -> Vec<Record> {
    let medium = Arc::new(Faulty::new());
    create(&medium);
    let (mut journal, _) = open(Arc::clone(&medium)).unwrap();
    for (records, discard) in groups().into_iter().take(groups_done) {
        records.into_iter().for_each(|record| journal.append(WriteId(1), record));
        if let Some(below) = discard {
            journal.discard(Sequence(below));
        }
        journal.commit().unwrap();
    }
    drop(journal);
    open(medium).unwrap().1
}

fn made() -> Vec<u8> {
    let medium = Arc::new(Faulty::new());
    create(&medium);
    medium.bytes()
}

#[test]
fn records_come_back_in_order_and_superseded_ones_do_not() {
    assert_eq!(
        expected(7),
        vec![prepared(5), stable(4), new_view(6), prepared(6)].into_iter().fold(
            vec![view_change(5)],
            |mut all, record| {
                all.push(record);
                all
            }
        )
    );
    assert_eq!(expected(2), vec![prepared(1), prepared(2), prepared(3), view_change(4)]);
    // The position goes on where it was, so that order survives many runs.
    let medium = Arc::new(Faulty::with(&made()));
    for slot in 1..4 {
        let (mut journal, records) = open(Arc::clone(&medium)).unwrap();
        assert_eq!(records.len() as u64, slot - 1);
        journal.append(WriteId(1), prepared(10 - slot));
        journal.commit().unwrap();
    }
    assert_eq!(open(medium).unwrap().1, vec![prepared(9), prepared(8), prepared(7)]);
}

#[test]
fn h1_nothing_is_there_before_it_is_committed() {
    let medium = Arc::new(Faulty::with(&made()));
    let (mut journal, _) = open(Arc::clone(&medium)).unwrap();
    journal.append(WriteId(1), prepared(1));
    let before = Arc::new(Faulty::with(&medium.after_power_cut(8)));
    assert_eq!(open(before).unwrap().1, vec![]);
    assert_eq!(journal.commit().unwrap(), Committed { last: WriteId(1), records: 1, bytes: 270 });
    let after = Arc::new(Faulty::with(&medium.after_power_cut(0)));
    assert_eq!(open(after).unwrap().1, vec![prepared(1)]);
}

#[test]
fn h10_of_another_replica_or_cluster_or_in_use_is_refused() {
    let bytes = made();
    let refused = |replica, cluster| {
        let medium = Arc::new(Faulty::with(&bytes));
        match Journal::open(path(), medium, replica, cluster) {
            Err(StorageError::Foreign { error, .. }) => error,
            opened => panic!("{opened:?}"),
        }
    };
    let error = refused(ReplicaId(1), CLUSTER);
    assert_eq!((&*error.field, &*error.value), ("replica", "2"));
    let error = refused(REPLICA, Digest([8; 32]));
    assert_eq!((&*error.field, &*error.value), ("cluster_id", &*CLUSTER.to_hex()));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.redb");
    let file = || FileMedium::open(&path).map(Arc::new);
    assert!(matches!(file(), Err(StorageError::Missing { .. })), "opened, never created");
    Journal::create(&path, Arc::new(FileMedium::create(&path).unwrap()), &about(), &[]).unwrap();
    let open = || Journal::open(&path, file()?, REPLICA, CLUSTER);
    let held = open().unwrap();
    assert!(matches!(open(), Err(StorageError::InUse { .. })));
    drop(held);
    open().unwrap();
}

#[test]
fn h5_a_power_cut_at_every_write_loses_nothing_that_was_reported() {
    let start = made();
    let medium = Arc::new(Faulty::with(&start));
    let (all, outcome) = write(&medium);
    outcome.unwrap();
    let steps = medium.steps();
    assert!(steps > 50, "{steps}");
    let states: Vec<_> = (0..=all).map(expected).collect();
    for step in 0..steps {
        let medium = Arc::new(Faulty::with(&start));
        medium.crash_at(step);
        let (done, _) = write(&medium);
        for seed in 0..9 {
            let cut = Arc::new(Faulty::with(&medium.after_power_cut(seed)));
            let (journal, records) = open(cut).unwrap_or_else(|error| {
                panic!("step {step} seed {seed}: {error}");
            });
            // What was reported, or that and the group that was under way, whole.
            let fits = states[done..].iter().take(2).any(|state| *state == records);
            assert!(fits, "step {step} seed {seed}: {done} groups reported, found {records:?}");
            assert_eq!(*journal.about(), about());
        }
    }
}

#[test]
fn h2_a_failed_fsync_is_fatal_and_never_taken_for_a_full_disk() {
    let start = made();
    let medium = Arc::new(Faulty::with(&start));
    write(&medium).1.unwrap();
    for step in 0..medium.steps() {
        let medium = Arc::new(Faulty::with(&start));
        medium.fail_sync_at(step);
        match write(&medium) {
            (_, Err(StorageError::Failed { operation, .. })) => {
                assert_eq!(operation, super::super::Operation::Sync);
            }
            (done, outcome) => panic!("step {step}: {outcome:?} after {done}"),
        }
    }
}

#[test]
fn h7_a_full_disk_loses_nothing_and_is_written_on_once_there_is_room() {
    let start = made();
    for room in (0..120_000).step_by(if cfg!(debug_assertions) { 997 } else { 101 }) {
        let medium = Arc::new(Faulty::with(&start));
        let (mut journal, _) = open(Arc::clone(&medium)).unwrap();
        medium.set_room(Some(room));
        let (mut id, mut was_full) = (0, false);
        for (records, discard) in groups() {
            give(&mut journal, &mut id, records, discard);
            match journal.commit() {
                Ok(committed) => assert_eq!(committed.last, WriteId(id)),
                Err(StorageError::Full { .. }) => {
                    was_full = true;
                    // Still full: still refused. Then somebody makes room.
                    medium.set_room(Some(room % 4096));
                    let again = journal.commit();
                    assert!(matches!(again, Ok(_) | Err(StorageError::Full { .. })), "{again:?}");
                    medium.set_room(None);
                    assert_eq!(journal.commit().unwrap().last, WriteId(id));
                }
                Err(error) => panic!("room {room}: {error}"),
            }
        }
        assert!(was_full || room > 20_000, "room {room}");
        journal.guard().abandon();
        let cut = Arc::new(Faulty::with(&medium.after_power_cut(0)));
        assert_eq!(open(cut).unwrap().1, expected(7), "room {room}");
    }
}

/// Equal records, or damaged by name. Never others, never a panic.
fn equal_or_damaged(bytes: &[u8], records: &[Record], what: &str) -> bool {
    match open(Arc::new(Faulty::with(bytes))) {
        Ok((journal, found)) => {
            assert_eq!(found, records, "{what}");
            assert_eq!(*journal.about(), about(), "{what}");
            true
        }
        Err(StorageError::Damaged { .. }) => false,
        Err(error) => panic!("{what}: {error}"),
    }
}

/// A journal as it is after a kill, and as it is after a clean end.
fn small() -> ([Vec<u8>; 2], Vec<Record>) {
    let killed = Arc::new(Faulty::with(&made()));
    write(&killed).1.unwrap();
    let closed = Arc::new(Faulty::with(&killed.bytes()));
    drop(open(Arc::clone(&closed)).unwrap());
    ([killed.bytes(), closed.bytes()], expected(7))
}

/// Every byte that is not zero, and the whole head of the file.
fn positions(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len()).filter(|at| *at < 512 || bytes[*at] != 0).collect()
}

fn flip(every: usize) {
    let (journals, records) = small();
    for (bytes, state) in journals.iter().zip(["killed", "closed"]) {
        let (mut whole, mut damaged) = (0, 0);
        let head = |at: &usize| *at < 64;
        let positions = positions(bytes);
        let chosen = positions.iter().enumerate().filter(|(n, at)| n % every == 0 || head(at));
        for (_, &at) in chosen {
            for bit in if at < 64 { 0..8 } else { at % 8..at % 8 + 1 } {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let what = format!("{state}, byte {at}, bit {bit}");
                let equal = equal_or_damaged(&flipped, &records, &what);
                *(if equal { &mut whole } else { &mut damaged }) += 1;
            }
            let mut flipped = bytes.clone();
            flipped[at] = !flipped[at];
            equal_or_damaged(&flipped, &records, &format!("{state}, byte {at} inverted"));
        }
        println!("{state}: {whole} starts as before, {damaged} damaged");
        assert!(damaged > 20 && whole > 0, "{state}: {whole} {damaged}");
    }
}

#[test]
fn h4_a_flipped_bit_is_found_or_changes_nothing() {
    flip(53);
}

#[test]
#[ignore = "every byte: cargo test --release -p pbft-app h4_every -- --ignored"]
fn h4_every_flipped_byte_is_found_or_changes_nothing() {
    flip(1);
}

fn cut(every: usize) {
    let (journals, records) = small();
    for (bytes, state) in journals.iter().zip(["killed", "closed"]) {
        for length in (0..bytes.len()).filter(|at| at % every == 0 || at % 4096 < 2) {
            equal_or_damaged(&bytes[..length], &records, &format!("{state}, cut to {length}"));
        }
    }
}

#[test]
fn h9_a_journal_cut_off_anywhere_is_found() {
    cut(997);
}

#[test]
#[ignore = "every length: cargo test --release -p pbft-app h9_every -- --ignored"]
fn h9_every_length_is_found() {
    cut(1);
}

#[test]
fn h4_the_byte_that_says_which_commit_is_the_last_takes_none_back() {
    let ([killed, closed], records) = small();
    for bytes in [killed, closed] {
        let mut turned = bytes.clone();
        turned[9] ^= 1;
        assert!(equal_or_damaged(&turned, &records, "turned"), "rolled forward");
    }
}

#[test]
fn the_file_stays_bounded_however_long_it_is_written() {
    let medium = Arc::new(Faulty::new());
    create(&medium);
    let (mut journal, _) = open(Arc::clone(&medium)).unwrap();
    let mut longest = 0;
    for slot in 1..2000 {
        journal.append(WriteId(slot), prepared(slot));
        if slot % 32 == 0 {
            journal.append(WriteId(slot), stable(slot));
        }
        journal.commit().unwrap();
        if slot % 32 == 0 {
            journal.discard(Sequence(slot));
        }
        if slot > 200 {
            longest = longest.max(medium.bytes().len());
        }
    }
    assert!(longest < 1 << 20, "{longest}");
    drop(journal);
    assert_eq!(open(medium).unwrap().1.len(), 1 + 1999 % 32 + 32 - 32);
}
