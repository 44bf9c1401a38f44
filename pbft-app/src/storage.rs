//! How what must survive survives.
//!
//! ```text
//!   replica-I/
//!     store.toml         how often it was started; written after the journal's own count
//!     data/
//!       journal.redb     what was promised: written by one thread, in groups, before anything is said
//!       snapshots.redb   the pages of the kept snapshots: written by the archivist
//! ```
//!
//! Who says what is durable is the journal and nobody else; a lost snapshot is fetched from others, a lost journal
//! makes a replica that does not vote ([`crate::store`]).

use std::collections::BTreeMap;

use std::time::Duration;

use pbft_core::replica::Record;
use pbft_core::types::{Sequence, WriteId};

mod bundle;
mod changed;
mod error;
#[cfg(test)]
pub(crate) mod faulty;
mod file;
mod journal;
mod ledger;
mod medium;
mod snapshots;
mod writer;

pub(crate) use changed::Changed;
pub use error::{Operation, StorageError};
pub use journal::{About, Journal};
pub(crate) use medium::Guard;
pub use medium::{FileMedium, Medium};
pub(crate) use snapshots::{FIRST_VERSION, Loaded, Snapshots};
pub use writer::StorageMetrics;
pub(crate) use writer::Writer;

/// How long to wait for space on a full disk before trying again.
pub(crate) const FULL_RETRY: Duration = Duration::from_secs(1);

/// What a commit made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Every write up to this one is durable.
    pub last: WriteId,
    /// How many records were written by this commit.
    pub records: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// Keeps a replica's journal. One owner, one writer.
pub trait Storage: Send + 'static {
    /// Appends a record; nothing is promised yet. Numbers ascend by one within a run.
    fn append(&mut self, id: WriteId, record: Record);

    /// Makes everything appended so far durable, in one go however much it is.
    ///
    /// # Errors
    /// With [`StorageError::Full`] everything appended is kept and a later commit may succeed. With any other the
    /// storage failed for good.
    fn commit(&mut self) -> Result<Committed, StorageError>;

    /// Records of slots at or below `below` may go, with the next commit.
    fn discard(&mut self, below: Sequence);
}

/// How long a record is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Until its slot is discarded.
    Slot(Sequence),
    /// Until the proof of a higher slot is durable: everything above hangs from it.
    Proof(Sequence),
    /// Until a later one is durable, whatever is dropped below a checkpoint.
    ViewChange,
    /// Likewise.
    NewView,
    /// Until the next that says whether a lost store is over.
    Standing,
}

impl Lifetime {
    pub(crate) fn of(record: &Record) -> Self {
        match record {
            Record::Prepared { certificate, .. } => Lifetime::Slot(certificate.vote.sequence),
            Record::Checkpoint(checkpoint) => Lifetime::Slot(checkpoint.sequence),
            Record::Stable(proof) => Lifetime::Proof(proof.sequence()),
            Record::ViewChange(_) => Lifetime::ViewChange,
            Record::NewView { .. } => Lifetime::NewView,
            Record::Lost | Record::Reinstated { .. } => Lifetime::Standing,
        }
    }
}

/// A journal in memory. It survives nothing: not a kill, not a panic, not a power cut. A replica that is
/// started again after running with it has lost its store and takes part without voting, because it may
/// have promised what it no longer knows (PROTOCOL section 9). Fit for demonstrations and tests.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    records: BTreeMap<(Sequence, WriteId), Record>,
    last: WriteId,
}

impl MemoryStorage {
    /// An empty journal.
    pub fn new() -> Self {
        MemoryStorage::default()
    }

    /// How many records are held.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

impl Storage for MemoryStorage {
    fn append(&mut self, id: WriteId, record: Record) {
        let sequence = match Lifetime::of(&record) {
            Lifetime::Slot(sequence) | Lifetime::Proof(sequence) => sequence,
            kind @ (Lifetime::ViewChange | Lifetime::NewView | Lifetime::Standing) => {
                self.records.retain(|_, held| Lifetime::of(held) != kind);
                Sequence(u64::MAX)
            }
        };
        self.records.insert((sequence, id), record);
        self.last = id;
    }

    fn commit(&mut self) -> Result<Committed, StorageError> {
        Ok(Committed { last: self.last, records: 0, bytes: 0 })
    }

    fn discard(&mut self, below: Sequence) {
        // The proof of the checkpoint itself stays: everything above hangs from it.
        self.records.retain(|(sequence, _), record| {
            *sequence > below || (*sequence == below && matches!(record, Record::Stable(_)))
        });
    }
}

#[cfg(test)]
#[path = "storage/storage_test.rs"]
mod tests;
