//! The client: a cheap handle over one task that signs, sends, counts replies and wakes callers.

mod asked;
mod task;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::{Duration, Instant as Clock};

use bytes::Bytes;
use pbft_core::client::{RequestRefusal, SubmitError};
use pbft_core::message::{Refusal, Report};
use pbft_core::types::ReplicaId;
use tokio::sync::{mpsc, oneshot};

use crate::application::{Of, Service, TypedError, decode_response, encode_command};
use crate::config::Deployment;
use crate::directory::{ClientDirectory, Numbers};
use crate::error::ConfigurationError;
use crate::gateway::{GatewayRefusal, Ticket};
use crate::keys::NodeKeys;
use asked::{Asked, Waiting};
use task::{Command, Task};

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

/// Submits waiting for the task; more make their callers wait.
const COMMANDS_MAX: usize = 4096;
/// Whoever wants to wait longer waits so long: a clock has an end, and a gateway is told in milliseconds.
pub(crate) const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

fn deadline(timeout: Duration) -> Clock {
    Clock::now() + timeout.min(TIMEOUT_MAX)
}

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
        let replicas = deployment.cluster().n();
        let (commands, incoming) = mpsc::channel(COMMANDS_MAX);
        let task = Task::new(deployment, &keys, numbers, envelopes_in_flight_max.max(1))?;
        tokio::spawn(task.run(incoming));
        Ok(Client { commands, replicas })
    }

    /// How many replicas the cluster has.
    pub fn replicas(&self) -> usize {
        self.replicas
    }

    /// Submits one operation and waits, at most `timeout` and never longer than a day, for what becomes of it.
    ///
    /// Cancel safe in the sense that nothing breaks; whether a cancelled operation is executed is unknown.
    pub async fn submit(&self, operation: impl Into<Bytes>, timeout: Duration) -> Submitted {
        let (answer, answered) = oneshot::channel();
        let deadline = deadline(timeout);
        let asked = Asked::One { operation: operation.into(), answer };
        if self.commands.send(Command::Submit(Waiting { asked, deadline })).await.is_err() {
            return Submitted::Refused(Refused::Closed);
        }
        answered.await.unwrap_or(Submitted::Unknown)
    }

    /// Submits many operations under one signature and waits, at most `timeout`, for what becomes of each.
    /// They are executed in this order, with nothing between them; one that is refused does not stop those
    /// after it.
    ///
    /// All are refused, and none is sent, if they are more or longer than the cluster allows in one request.
    /// Cancel safe as [`Client::submit`].
    pub async fn submit_all(&self, operations: Vec<Bytes>, timeout: Duration) -> Vec<Submitted> {
        let count = operations.len();
        if count == 0 {
            return Vec::new();
        }
        let (answer, answered) = oneshot::channel();
        let deadline = deadline(timeout);
        let asked = Asked::All { operations, answer };
        if self.commands.send(Command::Submit(Waiting { asked, deadline })).await.is_err() {
            return vec![Submitted::Refused(Refused::Closed); count];
        }
        answered.await.unwrap_or_else(|_| vec![Submitted::Unknown; count])
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
        let asked = Asked::Gateway { operation, ticket, to: to.clone() };
        self.commands.send(Command::Submit(Waiting { asked, deadline })).await.is_ok()
    }

    /// Asks every replica for its status; those who do not answer within `timeout` are missing.
    pub async fn status(&self, timeout: Duration) -> BTreeMap<ReplicaId, Report> {
        let (answer, answered) = oneshot::channel();
        let deadline = deadline(timeout);
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

#[cfg(test)]
#[path = "client_test.rs"]
mod tests;
