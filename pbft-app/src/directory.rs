//! The directories of a deployment: one for each replica and client beside `cluster.toml`.
//!
//! Only `init` creates them. A replica opens its own, never creates it, so that a lost disk is noticed
//! and not mistaken for a fresh start (PROTOCOL section 9; PITFALLS G10).

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use pbft_core::limits::{ConfigError, Constants};
use pbft_core::types::{ClientId, ReplicaId, RequestNumber};

use crate::config::{CLUSTER_FILE, Deployment, ReplicaEntry, Timeouts};
use crate::error::ConfigurationError;
use crate::gateway;
use crate::header::HeaderFile;
use crate::keys::{NodeKeys, signing_path, tls_path};
use crate::store::{History, Store};

const NUMBER_FILE: &str = "number";
const LOCK_FILE: &str = "lock";

/// What `init` makes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name of the cluster, for people.
    pub name: String,
    /// How many replicas.
    pub replicas: usize,
    /// How many clients.
    pub clients: usize,
    /// How many users of a gateway. If there are any, the gateway is one client more.
    pub users: usize,
    /// Replica I listens on ports P + 2I for peers and P + 2I + 1 for clients, on 127.0.0.1; the gateway on the
    /// port after those.
    pub base_port: u16,
    /// Allows fewer than four replicas.
    pub development: bool,
}

/// Creates `directory` with `cluster.toml`, a directory for every replica and one for every client; with users, one
/// for each of them and one for their gateway.
///
/// # Errors
/// The plan does not hold, the directory exists, or something cannot be written. A directory made halfway
/// is left for inspection.
pub fn init(directory: &Path, plan: &Plan) -> Result<Deployment, ConfigurationError> {
    if directory.exists() {
        return Err(ConfigurationError::Exists { path: directory.to_owned() });
    }
    let replica_keys = (0..plan.replicas).map(|_| NodeKeys::generate());
    let replica_keys = replica_keys.collect::<Result<Vec<_>, _>>()?;
    let has_gateway = plan.users > 0;
    let client_keys = (0..plan.clients + usize::from(has_gateway)).map(|_| NodeKeys::generate());
    let client_keys = client_keys.collect::<Result<Vec<_>, _>>()?;
    let mut replicas = Vec::new();
    for (index, keys) in (0_u16..).zip(&replica_keys) {
        replicas.push(ReplicaEntry {
            keys: keys.public(),
            peer_address: address(plan.base_port, index, 0)?,
            client_address: address(plan.base_port, index, 1)?,
        });
    }
    let clients = client_keys.iter().map(NodeKeys::public).collect();
    let after_replicas = u16::try_from(plan.replicas).unwrap_or(u16::MAX);
    let gateway_address = match has_gateway {
        true => address(plan.base_port, after_replicas, 0)?,
        false => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    };
    let deployment = Deployment::new(
        &plan.name,
        replicas,
        clients,
        Constants::default(),
        Timeouts::default(),
        plan.development,
    )?;
    create(directory)?;
    for (id, keys) in deployment.cluster().replicas().zip(&replica_keys) {
        let path = directory.join(format!("replica-{id}"));
        create(&path)?;
        keys.store(&path)?;
        Store::create(&path, deployment.cluster(), id)?;
    }
    for (index, keys) in client_keys.iter().enumerate() {
        let is_gateway = index == plan.clients;
        let name = if is_gateway { "gateway".to_owned() } else { format!("client-{index}") };
        let path = directory.join(name);
        create(&path)?;
        keys.store(&path)?;
        if is_gateway {
            gateway::init(&path, &deployment, gateway_address, plan.users)?;
        }
    }
    // Last, so that a cluster file means that everything beside it is there.
    deployment.store(&directory.join(CLUSTER_FILE))?;
    Ok(deployment)
}

fn address(base: u16, index: u16, offset: u16) -> Result<SocketAddr, ConfigError> {
    let port = index.checked_mul(2).and_then(|up| base.checked_add(up)?.checked_add(offset));
    let port = port.filter(|port| *port != 0).ok_or_else(|| {
        ConfigError::new(
            "base_port",
            base,
            "every replica needs two ports from 1 to 65535 above it",
        )
    })?;
    Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
}

pub(crate) fn create(path: &Path) -> Result<(), ConfigurationError> {
    fs::create_dir(path)
        .map_err(|source| ConfigurationError::File { path: path.to_owned(), source })
}

