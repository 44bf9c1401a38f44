//! A replica as a running node: network, gate, core, journal and executor around one loop.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant as Clock, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use pbft_core::application::Application;
use pbft_core::cluster::Cluster;
use pbft_core::crypto::Ed25519Signer;
use pbft_core::limits::Limits;
use pbft_core::message::{Message, ReplicaMessage, Report, Statement, Text};
use pbft_core::replica::{Action, Input, Record, Replica, Summary, To, Verdict, ViewEntered};
use pbft_core::signed::sign_message;
use pbft_core::state::ReplicatedState;
use pbft_core::types::{ClientId, Digest, Instant, ReplicaId, Sequence, Time, WallTime};
use pbft_core::wire;
use pbft_net::gate::{FromClient, FromPeer, Gate};
use pbft_net::{
    Lane, Network, Node as Peer, Received, ReplicaNetworkConfig, ReplicaSockets, TlsKey,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::archivist::Task;
use crate::config::Deployment;
use crate::error::{ConfigurationError, NodeError};
use crate::executor::{Command, Event, Executor};
use crate::keys::NodeKeys;
use crate::storage::Storage;

/// The version that status reports name: major, minor, patch.
pub const VERSION: [u16; 3] = [0, 1, 0];

/// Whether a replica's promises of earlier runs are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// It has never run before.
    Fresh,
    /// It ran before and its store is gone: it takes part without voting.
    Lost,
}

/// What a node needs to start.
pub struct NodeConfig {
    /// The deployment it belongs to.
    pub deployment: Deployment,
    /// Which replica it is.
    pub id: ReplicaId,
    /// Its keys.
    pub keys: NodeKeys,
    /// Whether it ran before.
    pub history: History,
    /// Bounds and time-outs; [`Deployment::limits`] unless there is a reason.
    pub limits: Limits,
}

/// How a node is to end.
#[derive(Clone, Copy, Debug)]
enum Stop {
    Clean,
    Crash,
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
}

