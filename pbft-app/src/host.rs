//! The loop of a node: network, gate, core, journal and executor around one replica.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use pbft_core::application::Application;
use pbft_core::cluster::Cluster;
use pbft_core::crypto::Ed25519Signer;
use pbft_core::evidence::Evidence;
use pbft_core::limits::Limits;
use pbft_core::message::{Convictions, Message, ReplicaMessage, Report, Statement, Text};
use pbft_core::replica::{Action, Input, Record, Replica, Summary, To, Verdict, ViewEntered};
use pbft_core::signed::sign_message;
use pbft_core::types::{ClientId, Digest, Instant, ReplicaId, Sequence, Time, WallTime, WriteId};
use pbft_core::wire;
use pbft_net::gate::{FromClient, FromPeer, Gate, Refused};
use pbft_net::{
    Lane, Network, Node as Peer, Received, ReplicaNetworkConfig, ReplicaSockets, TlsKey,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::archivist::Task;
use crate::error::{ConfigurationError, NodeError};
use crate::executor::{Command, Event, Executor};
use crate::fault_injection::Installed;
use crate::findings::{Findings, Keeper};
use crate::journal::JournalHandle;
use crate::node::{NodeConfig, VERSION};
use crate::shelf::Shelf;
use crate::start::{Resumed, resume};
use crate::storage::{Guard, StorageMetrics, Writer};
use crate::store::{Kind, Store};

/// How a node is to end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    Clean,
    Crash,
}

/// What whoever started the node can see.
pub(crate) struct Publish {
    pub(crate) summary: watch::Sender<Option<Summary>>,
    pub(crate) findings: watch::Sender<Findings>,
    pub(crate) metrics: watch::Sender<StorageMetrics>,
}

/// So many frames are taken up before the tasks of the network have a turn: votes go out, what arrived comes in.
const TURN_FRAMES_MAX: usize = 64;
/// After so long, at the latest, a primary proposes what waits, however fast more arrives.
const BURST_TIME_MAX: Duration = Duration::from_millis(10);
/// What has arrived goes before an alarm, for so long: a peer may send for ever (PITFALLS F3).
const PATIENCE: Duration = Duration::from_millis(50);

/// Everything the loop owns.
pub(crate) struct Host {
    pub(crate) id: ReplicaId,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) limits: Limits,
    signer: Ed25519Signer,
    pub(crate) replica: Replica,
    pub(crate) hook: Installed,
    gate: Gate,
    pub(crate) network: Network,
    journal: JournalHandle,
    /// How often the replica has gone back to an earlier state of itself: what is reported durable to one of
    /// them is nothing to the next.
    pub(crate) run: u64,
    /// The stable checkpoints whose proofs are being written.
    pub(crate) proofs: VecDeque<(WriteId, Sequence)>,
    /// What the replica has not been given yet, each with the peer whose link brought it, if one did.
    pub(crate) inputs: VecDeque<(Option<ReplicaId>, Input)>,
    /// Frames taken up since the tasks of the network last had a turn.
    taken: usize,
    /// The state that it goes on from, told to the replica before anything else.
    restored: Option<Input>,
    /// Below the stored snapshots, for a crash.
    snapshots: Option<Arc<Guard>>,
    pub(crate) executor: Executor,
    events: mpsc::UnboundedReceiver<Event>,
    started: Clock,
    keeper: Keeper,
    publish: watch::Sender<Option<Summary>>,
}

