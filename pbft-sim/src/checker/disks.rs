//! What lies on the disks, as seen from outside: for the checkers of INV9 and INV21.

use std::collections::{BTreeMap, BTreeSet};

use pbft_core::message::{NewView, ViewChange};
use pbft_core::replica::Record;
use pbft_core::types::{Digest, ReplicaId, Sequence, View};

use super::Observation;

/// What of a prepared slot is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prepared {
    pub(super) digest: Digest,
    /// The batch too; the null request has none.
    pub(super) whole: bool,
}

/// One replica's disk.
#[derive(Clone, Debug, Default)]
pub(super) struct OnDisk {
    pub(super) prepared: BTreeMap<(Sequence, View), Prepared>,
    /// The highest stable checkpoint that any record proves.
    pub(super) proven: Sequence,
    /// Of views that were entered.
    pub(super) new_views: BTreeSet<View>,
    pub(super) changes: BTreeSet<View>,
    pub(super) checkpoints: BTreeMap<Sequence, Digest>,
    pub(super) snapshots: BTreeSet<Sequence>,
}

impl OnDisk {
    fn take_in(&mut self, record: &Record) {
        match record {
            Record::Prepared { certificate, batch } => {
                let vote = certificate.vote;
                let body = batch.as_ref().is_some_and(|batch| batch.digest() == vote.digest);
                let whole = body || vote.digest == Digest::NULL;
                let prepared = Prepared { digest: vote.digest, whole };
                self.prepared.insert((vote.sequence, vote.view), prepared);
            }
            Record::Checkpoint(checkpoint) => {
                self.checkpoints.insert(checkpoint.sequence, checkpoint.digest);
            }
            Record::ViewChange(change) => {
                self.prove(change);
                self.changes.insert(change.view);
            }
            Record::NewView { new_view, .. } => {
                self.prove_all(new_view);
                self.new_views.insert(new_view.view);
            }
            Record::Stable(proof) => self.proven = self.proven.max(proof.sequence()),
            #[allow(unreachable_patterns, reason = "whatever else a journal holds is no vote")]
            _ => {}
        }
    }

    fn prove(&mut self, change: &ViewChange) {
        let stable = change.stable.as_ref().map(|proof| proof.sequence());
        self.proven = self.proven.max(stable.unwrap_or_default());
    }

    fn prove_all(&mut self, new_view: &NewView) {
        new_view.changes.iter().for_each(|change| self.prove(&change.change));
    }

    /// Whether a slot's decision can be had again from this disk alone: as a prepared slot, or as a part of a
    /// state.
    pub(super) fn holds(&self, sequence: Sequence) -> bool {
        let views = (sequence, View(0))..(sequence.next(), View(0));
        self.snapshots.range(sequence..).next().is_some()
            || self.prepared.range(views).any(|(_, prepared)| prepared.whole)
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Disks(BTreeMap<ReplicaId, OnDisk>);

impl Disks {
    pub(super) fn observe(&mut self, observation: &Observation<'_>) {
        match observation {
            Observation::Synced { replica, record } => {
                self.0.entry(*replica).or_default().take_in(record);
            }
            Observation::Kept { replica, sequence } => {
                self.0.entry(*replica).or_default().snapshots.insert(*sequence);
            }
            Observation::Opened { replica, journal, snapshots, .. } => {
                let mut disk = OnDisk::default();
                journal.iter().for_each(|record| disk.take_in(record));
                disk.snapshots.extend(snapshots);
                self.0.insert(*replica, disk);
            }
            Observation::Discarded { replica, below } => {
                let disk = self.0.entry(*replica).or_default();
                disk.prepared = disk.prepared.split_off(&(below.next(), View(0)));
            }
            _ => {}
        }
    }

    pub(super) fn of(&mut self, replica: ReplicaId) -> &OnDisk {
        self.0.entry(replica).or_default()
    }

    /// Who can give a slot's decision back.
    pub(super) fn holders(&self, sequence: Sequence) -> impl Iterator<Item = ReplicaId> + '_ {
        let holding = self.0.iter().filter(move |(_, disk)| disk.holds(sequence));
        holding.map(|(replica, _)| *replica)
    }
}
