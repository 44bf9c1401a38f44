//! The client as a state machine: submit, resend, count matching replies.
//!
//! Like the replica it holds no key and reads no clock. It asks the primary; after a time-out it asks
//! everyone (PITFALLS B8, E8). It believes what f + 1 distinct replicas say alike (PITFALLS B11), and
//! never claims more than it knows: an operation without an answer in time is *unknown*, neither done
//! nor refused.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::cluster::Cluster;
use crate::crypto::Signer;
use crate::limits::{ClientLimits, ConfigError};
use crate::message::{Answer, Operations, Outcomes, Reply, Request, RequestBody};
use crate::replica::To;
use crate::types::{ClientId, Digest, Instant, ReplicaId, RequestNumber, View};

/// What happens to a client.
#[derive(Clone, Debug)]
pub enum ClientInput {
    /// The alarm set for [`Client::deadline`] went off.
    Wake,
    /// A replica answered. The channel has authenticated it.
    Reply {
        /// Which replica.
        from: ReplicaId,
        /// Its answer.
        reply: Reply,
    },
    /// A replica has no room now. Advice: the request goes to it again at the next resend.
    Busy {
        /// Which replica.
        from: ReplicaId,
        /// Which request.
        number: RequestNumber,
    },
}

/// What the client's host must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAction {
    /// Sign the request and send it.
    Send {
        /// To whom.
        to: To,
        /// What.
        request: Unsigned,
    },
    /// A request has ended.
    Done {
        /// Which.
        number: RequestNumber,
        /// How.
        outcome: ClientOutcome,
    },
}

/// A request that wants its client's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned {
    body: RequestBody,
    /// Invariant: the body's.
    digest: Digest,
}

impl Unsigned {
    fn new(body: RequestBody) -> Self {
        Unsigned { digest: body.digest(), body }
    }

    /// What is asked.
    pub fn body(&self) -> &RequestBody {
        &self.body
    }

    /// Signs it; a long body is not hashed again.
    pub fn sign(self, cluster: &Cluster, signer: &dyn Signer) -> Request {
        self.body.sign_as(self.digest, cluster, signer)
    }
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientOutcome {
    /// Ordered and executed: one outcome for each operation, on the word of f + 1 replicas.
    Committed(Outcomes),
    /// Ordered, and none of its operations was executed or ever will be.
    Refused(RequestRefusal),
    /// No answer in time, or none that says. It may have been executed, or may yet be.
    Unknown,
}

/// Why a whole request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestRefusal {
    /// The number was used for other operations before.
    #[error("the request number was used before, for other operations")]
    NumberUsed,
}

/// Why a request could not be taken. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The oldest unresolved request is a whole window back; wait until it ends.
    #[error("{0} request numbers are in use since the oldest unresolved one; wait for it")]
    WindowFull(u64),
    /// More operations than the cluster allows under one signature.
    #[error("{0} operations in one request, at most {1} are allowed")]
    TooManyOperations(usize, u32),
    /// An operation longer than the cluster allows.
    #[error("an operation of {0} bytes, at most {1} are allowed")]
    OperationTooLong(usize, u32),
    /// The request does not fit a batch.
    #[error("a request of {0} bytes, at most {1} fit a batch")]
    RequestTooLong(usize, u32),
    /// The client has used up its numbers.
    #[error("request numbers below 2^63 are used up; this client needs a new key")]
    NumbersExhausted,
}

#[derive(Clone, Debug)]
struct InFlight {
    request: Unsigned,
    deadline: Instant,
    resend_at: Instant,
    interval: Duration,
    /// The latest answer of each replica.
    answers: BTreeMap<ReplicaId, Answer>,
}

/// One client key's side of the protocol.
#[derive(Clone, Debug)]
pub struct Client {
    id: ClientId,
    cluster: Arc<Cluster>,
    limits: ClientLimits,
    next: RequestNumber,
    in_flight: BTreeMap<RequestNumber, InFlight>,
    /// The latest view each replica reported.
    views: BTreeMap<ReplicaId, View>,
    view: View,
}

