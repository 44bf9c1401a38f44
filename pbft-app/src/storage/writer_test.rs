use pbft_core::message::Checkpoint;
use pbft_core::types::Digest;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::super::faulty::Faulty;
use super::super::{About, Medium};
use super::*;

fn start(
    medium: &Arc<Faulty>,
) -> (Writer, UnboundedReceiver<Event>, watch::Receiver<StorageMetrics>) {
    let (replica, cluster) = (ReplicaId(1), Digest([1; 32]));
    let path = std::path::Path::new("journal.redb");
    let file = || Arc::clone(medium) as Arc<dyn Medium>;
    if medium.is_empty().unwrap() {
        let about = About { replica, cluster, runs: 0 };
        Journal::create(path, file(), &about, &[]).unwrap();
    }
    let (journal, _) = Journal::open(path, file(), replica, cluster).unwrap();
    let ((events, incoming), (publish, metrics)) =
        (unbounded_channel(), watch::channel(StorageMetrics::default()));
    (Writer::start(replica, journal, events, publish).unwrap(), incoming, metrics)
}

fn record(slot: u64) -> Record {
    Record::Checkpoint(Checkpoint { sequence: Sequence(slot), digest: Digest([2; 32]) })
}

fn durable(event: Option<Event>) -> (u64, u64) {
    match event {
        Some(Event::Durable { run, id }) => (run, id.0),
        Some(Event::Failed(error)) => panic!("{error}"),
        _ => panic!("nothing"),
    }
}

#[test]
fn everything_that_waits_goes_into_one_commit() {
    let medium = Arc::new(Faulty::new());
    let (writer, mut events, metrics) = start(&medium);
    for id in 1..=200 {
        writer.append(4, WriteId(id), record(id));
    }
    let mut commits = 0;
    loop {
        commits += 1;
        let (run, id) = durable(events.blocking_recv());
        assert_eq!(run, 4);
        if id == 200 {
            break;
        }
    }
    let seen = *metrics.borrow();
    assert_eq!((seen.commits, seen.records, seen.full), (commits, 200, false));
    assert!(commits < 100, "{commits} commits for 200 records");
    assert!(seen.syncs >= 2 * commits && seen.bytes > 200 * 40, "{seen:?}");
    writer.discard(Sequence(150));
    writer.append(4, WriteId(201), record(201));
    assert_eq!(durable(events.blocking_recv()), (4, 201));
    drop(writer);
    // It is closed when the handle is gone, and what it holds is what was reported.
    let file = Arc::clone(&medium) as Arc<dyn Medium>;
    let path = std::path::Path::new("journal.redb");
    let (_, records) = Journal::open(path, file, ReplicaId(1), Digest([1; 32])).unwrap();
    assert_eq!(records.len(), 51);
}

#[test]
fn h7_a_full_disk_holds_everything_back_and_goes_on_by_itself() {
    let medium = Arc::new(Faulty::new());
    let (writer, mut events, metrics) = start(&medium);
    medium.set_room(Some(100));
    writer.append(0, WriteId(1), record(1));
    writer.append(0, WriteId(2), record(2));
    let end = Clock::now() + Duration::from_secs(20);
    while !metrics.borrow().full {
        assert!(Clock::now() < end, "nobody says that the disk is full");
        std::thread::yield_now();
    }
    assert!(events.try_recv().is_err(), "nothing is durable, so nothing is voted on");
    writer.append(0, WriteId(3), record(3));
    medium.set_room(None);
    while durable(events.blocking_recv()).1 < 3 {}
    assert!(!metrics.borrow().full);
}

#[test]
fn h2_a_failed_fsync_is_reported_once_and_nothing_after_it() {
    let medium = Arc::new(Faulty::new());
    let (writer, mut events, _metrics) = start(&medium);
    medium.fail_sync_at(medium.steps());
    writer.append(0, WriteId(1), record(1));
    match events.blocking_recv() {
        Some(Event::Failed(NodeError::Storage(StorageError::Failed { operation, .. }))) => {
            assert_eq!(operation, super::super::Operation::Sync);
        }
        _ => panic!("it is fatal"),
    }
    writer.append(0, WriteId(2), record(2));
    assert!(events.blocking_recv().is_none(), "the thread has ended");
}

#[test]
fn an_abandoned_journal_is_left_as_it_was() {
    let medium = Arc::new(Faulty::new());
    let (writer, _events, _metrics) = start(&medium);
    let before = medium.bytes();
    writer.abandon();
    writer.append(0, WriteId(1), record(1));
    drop(writer);
    assert_eq!(medium.bytes(), before);
}
