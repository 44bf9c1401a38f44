//! What a stopped replica's store holds, read without changing anything.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pbft_core::certificate::StableProof;
use pbft_core::cluster::Cluster;
use pbft_core::replica::Record;
use pbft_core::types::{Digest, ReplicaId, Sequence, View};

use crate::directory::ReplicaDirectory;
use crate::error::ConfigurationError;
use crate::storage::{About, FileMedium, Journal, Snapshots, StorageError};
use crate::store::{DATA, JOURNAL, SNAPSHOTS};

/// A slot that is prepared: its Commit may have been said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedSlot {
    /// Which slot.
    pub sequence: Sequence,
    /// In which view.
    pub view: View,
    /// Of what.
    pub digest: Digest,
    /// How many requests its batch has, if that is at hand; the null request has none.
    pub requests: Option<usize>,
}

/// A stored snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// After which slot.
    pub sequence: Sequence,
    /// Its digest, taken from its pages.
    pub digest: Digest,
    /// How many pages it has.
    pub pages: usize,
    /// Bytes in them.
    pub bytes: u64,
}

/// What the journal holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalContents {
    /// Whose it is, and how often it was in use.
    pub about: About,
    /// The view it was in.
    pub active_view: View,
    /// The view it voted for last.
    pub voted_view: View,
    /// The NewView held, and whether it is the replica's own, which it signs again.
    pub new_view: Option<(View, bool)>,
    /// The highest stable checkpoint that any record proves.
    pub stable: Sequence,
    /// Prepared slots, in the order in which they were written.
    pub prepared: Vec<PreparedSlot>,
    /// Own checkpoints.
    pub checkpoints: Vec<(Sequence, Digest)>,
    /// How many records there are.
    pub records: usize,
}

/// What a stopped replica's store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Which replica's directory it is.
    pub replica: ReplicaId,
    /// Of which cluster.
    pub cluster: Digest,
    /// How often the directory says that the replica was started.
    pub runs: u64,
    /// The journal, or why it cannot be read.
    pub journal: Result<JournalContents, StorageError>,
    /// Bytes of the journal's file.
    pub journal_bytes: u64,
    /// The snapshots, oldest first, or why they cannot be read.
    pub snapshots: Result<Vec<StoredSnapshot>, StorageError>,
    /// Bytes of their file.
    pub snapshot_bytes: u64,
    /// Stores that were lost and set aside.
    pub set_aside: Vec<PathBuf>,
}

impl Inspection {
    /// What is wrong with the store, for people: nothing if the replica would start as it was.
    pub fn damage(&self) -> Vec<String> {
        let mut damage = Vec::new();
        match &self.journal {
            Err(error) => damage.push(error.to_string()),
            Ok(journal) => {
                let own = journal.about.runs;
                if journal.about.lost {
                    damage.push(
                        "the store before this one was lost: the replica does not vote".to_owned(),
                    );
                }
                if own != self.runs && own != self.runs.saturating_add(1) {
                    damage.push(format!(
                        "the journal was in use for {own} starts and the replica was started {} times: it is an older one or another",
                        self.runs
                    ));
                }
            }
        }
        damage.extend(self.snapshots.as_ref().err().map(ToString::to_string));
        damage
    }

    /// Whether everything could be read.
    pub fn is_readable(&self) -> bool {
        self.journal.is_ok() && self.snapshots.is_ok()
    }
}

/// Reads the store of a replica that does not run. Nothing in the directory is changed: what opening a store would
/// repair is repaired in memory.
///
/// # Errors
/// The replica runs, or its directory is not one.
pub fn inspect(directory: &Path) -> Result<Inspection, ConfigurationError> {
    let opened = ReplicaDirectory::open_to_read(directory)?;
    let cluster = opened.deployment().cluster();
    let data = directory.join(DATA);
    let (journal, snapshots) = (data.join(JOURNAL), data.join(SNAPSHOTS));
    let inspection = Inspection {
        replica: opened.id(),
        cluster: cluster.id(),
        runs: opened.runs()?,
        journal: contents(&journal, opened.id(), cluster),
        journal_bytes: bytes(&journal),
        snapshots: stored(&snapshots, cluster),
        snapshot_bytes: bytes(&snapshots),
        set_aside: crate::store::set_aside(directory)?.into_iter().map(|(_, path)| path).collect(),
    };
    match (&inspection.journal, &inspection.snapshots) {
        (Err(error @ StorageError::InUse { .. }), _)
        | (_, Err(error @ StorageError::InUse { .. })) => Err(error.clone().into()),
        _ => Ok(inspection),
    }
}

fn bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn contents(
    path: &Path,
    replica: ReplicaId,
    cluster: &Cluster,
) -> Result<JournalContents, StorageError> {
    let medium = Arc::new(FileMedium::open_to_read(path)?);
    let (about, records) = Journal::read(path, medium, replica, cluster.id())?;
    let mut contents = JournalContents {
        about,
        active_view: View(0),
        voted_view: View(0),
        new_view: None,
        stable: Sequence(0),
        prepared: Vec::new(),
        checkpoints: Vec::new(),
        records: records.len(),
    };
    for record in records {
        contents.note(record);
    }
    Ok(contents)
}

impl JournalContents {
    fn prove(&mut self, proof: Option<&StableProof>) {
        self.stable = proof.map_or(self.stable, |proof| self.stable.max(proof.sequence()));
    }

    fn note(&mut self, record: Record) {
        match record {
            Record::Prepared { certificate, batch } => self.prepared.push(PreparedSlot {
                sequence: certificate.vote.sequence,
                view: certificate.vote.view,
                digest: certificate.vote.digest,
                requests: batch.map(|batch| batch.requests().len()),
            }),
            Record::Checkpoint(own) => self.checkpoints.push((own.sequence, own.digest)),
            Record::Stable(proof) => self.prove(Some(&proof)),
            Record::ViewChange(change) => {
                self.prove(change.stable.as_ref());
                self.voted_view = self.voted_view.max(change.view);
            }
            Record::NewView { new_view, signature } => {
                for change in &new_view.changes {
                    self.prove(change.change.stable.as_ref());
                }
                self.active_view = new_view.view;
                self.voted_view = self.voted_view.max(new_view.view);
                self.new_view = Some((new_view.view, signature.is_none()));
            }
        }
    }
}

fn stored(path: &Path, cluster: &Cluster) -> Result<Vec<StoredSnapshot>, StorageError> {
    let medium = Arc::new(FileMedium::open_to_read(path)?);
    let loaded = Snapshots::read(path, medium, cluster)?;
    let stored = loaded.iter().map(|snapshot| StoredSnapshot {
        sequence: snapshot.sequence,
        digest: snapshot.digest(cluster),
        pages: snapshot.sessions.count() + snapshot.application.count(),
        bytes: snapshot.sessions.head().total_bytes + snapshot.application.head().total_bytes,
    });
    Ok(stored.collect())
}