/// At least so many bytes of one client a cluster is expected to order in a second.
const BYTES_PER_SECOND_MIN: u64 = 4 << 20;

impl Client {
    /// A client whose first request gets the number `first`, which must be above any it used before.
    ///
    /// # Errors
    /// `id` is not admitted, `first` is not a valid number, or the limits do not hold.
    pub fn new(
        id: ClientId,
        cluster: Arc<Cluster>,
        limits: ClientLimits,
        first: RequestNumber,
    ) -> Result<Self, ConfigError> {
        if !cluster.admits(id) {
            let remedy = "not in the cluster's list of client keys";
            return Err(ConfigError::new("client", id, remedy));
        }
        if !first.is_valid() {
            return Err(ConfigError::new("number", first, "take 1 to 2^63 - 1"));
        }
        limits.check()?;
        Ok(Client {
            id,
            cluster,
            limits,
            next: first,
            in_flight: BTreeMap::new(),
            views: BTreeMap::new(),
            view: View(0),
        })
    }

    /// Submits operations as one request; ends by `deadline` at the latest.
    ///
    /// # Errors
    /// The request exceeds a bound or the window is full. Nothing was sent then.
    pub fn submit(
        &mut self,
        now: Instant,
        operations: Operations,
        deadline: Instant,
        out: &mut Vec<ClientAction>,
    ) -> Result<RequestNumber, SubmitError> {
        self.check(&operations)?;
        let number = self.next;
        if !number.is_valid() {
            return Err(SubmitError::NumbersExhausted);
        }
        let window = self.cluster.constants().client_window;
        if let Some((oldest, _)) = self.in_flight.first_key_value()
            && number.0 - oldest.0 >= window
        {
            // A later number would push the oldest out of the replicas' window.
            return Err(SubmitError::WindowFull(window));
        }
        self.next = RequestNumber(number.0 + 1);
        let body = RequestBody { client: self.id, number, operations };
        let interval = self.first_interval(&body);
        let request = Unsigned::new(body);
        let in_flight = InFlight {
            request: request.clone(),
            deadline,
            resend_at: now.after(interval),
            interval,
            answers: BTreeMap::new(),
        };
        self.in_flight.insert(number, in_flight);
        let primary = self.cluster.primary(self.view);
        out.push(ClientAction::Send { to: To::One(primary), request });
        Ok(number)
    }

    /// What is before it takes its time, and whoever asks everyone because of that makes it longer for all. Only what
    /// this client sent counts: by how long requests took, a slow primary could have them kept from the others
    /// (PITFALLS F1).
    fn first_interval(&self, next: &RequestBody) -> Duration {
        let before = self.requests().map(Unsigned::body);
        let bytes: usize = before.chain([next]).map(|it| it.operations.packed_bytes()).sum();
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let micros = bytes.saturating_mul(1_000_000) / BYTES_PER_SECOND_MIN;
        let interval = self.limits.resend_interval.saturating_add(Duration::from_micros(micros));
        interval.min(self.limits.resend_interval_max)
    }

    /// The number the next request will get.
    pub fn next_number(&self) -> RequestNumber {
        self.next
    }

    /// The requests that have not ended, oldest first.
    pub fn requests(&self) -> impl Iterator<Item = &Unsigned> {
        self.in_flight.values().map(|in_flight| &in_flight.request)
    }

