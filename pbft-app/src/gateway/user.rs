//! The user's side: a cheap handle over one task that numbers, sends, and wakes callers.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pbft_core::types::Digest;
use pbft_core::wire;
use pbft_net::{
    Lane, MemberAddress, NetLimits, Network, Node as Peer, Received, TlsKey, UserId,
    UserNetworkConfig,
};
use tokio::sync::{mpsc, oneshot};

use super::message::{GatewayMessage, SubmissionNumber, UserMessage};
use super::{OPERATIONS_PER_USER_MAX, UserDirectory, identity};
use crate::client::{Refused, Submit, Submitted, TIMEOUT_MAX, TypedClient};
use crate::error::ConfigurationError;
use crate::keys::UserKey;
use crate::{GatewayRefusal, Service};

/// What a user needs to reach its gateway.
#[derive(Debug)]
pub struct UserConfig {
    /// Its number at the gateway.
    pub id: UserId,
    /// Its key, which must be listed there.
    pub key: UserKey,
    /// The gateway.
    pub gateway: MemberAddress,
    /// The cluster behind the gateway.
    pub cluster: Digest,
    /// Operations under way at once; further ones wait here. No more than the gateway allows.
    pub operations_max: usize,
}

impl UserConfig {
    /// The usual configuration for this key.
    pub fn new(id: UserId, key: UserKey, gateway: MemberAddress, cluster: Digest) -> Self {
        UserConfig { id, key, gateway, cluster, operations_max: OPERATIONS_PER_USER_MAX }
    }
}

/// A handle for submitting operations through a gateway. Clones share one connection. The task behind it ends when
/// the last clone is dropped.
///
/// It believes what its gateway says, as it would its own machine. Nothing is ever sent twice: what was under way when
/// the connection broke has ended as [`Submitted::Unknown`].
#[derive(Clone, Debug)]
pub struct User {
    commands: mpsc::Sender<Command>,
}

enum Command {
    Submit(Waiting),
    Close(oneshot::Sender<()>),
}

struct Waiting {
    operation: Bytes,
    timeout: Duration,
    deadline: Instant,
    answer: oneshot::Sender<Submitted>,
}

struct UnderWay {
    deadline: Instant,
    bytes: usize,
    answer: oneshot::Sender<Submitted>,
}

/// Submits waiting for the task; more make their callers wait.
const COMMANDS_MAX: usize = 1024;

impl User {
    /// Connects with what a user's directory says.
    ///
    /// # Errors
    /// The network cannot be set up.
    pub fn from_directory(directory: UserDirectory) -> Result<Self, ConfigurationError> {
        User::connect(directory.into_config())
    }

    /// Starts a user on the current tokio runtime. The connection to the gateway is made, and made again, in the
    /// background.
    ///
    /// # Errors
    /// The key is the gateway's, or the network cannot be set up.
    pub fn connect(config: UserConfig) -> Result<Self, ConfigurationError> {
        let UserConfig { id, key, gateway, cluster, operations_max } = config;
        let first = getrandom::u64().map_err(|_| ConfigurationError::Randomness)?;
        let limits = NetLimits::default();
        let bytes_max = limits.user.outbound_bytes_max;
        let frames_max = limits.user.outbound_frames_max;
        let frame_bytes_max = limits.user.frame_bytes_max;
        let network = Network::user(UserNetworkConfig {
            id,
            tls_key: TlsKey::from_seed(key.seed())?,
            identity: identity(cluster, gateway.tls_key),
            gateway,
            limits,
        })?;
        let (commands, incoming) = mpsc::channel(COMMANDS_MAX);
        let task = Task {
            network,
            next: SubmissionNumber(first),
            operations_max: operations_max.clamp(1, frames_max),
            frame_bytes_max,
            bytes_max,
            is_up: false,
            waiting: VecDeque::new(),
            under_way: BTreeMap::new(),
            bytes: 0,
        };
        tokio::spawn(task.run(incoming));
        Ok(User { commands })
    }

    /// Submits one operation and waits, at most `timeout`, for what becomes of it.
    ///
    /// Cancel safe in the sense that nothing breaks; whether a cancelled operation is executed is unknown.
    pub async fn submit(&self, operation: impl Into<Bytes>, timeout: Duration) -> Submitted {
        let (answer, answered) = oneshot::channel();
        let timeout = timeout.min(TIMEOUT_MAX);
        let deadline = Instant::now() + timeout;
        let waiting = Waiting { operation: operation.into(), timeout, deadline, answer };
        if self.commands.send(Command::Submit(waiting)).await.is_err() {
            return Submitted::Refused(Refused::Closed);
        }
        answered.await.unwrap_or(Submitted::Unknown)
    }

    /// Tells the gateway that this user goes away, and waits until it is told or a moment is over. What is under way
    /// ends as unknown; clones can submit no more. A process that ends without this leaves its gateway with a
    /// connection that answers nobody until it is idle for too long.
    pub async fn close(self) {
        let (closed, done) = oneshot::channel();
        // Both fail only if it is closed already.
        let _ = self.commands.send(Command::Close(closed)).await;
        let _ = done.await;
    }

