//! The client: a cheap handle over one task that signs, sends, counts replies and wakes callers.

use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use bytes::Bytes;
use pbft_core::client::{
    Client as Machine, ClientAction, ClientInput, ClientOutcome, RequestRefusal, SubmitError,
};
use pbft_core::cluster::Cluster;
use pbft_core::crypto::Ed25519Signer;
use pbft_core::message::{ClientMessage, Operations, Outcome, Refusal, ReplicaMessage, Report};
use pbft_core::replica::To;
use pbft_core::types::{Instant, ReplicaId, RequestNumber};
use pbft_core::wire;
use pbft_net::{ClientNetworkConfig, Lane, Network, Node as Peer, Received, TlsKey};
use tokio::sync::{mpsc, oneshot};

use crate::application::{Of, Service, TypedError, decode_response, encode_command};
use crate::config::Deployment;
use crate::directory::{ClientDirectory, Numbers};
use crate::error::ConfigurationError;
use crate::gateway::{GatewayRefusal, Ticket};
use crate::keys::NodeKeys;

/// How one operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// Ordered and executed; this is the application's result.
    Committed(Bytes),
    /// Ordered and refused by the application, or refused before anything was sent.
    Refused(Refused),
    /// No answer before the deadline: it may have been executed, or may yet be. Ask again under a new
    /// operation only if the application tolerates doing it twice.
    Unknown,
}

/// Why an operation was refused. It had no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// By the application, in its place in the order.
    #[error("refused by the application: {0}")]
    Application(Refusal),
    /// By the order: the request's number was used for something else.
    #[error(transparent)]
    Request(#[from] RequestRefusal),
    /// Before anything was sent.
    #[error("not sent: {0}")]
    NotSent(#[from] SubmitError),
    /// Before anything was sent: the client is closed, or its numbers cannot be kept.
    #[error("not sent: the client is closed")]
    Closed,
    /// By the gateway, before it sent anything to the cluster. Only a [`User`](crate::User) is told so.
    #[error("refused by the gateway: {0}")]
    Gateway(#[from] GatewayRefusal),
    /// Before anything was sent: there was no connection to the gateway in time.
    #[error(
        "not sent: no connection to the gateway in time; see that it runs at the address in user.toml"
    )]
    Unreachable,
}

/// What a client needs to start.
pub struct ClientConfig {
    /// The deployment it talks to.
    pub deployment: Deployment,
    /// Its keys, which must be listed there.
    pub keys: NodeKeys,
    /// Where its request numbers come from.
    pub numbers: Numbers,
    /// How many envelopes may be under way at once. While so many are, further submits wait together and
    /// share the next envelope, one signature for all of them.
    pub envelopes_in_flight_max: usize,
}

impl ClientConfig {
    /// The usual configuration for these keys.
    pub fn new(deployment: Deployment, keys: NodeKeys, numbers: Numbers) -> Self {
        ClientConfig { deployment, keys, numbers, envelopes_in_flight_max: 2 }
    }
}

/// A handle for submitting operations. Clones share one connection, one key and one window of numbers.
/// The task behind it ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    replicas: usize,
}

enum Command {
    Submit(Waiting),
    Status { answer: oneshot::Sender<BTreeMap<ReplicaId, Report>>, deadline: Clock },
}

struct Waiting {
    operation: Bytes,
    deadline: Clock,
    answer: Answer,
}

/// Who is told what became of an operation.
enum Answer {
    /// The caller that waits for it.
    One(oneshot::Sender<Submitted>),
    /// A gateway, which waits for many at once: one wake-up for a whole envelope.
    Gateway { ticket: Ticket, to: mpsc::UnboundedSender<(Ticket, Submitted)> },
}

impl Answer {
    /// Nobody may be left to hear it.
    fn send(self, submitted: Submitted) {
        match self {
            Answer::One(caller) => drop(caller.send(submitted)),
            Answer::Gateway { ticket, to } => drop(to.send((ticket, submitted))),
        }
    }
}

/// Submits waiting for the task; more make their callers wait.
const COMMANDS_MAX: usize = 4096;

impl Client {
    /// Connects with the keys and numbers of a client directory, which stays locked meanwhile. With one that
    /// was opened only to read, numbers come from the clock: enough to ask for status.
    ///
    /// # Errors
    /// A key cannot be read, or the network cannot be set up.
    pub fn from_directory(mut directory: ClientDirectory) -> Result<Client, ConfigurationError> {
        let numbers = directory.take_numbers();
        let keys = NodeKeys::load(directory.path())?;
        let numbers = numbers.unwrap_or_else(Numbers::from_clock);
        Client::connect(ClientConfig::new(directory.deployment().clone(), keys, numbers))
    }

