//! The journal on a disk: one redb file, records under positions that ascend over its whole life.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use pbft_core::limits::ConfigError;
use pbft_core::replica::Record;
use pbft_core::types::{Digest, ReplicaId, Sequence, WriteId};
use pbft_core::wire;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::error::StorageError;
use super::file::{Outcome, StoreFile};
use super::medium::{Guard, Medium, Overlay};
use super::{Committed, Lifetime, Storage};

/// What is known of the journal as a whole, by name.
const ABOUT: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("about");
/// Position to record. Not the core's write numbers: those begin anew with every run.
const RECORDS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("records");

/// Version of the layout of these tables.
const FORMAT: u32 = 1;
/// Memory for pages of the file: the journal is short and hardly ever read.
const CACHE_BYTES: usize = 8 << 20;

/// Whose journal it is, and how often that replica was started with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Which replica's.
    pub replica: ReplicaId,
    /// Of which cluster.
    pub cluster: Digest,
    /// How often the replica was started with it.
    pub runs: u64,
}

impl About {
    fn write(&self, transaction: &WriteTransaction) -> Outcome<()> {
        let mut table = transaction.open_table(ABOUT)?;
        table.insert("format", &FORMAT.to_le_bytes()[..])?;
        table.insert("replica", &self.replica.0.to_le_bytes()[..])?;
        table.insert("cluster", &self.cluster.0[..])?;
        table.insert("runs", &self.runs.to_le_bytes()[..])?;
        Ok(())
    }

    fn read(
        path: &Path,
        table: &impl ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<Self, StorageError> {
        let format = u32::from_le_bytes(field(path, table, "format")?);
        if format != FORMAT {
            let remedy =
                format!("this version reads format {FORMAT}: start the version that wrote it");
            let error = ConfigError::new("format", format, remedy);
            return Err(StorageError::Foreign { path: path.to_owned(), error });
        }
        Ok(About {
            replica: ReplicaId(u32::from_le_bytes(field(path, table, "replica")?)),
            cluster: Digest(field(path, table, "cluster")?),
            runs: u64::from_le_bytes(field(path, table, "runs")?),
        })
    }

    /// Whether it is this replica's of this cluster (PITFALLS H10).
    fn check(&self, path: &Path, replica: ReplicaId, cluster: Digest) -> Result<(), StorageError> {
        let foreign = |field: &str, value: String, remedy: String| {
            let error = ConfigError::new(field, value, remedy);
            Err(StorageError::Foreign { path: path.to_owned(), error })
        };
        if self.replica != replica {
            let remedy = format!("the keys here are replica {replica}'s: put its own store back");
            return foreign("replica", self.replica.to_string(), remedy);
        }
        if self.cluster != cluster {
            let remedy = format!("this cluster is {}: put its own store back", cluster.to_hex());
            return foreign("cluster_id", self.cluster.to_hex(), remedy);
        }
        Ok(())
    }
}

fn field<const N: usize>(
    path: &Path,
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<[u8; N], StorageError> {
    let value = table.get(name).map_err(|error| StorageError::damaged(path, error))?;
    let value = value.and_then(|value| value.value().try_into().ok());
    value.ok_or_else(|| StorageError::damaged(path, format!("{name} is not there")))
}

/// Where in the journal what can be dropped is.
#[derive(Debug, Default)]
struct Index {
    /// By slot: positions, and whether each is the slot's stable proof.
    slots: BTreeMap<Sequence, Vec<u64>>,
    proofs: BTreeMap<Sequence, u64>,
    view_change: Option<u64>,
    new_view: Option<u64>,
    standing: Option<u64>,
}

impl Index {
    /// Notes a record, and in `dropped` what it makes superfluous.
    fn note(&mut self, position: u64, lifetime: Lifetime, dropped: &mut BTreeSet<u64>) {
        match lifetime {
            Lifetime::Slot(slot) => self.slots.entry(slot).or_default().push(position),
            Lifetime::Proof(slot) => {
                let highest = self.proofs.last_key_value().map(|(slot, _)| *slot);
                // A proof is superseded by a higher one and by nothing else.
                if highest.is_none_or(|highest| slot > highest) {
                    dropped.extend(std::mem::take(&mut self.proofs).into_values());
                    self.proofs.insert(slot, position);
                } else {
                    dropped.insert(position);
                }
            }
            Lifetime::ViewChange => dropped.extend(self.view_change.replace(position)),
            Lifetime::NewView => dropped.extend(self.new_view.replace(position)),
            Lifetime::Standing => dropped.extend(self.standing.replace(position)),
        }
    }

    fn discard(&mut self, below: Sequence, dropped: &mut BTreeSet<u64>) {
        let above = self.slots.split_off(&below.next());
        dropped.extend(std::mem::replace(&mut self.slots, above).into_values().flatten());
    }
}

/// A journal on a disk, open and locked for as long as this lives.
#[derive(Debug)]
pub struct Journal {
    file: StoreFile,
    about: About,
    index: Index,
    next: u64,
    /// Appended and not committed: kept until a commit succeeds, which may be a later one if the disk is full.
    waiting: BTreeMap<u64, Record>,
    /// Superseded by what waits; removed in the transaction that makes that durable, never sooner.
    dropped: BTreeSet<u64>,
    last: WriteId,
    /// Where one record after the other is encoded: as large as the longest so far.
    encoded: Vec<u8>,
}

impl Journal {
    /// Makes a journal of these records on an empty medium.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(
        path: &Path,
        medium: Arc<dyn Medium>,
        about: &About,
        records: &[Record],
    ) -> Result<(), StorageError> {
        StoreFile::create(path, medium, |transaction| {
            let mut table = transaction.open_table(RECORDS)?;
            for (position, record) in (1..).zip(records) {
                table.insert(position, wire::encode_stored(record).as_slice())?;
            }
            about.write(transaction)
        })
    }

    /// Opens a journal, checks all of it, and returns its records in the order in which they were written.
    ///
    /// # Errors
    /// It is damaged, or another replica's or cluster's, or the disk failed.
    pub fn open(
        path: &Path,
        medium: Arc<dyn Medium>,
        replica: ReplicaId,
        cluster: Digest,
    ) -> Result<(Journal, Vec<Record>), StorageError> {
        let (file, (about, found)) = StoreFile::open(path, medium, CACHE_BYTES, |database| {
            let (about, found) = load(path, database)?;
            about.check(path, replica, cluster)?;
            Ok((about, found))
        })?;
        let (mut index, mut dropped) = (Index::default(), BTreeSet::new());
        let mut records = Vec::with_capacity(found.len());
        let next = found.last().map_or(1, |(position, _)| position.saturating_add(1));
        for (position, record) in found {
            index.note(position, Lifetime::of(&record), &mut dropped);
            records.push(record);
        }
        let (waiting, last, encoded) = (BTreeMap::new(), WriteId(0), Vec::new());
        Ok((Journal { file, about, index, next, waiting, dropped, last, encoded }, records))
    }

    /// Reads a journal and changes nothing in it: what opening would repair is repaired in memory.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn read(
        path: &Path,
        medium: Arc<dyn Medium>,
        replica: ReplicaId,
        cluster: Digest,
    ) -> Result<(About, Vec<Record>), StorageError> {
        let overlay = Overlay::new(medium).map_err(|error| StorageError::damaged(path, error))?;
        let (journal, records) = Journal::open(path, Arc::new(overlay), replica, cluster)?;
        Ok((journal.about, records))
    }

