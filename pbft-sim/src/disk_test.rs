//! Hosts that are wrong about their disks are found, each by the checker whose matter it is; and what the disk
//! itself does at a crash.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use super::*;
use crate::options::{MILLIS, Options, SECONDS};
use crate::simulation::{Simulation, Verdict};

/// Runs seeds in which power goes now and then, every host with this lapse; what was found.
fn found(lapse: Option<Lapse>, seeds: u64) -> BTreeSet<&'static str> {
    let options = (1..=seeds).map(|seed| Options {
        power: Power::ALL,
        outage: Some(0),
        outage_at: 300 * MILLIS,
        requests_per_client: 100,
        heal_at: 4 * SECONDS,
        ..Options::fault_free(seed, 4)
    });
    found_in(lapse, options)
}

fn found_in(lapse: Option<Lapse>, runs: impl Iterator<Item = Options>) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    for options in runs {
        let mut simulation = Simulation::new(options).unwrap();
        for node in &mut simulation.nodes {
            node.disk_mut().lapse = lapse;
        }
        let report = simulation.run();
        if report.verdict != Verdict::Pass {
            found.insert(report.verdict.property());
        }
    }
    found
}

#[test]
fn hosts_that_make_no_mistake_are_found_guilty_of_none() {
    assert_eq!(found(None, 10), BTreeSet::new());
}

#[test]
fn h1_a_host_that_reports_what_is_only_appended_is_found() {
    assert!(found(Some(Lapse::ReportsEarly), 3).contains("INV21 persist before send"));
}

#[test]
fn a_host_that_reports_a_snapshot_before_it_is_written_is_found() {
    assert!(found(Some(Lapse::SnapshotsEarly), 3).contains("INV21 persist before send"));
}

#[test]
fn d19_a_host_that_forgets_the_new_view_is_found() {
    let found = found(Some(Lapse::ForgetsViews), 10);
    assert!(found.contains("INV11 monotone local state"), "{found:?}");
}

#[test]
fn h4_a_host_that_forgets_what_was_prepared_is_found() {
    let found = found(Some(Lapse::ForgetsPrepared), 10);
    assert!(found.contains("INV9 durability"), "{found:?}");
}

/// It takes several changes of view for the order to matter, so many faults.
#[test]
fn h3_a_host_that_replays_out_of_order_is_found() {
    let swarm = (1..20).map(|seed| Options { power: Power::ALL, ..Options::from_seed(seed) });
    let found = found_in(Some(Lapse::ReadsBackwards), swarm);
    assert!(found.contains("INV11 monotone local state"), "{found:?}");
}

fn view_change(view: u64) -> Record {
    let view = pbft_core::types::View(view);
    let change = pbft_core::message::ViewChange { view, stable: None, prepared: Vec::new() };
    Record::ViewChange(std::sync::Arc::new(change))
}

fn disk() -> Disk {
    let mut disk = Disk::default();
    disk.append(WriteId(1), view_change(1));
    assert!(disk.begin());
    disk.append(WriteId(2), view_change(2));
    assert!(!disk.begin(), "one commit at a time");
    disk
}

#[test]
fn a_commit_takes_in_what_was_appended_before_it_began_and_survives_whole_or_not_at_all() {
    let random = &mut Random::new(1);
    for (survives, left) in [(false, 0), (true, 1)] {
        let mut disk = disk();
        disk.crash(Some(survives), random);
        assert_eq!(disk.contents().journal.len(), left);
    }
    let mut disk = disk();
    assert!(matches!(disk.finish(), Finished::Done { up_to: WriteId(1), .. }));
    assert!(disk.begin());
    disk.crash(Some(false), random);
    assert_eq!(disk.contents().journal, [view_change(1)]);
}

#[test]
fn h2_a_sync_that_failed_is_not_reported_and_may_or_may_not_be_there() {
    let mut disk = disk();
    disk.fail_next();
    assert!(matches!(disk.finish(), Finished::Failed));
    disk.crash(Some(true), &mut Random::new(1));
    assert_eq!(disk.contents().journal, [view_change(1)]);
}

#[test]
fn h7_a_full_disk_reports_nothing_until_there_is_room() {
    let mut disk = disk();
    disk.fill();
    assert!(matches!(disk.finish(), Finished::Held));
    assert!(!disk.begin());
    disk.make_room();
    assert!(disk.begin());
    assert!(matches!(disk.finish(), Finished::Done { up_to: WriteId(2), .. }));
}

#[test]
fn lost_syncs_and_old_backups_give_an_older_store_and_know_that_they_do() {
    let random = &mut Random::new(1);
    let mut lost = disk();
    lost.lie();
    assert!(matches!(lost.finish(), Finished::Done { .. }));
    assert!(lost.is_unsound() && !lost.older);
    lost.crash(Some(false), random);
    assert!(lost.older && lost.contents().journal.is_empty());

    let mut backup = disk();
    backup.back_up();
    assert!(matches!(backup.finish(), Finished::Done { .. }));
    backup.damage(Damage::Backup);
    backup.crash(Some(false), random);
    backup.open();
    assert!(backup.older && backup.contents().journal.is_empty());
}

#[test]
fn h4_a_damaged_journal_is_a_lost_store_and_damaged_snapshots_are_not() {
    let random = &mut Random::new(1);
    for (damage, lost, left) in [
        (Damage::Journal, true, Record::Lost),
        (Damage::Empty, true, Record::Lost),
        (Damage::Snapshots, false, view_change(1)),
    ] {
        let mut disk = disk();
        disk.finish();
        disk.write(Write { snapshot: Snapshot::default(), instead: false });
        disk.written();
        disk.damage(damage);
        disk.crash(None, random);
        disk.open();
        assert_eq!((disk.contents().lost, &*disk.contents().journal), (lost, &[left][..]));
        assert!(disk.contents().snapshots.is_empty());
    }
}