impl Host {
    pub(crate) fn new(
        config: NodeConfig,
        sockets: ReplicaSockets,
        application: Box<dyn Application>,
        mut store: Store,
        publish: Publish,
        hook: Installed,
    ) -> Result<Host, NodeError> {
        let NodeConfig { deployment, id, keys, limits, evidence } = config;
        let cluster = Arc::clone(deployment.cluster());
        let resumed = resume((id, &cluster, &limits), &mut store, application)?;
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
        // After everything that could still refuse the start, and before the first vote.
        store.note_start().map_err(NodeError::Storage)?;
        let (sender, events) = mpsc::unbounded_channel();
        let (journal, stored) = match store.kind {
            Kind::Memory(storage) => (JournalHandle::Memory { storage, appended: false }, None),
            Kind::Disk(disk) => {
                let writer = Writer::start(id, disk.journal, sender.clone(), publish.metrics)?;
                (JournalHandle::Disk(writer), Some(disk.snapshots))
            }
        };
        let Resumed { replica, state, archive, base, changed, restored } = resumed;
        let snapshots = stored.as_ref().map(|stored| Arc::clone(stored.guard()));
        let shelf = Shelf::new(id, stored, base, changed);
        let executor = Executor::start(id, &cluster, state, archive, shelf, sender)?;
        Ok(Host {
            id,
            gate: Gate::new(Arc::clone(&cluster), Box::new(deployment.verifier().clone())),
            cluster,
            limits,
            signer: keys.signer(),
            replica,
            hook,
            network,
            journal,
            run: 0,
            proofs: VecDeque::new(),
            inputs: VecDeque::new(),
            taken: 0,
            restored,
            snapshots,
            executor,
            events,
            started: Clock::now(),
            keeper: Keeper::new(id, evidence, publish.findings),
            publish: publish.summary,
        })
    }

    pub(crate) async fn run(
        mut self,
        mut stopped: oneshot::Receiver<Stop>,
    ) -> Result<(), NodeError> {
        self.hook.announce(self.id);
        if let Some(restored) = self.restored.take() {
            self.drive(None, restored)?;
        }
        self.drive(None, Input::Start)?;
        loop {
            self.propose()?;
            let alarm = self.replica.deadline();
            tokio::select! {
                // What has arrived is read before a timer fires: after a pause the backlog says whether
                // anything was late at all (PITFALLS E9).
                biased;
                stop = &mut stopped => {
                    if matches!(stop, Ok(Stop::Crash)) {
                        self.journal.abandon();
                        if let Some(snapshots) = &self.snapshots {
                            snapshots.abandon();
                        }
                        return Ok(());
                    }
                    break;
                }
                Some(event) = self.events.recv() => self.on_event(event)?,
                received = self.network.receive() => self.on_received(received)?,
                () = sleep_until(self.started, alarm) => self.drive(None, Input::Wake)?,
                () = sleep_until(self.started, self.hook.deadline()) => self.wake_hook()?,
            }
            self.take_up_the_rest().await?;
        }
        self.network.close().await;
        Ok(())
    }

    /// Takes up everything else that is at hand. Load is what makes the batches: a primary that is kept busy
    /// proposes all that came meanwhile at once.
    async fn take_up_the_rest(&mut self) -> Result<(), NodeError> {
        let end = Clock::now() + BURST_TIME_MAX;
        loop {
            if let Ok(event) = self.events.try_recv() {
                self.on_event(event)?;
            } else if let Some(received) = self.network.try_receive() {
                self.on_received(received)?;
            } else {
                return Ok(());
            }
            if Clock::now() >= end {
                break;
            }
            if self.taken >= TURN_FRAMES_MAX {
                self.taken = 0;
                tokio::task::yield_now().await;
            }
        }
        self.taken = 0;
        tokio::task::yield_now().await;
        self.wake_overdue()
    }

    /// Lets an alarm ring that has waited too long behind what arrives.
    fn wake_overdue(&mut self) -> Result<(), NodeError> {
        let due = self.replica.deadline().map(|due| clock(self.started, due));
        if due.is_some_and(|due| Clock::now() >= due + PATIENCE) {
            self.drive(None, Input::Wake)?;
        }
        Ok(())
    }

    /// Lets the replica propose, and shows what it is doing.
    fn propose(&mut self) -> Result<(), NodeError> {
        let mut actions = Vec::new();
        self.replica.propose(self.now(), &mut actions);
        for action in actions {
            self.act(action)?;
        }
        self.carry_on()?;
        self.publish.send_replace(Some(self.replica.summary()));
        Ok(())
    }

    pub(crate) fn now(&self) -> Time {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time { instant: Instant(micros(self.started.elapsed())), wall: WallTime(micros(wall)) }
    }

