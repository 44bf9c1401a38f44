//! A deployment on loopback, written where the processes of a run find it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use pbft_app::config::CLUSTER_FILE;
use pbft_app::{Deployment, NodeKeys, ReplicaEntry, ReplicaSockets, Store, Timeouts};

use crate::failure::Failure;
use crate::workload::Workload;

/// Nothing here is a secret: keys follow from who has them, so that no process needs to be told.
fn seed(kind: u8, index: usize) -> [u8; 32] {
    let mut seed = [kind; 32];
    seed[..8].copy_from_slice(&(index as u64).to_le_bytes());
    seed
}

pub fn replica_tls_seed(index: usize) -> [u8; 32] {
    seed(2, index)
}

pub fn replica_keys(index: usize) -> NodeKeys {
    NodeKeys::from_seeds(seed(1, index), replica_tls_seed(index))
}

pub fn client_keys(index: usize) -> NodeKeys {
    NodeKeys::from_seeds(seed(3, index), seed(4, index))
}

/// Where replica `index` keeps its things.
pub fn replica_path(directory: &Path, index: usize) -> PathBuf {
    directory.join(format!("replica-{index}"))
}

/// What everyone shares.
///
/// # Errors
/// It cannot be read.
pub fn load(directory: &Path) -> Result<Deployment, Failure> {
    Ok(Deployment::load(&directory.join(CLUSTER_FILE))?)
}

/// Writes what the processes of a run need: `cluster.toml`, and a directory with a store for each replica.
///
/// # Errors
/// The workload's constants do not hold, or nothing can be written there.
pub fn create(directory: &Path, workload: &Workload, clients: usize) -> Result<(), Failure> {
    let replicas = if workload.unreplicated { 1 } else { workload.replicas };
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    // All are held until all are known, so that none is given out twice; then the replicas take them again.
    let mut sockets = Vec::new();
    let mut entries = Vec::new();
    for index in 0..replicas {
        let bound = ReplicaSockets::bind(local, local)
            .map_err(|error| Failure::of("cannot bind a port of 127.0.0.1", error))?;
        entries.push(ReplicaEntry {
            keys: replica_keys(index).public(),
            peer_address: bound.peer_address(),
            client_address: bound.client_address(),
        });
        sockets.push(bound);
    }
    let deployment = Deployment::new(
        "bench",
        entries,
        (0..clients).map(|index| client_keys(index).public()).collect(),
        workload.constants(),
        Timeouts::default(),
        replicas < 4,
    )?;
    for id in deployment.cluster().replicas() {
        let path = replica_path(directory, id.0 as usize);
        std::fs::create_dir(&path)?;
        Store::create(&path, deployment.cluster(), id)?;
    }
    Ok(deployment.store(&directory.join(CLUSTER_FILE))?)
}
