//! The task behind a client's handles: puts operations into envelopes, counts replies, keeps deadlines.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use bytes::Bytes;
use pbft_core::client::{
    Client as Machine, ClientAction, ClientInput, ClientOutcome, SubmitError, Unsigned,
};
use pbft_core::cluster::Cluster;
use pbft_core::crypto::Ed25519Signer;
use pbft_core::limits::Constants;
use pbft_core::message::{ClientMessage, Operations, Outcome, ReplicaMessage, Report};
use pbft_core::replica::To;
use pbft_core::types::{Instant, ReplicaId, RequestNumber};
use pbft_core::wire;
use pbft_net::{ClientNetworkConfig, Lane, Network, Node as Peer, Received, TlsKey};
use tokio::sync::{mpsc, oneshot};

use super::asked::{Envelope, Waiting};
use super::{COMMANDS_MAX, Refused, Submitted};
use crate::config::Deployment;
use crate::directory::Numbers;
use crate::error::ConfigurationError;
use crate::keys::NodeKeys;

/// What a handle asks of the task.
pub(super) enum Command {
    Submit(Waiting),
    Status { answer: oneshot::Sender<BTreeMap<ReplicaId, Report>>, deadline: Clock },
}

/// How often callers that an outcome woke have the chance to submit their next operation before an envelope
/// is closed.
const ROUNDS_MAX: usize = 4;
/// So long replies are taken up before callers and deadlines have a turn: a replica may send for ever, and what it
/// sends may cost more to read than to carry (PITFALLS F3).
const BURST_TIME_MAX: Duration = Duration::from_millis(10);
/// What has arrived goes before a deadline, for so long: a reply that is there is better than none.
const PATIENCE: Duration = Duration::from_millis(100);

struct Query {
    reports: BTreeMap<ReplicaId, Report>,
    answer: oneshot::Sender<BTreeMap<ReplicaId, Report>>,
    deadline: Clock,
}

/// The one task behind all handles of a client.
pub(super) struct Task {
    cluster: Arc<Cluster>,
    signer: Ed25519Signer,
    machine: Machine,
    network: Network,
    numbers: Numbers,
    envelopes_in_flight_max: usize,
    waiting: VecDeque<Waiting>,
    /// None of those that wait has an earlier one.
    first_deadline: Option<Clock>,
    under_way: BTreeMap<RequestNumber, Envelope>,
    queries: Vec<Query>,
    started: Clock,
}

impl Task {
    pub(super) fn new(
        deployment: Deployment,
        keys: &NodeKeys,
        numbers: Numbers,
        envelopes_in_flight_max: usize,
    ) -> Result<Self, ConfigurationError> {
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
        Ok(Task {
            cluster,
            signer: keys.signer(),
            machine,
            network,
            numbers,
            envelopes_in_flight_max,
            waiting: VecDeque::new(),
            first_deadline: None,
            under_way: BTreeMap::new(),
            queries: Vec::new(),
            started: Clock::now(),
        })
    }

    pub(super) async fn run(mut self, mut incoming: mpsc::Receiver<Command>) {
        let mut burst = Vec::new();
        loop {
            let alarm = self.alarm();
            tokio::select! {
                // Replies are taken up below in any case.
                biased;
                count = incoming.recv_many(&mut burst, COMMANDS_MAX) => {
                    if count == 0 {
                        break;
                    }
                    burst.drain(..).for_each(|command| self.on_command(command));
                }
                received = self.network.receive() => self.on_received(received),
                () = tokio::time::sleep_until(alarm.into()), if !self.is_idle() => self.on_alarm(),
            }
            let end = Clock::now() + BURST_TIME_MAX;
            while let Some(received) = self.network.try_receive() {
                self.on_received(received);
                if Clock::now() >= end {
                    break;
                }
            }
            if !self.is_idle() && Clock::now() >= self.alarm() + PATIENCE {
                self.on_alarm();
            }
            self.gather(&mut incoming).await;
            self.send_envelopes();
        }
        self.network.close().await;
    }