    /// The same user for a typed service.
    pub fn typed<S: Service>(&self) -> TypedClient<S, User> {
        TypedClient::new(self.clone())
    }
}

impl Submit for User {
    fn submit(
        &self,
        operation: Bytes,
        timeout: Duration,
    ) -> impl Future<Output = Submitted> + Send {
        User::submit(self, operation, timeout)
    }
}

/// The most that a submission adds to its operation, with room to spare.
const FRAME_OVERHEAD_BYTES: usize = 64;

/// Invariant: `bytes` bounds the frames of what is under way.
struct Task {
    network: Network,
    next: SubmissionNumber,
    operations_max: usize,
    frame_bytes_max: usize,
    /// What the lane holds: more would push out what is already on its way.
    bytes_max: usize,
    is_up: bool,
    waiting: VecDeque<Waiting>,
    under_way: BTreeMap<SubmissionNumber, UnderWay>,
    bytes: usize,
}

impl Task {
    async fn run(mut self, mut incoming: mpsc::Receiver<Command>) {
        let mut burst = Vec::new();
        let mut closed = None;
        while closed.is_none() {
            let alarm = self.alarm();
            let alarm_at = alarm.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                received = self.network.receive() => self.on_received(received),
                count = incoming.recv_many(&mut burst, COMMANDS_MAX), if self.has_room() => {
                    if count == 0 {
                        break;
                    }
                    for command in burst.drain(..) {
                        match command {
                            Command::Submit(waiting) => self.waiting.push_back(waiting),
                            Command::Close(done) => closed = Some(done),
                        }
                    }
                }
                () = tokio::time::sleep_until(alarm_at.into()), if alarm.is_some() => {
                    self.on_alarm();
                }
            }
            self.send();
        }
        self.network.close().await;
        if let Some(done) = closed {
            // The caller may have left.
            let _ = done.send(());
        }
    }

    /// Whether more may wait here; else they wait in the channel, and then their callers.
    fn has_room(&self) -> bool {
        self.waiting.len() < COMMANDS_MAX
    }

    fn alarm(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().map(|waiting| waiting.deadline);
        waiting.chain(self.under_way.values().map(|it| it.deadline)).min()
    }

    fn on_received(&mut self, received: Received) {
        match received {
            Received::Up(_) => self.is_up = true,
            // What was sent is with the gateway, or lost on the way, and the answer may be lost as well.
            Received::Down(_) => {
                self.is_up = false;
                self.bytes = 0;
                for (_, it) in std::mem::take(&mut self.under_way) {
                    let _ = it.answer.send(Submitted::Unknown);
                }
            }
            Received::Frames { frames, .. } => {
                for frame in &frames {
                    match wire::decode(frame) {
                        Ok(GatewayMessage::Ended { number, ending }) => {
                            self.end(number, ending.into());
                        }
                        Err(error) => {
                            tracing::warn!(%error, "the gateway sends nonsense, connection closed");
                            self.network.penalize(Peer::Gateway, "wire");
                            return;
                        }
                    }
                }
            }
        }
    }

    fn end(&mut self, number: SubmissionNumber, submitted: Submitted) {
        // Of another process with our key, or of an operation given up.
        let Some(it) = self.under_way.remove(&number) else {
            return;
        };
        self.bytes = self.bytes.saturating_sub(it.bytes);
        let _ = it.answer.send(submitted);
    }

    fn on_alarm(&mut self) {
        let now = Instant::now();
        let late = self.under_way.iter().filter(|(_, it)| now >= it.deadline);
        let late: Vec<SubmissionNumber> = late.map(|(number, _)| *number).collect();
        for number in late {
            self.end(number, Submitted::Unknown);
        }
        for waiting in std::mem::take(&mut self.waiting) {
            if now < waiting.deadline {
                self.waiting.push_back(waiting);
            } else {
                // It never left: that much is known.
                let refused = match self.is_up {
                    true => Refused::Gateway(GatewayRefusal::Busy),
                    false => Refused::Unreachable,
                };
                let _ = waiting.answer.send(Submitted::Refused(refused));
            }
        }
    }

    fn send(&mut self) {
        while self.is_up && self.under_way.len() < self.operations_max {
            let Some(next) = self.waiting.front() else {
                return;
            };
            let bytes = next.operation.len() + FRAME_OVERHEAD_BYTES;
            if self.bytes + bytes > self.bytes_max && self.bytes > 0 {
                return;
            }
            let Some(next) = self.waiting.pop_front() else {
                return;
            };
            if bytes > self.frame_bytes_max {
                let refused = Refused::Gateway(GatewayRefusal::TooLong);
                let _ = next.answer.send(Submitted::Refused(refused));
                continue;
            }
            let number = self.next;
            self.next = SubmissionNumber(number.0.wrapping_add(1));
            let frame = wire::encode(&UserMessage::submit(number, next.timeout, next.operation));
            self.bytes += bytes;
            let Waiting { deadline, answer, .. } = next;
            self.under_way.insert(number, UnderWay { deadline, bytes, answer });
            self.network.send(Peer::Gateway, Lane::Bulk, frame);
        }
    }
}