    /// Starts a client on the current tokio runtime. Connections to the replicas are made, and made again,
    /// in the background.
    ///
    /// # Errors
    /// The keys are not listed, or the network cannot be set up.
    pub fn connect(config: ClientConfig) -> Result<Client, ConfigurationError> {
        let ClientConfig { deployment, keys, numbers, envelopes_in_flight_max } = config;
        let id = deployment.client_of(&keys.public())?;
        let cluster = Arc::clone(deployment.cluster());
        let limits = deployment.client_limits();
        let machine = Machine::new(id, Arc::clone(&cluster), limits, numbers.first())?;
        let network = Network::client(ClientNetworkConfig {
            id,
            tls_key: TlsKey::from_seed(keys.tls_seed())?,
            replicas: deployment.client_members(),
            identity: deployment.identity(),
            limits: pbft_net::NetLimits::default(),
        })?;
        let (commands, incoming) = mpsc::channel(COMMANDS_MAX);
        let replicas = cluster.n();
        let task = Task {
            cluster,
            signer: keys.signer(),
            machine,
            network,
            numbers,
            envelopes_in_flight_max: envelopes_in_flight_max.max(1),
            waiting: VecDeque::new(),
            under_way: BTreeMap::new(),
            queries: Vec::new(),
            started: Clock::now(),
        };
        tokio::spawn(task.run(incoming));
        Ok(Client { commands, replicas })
    }

    /// How many replicas the cluster has.
    pub fn replicas(&self) -> usize {
        self.replicas
    }

    /// Submits one operation and waits, at most `timeout`, for what becomes of it.
    ///
    /// Cancel safe in the sense that nothing breaks; whether a cancelled operation is executed is unknown.
    pub async fn submit(&self, operation: impl Into<Bytes>, timeout: Duration) -> Submitted {
        let (answer, answered) = oneshot::channel();
        let deadline = Clock::now() + timeout;
        let answer = Answer::One(answer);
        let command = Command::Submit(Waiting { operation: operation.into(), deadline, answer });
        if self.commands.send(command).await.is_err() {
            return Submitted::Refused(Refused::Closed);
        }
        answered.await.unwrap_or(Submitted::Unknown)
    }

    /// Submits one operation for a gateway, which will hear of its outcome over `to`. `false` if the client is
    /// closed: nothing was sent, and nothing will be heard. What waits in `to` is bounded by what is under way.
    pub(crate) async fn submit_for(
        &self,
        ticket: Ticket,
        operation: Bytes,
        deadline: Clock,
        to: &mpsc::UnboundedSender<(Ticket, Submitted)>,
    ) -> bool {
        let answer = Answer::Gateway { ticket, to: to.clone() };
        self.commands.send(Command::Submit(Waiting { operation, deadline, answer })).await.is_ok()
    }

    /// Asks every replica for its status; those who do not answer within `timeout` are missing.
    pub async fn status(&self, timeout: Duration) -> BTreeMap<ReplicaId, Report> {
        let (answer, answered) = oneshot::channel();
        let deadline = Clock::now() + timeout;
        if self.commands.send(Command::Status { answer, deadline }).await.is_err() {
            return BTreeMap::new();
        }
        answered.await.unwrap_or_default()
    }

    /// The same client for a typed service.
    pub fn typed<S: Service>(&self) -> TypedClient<S> {
        TypedClient::new(self.clone())
    }
}

/// What operations are submitted through: a [`Client`], or a [`User`](crate::User) of a gateway.
pub trait Submit: Clone + Send + Sync + 'static {
    /// Submits one operation and waits, at most `timeout`, for what becomes of it.
    fn submit(&self, operation: Bytes, timeout: Duration)
    -> impl Future<Output = Submitted> + Send;
}

impl Submit for Client {
    fn submit(
        &self,
        operation: Bytes,
        timeout: Duration,
    ) -> impl Future<Output = Submitted> + Send {
        Client::submit(self, operation, timeout)
    }
}

/// A client of a [`Service`], directly or through a gateway.
#[derive(Debug)]
pub struct TypedClient<S, C = Client> {
    client: C,
    service: Of<S>,
}

impl<S, C: Clone> Clone for TypedClient<S, C> {
    fn clone(&self) -> Self {
        TypedClient { client: self.client.clone(), service: PhantomData }
    }
}

/// How a typed command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completed<R> {
    /// Ordered and executed.
    Committed(R),
    /// Refused; no effect.
    Refused(Refused),
    /// As [`Submitted::Unknown`].
    Unknown,
}

impl<S: Service, C: Submit> TypedClient<S, C> {
    /// The same client for a typed service.
    pub fn new(client: C) -> Self {
        TypedClient { client, service: PhantomData }
    }

