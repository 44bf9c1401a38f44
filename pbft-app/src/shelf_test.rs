use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use pbft_core::cluster::{Cluster, ClusterConfig};
use pbft_core::limits::Constants;
use pbft_core::pages::Pages;
use pbft_core::replica::Input;
use pbft_core::state::Frozen;
use pbft_core::types::{Instant, PublicKey};

use super::*;
use crate::storage::faulty::Faulty;
use crate::storage::{Loaded, Medium};

fn cluster() -> Arc<Cluster> {
    let config = ClusterConfig {
        name: "test".to_owned(),
        members: vec![PublicKey([1; 32])],
        clients: Vec::new(),
        constants: Constants::default(),
        development: true,
    };
    Arc::new(Cluster::new(config).unwrap())
}

/// A replica's archive and shelf, and a state of four pages that it executes.
struct Rig {
    medium: Arc<Faulty>,
    cluster: Arc<Cluster>,
    archive: Archive,
    shelf: Shelf,
    pages: Pages,
}

fn open(medium: &Arc<Faulty>, cluster: &Cluster) -> (Snapshots, Loaded) {
    let file = Arc::clone(medium) as Arc<dyn Medium>;
    Snapshots::open(Path::new("snapshots.redb"), file, cluster).unwrap()
}

impl Rig {
    fn new() -> Self {
        let medium = Arc::new(Faulty::new());
        let file = Arc::clone(&medium) as Arc<dyn Medium>;
        Snapshots::create(Path::new("snapshots.redb"), file).unwrap();
        Rig::on(medium, 0)
    }

    /// As after a restart with the checkpoint at `stable` stable.
    fn on(medium: Arc<Faulty>, stable: u64) -> Self {
        let cluster = cluster();
        let (snapshots, loaded) = open(&medium, &cluster);
        let mut archive = Archive::new(Arc::clone(&cluster));
        loaded.into_iter().for_each(|snapshot| archive.install(snapshot));
        archive.stable(Sequence(stable), Instant(0));
        let latest = archive.latest_stable().cloned();
        archive.resume(latest.clone().unwrap_or_default());
        let base = latest.as_ref().map(|latest| latest.sequence);
        let pages = latest.unwrap_or_default().application.to_pages();
        let shelf = Shelf::new(ReplicaId(0), Some(snapshots), base, Changed::default());
        Rig { medium, cluster, archive, shelf, pages }
    }

    fn frozen(&mut self, sequence: u64) -> Frozen {
        let bytes = Bytes::from(vec![u8::try_from(sequence).unwrap(); 50]);
        self.pages.write(usize::try_from(sequence % 4).unwrap(), bytes).unwrap();
        let sessions = Pages::new().take_changes();
        Frozen { sequence: Sequence(sequence), sessions, application: self.pages.take_changes() }
    }

    /// A status report between two checkpoints.
    fn report(&mut self, sequence: u64) {
        let frozen = self.frozen(sequence);
        self.shelf.note(&frozen.sessions, &frozen.application);
        self.archive.apply(frozen);
    }

    fn checkpoint(&mut self, sequence: u64) {
        let frozen = self.frozen(sequence);
        self.shelf.note(&frozen.sessions, &frozen.application);
        let digest = self.archive.apply(frozen);
        self.archive.keep();
        let sequence = Sequence(sequence);
        let report = Event::Input(Input::Snapshotted { sequence, digest });
        self.shelf.checkpoint(&self.archive, digest, report);
    }

    /// The slots whose snapshots are reported now.
    fn reported(&mut self) -> Vec<u64> {
        let reports = self.shelf.work(&self.archive).unwrap();
        let slot = |report| match report {
            Event::Input(
                Input::Snapshotted { sequence, .. } | Input::Restored { sequence, .. },
            ) => sequence.0,
            _ => panic!("another report"),
        };
        reports.into_iter().map(slot).collect()
    }

    /// What is on the disk if the power goes now, each with the digest of its pages.
    fn stored(&self) -> Vec<(u64, Digest)> {
        let cut = Arc::new(Faulty::with(&self.medium.after_power_cut(0)));
        let (_, loaded) = open(&cut, &self.cluster);
        loaded.iter().map(|it| (it.sequence.0, it.digest(&self.cluster))).collect()
    }