    fn on_event(&mut self, event: Event) -> Result<(), NodeError> {
        match event {
            Event::Input(input) => self.drive(None, input)?,
            Event::Executed { sequence, consumed, replies } => {
                for (client, frame) in replies {
                    self.tell(client, frame)?;
                }
                self.drive(None, Input::Executed { sequence, consumed })?;
            }
            Event::Reply { client, frame } => self.tell(client, frame)?,
            Event::Digest { client, executed, digest } => self.report(client, executed, digest),
            Event::Transfer { peer, frame } => self.hand(peer, frame)?,
            Event::Blamed(donor) => self.keeper.blame(donor),
            Event::Durable { run, id } if run == self.run => {
                self.note_durable(id);
                self.drive(None, Input::Durable(id))?;
            }
            Event::Durable { .. } => {}
            Event::Failed(error) => return Err(error),
        }
        Ok(())
    }

    fn on_received(&mut self, received: Received) -> Result<(), NodeError> {
        match received {
            Received::Up(Peer::Replica(peer)) => {
                tracing::info!(replica = %self.id, %peer, "peer connected");
                self.check_time_outs(peer);
                self.drive(Some(peer), Input::Connected(peer))
            }
            Received::Down(Peer::Replica(peer)) => {
                tracing::info!(replica = %self.id, %peer, "peer disconnected");
                Ok(())
            }
            Received::Up(Peer::Client(_)) | Received::Down(Peer::Client(_)) => Ok(()),
            Received::Frames { from: Peer::Replica(peer), frames } => {
                self.taken += frames.len();
                self.on_peer_frames(peer, &frames)
            }
            Received::Frames { from: Peer::Client(client), frames } => {
                self.taken += frames.len();
                self.on_client_frames(client, &frames)
            }
            // Nobody else is listed at a replica's ports.
            Received::Up(_) | Received::Down(_) | Received::Frames { .. } => Ok(()),
        }
    }

    /// A time-out below what a request takes over these links suspects every primary.
    fn check_time_outs(&self, peer: ReplicaId) {
        let Some(round_trip) = self.network.round_trip(Peer::Replica(peer)) else { return };
        if let Some(needed) = longer_timeout(self.limits.view_timeout, round_trip) {
            tracing::warn!(
                replica = %self.id, %peer, ?round_trip, view_timeout = ?self.limits.view_timeout,
                "view_timeout is below eight round trips to this peer: set at least {needed:?} in cluster.toml, or views will change without a fault"
            );
        }
    }

