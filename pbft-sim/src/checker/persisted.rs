//! INV21: what a statement promises is on the synced disk when it is first said, by the table of PROTOCOL
//! section 4.

use std::collections::BTreeSet;

use pbft_core::message::{Checkpoint, Statement, ViewChange, Vote};
use pbft_core::types::{Digest, ReplicaId, Sequence, View};

use super::disks::{Disks, OnDisk, Prepared};
use super::{Checker, Observation};
use crate::options::Options;

pub(super) struct Persisted {
    disks: Disks,
    window: u64,
    /// Checkpoints said once: a snapshot that is damaged afterwards does not take them back.
    said: BTreeSet<(ReplicaId, Sequence)>,
    /// Whose snapshots may have been damaged: the journal still says that they were made.
    unsound: BTreeSet<ReplicaId>,
}

impl Persisted {
    pub(super) fn new(options: &Options) -> Self {
        Persisted {
            disks: Disks::default(),
            window: options.constants.window,
            said: BTreeSet::new(),
            unsound: BTreeSet::new(),
        }
    }

    fn check(&mut self, replica: ReplicaId, statement: &Statement) -> Result<(), String> {
        let window = self.window;
        let disk = self.disks.of(replica);
        let missing = match statement {
            Statement::PrePrepare(vote) | Statement::Prepare(vote) => {
                vote_needs(disk, vote, 2 * window)
            }
            Statement::Commit(vote) => {
                let needed = Prepared { digest: vote.digest, whole: true };
                match disk.prepared.get(&(vote.sequence, vote.view)) {
                    Some(prepared) if *prepared == needed => vote_needs(disk, vote, window),
                    _ => Some("the prepared certificate with its batch"),
                }
            }
            Statement::ViewChange(change) => change_needs(disk, change),
            Statement::NewView(new_view) => {
                (!disk.new_views.contains(&new_view.view)).then_some("itself")
            }
            Statement::Checkpoint(checkpoint) => {
                // One whose snapshot was damaged between its record and its first word is said all the same: the
                // journal implies it, and the replica counts as faulty.
                let first = self.said.insert((replica, checkpoint.sequence));
                let judged = first && !self.unsound.contains(&replica);
                judged.then(|| checkpoint_needs(disk, checkpoint)).flatten()
            }
            Statement::Status(_) | Statement::Fetch(_) => None,
        };
        match missing {
            None => Ok(()),
            Some(what) => Err(format!("{replica:?} says {statement:?}; not durable: {what}")),
        }
    }
}

/// A vote needs a proof that its slot is near enough to h, and the start of its view.
fn vote_needs(disk: &OnDisk, vote: &Vote, ahead: u64) -> Option<&'static str> {
    if vote.view > View(0) && !disk.new_views.contains(&vote.view) {
        return Some("the NewView of its view");
    }
    (vote.sequence > disk.proven.plus(ahead))
        .then_some("the proof of a stable checkpoint near enough")
}

fn change_needs(disk: &OnDisk, change: &ViewChange) -> Option<&'static str> {
    if !disk.changes.contains(&change.view) {
        return Some("itself");
    }
    let whole = |vote: &Vote| {
        let of_slot = (vote.sequence, View(0))..(vote.sequence.next(), View(0));
        let mut held = disk.prepared.range(of_slot);
        held.any(|(_, prepared)| prepared.whole && prepared.digest == vote.digest)
    };
    // A batch at or below what became stable meanwhile is in the snapshot, and may have been dropped.
    let stable = disk.snapshots.range(..=disk.proven).next_back().copied().unwrap_or_default();
    let there = |vote: &Vote| vote.digest == Digest::NULL || vote.sequence <= stable || whole(vote);
    let bodies = change.prepared.iter().all(|certificate| there(&certificate.vote));
    (!bodies).then_some("the batch of one of its certificates")
}

fn checkpoint_needs(disk: &OnDisk, checkpoint: &Checkpoint) -> Option<&'static str> {
    if disk.checkpoints.get(&checkpoint.sequence) != Some(&checkpoint.digest) {
        return Some("its record");
    }
    (!disk.snapshots.contains(&checkpoint.sequence)).then_some("its snapshot")
}

/// Dropping anything needs the proof, and an own snapshot.
fn discard_needs(disk: &OnDisk, below: Sequence) -> Option<&'static str> {
    if disk.proven < below {
        return Some("the stable proof");
    }
    disk.snapshots.range(below..).next().is_none().then_some("a snapshot")
}

impl Checker for Persisted {
    fn name(&self) -> &'static str {
        "INV21 persist before send"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        if let Observation::Discarded { replica, below } = observation
            && !self.unsound.contains(replica)
            && let Some(what) = discard_needs(self.disks.of(*replica), *below)
        {
            return Err(format!("{replica:?} drops slots up to {below}; not durable: {what}"));
        }
        self.disks.observe(observation);
        match observation {
            Observation::Unsound { replica } => {
                self.unsound.insert(*replica);
                Ok(())
            }
            Observation::Said { replica, statement } => self.check(*replica, statement),
            _ => Ok(()),
        }
    }
}