    fn kept(&self) -> Vec<(u64, Digest)> {
        let snapshots = self.archive.snapshots();
        snapshots.map(|it| (it.sequence.0, it.digest(&self.cluster))).collect()
    }
}

#[test]
fn h1_a_checkpoint_is_reported_once_its_pages_are_durable() {
    let mut rig = Rig::new();
    for sequence in 1..9 {
        rig.report(sequence * 4 - 2);
        rig.checkpoint(sequence * 4);
        assert_eq!(rig.stored().last().map(|it| it.0).unwrap_or(0), sequence * 4 - 4);
        assert_eq!(rig.reported(), vec![sequence * 4]);
        assert_eq!(rig.stored(), rig.kept(), "old ones go with the next that comes");
        rig.archive.stable(Sequence(sequence * 4), Instant(0));
    }
}

#[test]
fn h7_on_a_full_disk_no_checkpoint_is_reported_until_there_is_room() {
    let mut rig = Rig::new();
    rig.checkpoint(4);
    assert_eq!(rig.reported(), vec![4]);
    rig.medium.set_room(Some(10));
    rig.checkpoint(8);
    assert_eq!(rig.reported(), vec![]);
    rig.report(9);
    rig.checkpoint(12);
    assert_eq!(rig.reported(), vec![]);
    assert!(rig.shelf.deadline().is_some());
    rig.medium.set_room(None);
    rig.shelf.retry = Some(Clock::now());
    assert_eq!(rig.reported(), vec![8, 12]);
    assert_eq!(rig.stored(), rig.kept());
}

#[test]
fn slots_executed_again_after_a_restart_are_stored_once() {
    let mut rig = Rig::new();
    for sequence in [4, 8, 12] {
        rig.checkpoint(sequence);
        rig.reported();
    }
    // Only the first was stable: the other two are executed again.
    let mut again = Rig::on(Arc::new(Faulty::with(&rig.medium.bytes())), 4);
    let steps = again.medium.steps();
    for sequence in [8, 12] {
        again.checkpoint(sequence);
        assert_eq!(again.reported(), vec![sequence]);
    }
    assert_eq!(again.medium.steps(), steps, "they are there");
    again.checkpoint(16);
    assert_eq!(again.reported(), vec![16]);
    assert_eq!(again.stored(), again.kept());
    assert_eq!(again.stored().len(), 4);
    // If the second execution comes out otherwise, what was stored of the first goes.
    let mut other = Rig::on(Arc::new(Faulty::with(&rig.medium.bytes())), 4);
    other.report(7);
    other.checkpoint(8);
    assert_eq!(other.reported(), vec![8]);
    assert_eq!(other.stored().len(), 2);
    assert_eq!(other.stored(), other.kept().into_iter().take(2).collect::<Vec<_>>());
}

#[test]
fn a_transferred_state_takes_the_place_of_later_ones() {
    let mut rig = Rig::new();
    for sequence in [4, 8, 12] {
        rig.checkpoint(sequence);
        rig.reported();
    }
    let mut donor = Rig::new();
    for sequence in [5, 6, 7] {
        donor.report(sequence);
    }
    donor.checkpoint(8);
    let snapshot = donor.archive.current().clone();
    for _ in 0..2 {
        let (sequence, digest) = (snapshot.sequence, snapshot.digest(&rig.cluster));
        rig.archive.install(snapshot.clone());
        let consumed = Vec::new();
        let report = Event::Input(Input::Restored { sequence, digest, consumed });
        rig.shelf.install(snapshot.clone(), digest, report);
        assert_eq!(rig.reported(), vec![8]);
        assert_eq!(rig.stored(), rig.kept());
        rig.pages = snapshot.application.to_pages();
        rig.checkpoint(12);
        assert_eq!(rig.reported(), vec![12]);
        assert_eq!(rig.stored(), rig.kept());
    }
}

#[path = "shelf_review_test.rs"]
mod review;
