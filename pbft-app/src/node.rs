//! A replica as a running node, on a thread and a runtime of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;

use pbft_core::application::Application;
use pbft_core::evidence::Evidence;
use pbft_core::limits::Limits;
use pbft_core::replica::Summary;
use pbft_core::types::ReplicaId;
use pbft_net::ReplicaSockets;
use tokio::sync::{oneshot, watch};

use crate::config::Deployment;
use crate::error::NodeError;
use crate::fault_injection::Installed;
use crate::findings::Findings;
use crate::host::{Host, Publish, Stop};
use crate::keys::NodeKeys;
use crate::storage::StorageMetrics;
use crate::store::Store;

/// The version that status reports name: major, minor, patch.
pub const VERSION: [u16; 3] = [0, 1, 0];

/// What a node needs to start.
pub struct NodeConfig {
    /// The deployment it belongs to.
    pub deployment: Deployment,
    /// Which replica it is.
    pub id: ReplicaId,
    /// Its keys.
    pub keys: NodeKeys,
    /// Bounds and time-outs; [`Deployment::limits`] unless there is a reason.
    pub limits: Limits,
    /// Where evidence of misbehaviour is written, a file for each piece; nowhere if `None`.
    pub evidence: Option<PathBuf>,
}

/// A running replica, on a thread and a runtime of its own. Stops when dropped.
#[derive(Debug)]
pub struct Node {
    id: ReplicaId,
    peer_address: SocketAddr,
    client_address: SocketAddr,
    stop: Option<oneshot::Sender<Stop>>,
    ended: Option<oneshot::Receiver<Result<(), NodeError>>>,
    summary: watch::Receiver<Option<Summary>>,
    findings: watch::Receiver<Findings>,
    metrics: watch::Receiver<StorageMetrics>,
}

impl Node {
    /// Starts a replica on sockets that are bound already, from what its store holds. Everything in the store has
    /// been read and taken in before the network is opened.
    ///
    /// # Errors
    /// The configuration does not hold or the network cannot be set up.
    pub async fn start(
        config: NodeConfig,
        sockets: ReplicaSockets,
        application: Box<dyn Application>,
        store: Store,
    ) -> Result<Node, NodeError> {
        Node::launch(config, sockets, application, store, Installed::none()).await
    }

    pub(crate) async fn launch(
        config: NodeConfig,
        sockets: ReplicaSockets,
        application: Box<dyn Application>,
        store: Store,
        hook: Installed,
    ) -> Result<Node, NodeError> {
        let id = config.id;
        let (peer_address, client_address) = (sockets.peer_address(), sockets.client_address());
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let (publish_summary, summary) = watch::channel(None);
        let (publish_findings, findings) = watch::channel(Findings::default());
        let (publish_metrics, metrics) = watch::channel(StorageMetrics::default());
        let publish = Publish {
            summary: publish_summary,
            findings: publish_findings,
            metrics: publish_metrics,
        };
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let outcome = match runtime {
                Err(error) => Err(NodeError::Start(error)),
                Ok(runtime) => runtime.block_on(async move {
                    let host = Host::new(config, sockets, application, store, publish, hook)?;
                    let _ = ready.send(());
                    host.run(stopped).await
                }),
            };
            let _ = end.send(outcome);
        };
        thread::Builder::new()
            .name(format!("replica-{id}"))
            .spawn(run)
            .map_err(NodeError::Start)?;
        let mut ended = ended;
        if is_ready.await.is_err() {
            // The thread ended before it was ready, so it has said why.
            return Err((&mut ended)
                .await
                .map_or(NodeError::Lost, |outcome| outcome.err().unwrap_or(NodeError::Lost)));
        }
        let (stop, ended) = (Some(stop), Some(ended));
        Ok(Node { id, peer_address, client_address, stop, ended, summary, findings, metrics })
    }

    /// Which replica it is.
    pub fn id(&self) -> ReplicaId {
        self.id
    }

    /// Where peers reach it.
    pub fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    /// Where clients reach it.
    pub fn client_address(&self) -> SocketAddr {
        self.client_address
    }

    /// What the replica is doing, as it changes. `None` before the first input.
    pub fn watch(&self) -> watch::Receiver<Option<Summary>> {
        self.summary.clone()
    }

    /// The evidence that the replica has kept so far, to convince anyone who knows the cluster's keys.
    pub fn evidence(&self) -> Vec<Evidence> {
        self.findings.borrow().evidence.clone()
    }

    /// Everything it has found wrong, as it finds it.
    pub fn findings(&self) -> watch::Receiver<Findings> {
        self.findings.clone()
    }

    /// What the journal's disk does, as it does it: commits, bytes, time, and whether it is full. Nothing with
    /// storage in memory.
    pub fn storage_metrics(&self) -> watch::Receiver<StorageMetrics> {
        self.metrics.clone()
    }

    /// Waits until the node ends by itself, which only a failure makes it do.
    ///
    /// Cancel safe: a node whose `wait` is dropped goes on.
    ///
    /// # Errors
    /// Why it ended.
    pub async fn wait(&mut self) -> Result<(), NodeError> {
        match &mut self.ended {
            None => Ok(()),
            Some(ended) => {
                let outcome = ended.await.unwrap_or(Err(NodeError::Lost));
                self.ended = None;
                outcome
            }
        }
    }

    /// Ends the node at once: nothing that waits is sent or written, nothing is said to anyone. For tests and
    /// demonstrations of a crash; a killed process is the real thing.
    pub async fn crash(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(Stop::Crash);
        }
        let _ = self.wait().await;
    }

    /// Closes connections cleanly and ends the node.
    ///
    /// # Errors
    /// What made it fail before it could.
    pub async fn stop(mut self) -> Result<(), NodeError> {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(Stop::Clean);
        }
        self.wait().await
    }
}