    /// Submits one command and waits, at most `timeout`, for what becomes of it.
    ///
    /// # Errors
    /// The command cannot be encoded (nothing was sent), or the replicas run another service: f + 1 of
    /// them gave the same response, and it is none of this service's.
    pub async fn submit(
        &self,
        command: &S::Command,
        timeout: Duration,
    ) -> Result<Completed<S::Response>, TypedError> {
        let operation = encode_command::<S>(command)?;
        Ok(match self.client.submit(operation, timeout).await {
            Submitted::Committed(result) => Completed::Committed(decode_response::<S>(&result)?),
            Submitted::Refused(refused) => Completed::Refused(refused),
            Submitted::Unknown => Completed::Unknown,
        })
    }
}

struct Query {
    reports: BTreeMap<ReplicaId, Report>,
    answer: oneshot::Sender<BTreeMap<ReplicaId, Report>>,
    deadline: Clock,
}

struct Task {
    cluster: Arc<Cluster>,
    signer: Ed25519Signer,
    machine: Machine,
    network: Network,
    numbers: Numbers,
    envelopes_in_flight_max: usize,
    waiting: VecDeque<Waiting>,
    under_way: BTreeMap<RequestNumber, Vec<Answer>>,
    queries: Vec<Query>,
    started: Clock,
}

impl Task {
    async fn run(mut self, mut incoming: mpsc::Receiver<Command>) {
        let mut burst = Vec::new();
        loop {
            let alarm = self.alarm();
            tokio::select! {
                biased;
                received = self.network.receive() => self.on_received(received),
                count = incoming.recv_many(&mut burst, COMMANDS_MAX) => {
                    if count == 0 {
                        break;
                    }
                    burst.drain(..).for_each(|command| self.on_command(command));
                }
                () = tokio::time::sleep_until(alarm.into()), if !self.is_idle() => self.on_alarm(),
            }
            self.send_envelopes();
        }
        self.network.close().await;
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty() && self.queries.is_empty()
    }

    fn now(&self) -> Instant {
        self.instant(Clock::now())
    }

