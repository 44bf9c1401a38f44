//! Where the archivist puts snapshots: on a disk if there is one, and only then is anyone told of them.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant as Clock;

use pbft_core::archive::{Archive, Snapshot};
use pbft_core::pages::PageChanges;
use pbft_core::types::{Digest, ReplicaId, Sequence};

use crate::executor::Event;
use crate::storage::{Changed, FULL_RETRY, Snapshots, StorageError};

/// So many snapshots wait for space at the most.
const WAITING_MAX: usize = 4;

/// A snapshot on its way to the disk, and what is said once it is there.
struct Pending {
    snapshot: Snapshot,
    digest: Digest,
    /// What differs from the one before it; `None` for a state from elsewhere, which is compared as a whole.
    changed: Option<Changed>,
    report: Event,
}

/// The stored snapshots, and those that wait for space: a few, the others give way to later ones.
pub(crate) struct Shelf {
    id: ReplicaId,
    /// `None` with memory storage.
    snapshots: Option<Snapshots>,
    /// The stored snapshot that the next one is compared with, or what was stored before the first.
    base: Option<Sequence>,
    /// What has changed since the last one given here, whoever had it frozen.
    changed: Changed,
    waiting: VecDeque<Pending>,
    /// The highest stable checkpoint that a start would know of.
    proven: Sequence,
    retry: Option<Clock>,
}

impl Shelf {
    /// A shelf over `snapshots`, for a replica that goes on from what is stored for `base`, which differs from it in
    /// `changed`.
    pub(crate) fn new(
        id: ReplicaId,
        snapshots: Option<Snapshots>,
        base: Option<Sequence>,
        changed: Changed,
    ) -> Self {
        let (waiting, proven) = (VecDeque::new(), base.unwrap_or_default());
        Shelf { id, snapshots, base, changed, waiting, proven, retry: None }
    }

    /// The proof of this checkpoint is durable: of the stored snapshots up to it a start needs the latest only.
    pub(crate) fn proven(&mut self, sequence: Sequence) {
        self.proven = self.proven.max(sequence);
    }

    /// These pages changed, up to a checkpoint or between two.
    pub(crate) fn note(&mut self, sessions: &PageChanges, application: &PageChanges) {
        if self.snapshots.is_some() {
            self.changed.note(sessions, application);
        }
    }

    /// Stores the archive's current snapshot, taken at a checkpoint.
    pub(crate) fn checkpoint(&mut self, archive: &Archive, digest: Digest, report: Event) {
        let mut changed = std::mem::take(&mut self.changed);
        // On a full disk the last that waits gives way: nothing was said of it, and this one holds its changes.
        if self.waiting.len() >= WAITING_MAX
            && self.waiting.back().is_some_and(|last| last.changed.is_some())
        {
            let earlier = self.waiting.pop_back().and_then(|last| last.changed);
            changed.absorb(earlier.unwrap_or_default());
        }
        let changed = Some(changed);
        let snapshot = archive.current().clone();
        self.waiting.push_back(Pending { snapshot, digest, changed, report });
    }

    /// Stores a state that did not come of executing the one before.
    pub(crate) fn install(&mut self, snapshot: Snapshot, digest: Digest, report: Event) {
        self.changed = Changed::default();
        self.waiting.push_back(Pending { snapshot, digest, changed: None, report });
    }

    /// When to look again.
    pub(crate) fn deadline(&self) -> Option<Clock> {
        self.retry
    }

    /// Stores what waits and returns what may be said now. A full disk is tried again later.
    pub(crate) fn work(&mut self, archive: &Archive) -> Result<Vec<Event>, StorageError> {
        let mut reports = Vec::new();
        if self.retry.is_some_and(|due| Clock::now() < due) {
            return Ok(reports);
        }
        while let Some(pending) = self.waiting.front() {
            if self.snapshots.as_ref().is_some_and(|it| gives_way(it, pending)) {
                self.skip();
                continue;
            }
            let outcome = match &mut self.snapshots {
                Some(snapshots) => store(snapshots, (self.base, self.proven), pending, archive),
                None => Ok(()),
            };
            match outcome {
                Ok(()) => self.retry = None,
                Err(error @ StorageError::Full { .. }) => {
                    if self.retry.is_none() {
                        tracing::warn!(replica = %self.id, %error, "the disk is full: no checkpoint is taken until there is space");
                    }
                    self.retry = Some(Clock::now() + FULL_RETRY);
                    return Ok(reports);
                }
                Err(error) => return Err(error),
            }
            self.base = Some(pending.snapshot.sequence);
            reports.extend(self.waiting.pop_front().map(|pending| pending.report));
        }
        Ok(reports)
    }

    /// Leaves out the first that waits; the next one holds its changes.
    fn skip(&mut self) {
        let earlier = self.waiting.pop_front().and_then(|it| it.changed).unwrap_or_default();
        match self.waiting.front_mut() {
            Some(Pending { changed: Some(changed), .. }) => changed.absorb(earlier),
            Some(_) => {}
            None => self.changed.absorb(earlier),
        }
    }
}

/// Whether later ones of an earlier run are stored and this one is not: it gave way on a full disk, or was not needed
/// any more. Storing it now would take those away, and their Checkpoints were said.
fn gives_way(snapshots: &Snapshots, pending: &Pending) -> bool {
    let sequence = pending.snapshot.sequence;
    pending.changed.is_some()
        && snapshots.digest(sequence).is_none()
        && snapshots.sequences().next_back() > Some(sequence)
}

fn store(
    snapshots: &mut Snapshots,
    (base, proven): (Option<Sequence>, Sequence),
    pending: &Pending,
    archive: &Archive,
) -> Result<(), StorageError> {
    let Pending { snapshot, digest, changed, .. } = pending;
    let sequence = snapshot.sequence;
    // Executed a second time after a restart, or given out again: it is there.
    if snapshots.digest(sequence) == Some(*digest) {
        return match changed {
            Some(_) => Ok(()),
            // Later ones were of a state that is given up.
            None => snapshots.rewind(Some(sequence)),
        };
    }
    let mut kept: BTreeSet<Sequence> = archive.snapshots().map(|it| it.sequence).collect();
    // The archive goes by proofs that may still be on their way to the disk: a start that finds an older one goes on
    // from the snapshot of that.
    kept.extend(snapshots.sequences().rfind(|it| *it <= proven));
    match changed {
        Some(changed) => {
            snapshots.rewind(base)?;
            snapshots.add(snapshot, *digest, changed, &kept)
        }
        None => {
            let held =
                |it: &&Snapshot| it.sequence < sequence && snapshots.digest(it.sequence).is_some();
            let held = archive.snapshots().rfind(held).cloned();
            snapshots.rewind(held.as_ref().map(|held| held.sequence))?;
            let changed = Changed::between(&held.unwrap_or_default(), snapshot);
            snapshots.add(snapshot, *digest, &changed, &kept)
        }
    }
}

#[cfg(test)]
#[path = "shelf_test.rs"]
mod tests;
