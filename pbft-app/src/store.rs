//! A replica's store as a whole: opened, checked, replaced if it is lost, and noted as in use.
//!
//! | found at the start | what the replica is |
//! |---|---|
//! | an intact journal, as often started as the directory says, never before | fresh |
//! | likewise, started before | as it was: what it promised is in the journal |
//! | a journal missing, damaged, or started less often than the directory | its promises are lost: it does not vote |
//! | a journal of another replica or cluster, or one in use | refused |
//! | snapshots missing, damaged or not the journal's | as the journal says; the state is fetched from others |
//!
//! The two counts of starts tell a restored backup, and a run with memory storage in between, from the store that
//! was last used (PITFALLS G10).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pbft_core::cluster::Cluster;
use pbft_core::replica::Record;
use pbft_core::types::{Digest, ReplicaId, Sequence};

use crate::error::ConfigurationError;
use crate::header::{HeaderFile, STORE_FILE};
use crate::storage::{
    About, FileMedium, Journal, Loaded, MemoryStorage, Operation, Snapshots, StorageError,
};

/// The directory of the files, in a replica's directory.
pub(crate) const DATA: &str = "data";
const FRESH: &str = "data-new";
const ASIDE: &str = "data-damaged-";
pub(crate) const JOURNAL: &str = "journal.redb";
pub(crate) const SNAPSHOTS: &str = "snapshots.redb";

/// What is known of a replica's promises of earlier runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// It has never run before.
    Fresh,
    /// It ran before and its journal holds what it promised.
    Kept,
    /// It ran before and its journal is gone: it takes part without voting.
    Lost,
}

/// Where a replica keeps what must survive, ready for [`crate::Node::start`].
#[derive(Debug)]
pub struct Store {
    pub(crate) kind: Kind,
    history: History,
    remarks: Vec<String>,
    header: Option<HeaderFile>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Memory(MemoryStorage),
    Disk(Box<Disk>),
}

#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) journal: Journal,
    pub(crate) records: Vec<Record>,
    pub(crate) snapshots: Snapshots,
    pub(crate) loaded: Loaded,
}

impl Store {
    /// Memory, for a replica that has never run before. It survives nothing: for demonstrations and tests.
    pub fn memory() -> Self {
        Store::in_memory(History::Fresh, None)
    }

    /// Memory, for a replica that ran before with memory too: it takes part without voting.
    pub fn lost_memory() -> Self {
        Store::in_memory(History::Lost, None)
    }

    /// Makes the store of a replica that has never run, in a directory that is there: what `init` does for each.
    /// Whoever runs a replica opens one and never makes one, or a lost disk would look like a fresh start.
    ///
    /// # Errors
    /// It is there already, or cannot be written.
    pub fn create(
        directory: &Path,
        cluster: &Cluster,
        replica: ReplicaId,
    ) -> Result<(), ConfigurationError> {
        if let Some(path) =
            [STORE_FILE, DATA].map(|name| directory.join(name)).into_iter().find(|it| it.exists())
        {
            return Err(ConfigurationError::Exists { path });
        }
        HeaderFile::create(directory, replica, cluster.id())?;
        make(directory, &About { replica, cluster: cluster.id(), runs: 0 }, &[])?;
        Ok(())
    }

    /// Opens a replica's store, checks all of it and reads what was promised. One that is lost, damaged or older
    /// than the directory is set aside and replaced, and the replica takes part without voting.
    ///
    /// # Errors
    /// It is in use, belongs to another replica or cluster, or the disk failed or is full.
    pub fn open(
        directory: &Path,
        cluster: &Cluster,
        replica: ReplicaId,
    ) -> Result<Store, ConfigurationError> {
        let header = HeaderFile::open(directory, replica, cluster.id())?;
        Ok(open(directory, header, replica, cluster)?)
    }

    pub(crate) fn in_memory(history: History, header: Option<HeaderFile>) -> Self {
        let kind = Kind::Memory(MemoryStorage::new());
        Store { kind, history, remarks: Vec::new(), header }
    }

    /// What is known of the replica's earlier promises.
    pub fn history(&self) -> History {
        self.history
    }