    fn instant(&self, at: Clock) -> Instant {
        let micros = at.saturating_duration_since(self.started).as_micros();
        Instant(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    fn alarm(&self) -> Clock {
        let machine = self.machine.deadline();
        let machine = machine.map(|at| self.started + Duration::from_micros(at.0));
        let queries = self.queries.iter().map(|query| query.deadline);
        let waiting = self.waiting.iter().map(|waiting| waiting.deadline);
        // When idle the alarm is not looked at.
        machine.into_iter().chain(queries).chain(waiting).min().unwrap_or(self.started)
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Submit(waiting) => self.waiting.push_back(waiting),
            Command::Status { answer, deadline } => {
                self.queries.push(Query { reports: BTreeMap::new(), answer, deadline });
                let frame = wire::encode(&ClientMessage::Query);
                for replica in self.cluster.replicas() {
                    self.network.send(Peer::Replica(replica), Lane::Urgent, frame.clone());
                }
            }
        }
    }

    fn on_received(&mut self, received: Received) {
        match received {
            Received::Up(Peer::Replica(replica)) => {
                // A query or request sent before the link stood went nowhere.
                if !self.queries.is_empty() {
                    let frame = wire::encode(&ClientMessage::Query);
                    self.network.send(Peer::Replica(replica), Lane::Urgent, frame);
                }
                self.resend_to(replica);
            }
            Received::Frames { from: Peer::Replica(from), frames } => {
                for frame in &frames {
                    match wire::decode(frame) {
                        Ok(message) => self.on_message(from, message),
                        Err(error) => {
                            tracing::warn!(replica = %from, %error, "refused, connection closed");
                            self.network.penalize(Peer::Replica(from), "wire");
                            return;
                        }
                    }
                }
            }
            Received::Up(_) | Received::Down(_) | Received::Frames { .. } => {}
        }
    }

    /// A link to the primary that comes up late would cost a whole resend interval.
    fn resend_to(&mut self, replica: ReplicaId) {
        if self.cluster.primary(self.machine.view()) != replica {
            return;
        }
        let bodies: Vec<_> = self.machine.bodies().cloned().collect();
        for body in bodies {
            self.send(To::One(replica), body);
        }
    }

    fn on_message(&mut self, from: ReplicaId, message: ReplicaMessage) {
        let mut actions = Vec::new();
        match message {
            ReplicaMessage::Reply(reply) => {
                let input = ClientInput::Reply { from, reply };
                self.machine.step(self.now(), input, &mut actions);
            }
            ReplicaMessage::Busy(number) => {
                self.machine.step(self.now(), ClientInput::Busy { from, number }, &mut actions);
            }
            // A replica reports of itself only.
            ReplicaMessage::Report(report) if report.replica == from => {
                for query in &mut self.queries {
                    query.reports.insert(from, report.clone());
                }
                let all = self.cluster.n();
                self.end_queries(|query| query.reports.len() == all);
            }
            ReplicaMessage::Report(_) => {}
        }
        self.perform(actions);
    }

    fn on_alarm(&mut self) {
        let mut actions = Vec::new();
        self.machine.step(self.now(), ClientInput::Wake, &mut actions);
        self.perform(actions);
        let now = Clock::now();
        self.end_queries(|query| now >= query.deadline);
        // What waited for an envelope until its deadline was never sent, but its caller has left anyway.
        // Wherever it stands: callers wait for different times, and an alarm that ends nothing would go off for ever.
        let waiting = std::mem::take(&mut self.waiting);
        for waiting in waiting {
            if now < waiting.deadline {
                self.waiting.push_back(waiting);
            } else {
                waiting.answer.send(Submitted::Unknown);
            }
        }
    }

    fn end_queries(&mut self, ended: impl Fn(&Query) -> bool) {
        let (done, open) = std::mem::take(&mut self.queries).into_iter().partition(|q| ended(q));
        self.queries = open;
        let done: Vec<Query> = done;
        for query in done {
            let _ = query.answer.send(query.reports);
        }
    }

    /// Puts what waits into envelopes: at once when few are under way, together when many are.
    fn send_envelopes(&mut self) {
        while !self.waiting.is_empty()
            && self.machine.unresolved() < self.envelopes_in_flight_max
            && !self.machine.is_full()
        {
            self.send_envelope();
        }
    }

    fn send_envelope(&mut self) {
        let constants = self.cluster.constants();
        let most = usize::try_from(constants.request_operations_max).unwrap_or(1);
        // Leave room for whatever else a batch must hold.
        let room = usize::try_from(constants.batch_bytes_max / 2).unwrap_or(usize::MAX);
        let mut envelope: Vec<Waiting> = Vec::new();
        let mut bytes = 0_usize;
        while let Some(next) = self.waiting.front() {
            bytes = bytes.saturating_add(next.operation.len()).saturating_add(4);
            if envelope.len() >= most || (!envelope.is_empty() && bytes > room) {
                break;
            }
            envelope.extend(self.waiting.pop_front());
        }
        let deadline = envelope.iter().map(|waiting| waiting.deadline).max();
        let operations = Operations::new(envelope.iter().map(|waiting| &waiting.operation));
        let (Some(deadline), Some(operations)) = (deadline, operations) else {
            return;
        };
        let mut actions = Vec::new();
        let deadline = self.instant(deadline);
        let submitted = if self.numbers.reserve(self.machine.next_number()).is_err() {
            Err(Refused::Closed)
        } else {
            let now = self.now();
            self.machine.submit(now, operations, deadline, &mut actions).map_err(Refused::from)
        };
        let answers = envelope.into_iter().map(|waiting| waiting.answer);
        match submitted {
            Ok(number) => {
                self.under_way.insert(number, answers.collect());
                self.perform(actions);
            }
            Err(refused) => answers.for_each(|answer| {
                answer.send(Submitted::Refused(refused.clone()));
            }),
        }
    }

    fn perform(&mut self, actions: Vec<ClientAction>) {
        for action in actions {
            match action {
                ClientAction::Send { to, body } => self.send(to, body),
                ClientAction::Done { number, outcome } => self.finish(number, outcome),
            }
        }
    }

    fn send(&self, to: To, body: pbft_core::message::RequestBody) {
        let request = body.sign(&self.cluster, &self.signer);
        let frame = wire::encode(&ClientMessage::Request(request));
        match to {
            To::One(replica) => self.network.send(Peer::Replica(replica), Lane::Bulk, frame),
            To::All => {
                for replica in self.cluster.replicas() {
                    self.network.send(Peer::Replica(replica), Lane::Bulk, frame.clone());
                }
            }
        }
    }

    fn finish(&mut self, number: RequestNumber, outcome: ClientOutcome) {
        let Some(answers) = self.under_way.remove(&number) else {
            return;
        };
        let mut each: Vec<Submitted> = match outcome {
            ClientOutcome::Committed(outcomes) => outcomes.into_iter().map(of_operation).collect(),
            ClientOutcome::Refused(refusal) => {
                vec![Submitted::Refused(Refused::Request(refusal)); answers.len()]
            }
            ClientOutcome::Unknown => Vec::new(),
        };
        // One outcome for each operation is what f + 1 replicas agreed on; were it fewer, nothing is known
        // of the rest.
        each.resize(answers.len(), Submitted::Unknown);
        for (answer, submitted) in answers.into_iter().zip(each) {
            answer.send(submitted);
        }
    }
}

fn of_operation(outcome: Outcome) -> Submitted {
    match outcome {
        Outcome::Done(result) => Submitted::Committed(result),
        Outcome::Refused(refusal) => Submitted::Refused(Refused::Application(refusal)),
        // It was executed, but nobody can say with what result.
        Outcome::ResultTooLong => Submitted::Unknown,
    }
}