    /// Whose it is.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Notes durably that the replica is started once more.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn raise_runs(&mut self) -> Result<(), StorageError> {
        let about = About { runs: self.about.runs.saturating_add(1), ..self.about };
        self.file.write(|transaction| about.write(transaction))?;
        self.about = about;
        Ok(())
    }

    pub(super) fn guard(&self) -> &Arc<Guard> {
        self.file.guard()
    }
}

/// Everything that a journal's database holds.
pub(super) fn load(
    path: &Path,
    database: &Database,
) -> Result<(About, Vec<(u64, Record)>), StorageError> {
    let damaged = |error: redb::Error| StorageError::damaged(path, error);
    let transaction = database.begin_read().map_err(|error| damaged(error.into()))?;
    let table = transaction.open_table(ABOUT).map_err(|error| damaged(error.into()))?;
    let about = About::read(path, &table)?;
    let table = transaction.open_table(RECORDS).map_err(|error| damaged(error.into()))?;
    let mut records = Vec::new();
    for entry in table.iter().map_err(|error| damaged(error.into()))? {
        let (position, bytes) = entry.map_err(|error| damaged(error.into()))?;
        let position = position.value();
        let record = wire::decode_stored(bytes.value())
            .map_err(|error| StorageError::damaged(path, format!("record {position}: {error}")))?;
        records.push((position, record));
    }
    Ok((about, records))
}

impl Storage for Journal {
    fn append(&mut self, id: WriteId, record: Record) {
        let position = self.next;
        self.next = self.next.saturating_add(1);
        self.index.note(position, Lifetime::of(&record), &mut self.dropped);
        self.waiting.insert(position, record);
        self.last = id;
    }

    fn commit(&mut self) -> Result<Committed, StorageError> {
        let (last, records) = (self.last, self.waiting.len());
        if records == 0 {
            return Ok(Committed { last, records, bytes: 0 });
        }
        let Journal { file, waiting, dropped, encoded, .. } = self;
        // Everything goes to the place it has been given: written again after a failure of which it is not
        // known how far it came, it is there once.
        let outcome = file.write(|transaction| {
            let (mut table, mut bytes) = (transaction.open_table(RECORDS)?, 0);
            for (position, record) in waiting.iter().filter(|(it, _)| !dropped.contains(it)) {
                wire::encode_stored_to(encoded, record);
                table.insert(position, encoded.as_slice())?;
                bytes += encoded.len();
            }
            for position in dropped.iter() {
                table.remove(position)?;
            }
            Ok(bytes)
        });
        match outcome {
            Ok(bytes) => {
                waiting.clear();
                dropped.clear();
                Ok(Committed { last, records, bytes })
            }
            Err(error) => {
                // It may wait for long: what is superseded already need not.
                waiting.retain(|position, _| !dropped.contains(position));
                Err(error)
            }
        }
    }

    fn discard(&mut self, below: Sequence) {
        self.index.discard(below, &mut self.dropped);
    }
}

#[cfg(test)]
#[path = "journal_test.rs"]
mod tests;

#[cfg(test)]
#[path = "journal_review_test.rs"]
mod review_tests;
