//! What can go wrong with a store, named.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use pbft_core::limits::ConfigError;

/// What was being done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opening, locking, making or moving it.
    Open,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Changing its length.
    SetLength,
    /// Making it durable.
    Sync,
    /// Something inside the database.
    Database,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Open => "open",
            Operation::Read => "read",
            Operation::Write => "write",
            Operation::SetLength => "change of length",
            Operation::Sync => "fsync",
            Operation::Database => "database",
        })
    }
}

/// A store that cannot be used, or not now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// There is no room. Nothing is lost: what waits is written once there is some again.
    #[error("{path}: no space left on the disk: free some", path = path.display())]
    Full {
        /// Which file.
        path: PathBuf,
    },
    /// An operation failed. What the disk holds is unknown, so the node stops and does not try again: a second
    /// fsync can succeed without the data (PITFALLS H2).
    #[error(
        "{path}: {operation} failed: {message}; what the disk holds is unknown: look at the disk, then start again",
        path = path.display()
    )]
    Failed {
        /// Which file.
        path: PathBuf,
        /// What was being done.
        operation: Operation,
        /// What the system said.
        message: String,
    },
    /// What is in the file is not what was written.
    #[error("{path} is damaged: {what}", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What does not hold.
        what: String,
    },
    /// The file is not there.
    #[error("{path} is missing", path = path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// Another process or handle has it open.
    #[error("{path} is in use by another process: wait for it", path = path.display())]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// It belongs to another replica, cluster or version.
    #[error("{path}: {error}", path = path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// Field, value, remedy.
        error: ConfigError,
    },
}

impl StorageError {
    pub(crate) fn failed(path: &Path, operation: Operation, source: &io::Error) -> Self {
        StorageError::Failed { path: path.to_owned(), operation, message: source.to_string() }
    }

    pub(crate) fn damaged(path: &Path, what: impl fmt::Display) -> Self {
        StorageError::Damaged { path: path.to_owned(), what: what.to_string() }
    }

    /// Whether what was promised before may be forgotten: the store is gone or not to be believed.
    pub fn is_loss(&self) -> bool {
        matches!(self, StorageError::Damaged { .. } | StorageError::Missing { .. })
    }
}