/// A replica's directory, opened and locked for as long as this lives.
#[derive(Debug)]
pub struct ReplicaDirectory {
    path: PathBuf,
    keys: NodeKeys,
    id: ReplicaId,
    deployment: Deployment,
    header: HeaderFile,
    _lock: File,
}

impl ReplicaDirectory {
    /// Opens `DIR/replica-I`: its keys, and `DIR/cluster.toml` beside it.
    ///
    /// # Errors
    /// Anything missing, malformed, in use, or belonging to another replica or cluster.
    pub fn open(path: &Path) -> Result<Self, ConfigurationError> {
        ReplicaDirectory::open_with(path, || lock(path))
    }

    /// Opens `DIR/replica-I` to look at what is in it, without changing anything. Nobody can run it meanwhile.
    ///
    /// # Errors
    /// As [`ReplicaDirectory::open`].
    pub fn open_to_read(path: &Path) -> Result<Self, ConfigurationError> {
        ReplicaDirectory::open_with(path, || {
            let file = path.join(LOCK_FILE);
            // One that was never started has no such file, and must not get one by being looked at.
            let opened = File::open(if file.exists() { file.as_path() } else { path });
            let lock = opened.map_err(|source| ConfigurationError::File { path: file, source })?;
            try_lock(&lock, path)?;
            Ok(lock)
        })
    }

    fn open_with(
        path: &Path,
        lock: impl FnOnce() -> Result<File, ConfigurationError>,
    ) -> Result<Self, ConfigurationError> {
        let deployment = Deployment::load(&cluster_path(path))?;
        let keys = NodeKeys::load(path)?;
        let id =
            deployment.replica_of(&keys.public()).map_err(|error| in_directory(path, error))?;
        let lock = lock()?;
        let header = HeaderFile::open(path, id, deployment.cluster().id())?;
        Ok(ReplicaDirectory { path: path.to_owned(), keys, id, deployment, header, _lock: lock })
    }

    /// Opens the replica's store on the disk, which `init` made: checks all of it and reads what was promised.
    /// One that is lost, damaged or older than the directory is set aside and replaced, and the replica takes
    /// part without voting; [`Store::remarks`] says so.
    ///
    /// # Errors
    /// It is in use, belongs to another replica or cluster, or the disk failed or is full.
    pub fn open_store(&self) -> Result<Store, ConfigurationError> {
        Store::open(&self.path, self.deployment.cluster(), self.id)
    }

    /// Storage in memory instead. It survives nothing: a replica that has ever been started before has lost its
    /// store and takes part without voting, and so it has when it is started with the one on the disk again.
    ///
    /// # Errors
    /// The directory's header cannot be read.
    pub fn memory_store(&self) -> Result<Store, ConfigurationError> {
        let history = if self.header.runs()? == 0 { History::Fresh } else { History::Lost };
        Ok(Store::in_memory(history, Some(self.header.clone())))
    }

    /// Which replica it is.
    pub fn id(&self) -> ReplicaId {
        self.id
    }

    /// How often it was started, with whatever storage.
    ///
    /// # Errors
    /// The directory's header cannot be read.
    pub fn runs(&self) -> Result<u64, ConfigurationError> {
        Ok(self.header.runs()?)
    }

    /// Its keys.
    pub fn keys(&self) -> &NodeKeys {
        &self.keys
    }

    /// The deployment it belongs to.
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// Where evidence that it keeps is written.
    pub fn evidence_path(&self) -> PathBuf {
        self.path.join("evidence")
    }
}

/// A client's directory.
#[derive(Debug)]
pub struct ClientDirectory {
    path: PathBuf,
    keys: NodeKeys,
    id: ClientId,
    deployment: Deployment,
    numbers: Option<Numbers>,
}

impl ClientDirectory {
    /// Opens `DIR/client-J` to submit requests, and locks it: two processes with one key would use the
    /// same numbers.
    ///
    /// # Errors
    /// Anything missing, malformed, in use, or not listed in the cluster.
    pub fn open(path: &Path) -> Result<Self, ConfigurationError> {
        let mut directory = ClientDirectory::open_to_read(path)?;
        let window = directory.deployment.cluster().constants().client_window;
        directory.numbers = Some(Numbers::open(path, window)?);
        Ok(directory)
    }

