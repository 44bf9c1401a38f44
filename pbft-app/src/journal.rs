//! The journal as the host sees it: in memory at once, on a disk by a thread of its own.

use pbft_core::replica::Record;
use pbft_core::types::{Sequence, WriteId};

use crate::storage::{MemoryStorage, Storage, StorageError, Writer};

/// Where records go.
pub(crate) enum JournalHandle {
    /// At once, and durable as soon as anybody asks; as far as memory is.
    Memory {
        storage: MemoryStorage,
        /// Something was appended that was not reported yet.
        appended: bool,
    },
    /// To the writer, who reports by itself.
    Disk(Writer),
}

impl JournalHandle {
    /// Appends a record of the replica's `run`, which comes back with what is durable.
    pub(crate) fn append(&mut self, run: u64, id: WriteId, record: Record) {
        match self {
            JournalHandle::Memory { storage, appended } => {
                storage.append(id, record);
                *appended = true;
            }
            JournalHandle::Disk(writer) => writer.append(run, id, record),
        }
    }

    pub(crate) fn discard(&mut self, below: Sequence) {
        match self {
            JournalHandle::Memory { storage, .. } => storage.discard(below),
            JournalHandle::Disk(writer) => writer.discard(below),
        }
    }

    /// What is durable now and was not reported, if that is known here.
    pub(crate) fn take_durable(&mut self) -> Result<Option<WriteId>, StorageError> {
        match self {
            JournalHandle::Memory { storage, appended } => match std::mem::take(appended) {
                true => Ok(Some(storage.commit()?.last)),
                false => Ok(None),
            },
            JournalHandle::Disk(_) => Ok(None),
        }
    }

    /// From now on nothing is written, as if the process were killed.
    pub(crate) fn abandon(&self) {
        if let JournalHandle::Disk(writer) = self {
            writer.abandon();
        }
    }
}