impl Node {
    /// Starts a replica on sockets that are bound already.
    ///
    /// # Errors
    /// The configuration does not hold or the network cannot be set up.
    pub async fn start(
        config: NodeConfig,
        sockets: ReplicaSockets,
        application: Box<dyn Application>,
        storage: Box<dyn Storage>,
    ) -> Result<Node, NodeError> {
        let id = config.id;
        let (peer_address, client_address) = (sockets.peer_address(), sockets.client_address());
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let (publish, summary) = watch::channel(None);
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let outcome = match runtime {
                Err(error) => Err(NodeError::Start(error)),
                Ok(runtime) => runtime.block_on(async move {
                    let host = Host::new(config, sockets, application, storage, publish)?;
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
        Ok(Node { id, peer_address, client_address, stop, ended, summary })
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

    /// Ends the node at once: nothing that waits is sent, nothing is said to anyone. For tests and
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

/// Everything the loop owns.
struct Host {
    id: ReplicaId,
    cluster: Arc<Cluster>,
    signer: Ed25519Signer,
    replica: Replica,
    gate: Gate,
    network: Network,
    storage: Box<dyn Storage>,
    executor: Executor,
    events: mpsc::UnboundedReceiver<Event>,
    started: Clock,
    view_timeout: Duration,
    publish: watch::Sender<Option<Summary>>,
}

impl Host {
    fn new(
        config: NodeConfig,
        sockets: ReplicaSockets,
        application: Box<dyn Application>,
        storage: Box<dyn Storage>,
        publish: watch::Sender<Option<Summary>>,
    ) -> Result<Host, NodeError> {
        let NodeConfig { deployment, id, keys, history, limits } = config;
        let cluster = Arc::clone(deployment.cluster());
        let make = match history {
            History::Fresh => Replica::new,
            History::Lost => Replica::with_lost_store,
        };
        let view_timeout = limits.view_timeout;
        let replica = make(id, Arc::clone(&cluster), limits).map_err(ConfigurationError::from)?;
        let state = ReplicatedState::new(Arc::clone(&cluster), application);
        let (executor, events) = Executor::start(id, &cluster, state)?;
        let tls_key = TlsKey::from_seed(keys.tls_seed()).map_err(ConfigurationError::from)?;
        let network = Network::replica(
            sockets,
            ReplicaNetworkConfig {
                id,
                tls_key,
                members: deployment.peer_members(),
                clients: deployment.clients().iter().map(|keys| keys.tls).collect(),
                identity: deployment.identity(),
                limits: pbft_net::NetLimits::default(),
            },
        )
        .map_err(ConfigurationError::from)?;
        Ok(Host {
            id,
            gate: Gate::new(Arc::clone(&cluster), Box::new(deployment.verifier().clone())),
            cluster,
            signer: keys.signer(),
            replica,
            network,
            storage,
            executor,
            events,
            started: Clock::now(),
            view_timeout,
            publish,
        })
    }

    async fn run(mut self, mut stopped: oneshot::Receiver<Stop>) -> Result<(), NodeError> {
        self.drive(Input::Start)?;
        loop {
            let alarm = self.replica.deadline();
            tokio::select! {
                // What has arrived is read before a timer fires: after a pause the backlog says whether
                // anything was late at all (PITFALLS E9).
                biased;
                stop = &mut stopped => {
                    if matches!(stop, Ok(Stop::Crash)) {
                        return Ok(());
                    }
                    break;
                }
                Some(event) = self.events.recv() => self.on_event(event)?,
                received = self.network.receive() => self.on_received(received)?,
                () = sleep_until(self.started, alarm) => self.drive(Input::Wake)?,
            }
        }
        self.network.close().await;
        Ok(())
    }

    fn now(&self) -> Time {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time { instant: Instant(micros(self.started.elapsed())), wall: WallTime(micros(wall)) }
    }

    fn on_event(&mut self, event: Event) -> Result<(), NodeError> {
        match event {
            Event::Input(input) => self.drive(input)?,
            Event::Reply { client, frame } => self.send_client(client, frame),
            Event::Digest { client, executed, digest } => self.report(client, executed, digest),
            Event::Transfer { peer, frame } => {
                self.network.send(Peer::Replica(peer), Lane::Transfer, frame);
            }
            Event::Failed(error) => return Err(error),
        }
        Ok(())
    }

    fn on_received(&mut self, received: Received) -> Result<(), NodeError> {
        match received {
            Received::Up(Peer::Replica(peer)) => {
                tracing::info!(replica = %self.id, %peer, "peer connected");
                self.check_time_outs(peer);
                self.drive(Input::Connected(peer))
            }
            Received::Down(Peer::Replica(peer)) => {
                tracing::info!(replica = %self.id, %peer, "peer disconnected");
                Ok(())
            }
            Received::Up(Peer::Client(_)) | Received::Down(Peer::Client(_)) => Ok(()),
            Received::Frames { from: Peer::Replica(peer), frames } => {
                self.on_peer_frames(peer, &frames)
            }
            Received::Frames { from: Peer::Client(client), frames } => {
                self.on_client_frames(client, &frames)
            }
        }
    }

    /// A time-out below what a request takes over these links suspects every primary.
    fn check_time_outs(&self, peer: ReplicaId) {
        let Some(round_trip) = self.network.round_trip(Peer::Replica(peer)) else { return };
        if let Some(needed) = longer_timeout(self.view_timeout, round_trip) {
            tracing::warn!(
                replica = %self.id, %peer, ?round_trip, view_timeout = ?self.view_timeout,
                "view_timeout is below eight round trips to this peer: set at least {needed:?} in cluster.toml, or views will change without a fault"
            );
        }
    }

    fn on_peer_frames(&mut self, peer: ReplicaId, frames: &[Bytes]) -> Result<(), NodeError> {
        for frame in frames {
            match self.gate.pass_peer(&self.replica, frame) {
                Ok(FromPeer::Protocol(verified)) => self.drive(Input::Deliver(verified))?,
                Ok(FromPeer::Ask(ask)) => self.executor.archivist().give(Task::Serve { peer, ask }),
                Ok(FromPeer::Part(part)) => {
                    self.executor.archivist().give(Task::Take { donor: peer, part });
                }
                Err(rejection) if rejection.is_malice() => {
                    tracing::warn!(replica = %self.id, %peer, %rejection, "refused, connection closed");
                    self.network.penalize(Peer::Replica(peer), rejection.name());
                    // Its primary signed it, so it is worth a view.
                    return match rejection.void_new_view() {
                        Some(view) => self.drive(Input::VoidNewView(view)),
                        None => Ok(()),
                    };
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn on_client_frames(&mut self, client: ClientId, frames: &[Bytes]) -> Result<(), NodeError> {
        for frame in frames {
            match self.gate.pass_client(&self.replica, client, frame) {
                Ok(FromClient::Request(verified)) => self.drive(Input::Deliver(verified))?,
                Ok(FromClient::Query) => self.executor.give(Command::Report { client }),
                Err(rejection) if rejection.is_malice() => {
                    tracing::warn!(replica = %self.id, %client, %rejection, "refused, connection closed");
                    self.network.penalize(Peer::Client(client), rejection.name());
                    return Ok(());
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Gives the replica an input and carries out everything that follows from it.
    fn drive(&mut self, input: Input) -> Result<(), NodeError> {
        let mut inputs = VecDeque::from([input]);
        let mut actions = Vec::new();
        let mut appended = false;
        loop {
            while let Some(input) = inputs.pop_front() {
                let now = self.now();
                if let Verdict::Refused(misbehavior) = self.replica.step(now, input, &mut actions) {
                    tracing::warn!(replica = %self.id, ?misbehavior, "a peer broke the protocol");
                }
                for action in actions.drain(..) {
                    appended |= matches!(action, Action::Persist { .. });
                    self.perform(action, &mut inputs)?;
                }
            }
            if !std::mem::take(&mut appended) {
                break;
            }
            // One commit for everything that was appended, however many slots it is for.
            inputs.push_back(Input::Durable(self.storage.commit()?));
        }
        self.publish.send_replace(Some(self.replica.summary()));
        Ok(())
    }

    fn perform(&mut self, action: Action, inputs: &mut VecDeque<Input>) -> Result<(), NodeError> {
        match action {
            Action::Persist { id, record } => {
                if let Record::Stable(proof) = &record {
                    self.executor.archivist().give(Task::Stable(proof.sequence()));
                }
                self.storage.append(id, record)?;
            }
            Action::Say { to, statement, batch } => {
                let own = to == To::All
                    && !matches!(statement, Statement::Status(_) | Statement::Fetch(_));
                let verified = sign_message(&self.cluster, &self.signer, self.id, statement, batch);
                self.send(to, verified.message());
                if own {
                    inputs.push_back(Input::Deliver(verified));
                }
            }
            Action::Relay { to, message } => self.send(to, &message),
            Action::Execute { sequence, batch, view } => {
                self.executor.give(Command::Execute { sequence, batch, view });
            }
            Action::Snapshot { .. } => self.executor.give(Command::Snapshot),
            Action::Answer { client, number, digest, view } => {
                self.executor.give(Command::Answer { client, number, digest, view });
            }
            Action::Busy { client, number } => {
                self.send_client(client, wire::encode(&ReplicaMessage::Busy(number)));
            }
            Action::Discard { below } => self.storage.discard(below)?,
            Action::Restore { proof } => {
                let sequence = proof.sequence();
                tracing::info!(replica = %self.id, %sequence, "behind: state transfer wanted");
                self.executor.archivist().give(Task::Restore(proof));
            }
            Action::Diverged { after, sequence, own, agreed } => {
                tracing::error!(
                    replica = %self.id, %after, %sequence, %own, %agreed,
                    "own state is wrong: it was right at the first slot named and is not at the second"
                );
            }
            Action::ViewEntered(event) => log_view(self.id, &event),
            Action::Accuse(evidence) => {
                let subject = evidence.subject();
                tracing::warn!(replica = %self.id, ?subject, "evidence of misbehaviour kept");
            }
            Action::Halt(halt) => return Err(NodeError::Halted(halt)),
        }
        Ok(())
    }

    /// Encodes once and shares the bytes with every receiver. Votes never wait behind bodies.
    fn send(&self, to: To, message: &Message) {
        let lane = match message {
            Message::Statement(_) => Lane::Urgent,
            _ => Lane::Bulk,
        };
        let frame = wire::encode(message);
        match to {
            To::One(peer) => self.network.send(Peer::Replica(peer), lane, frame),
            To::All => {
                for peer in self.cluster.replicas().filter(|peer| *peer != self.id) {
                    self.network.send(Peer::Replica(peer), lane, frame.clone());
                }
            }
        }
    }

    fn send_client(&self, client: ClientId, frame: Bytes) {
        self.network.send(Peer::Client(client), Lane::Urgent, frame);
    }

    fn report(&self, client: ClientId, executed: Sequence, digest: Digest) {
        let summary = self.replica.summary();
        let cause = summary.cause.map(|cause| Text::new(&cause.to_string())).unwrap_or_default();
        let report = Report {
            replica: self.id,
            view: summary.view,
            in_view_change: summary.voted_view > summary.view,
            last_executed: executed,
            stable_checkpoint: summary.stable,
            state_digest: digest,
            view_changes: summary.view_changes,
            view_change_cause: cause,
            transferring: summary.restoring,
            evidence: u64::try_from(summary.evidence).unwrap_or(u64::MAX),
            version: VERSION,
        };
        self.send_client(client, wire::encode(&ReplicaMessage::Report(report)));
    }
}

/// What a view time-out should be at least, if it is shorter than what a request takes over links with
/// this round trip: pre-prepare, prepare, commit and a repair are four round trips; twice that.
fn longer_timeout(view_timeout: Duration, round_trip: Duration) -> Option<Duration> {
    let needed = round_trip * 8;
    (view_timeout < needed).then_some(needed)
}

/// One line for each view change, with everything that led to it.
fn log_view(replica: ReplicaId, event: &ViewEntered) {
    let ViewEntered { view, from, cause, between_micros, timeout_micros, senders, min, max, nulls } =
        event;
    tracing::info!(
        %replica, %view, %from, ?cause, between_micros, timeout_micros, ?senders, %min, %max, nulls,
        "view entered"
    );
}

async fn sleep_until(origin: Clock, alarm: Option<Instant>) {
    match alarm {
        None => std::future::pending().await,
        Some(Instant(micros)) => {
            let due = origin + Duration::from_micros(micros);
            tokio::time::sleep_until(due.into()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f8_a_time_out_below_eight_round_trips_is_named_with_what_to_set() {
        let (second, slow) = (Duration::from_secs(1), Duration::from_millis(200));
        assert_eq!(longer_timeout(second, slow), Some(Duration::from_millis(1600)));
        assert_eq!(longer_timeout(second, Duration::from_millis(100)), None);
    }
}