    /// Takes in what callers submit who run now: one signature for all of them.
    async fn gather(&mut self, incoming: &mut mpsc::Receiver<Command>) {
        if !self.may_send() {
            return;
        }
        for _ in 0..ROUNDS_MAX {
            tokio::task::yield_now().await;
            let before = self.waiting.len();
            while self.waiting.len() < COMMANDS_MAX
                && let Ok(command) = incoming.try_recv()
            {
                self.on_command(command);
            }
            if self.waiting.len() == before {
                return;
            }
        }
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
        let waiting = self.first_deadline;
        let under_way = self.under_way.values().filter_map(|envelope| envelope.first_deadline);
        // When idle the alarm is not looked at.
        machine
            .into_iter()
            .chain(queries)
            .chain(waiting)
            .chain(under_way)
            .min()
            .unwrap_or(self.started)
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Submit(waiting) => match self.check(waiting.asked.operations()) {
                Ok(()) => {
                    let first = self.first_deadline.get_or_insert(waiting.deadline);
                    *first = waiting.deadline.min(*first);
                    self.waiting.push_back(waiting);
                }
                Err(error) => {
                    let refused = Submitted::Refused(Refused::NotSent(error));
                    waiting.asked.answer(&mut std::iter::repeat(refused));
                }
            },
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
        let requests: Vec<_> = self.machine.requests().cloned().collect();
        for request in requests {
            self.send(To::One(replica), request);
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
        self.under_way.values_mut().for_each(|envelope| envelope.expire(now));
        // What waited for an envelope until its deadline was never sent. Wherever it stands: callers wait for
        // different times, and an alarm that ends nothing would go off for ever.
        if self.first_deadline.is_some_and(|first| now >= first) {
            let all = std::mem::take(&mut self.waiting).into_iter();
            let (late, waiting): (VecDeque<_>, VecDeque<_>) =
                all.partition(|waiting| now >= waiting.deadline);
            self.first_deadline = waiting.iter().map(|waiting| waiting.deadline).min();
            self.waiting = waiting;
            late.into_iter().for_each(|waiting| waiting.asked.answer(&mut std::iter::empty()));
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

    fn may_send(&self) -> bool {
        !self.waiting.is_empty()
            && self.machine.unresolved() < self.envelopes_in_flight_max
            && !self.machine.is_full()
    }

    /// Puts what waits into envelopes: at once when few are under way, together when many are.
    fn send_envelopes(&mut self) {
        while self.may_send() {
            self.send_envelope();
        }
    }

    /// Whether operations fit one envelope. What does not is refused alone, not with its neighbours.
    fn check(&self, operations: &[Bytes]) -> Result<(), SubmitError> {
        let constants = self.cluster.constants();
        let longest = operations.iter().map(Bytes::len).max().unwrap_or(0);
        if longest > size(constants.operation_bytes_max) {
            return Err(SubmitError::OperationTooLong(longest, constants.operation_bytes_max));
        }
        if operations.len() > size(constants.request_operations_max) {
            let most = constants.request_operations_max;
            return Err(SubmitError::TooManyOperations(operations.len(), most));
        }
        let room = envelope_bytes_max(constants);
        let bytes = packed_bytes(operations);
        if operations.len() > 1 && bytes > room {
            return Err(SubmitError::RequestTooLong(
                bytes,
                u32::try_from(room).unwrap_or(u32::MAX),
            ));
        }
        Ok(())
    }

    /// Takes from the front what fits one envelope together.
    fn next_envelope(&mut self) -> Envelope {
        let constants = self.cluster.constants();
        let (most, room) = (size(constants.request_operations_max), envelope_bytes_max(constants));
        let (mut count, mut bytes) = (0_usize, 0_usize);
        let mut envelope: Vec<Waiting> = Vec::new();
        while let Some(next) = self.waiting.front() {
            let operations = next.asked.operations();
            count = count.saturating_add(operations.len());
            bytes = bytes.saturating_add(packed_bytes(operations));
            if !envelope.is_empty() && (count > most || bytes > room) {
                break;
            }
            envelope.extend(self.waiting.pop_front());
        }
        if self.waiting.is_empty() {
            self.first_deadline = None;
        }
        Envelope::new(envelope)
    }

    fn send_envelope(&mut self) {
        let envelope = self.next_envelope();
        let deadline = envelope.waiting.iter().map(|waiting| waiting.deadline).max();
        let operations = envelope.waiting.iter().flat_map(|waiting| waiting.asked.operations());
        let (Some(deadline), Some(operations)) = (deadline, Operations::new(operations)) else {
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
        match submitted {
            Ok(number) => {
                self.under_way.insert(number, envelope);
                self.perform(actions);
            }
            Err(refused) => envelope.answer(&mut std::iter::repeat(Submitted::Refused(refused))),
        }
    }

    fn perform(&mut self, actions: Vec<ClientAction>) {
        for action in actions {
            match action {
                ClientAction::Send { to, request } => self.send(to, request),
                ClientAction::Done { number, outcome } => self.finish(number, outcome),
            }
        }
    }

    fn send(&self, to: To, request: Unsigned) {
        let request = request.sign(&self.cluster, &self.signer);
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
        let Some(envelope) = self.under_way.remove(&number) else {
            return;
        };
        // One outcome for each operation is what f + 1 replicas agreed on; were it fewer, nothing is known
        // of the rest.
        match outcome {
            ClientOutcome::Committed(outcomes) => {
                envelope.answer(&mut outcomes.iter().map(of_operation));
            }
            ClientOutcome::Refused(refusal) => {
                let refused = Submitted::Refused(Refused::Request(refusal));
                envelope.answer(&mut std::iter::repeat(refused));
            }
            ClientOutcome::Unknown => envelope.answer(&mut std::iter::empty()),
        }
    }
}

fn size(bound: u32) -> usize {
    usize::try_from(bound).unwrap_or(usize::MAX)
}

/// Leaves room for whatever else a batch must hold.
fn envelope_bytes_max(constants: &Constants) -> usize {
    size(constants.batch_bytes_max / 2)
}

/// With four bytes of length before each.
fn packed_bytes(operations: &[Bytes]) -> usize {
    operations.iter().map(|operation| operation.len() + 4).sum()
}

fn of_operation(outcome: Outcome) -> Submitted {
    match outcome {
        Outcome::Done(result) => Submitted::Committed(result),
        Outcome::Refused(refusal) => Submitted::Refused(Refused::Application(refusal)),
        // It was executed, but nobody can say with what result.
        Outcome::ResultTooLong => Submitted::Unknown,
    }
}
