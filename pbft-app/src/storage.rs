//! How what must survive survives.

use std::collections::BTreeMap;

use pbft_core::replica::Record;
use pbft_core::types::{Sequence, WriteId};

/// A storage that failed. What it holds is unknown: the node stops and does not try again, because a
/// second fsync can succeed without the data (PITFALLS H2).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StorageError(pub String);

/// Keeps a replica's journal. One owner, one writer.
pub trait Storage: Send + 'static {
    /// Appends a record. Numbers ascend by one.
    ///
    /// # Errors
    /// The storage failed for good.
    fn append(&mut self, id: WriteId, record: Record) -> Result<(), StorageError>;

    /// Makes everything appended so far durable, in one go however much it is, and returns the number of
    /// the last write that is.
    ///
    /// # Errors
    /// The storage failed for good.
    fn commit(&mut self) -> Result<WriteId, StorageError>;

    /// Records of slots at or below `below` may be dropped.
    ///
    /// # Errors
    /// The storage failed for good.
    fn discard(&mut self, below: Sequence) -> Result<(), StorageError>;
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

fn sequence_of(record: &Record) -> Sequence {
    match record {
        Record::Prepared { certificate, .. } => certificate.vote.sequence,
        Record::Checkpoint(checkpoint) => checkpoint.sequence,
        Record::Stable(proof) => proof.sequence(),
        // Kept until a later view's is durable, whatever is dropped below a checkpoint.
        Record::ViewChange(_) | Record::NewView { .. } => Sequence(u64::MAX),
        // Kept for good: what came before is not known.
        Record::Lost | Record::Reinstated { .. } => Sequence(u64::MAX),
    }
}

impl Storage for MemoryStorage {
    fn append(&mut self, id: WriteId, record: Record) -> Result<(), StorageError> {
        let kind = std::mem::discriminant(&record);
        if matches!(record, Record::ViewChange(_) | Record::NewView { .. }) {
            self.records.retain(|_, held| std::mem::discriminant(held) != kind);
        }
        self.records.insert((sequence_of(&record), id), record);
        self.last = id;
        Ok(())
    }

    fn commit(&mut self) -> Result<WriteId, StorageError> {
        Ok(self.last)
    }

    fn discard(&mut self, below: Sequence) -> Result<(), StorageError> {
        // The proof of the checkpoint itself stays: everything above hangs from it.
        self.records.retain(|(sequence, _), record| {
            *sequence > below || (*sequence == below && matches!(record, Record::Stable(_)))
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pbft_core::certificate::{Signatures, StableProof};
    use pbft_core::message::Checkpoint;
    use pbft_core::types::Digest;

    use super::*;

    #[test]
    fn discarding_keeps_the_proof_it_hangs_from() {
        let mut storage = MemoryStorage::new();
        let checkpoint = Checkpoint { sequence: Sequence(4), digest: Digest([1; 32]) };
        let proof = StableProof { checkpoint, signatures: Signatures::default() };
        storage.append(WriteId(1), Record::Checkpoint(checkpoint)).unwrap();
        storage.append(WriteId(2), Record::Stable(proof)).unwrap();
        assert_eq!(storage.commit().unwrap(), WriteId(2));
        storage.discard(Sequence(4)).unwrap();
        assert_eq!(storage.len(), 1);
        storage.discard(Sequence(5)).unwrap();
        assert!(storage.is_empty());
    }
}