    /// What whoever runs the replica should be told: what was found damaged and where it was put.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Notes durably that the replica is started: the journal's own count first, then the directory's, so that
    /// a crash in between leaves the journal ahead by one and never behind.
    pub(crate) fn note_start(&mut self) -> Result<(), StorageError> {
        if let Kind::Disk(disk) = &mut self.kind {
            let counted = self.header.as_ref().map(HeaderFile::runs).transpose()?;
            // Ahead already: the directory's count could not be written last time, and nothing was said.
            if counted.is_none_or(|counted| disk.journal.about().runs <= counted) {
                disk.journal.raise_runs()?;
            }
        }
        match &self.header {
            Some(header) => {
                let runs = match &self.kind {
                    Kind::Disk(disk) => disk.journal.about().runs,
                    Kind::Memory(_) => header.runs()?.saturating_add(1),
                };
                header.set_runs(runs)
            }
            None => Ok(()),
        }
    }
}

/// Whether the promises of a store before this one are lost, and nothing has been said of them since.
pub(crate) fn is_lost(records: &[Record]) -> bool {
    let standing = |record: &&Record| matches!(record, Record::Lost | Record::Reinstated { .. });
    records.iter().rfind(standing) == Some(&Record::Lost)
}

/// Opens a replica's store on its disk; one that is lost is set aside and replaced.
fn open(
    directory: &Path,
    header: HeaderFile,
    replica: ReplicaId,
    cluster: &Cluster,
) -> Result<Store, StorageError> {
    let runs = header.runs()?;
    let data = directory.join(DATA);
    let mut remarks = Vec::new();
    let (journal, records) = match open_journal(&data, runs, replica, cluster.id()) {
        Ok(opened) => opened,
        Err(error) if error.is_loss() => {
            remarks.push(format!("{error}: what this replica promised is lost"));
            let about = About { replica, cluster: cluster.id(), runs };
            remarks.extend(replace(directory, &about)?);
            Journal::open(&data.join(JOURNAL), medium(&data.join(JOURNAL))?, replica, cluster.id())?
        }
        Err(error) => return Err(error),
    };
    let history = match journal.about().runs {
        _ if is_lost(&records) => History::Lost,
        0 => History::Fresh,
        _ => History::Kept,
    };
    let (snapshots, loaded) = open_snapshots(&data, cluster, &mut remarks)?;
    let loaded = agreeing(loaded, &records, cluster, &mut remarks);
    for remark in &remarks {
        tracing::warn!(%replica, remark);
    }
    let disk = Disk { journal, records, snapshots, loaded };
    Ok(Store { kind: Kind::Disk(Box::new(disk)), history, remarks, header: Some(header) })
}

fn medium(path: &Path) -> Result<Arc<FileMedium>, StorageError> {
    FileMedium::open(path).map(Arc::new)
}

fn open_journal(
    data: &Path,
    runs: u64,
    replica: ReplicaId,
    cluster: Digest,
) -> Result<(Journal, Vec<Record>), StorageError> {
    let path = data.join(JOURNAL);
    let (journal, records) = Journal::open(&path, medium(&path)?, replica, cluster)?;
    let own = journal.about().runs;
    if own == runs || own == runs.saturating_add(1) {
        return Ok((journal, records));
    }
    Err(StorageError::damaged(
        &path,
        format!(
            "it was in use for {own} starts and the replica was started {runs} times: it is an older one or another"
        ),
    ))
}

/// Opens the snapshots; if they are not to be believed, others without any take their place.
fn open_snapshots(
    data: &Path,
    cluster: &Cluster,
    remarks: &mut Vec<String>,
) -> Result<(Snapshots, Loaded), StorageError> {
    let path = data.join(SNAPSHOTS);
    let open = || Snapshots::open(&path, medium(&path)?, cluster);
    match open() {
        Err(error) if error.is_loss() => {
            remarks.push(format!("{error}: the state is fetched from the other replicas"));
            let aside = data.join("snapshots-damaged.redb");
            if path.exists() {
                rename(&path, &aside)?;
            }
            let fresh = data.join("snapshots-new.redb");
            remove_file(&fresh)?;
            Snapshots::create(&fresh, Arc::new(FileMedium::create(&fresh)?))?;
            rename(&fresh, &path)?;
            sync_directory(data)?;
            open()
        }
        outcome => outcome,
    }
}