    /// Opens `DIR/client-J` only to ask for status; it may be in use meanwhile.
    ///
    /// # Errors
    /// Anything missing, malformed, or not listed in the cluster.
    pub fn open_to_read(path: &Path) -> Result<Self, ConfigurationError> {
        let deployment = Deployment::load(&cluster_path(path))?;
        let keys = NodeKeys::load(path)?;
        let id = deployment.client_of(&keys.public()).map_err(|error| in_directory(path, error))?;
        Ok(ClientDirectory { path: path.to_owned(), keys, id, deployment, numbers: None })
    }

    /// Which client it is.
    pub fn id(&self) -> ClientId {
        self.id
    }

    /// Its keys.
    pub fn keys(&self) -> &NodeKeys {
        &self.keys
    }

    /// The deployment it belongs to.
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the source of request numbers out, for the client that will use them.
    pub fn take_numbers(&mut self) -> Option<Numbers> {
        self.numbers.take()
    }
}

/// Request numbers that never repeat across processes.
///
/// The first is max(last saved + W, Unix time in microseconds). The number saved runs ahead of those in
/// use, so that a crash between two saves repeats none.
#[derive(Debug)]
pub struct Numbers {
    file: Option<File>,
    path: PathBuf,
    window: u64,
    first: RequestNumber,
    saved: u64,
}

impl Numbers {
    /// Numbers kept nowhere: the clock alone tells them apart. For clients in demonstrations and tests.
    pub fn from_clock() -> Self {
        let first = RequestNumber(unix_micros().max(1));
        Numbers { file: None, path: PathBuf::new(), window: 1, first, saved: u64::MAX }
    }

    fn open(directory: &Path, window: u64) -> Result<Self, ConfigurationError> {
        let path = directory.join(NUMBER_FILE);
        let io = |source| ConfigurationError::File { path: path.clone(), source };
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        try_lock(&file, directory)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(io)?;
        let saved: u64 = match text.trim() {
            "" => 0,
            digits => digits.parse().map_err(|_| ConfigurationError::ValueIn {
                path: path.clone(),
                error: ConfigError::new(
                    "number",
                    digits,
                    "not a number: remove the file, the clock then gives a higher one",
                ),
            })?,
        };
        let first = RequestNumber(saved.saturating_add(window).max(unix_micros()));
        if !first.is_valid() {
            let error =
                ConfigError::new("number", saved, "numbers are used up: make a new client key");
            return Err(ConfigurationError::ValueIn { path, error });
        }
        let mut numbers = Numbers { file: Some(file), path, window, first, saved };
        numbers.reserve(first)?;
        Ok(numbers)
    }

    /// The first number to use.
    pub fn first(&self) -> RequestNumber {
        self.first
    }

    /// Makes sure that the number saved stays within W of `next`, before `next` is used.
    ///
    /// # Errors
    /// The file cannot be written; `next` must not be used then.
    pub fn reserve(&mut self, next: RequestNumber) -> Result<(), ConfigurationError> {
        if next.0 < self.saved.saturating_add(self.window) && self.saved >= self.first.0 {
            return Ok(());
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let path = &self.path;
        let io = |source| ConfigurationError::File { path: path.clone(), source };
        // Fixed width, so that a shorter number never leaves digits of a longer one behind.
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        file.write_all(format!("{:020}\n", next.0).as_bytes()).map_err(io)?;
        file.sync_data().map_err(io)?;
        self.saved = next.0;
        Ok(())
    }
}

fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(0)
}

fn cluster_path(directory: &Path) -> PathBuf {
    directory.join("..").join(CLUSTER_FILE)
}

fn in_directory(directory: &Path, error: ConfigError) -> ConfigurationError {
    let path = if error.field == "tls_key" { tls_path(directory) } else { signing_path(directory) };
    ConfigurationError::ValueIn { path, error }
}

fn lock(directory: &Path) -> Result<File, ConfigurationError> {
    let path = directory.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|source| ConfigurationError::File { path, source })?;
    try_lock(&file, directory)?;
    Ok(file)
}

fn try_lock(file: &File, directory: &Path) -> Result<(), ConfigurationError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(ConfigurationError::Locked { path: directory.to_owned() })
        }
        Err(TryLockError::Error(source)) => {
            Err(ConfigurationError::File { path: directory.to_owned(), source })
        }
    }
}

#[cfg(test)]
#[path = "directory_test.rs"]
mod tests;
