//! What can go wrong outside the protocol, named.

use std::io;
use std::path::PathBuf;

use pbft_core::limits::ConfigError;
use pbft_core::replica::{Halt, RecoverError};
use pbft_core::state::StateError;
use pbft_net::NetError;

/// A configuration, key or directory that cannot be used. Says which and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// A value that does not hold.
    #[error(transparent)]
    Value(#[from] ConfigError),
    /// A value that does not hold, in a file.
    #[error("{path}: {error}", path = path.display())]
    ValueIn {
        /// Which file.
        path: PathBuf,
        /// Field, value, remedy.
        error: ConfigError,
    },
    /// A file that cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file without which nothing can be done.
    #[error("{path} is missing: {remedy}", path = path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
        /// What to do.
        remedy: String,
    },
    /// A file that is not the TOML expected: the text names line and field.
    #[error("{path}: {message}", path = path.display())]
    Toml {
        /// Which file.
        path: PathBuf,
        /// What is wrong and where.
        message: String,
    },
    /// A key file that others can read.
    #[error("{path} has mode {mode:o} and others can read the key: run chmod 600 on it", path = path.display())]
    KeyMode {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key file in another format.
    #[error("{path} is not an ed25519 private key in PKCS#8 PEM: restore it, or make a new cluster", path = path.display())]
    KeyFormat {
        /// Which file.
        path: PathBuf,
    },
    /// The directory is used by another process.
    #[error("{path} is in use by another process: wait for it, or use another directory", path = path.display())]
    Locked {
        /// Which directory.
        path: PathBuf,
    },
    /// The directory exists already.
    #[error("{path} exists already: choose another directory, or remove it", path = path.display())]
    Exists {
        /// Which directory.
        path: PathBuf,
    },
    /// The store on the disk cannot be used.
    #[error("store: {0}")]
    Store(#[from] crate::storage::StorageError),
    /// The operating system gave no random bytes.
    #[error("the operating system's random generator failed")]
    Randomness,
    /// The network could not be set up.
    #[error(transparent)]
    Network(#[from] NetError),
}

/// Why a node stopped without being asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The configuration does not hold.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The protocol says that this replica must not go on.
    #[error("halted: {0}")]
    Halted(Halt),
    /// The replicated state cannot go on.
    #[error("replicated state: {0}")]
    State(#[from] StateError),
    /// The application panicked: every replica would, at the same operation (PITFALLS L2).
    #[error(
        "the application panicked while executing slot {slot}: {message}; it would do so on every replica, mend it before restarting"
    )]
    ApplicationPanicked {
        /// In which slot.
        slot: u64,
        /// What it said.
        message: String,
    },
    /// The storage failed; what it holds is unknown, so nothing more may be promised.
    #[error("storage: {0}")]
    Storage(#[from] crate::storage::StorageError),
    /// The journal contradicts itself: no replica with these keys and limits wrote it.
    #[error("journal: {0}")]
    Journal(#[from] RecoverError),
    /// A thread or runtime could not be made.
    #[error("cannot start: {0}")]
    Start(io::Error),
    /// The node's thread is gone: a defect.
    #[error("the node's thread ended unexpectedly")]
    Lost,
}
