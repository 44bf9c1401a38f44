//! `store.toml`: whose a replica's directory is, and how often the replica was started.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use pbft_core::limits::ConfigError;
use pbft_core::types::{Digest, ReplicaId};
use serde::{Deserialize, Serialize};

use crate::config::CLUSTER_FILE;
use crate::error::ConfigurationError;
use crate::storage::{Operation, StorageError};

/// The file's name in a replica's directory.
pub(crate) const STORE_FILE: &str = "store.toml";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    replica: u32,
    cluster_id: String,
    /// How often the replica was started; with whatever storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    runs: Option<u64>,
    /// What versions without a store on the disk wrote instead.
    #[serde(default, skip_serializing)]
    started: Option<bool>,
}

/// The header of one replica's directory.
#[derive(Clone, Debug)]
pub(crate) struct HeaderFile {
    directory: PathBuf,
}

impl HeaderFile {
    /// Makes the header of a replica that has never been started.
    pub(crate) fn create(
        directory: &Path,
        replica: ReplicaId,
        cluster: Digest,
    ) -> Result<(), ConfigurationError> {
        let header = Header {
            replica: replica.0,
            cluster_id: cluster.to_hex(),
            runs: Some(0),
            started: None,
        };
        HeaderFile { directory: directory.to_owned() }.write(&header)
    }

    /// Finds the header to be this replica's of this cluster (PITFALLS H10).
    pub(crate) fn open(
        directory: &Path,
        replica: ReplicaId,
        cluster: Digest,
    ) -> Result<Self, ConfigurationError> {
        let file = HeaderFile { directory: directory.to_owned() };
        let header = file.read()?;
        let cluster_id = cluster.to_hex();
        let refuse = |field: &str, value: &dyn ToString, remedy: String| {
            let error = ConfigError::new(field, value.to_string(), remedy);
            Err(ConfigurationError::ValueIn { path: file.path(), error })
        };
        if header.replica != replica.0 {
            let remedy =
                format!("the keys here are replica {replica}'s: this store belongs elsewhere");
            return refuse("replica", &header.replica, remedy);
        }
        if header.cluster_id != cluster_id {
            let remedy =
                format!("{CLUSTER_FILE} is {cluster_id}: this store belongs to another cluster");
            return refuse("cluster_id", &header.cluster_id, remedy);
        }
        let remedy = "an earlier version made this directory, which has no store on the disk: make a new cluster";
        match (header.started, header.runs) {
            (Some(started), _) => refuse("started", &started, remedy.to_owned()),
            (None, None) => refuse("runs", &"nothing", remedy.to_owned()),
            (None, Some(_)) => Ok(file),
        }
    }

    /// How often the replica was started.
    pub(crate) fn runs(&self) -> Result<u64, StorageError> {
        let header = self.read().map_err(|error| self.failed(&error))?;
        Ok(header.runs.unwrap_or(u64::MAX))
    }

    /// Notes durably how often the replica was started.
    pub(crate) fn set_runs(&self, runs: u64) -> Result<(), StorageError> {
        let header = self.read().map_err(|error| self.failed(&error))?;
        let header = Header { runs: Some(runs), ..header };
        self.write(&header).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &ConfigurationError) -> StorageError {
        let message = error.to_string();
        StorageError::Failed { path: self.path(), operation: Operation::Open, message }
    }

    fn path(&self) -> PathBuf {
        self.directory.join(STORE_FILE)
    }

    fn read(&self) -> Result<Header, ConfigurationError> {
        let path = self.path();
        let text = fs::read_to_string(&path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => ConfigurationError::Missing {
                path: path.clone(),
                remedy: "restore it, or write it anew with `replica`, `cluster_id` and `runs = 1` and remove data/: \
                         the replica then starts as one whose store is lost"
                    .to_owned(),
            },
            _ => ConfigurationError::File { path: path.clone(), source },
        })?;
        toml::from_str(&text)
            .map_err(|error| ConfigurationError::Toml { path, message: error.to_string() })
    }

    /// Replaces the header durably: new file, its fsync, rename, the directory's fsync (PITFALLS H8).
    fn write(&self, header: &Header) -> Result<(), ConfigurationError> {
        let path = self.path();
        let io = |source| ConfigurationError::File { path: path.clone(), source };
        let text = toml::to_string(header).map_err(|error| ConfigurationError::Toml {
            path: path.clone(),
            message: error.to_string(),
        })?;
        let fresh = self.directory.join("store.toml.new");
        let mut file = File::create(&fresh).map_err(io)?;
        file.write_all(text.as_bytes()).map_err(io)?;
        file.sync_all().map_err(io)?;
        fs::rename(&fresh, &path).map_err(io)?;
        File::open(&self.directory).and_then(|directory| directory.sync_all()).map_err(io)
    }
}