/// Leaves out snapshots that contradict the journal: one with another digest than the own checkpoint of that slot
/// named, unless the proof of the slot confirms it, as after a transfer.
fn agreeing(
    loaded: Loaded,
    records: &[Record],
    cluster: &Cluster,
    remarks: &mut Vec<String>,
) -> Loaded {
    let (mut own, mut proven) = (BTreeMap::<Sequence, Digest>::new(), BTreeMap::new());
    for record in records {
        match record {
            Record::Checkpoint(checkpoint) => own.insert(checkpoint.sequence, checkpoint.digest),
            Record::Stable(proof) => proven.insert(proof.sequence(), proof.checkpoint.digest),
            _ => None,
        };
    }
    let agrees = |sequence: Sequence, digest: Digest| match proven.get(&sequence) {
        Some(proven) => *proven == digest,
        None => own.get(&sequence).is_none_or(|own| *own == digest),
    };
    let mut kept = Loaded::new();
    for snapshot in loaded {
        if agrees(snapshot.sequence, snapshot.digest(cluster)) {
            kept.push(snapshot);
        } else {
            let sequence = snapshot.sequence;
            remarks.push(format!(
                "the snapshot of slot {sequence} is not the one that the journal names: it is left out"
            ));
        }
    }
    kept
}

/// Sets what is there aside and makes a new store that says that the one before it is lost. At every moment of
/// this there is either no store, which is a lost one too, or a whole one.
fn replace(directory: &Path, about: &About) -> Result<Option<String>, StorageError> {
    let data = directory.join(DATA);
    let mut remark = None;
    let older = set_aside(directory)?;
    if data.exists() {
        let number = older.iter().map(|(number, _)| *number).max().unwrap_or(0).saturating_add(1);
        let aside = directory.join(format!("{ASIDE}{number}"));
        rename(&data, &aside)?;
        sync_directory(directory)?;
        remark = Some(format!("the store that was there is in {}", aside.display()));
    }
    make(directory, about, &[Record::Lost])?;
    if remark.is_some() {
        for (_, path) in older {
            let gone = fs::remove_dir_all(&path);
            gone.map_err(|error| StorageError::failed(&path, Operation::Open, &error))?;
        }
    }
    Ok(remark)
}

/// The stores that were set aside before.
pub(crate) fn set_aside(directory: &Path) -> Result<Vec<(u64, PathBuf)>, StorageError> {
    let failed = |error: io::Error| StorageError::failed(directory, Operation::Open, &error);
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(number) = name.strip_prefix(ASIDE).and_then(|number| number.parse().ok()) {
            found.push((number, path));
        }
    }
    Ok(found)
}

/// Makes both files under another name first: the directory appears whole or not at all (PITFALLS H8).
fn make(directory: &Path, about: &About, records: &[Record]) -> Result<(), StorageError> {
    let fresh = directory.join(FRESH);
    let failed = |error: io::Error| StorageError::failed(&fresh, Operation::Open, &error);
    if fresh.exists() {
        fs::remove_dir_all(&fresh).map_err(failed)?;
    }
    fs::create_dir(&fresh).map_err(failed)?;
    let (journal, snapshots) = (fresh.join(JOURNAL), fresh.join(SNAPSHOTS));
    Journal::create(&journal, Arc::new(FileMedium::create(&journal)?), about, records)?;
    Snapshots::create(&snapshots, Arc::new(FileMedium::create(&snapshots)?))?;
    sync_directory(&fresh)?;
    rename(&fresh, &directory.join(DATA))?;
    sync_directory(directory)
}

fn remove_file(path: &Path) -> Result<(), StorageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StorageError::failed(path, Operation::Open, &error))
        }
        _ => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), StorageError> {
    fs::rename(from, to).map_err(|error| StorageError::failed(from, Operation::Open, &error))
}

fn sync_directory(path: &Path) -> Result<(), StorageError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| StorageError::failed(path, Operation::Sync, &error))
}

#[cfg(test)]
#[path = "store_test.rs"]
mod tests;

#[cfg(test)]
#[path = "store_review_test.rs"]
mod review_tests;