    /// How many requests have not ended.
    pub fn unresolved(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether [`Client::submit`] would be refused for want of window.
    pub fn is_full(&self) -> bool {
        let window = self.cluster.constants().client_window;
        let oldest = self.in_flight.first_key_value();
        oldest.is_some_and(|(oldest, _)| self.next.0 - oldest.0 >= window)
    }

    /// When the host should next call with [`ClientInput::Wake`].
    pub fn deadline(&self) -> Option<Instant> {
        self.in_flight.values().map(|request| request.deadline.min(request.resend_at)).min()
    }

    /// The view the client takes for the current one.
    pub fn view(&self) -> View {
        self.view
    }

    /// Takes one input.
    pub fn step(&mut self, now: Instant, input: ClientInput, out: &mut Vec<ClientAction>) {
        match input {
            ClientInput::Wake => self.on_wake(now, out),
            ClientInput::Reply { from, reply } => self.on_reply(from, reply, out),
            // The request stays with those who have room; the next resend asks this one again.
            ClientInput::Busy { .. } => {}
        }
    }

    fn check(&self, operations: &Operations) -> Result<(), SubmitError> {
        let constants = self.cluster.constants();
        let over = |value: usize, bound: u32| u32::try_from(value).map_or(true, |v| v > bound);
        if over(operations.count(), constants.request_operations_max) {
            let bound = constants.request_operations_max;
            return Err(SubmitError::TooManyOperations(operations.count(), bound));
        }
        let longest = operations.iter().map(<[u8]>::len).max().unwrap_or(0);
        if over(longest, constants.operation_bytes_max) {
            return Err(SubmitError::OperationTooLong(longest, constants.operation_bytes_max));
        }
        let bytes = RequestBody::batch_bytes(operations);
        if over(bytes, constants.batch_bytes_max) {
            return Err(SubmitError::RequestTooLong(bytes, constants.batch_bytes_max));
        }
        Ok(())
    }

    fn on_wake(&mut self, now: Instant, out: &mut Vec<ClientAction>) {
        let expired: Vec<RequestNumber> = self
            .in_flight
            .iter()
            .filter(|(_, request)| now >= request.deadline)
            .map(|(number, _)| *number)
            .collect();
        for number in expired {
            self.end(number, ClientOutcome::Unknown, out);
        }
        for request in self.in_flight.values_mut().filter(|request| now >= request.resend_at) {
            out.push(ClientAction::Send { to: To::All, request: request.request.clone() });
            request.interval =
                request.interval.saturating_mul(2).min(self.limits.resend_interval_max);
            request.resend_at = now.after(request.interval);
        }
    }

    fn on_reply(&mut self, from: ReplicaId, reply: Reply, out: &mut Vec<ClientAction>) {
        if !self.cluster.contains(from) || reply.client != self.id {
            return;
        }
        self.adopt_view(from, reply.view);
        let join = self.cluster.join();
        let Some(request) = self.in_flight.get_mut(&reply.number) else {
            return;
        };
        // An answer to other operations under this number is no answer to this request.
        if reply.digest != request.request.digest {
            return;
        }
        // The latest word of each replica counts.
        request.answers.remove(&from);
        let others = request.answers.values().filter(|answer| **answer == reply.answer).count();
        if others + 1 < join {
            request.answers.insert(from, reply.answer);
            return;
        }
        let outcome = match reply.answer {
            Answer::Executed(outcomes) => ClientOutcome::Committed(outcomes),
            Answer::NumberUsed => ClientOutcome::Refused(RequestRefusal::NumberUsed),
            // The table has forgotten the number: whether it was executed, nobody can say any more.
            Answer::Stale => ClientOutcome::Unknown,
        };
        self.end(reply.number, outcome, out);
    }

    /// The (f + 1)-th highest view reported: at least one correct replica is there (PITFALLS B12).
    fn adopt_view(&mut self, from: ReplicaId, view: View) {
        self.views.insert(from, view);
        let mut views: Vec<View> = self.views.values().copied().collect();
        views.sort_unstable_by(|one, other| other.cmp(one));
        if let Some(view) = views.get(self.cluster.join() - 1) {
            self.view = self.view.max(*view);
        }
    }

    fn end(&mut self, number: RequestNumber, outcome: ClientOutcome, out: &mut Vec<ClientAction>) {
        self.in_flight.remove(&number);
        out.push(ClientAction::Done { number, outcome });
    }
}

#[cfg(test)]
#[path = "client_test.rs"]
mod tests;