    fn on_peer_frames(&mut self, peer: ReplicaId, frames: &[Bytes]) -> Result<(), NodeError> {
        for frame in frames {
            match self.gate.pass_peer(&self.replica, peer, frame) {
                Ok(FromPeer::Protocol(verified)) => {
                    self.drive(Some(peer), Input::Deliver(verified))?;
                }
                Ok(FromPeer::Ask(ask)) => self.executor.archivist().give(Task::Serve { peer, ask }),
                Ok(FromPeer::Part(part)) => {
                    self.executor.archivist().give(Task::Take { donor: peer, part });
                }
                Err(refused) if refused.rejection.is_malice() => {
                    return self.on_refused(peer, refused);
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn on_refused(&mut self, peer: ReplicaId, refused: Refused) -> Result<(), NodeError> {
        let Refused { rejection, evidence } = refused;
        tracing::warn!(replica = %self.id, %peer, %rejection, "refused, connection closed");
        self.network.penalize(Peer::Replica(peer), rejection.name());
        if let Some(evidence) = evidence {
            self.drive(Some(peer), Input::Deliver(*evidence))?;
        }
        // Its primary signed it, so it is worth a view.
        match rejection.void_new_view() {
            Some(view) => self.drive(Some(peer), Input::VoidNewView(view)),
            None => Ok(()),
        }
    }

    fn on_client_frames(&mut self, client: ClientId, frames: &[Bytes]) -> Result<(), NodeError> {
        for frame in frames {
            match self.gate.pass_client(&self.replica, client, frame) {
                Ok(FromClient::Request(verified)) => self.drive(None, Input::Deliver(verified))?,
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

    /// Gives the replica an input, which came by the link of `from` if that is a peer, and carries out
    /// everything that follows from it.
    pub(crate) fn drive(&mut self, from: Option<ReplicaId>, input: Input) -> Result<(), NodeError> {
        self.inputs.push_back((from, input));
        self.carry_on()
    }

    /// Gives the replica all inputs there are, and carries out everything that follows from them.
    pub(crate) fn carry_on(&mut self) -> Result<(), NodeError> {
        let mut actions = Vec::new();
        loop {
            while let Some((from, input)) = self.inputs.pop_front() {
                let now = self.now();
                for input in self.hear(now, from, input)? {
                    let verdict = self.replica.step(now, input, &mut actions);
                    if let Verdict::Refused(misbehavior) = verdict {
                        tracing::warn!(replica = %self.id, ?misbehavior, "a peer broke the protocol");
                    }
                    for action in actions.drain(..) {
                        self.act(action)?;
                    }
                }
            }
            // Memory is asked once for everything that was appended; a disk reports by itself, later.
            match self.journal.take_durable()? {
                Some(id) => {
                    self.note_durable(id);
                    self.inputs.push_back((None, Input::Durable(id)));
                }
                None => return Ok(()),
            }
        }
    }

    /// Tells the archivist which proofs a start would find.
    fn note_durable(&mut self, id: WriteId) {
        while let Some((write, sequence)) = self.proofs.front().copied()
            && write <= id
        {
            self.proofs.pop_front();
            self.executor.archivist().give(Task::Proven(sequence));
        }
    }

    pub(crate) fn perform(&mut self, action: Action) -> Result<(), NodeError> {
        match action {
            Action::Persist { id, record } => {
                if let Record::Stable(proof) = &record {
                    self.executor.archivist().give(Task::Stable(proof.sequence()));
                    self.proofs.push_back((id, proof.sequence()));
                }
                self.journal.append(self.run, id, record);
            }
            Action::Say { to, statement, batch } => {
                let own = (to == To::All || to == To::One(self.id))
                    && !matches!(statement, Statement::Status(_) | Statement::Fetch(_));
                let verified = sign_message(&self.cluster, &self.signer, self.id, statement, batch);
                self.send(to, verified.message());
                if own {
                    self.inputs.push_back((None, Input::Deliver(verified)));
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
            Action::Discard { below } => self.journal.discard(below),
            Action::Restore { proof } => {
                let sequence = proof.sequence();
                tracing::info!(replica = %self.id, %sequence, "behind: state transfer wanted");
                self.executor.archivist().give(Task::Restore(proof));
            }
            Action::Diverged { after, sequence, own, agreed } => {
                self.keeper.diverged();
                tracing::error!(
                    replica = %self.id, %after, %sequence, %own, %agreed,
                    "own state is wrong: it was right at the first slot named and is not at the second"
                );
            }
            Action::ViewEntered(event) => log_view(self.id, &event),
            Action::Accuse(evidence) => self.keeper.keep(evidence),
            Action::Reinstated { through } => tracing::info!(
                replica = %self.id, %through,
                "the loss of the store is over: this replica votes again in the views after the one named"
            ),
            Action::Impersonated(subject) => tracing::error!(
                replica = %self.id, ?subject,
                "somebody else uses this replica's key, or its store is an old one: it votes no more; stop the other, then start this one again"
            ),
            Action::Halt(halt) => {
                // The last that anyone sees of it says why.
                self.publish.send_replace(Some(self.replica.summary()));
                return Err(NodeError::Halted(halt));
            }
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
            // To itself goes only the signed copy.
            To::One(peer) if peer == self.id => {}
            To::One(peer) => self.network.send(Peer::Replica(peer), lane, frame),
            To::All => {
                for peer in self.cluster.replicas().filter(|peer| *peer != self.id) {
                    self.network.send(Peer::Replica(peer), lane, frame.clone());
                }
            }
        }
    }

    pub(crate) fn send_client(&self, client: ClientId, frame: Bytes) {
        self.network.send(Peer::Client(client), Lane::Urgent, frame);
    }

    fn report(&self, client: ClientId, executed: Sequence, digest: Digest) {
        let summary = self.replica.summary();
        let cause = summary.cause.map(|cause| Text::new(&cause.to_string())).unwrap_or_default();
        let convictions = self.replica.evidence().iter().map(Evidence::subject);
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
            standing: summary.standing,
            evidence: u64::try_from(summary.evidence).unwrap_or(u64::MAX),
            convictions: Convictions::new(convictions),
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

fn clock(origin: Clock, at: Instant) -> Clock {
    origin + Duration::from_micros(at.0)
}

async fn sleep_until(origin: Clock, alarm: Option<Instant>) {
    match alarm {
        None => std::future::pending().await,
        Some(due) => tokio::time::sleep_until(clock(origin, due).into()).await,
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
