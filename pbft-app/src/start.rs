//! How a node begins: from what its store holds, all of it before the network is opened (PITFALLS H3).

use std::sync::Arc;

use pbft_core::application::Application;
use pbft_core::archive::{Archive, Snapshot};
use pbft_core::cluster::Cluster;
use pbft_core::limits::Limits;
use pbft_core::replica::{Input, Replica};
use pbft_core::state::ReplicatedState;
use pbft_core::types::{Instant, ReplicaId, Sequence};

use crate::error::{ConfigurationError, NodeError};
use crate::storage::{Changed, FIRST_VERSION, Loaded, StorageError};
use crate::store::{History, Kind, Store};

/// A replica and its state as they were when they were last durable.
pub(crate) struct Resumed {
    pub(crate) replica: Replica,
    pub(crate) state: ReplicatedState,
    pub(crate) archive: Archive,
    /// What is stored of the state.
    pub(crate) base: Option<Sequence>,
    /// In what the state differs from it.
    pub(crate) changed: Changed,
    /// What the replica is told first: the state it goes on from.
    pub(crate) restored: Option<Input>,
}

/// Goes back to where the store says that the replica was. Writes nothing that anyone is promised.
pub(crate) fn resume(
    (id, cluster, limits): (ReplicaId, &Arc<Cluster>, &Limits),
    store: &mut Store,
    application: Box<dyn Application>,
) -> Result<Resumed, NodeError> {
    let (records, loaded) = match &mut store.kind {
        Kind::Disk(disk) => (std::mem::take(&mut disk.records), std::mem::take(&mut disk.loaded)),
        Kind::Memory(_) => (Vec::new(), Loaded::new()),
    };
    let (own, limits) = (Arc::clone(cluster), limits.clone());
    let replica = match (store.history(), &store.kind) {
        (History::Fresh, _) => Replica::new(id, own, limits).map_err(ConfigurationError::from)?,
        (History::Lost, Kind::Memory(_)) => {
            Replica::with_lost_store(id, own, limits).map_err(ConfigurationError::from)?
        }
        // A journal on a disk says itself whether the one before it is lost, and whether that is over.
        (History::Lost | History::Kept, _) => Replica::recover(id, own, limits, records)?,
    };
    let mut archive = Archive::new(Arc::clone(cluster));
    for snapshot in loaded {
        archive.install(snapshot);
    }
    let mut state = ReplicatedState::new(Arc::clone(cluster), application);
    archive.stable(replica.window().stable(), Instant(0));
    let latest = archive.latest_stable().cloned();
    archive.resume(latest.clone().unwrap_or_default());
    let restored = latest.and_then(|snapshot| restore(id, cluster, &mut state, &snapshot));
    let mut changed = Changed::default();
    let base = match &restored {
        Some(Input::Restored { sequence, .. }) => {
            tracing::info!(replica = %id, %sequence, "goes on from its own snapshot");
            Some(*sequence)
        }
        _ => {
            archive.resume(Snapshot::default());
            begin(store, &mut state, &mut archive, &mut changed)?
        }
    };
    Ok(Resumed { replica, state, archive, base, changed, restored })
}

/// Hashes and stores the state before slot 1, which changed as a whole: while nothing is ordered yet nobody waits for
/// it, and the first checkpoint would keep everyone waiting.
fn begin(
    store: &mut Store,
    state: &mut ReplicatedState,
    archive: &mut Archive,
    changed: &mut Changed,
) -> Result<Option<Sequence>, NodeError> {
    let frozen = state.freeze()?;
    changed.note(&frozen.sessions, &frozen.application);
    archive.apply(frozen);
    let Kind::Disk(disk) = &mut store.kind else { return Ok(None) };
    match disk.snapshots.prepare(archive.current(), changed) {
        Ok(true) => {
            *changed = Changed::default();
            Ok(Some(FIRST_VERSION))
        }
        // The first checkpoint stores it then, if there is space.
        Ok(false) | Err(StorageError::Full { .. }) => Ok(None),
        Err(error) => Err(NodeError::Storage(error)),
    }
}

/// Makes the state that of the snapshot. One that cannot be is none: the state is fetched from others.
fn restore(
    id: ReplicaId,
    cluster: &Cluster,
    state: &mut ReplicatedState,
    snapshot: &Snapshot,
) -> Option<Input> {
    let (sequence, digest) = (snapshot.sequence, snapshot.digest(cluster));
    match state.restore(snapshot) {
        Ok(consumed) => Some(Input::Restored { sequence, digest, consumed }),
        Err(error) => {
            tracing::warn!(replica = %id, %sequence, %error, "the own snapshot is no state: it is fetched from others");
            None
        }
    }
}
