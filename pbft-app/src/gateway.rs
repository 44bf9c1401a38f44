//! A gateway: one client key of the cluster, serving many users that have none.
//!
//! A user's operation costs no signature of its own: the gateway's client signs one envelope for all that arrive
//! together. The user is known by its pinned TLS key, and trusts its gateway as it would its own machine, for what is
//! submitted in its name and for what it is told. The cluster trusts a gateway as any other client, not further.
//! `docs/gateway.md` says who can lie about what.
//!
//! [`Gateway`] serves, a [`User`] submits; [`GatewayDirectory`] and [`UserDirectory`] are what they keep on a disk.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pbft_core::crypto::Hasher;
use pbft_core::limits::ConfigError;
use pbft_core::types::{Digest, PublicKey};
use pbft_core::wire;
use pbft_net::{
    GatewayNetworkConfig, GatewaySocket, Identity, Lane, LaneLimits, NetLimits, Network,
    Node as Peer, Received, TlsKey, UserEntry, UserId,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::client::{Client, ClientConfig, Submitted};
use crate::config::Deployment;
use crate::error::ConfigurationError;

mod directory;
mod message;
mod user;

pub use directory::{GatewayDirectory, USER_FILE, USERS_FILE, UserDirectory, init};
pub use message::GatewayRefusal;
use message::{Ending, GatewayMessage, SubmissionNumber, UserMessage};
pub use user::{User, UserConfig};

/// What one user, and all of them together, may take of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayLimits {
    /// Operations one user may have under way; one more is refused as [`GatewayRefusal::Busy`].
    pub operations_per_user_max: usize,
    /// Operations all users together may have under way. While there are so many no user is read, until flow
    /// control holds them.
    pub operations_max: usize,
    /// Bytes of all operations under way; beyond it no user is read either.
    pub operation_bytes_max: usize,
    /// The gateway gives an operation up after this time, however long its user would wait.
    pub timeout_max: Duration,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        GatewayLimits {
            operations_per_user_max: OPERATIONS_PER_USER_MAX,
            operations_max: 16_384,
            operation_bytes_max: 64 << 20,
            timeout_max: Duration::from_secs(60),
        }
    }
}

/// How many operations one user may have under way, unless its gateway says otherwise.
const OPERATIONS_PER_USER_MAX: usize = 64;

impl GatewayLimits {
    /// Checks every bound.
    ///
    /// # Errors
    /// The first that does not hold, with the remedy.
    pub fn check(&self) -> Result<(), ConfigError> {
        let in_range = [
            ("operations_per_user_max", self.operations_per_user_max, 1, 4096),
            ("operations_max", self.operations_max, 1, 1 << 20),
            ("operation_bytes_max", self.operation_bytes_max, 1, 1 << 32),
        ];
        for (field, value, least, most) in in_range {
            if value < least || value > most {
                let remedy = format!("take a value from {least} to {most}");
                return Err(ConfigError::new(field, value, remedy));
            }
        }
        if self.timeout_max.is_zero() || self.timeout_max > Duration::from_secs(3600) {
            let value = format!("{:?}", self.timeout_max);
            return Err(ConfigError::new(
                "timeout_max",
                value,
                "take more than 0s and at most 60m",
            ));
        }
        Ok(())
    }
}

/// What a gateway needs to start.
pub struct GatewayConfig {
    /// Its client in the cluster. Users pin this client's TLS key.
    pub client: ClientConfig,
    /// Who may use it.
    pub users: Vec<UserEntry>,
    /// What they may take of it.
    pub limits: GatewayLimits,
}

/// How a user's submission is known inside the gateway, and what it holds meanwhile.
#[derive(Debug)]
pub(crate) struct Ticket {
    user: UserId,
    number: SubmissionNumber,
    bytes: usize,
}

/// A running gateway. Dropping it stops it.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Gateway {
    /// Starts a gateway on the current tokio runtime.
    ///
    /// # Errors
    /// The limits do not hold; a user's key is listed twice, or is a key of the cluster; the client cannot start; or
    /// the network cannot be set up.
    pub fn start(config: GatewayConfig, socket: GatewaySocket) -> Result<Self, ConfigurationError> {
        let GatewayConfig { client, users, limits } = config;
        limits.check()?;
        check_users(&client.deployment, &users)?;
        let keys = client.keys.public();
        let constants = client.deployment.cluster().constants();
        let operation_bytes_max = usize::try_from(constants.operation_bytes_max);
        let network = GatewayNetworkConfig {
            tls_key: TlsKey::from_seed(client.keys.tls_seed())?,
            identity: identity(client.deployment.cluster().id(), keys.tls),
            limits: net_limits(&users, &limits),
            users,
        };
        let address = socket.address();
        let network = Network::gateway(socket, network)?;
        let client = Client::connect(client)?;
        let (stop, stopped) = oneshot::channel();
        let (ended, endings) = mpsc::unbounded_channel();
        let task = Task {
            network,
            client,
            limits,
            operation_bytes_max: operation_bytes_max.unwrap_or(usize::MAX),
            ended,
            under_way: HashMap::new(),
            operations: 0,
            bytes: 0,
            group: (UserId(0), VecDeque::new()),
        };
        let task = tokio::spawn(task.run(endings, stopped));
        Ok(Gateway { address, stop: Some(stop), task })
    }

    /// Where its users reach it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it: its users are told that it goes away, and what they have under way ends as unknown to them.
    pub async fn stop(mut self) {
        // Both fail only if the task is gone already.
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let _ = (&mut self.task).await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // A graceful stop has ended it before.
        self.task.abort();
    }
}

/// What a user and its gateway compare before anything else: the cluster, and the gateway.
fn identity(cluster: Digest, gateway: PublicKey) -> Identity {
    let mut hasher = Hasher::new("gateway");
    hasher.fixed(&cluster.0);
    hasher.fixed(&gateway.0);
    Identity { wire_version: wire::VERSION, cluster, configuration: hasher.finish() }
}

/// Every user may have a second connection, and none can take those of another. A lane has room for all that one user
/// has under way to end at once, unless the results are large: then its oldest answers are lost.
fn net_limits(users: &[UserEntry], limits: &GatewayLimits) -> NetLimits {
    let default = NetLimits::default();
    let frames = default.user.outbound_frames_max.max(limits.operations_per_user_max);
    NetLimits {
        user: LaneLimits { outbound_frames_max: frames, ..default.user },
        // Many may come at once, and often from one host.
        handshakes_max: 1024,
        handshakes_per_address_max: 512,
        connections_per_client_max: 2,
        client_connections_max: users.len().saturating_mul(2).max(2),
        ..default
    }
}

/// A key that means something to the cluster must not also mean a user.
fn check_users(deployment: &Deployment, users: &[UserEntry]) -> Result<(), ConfigError> {
    let replicas = deployment.replicas().iter().map(|replica| replica.keys);
    let of_cluster: BTreeSet<PublicKey> = replicas
        .chain(deployment.clients().iter().copied())
        .flat_map(|keys| [keys.signing, keys.tls])
        .collect();
    match users.iter().find(|user| of_cluster.contains(&user.tls_key)) {
        Some(user) => Err(ConfigError::new(
            "tls_key",
            user.tls_key.to_hex(),
            format!("user {} has a key of the cluster: give it one of its own", user.id),
        )),
        None => Ok(()),
    }
}

/// Outcomes taken at once.
const ENDINGS_MAX: usize = 4096;

/// The one task of a gateway: frames of users become submissions, outcomes become frames.
///
/// Invariants: `operations` is the sum of `under_way`, which lists no user without any; `bytes` is the sum of the
/// lengths of what is under way.
struct Task {
    network: Network,
    client: Client,
    limits: GatewayLimits,
    /// Of one operation. The cluster's bound, which one envelope would be refused for, whoever shares it.
    operation_bytes_max: usize,
    ended: mpsc::UnboundedSender<(Ticket, Submitted)>,
    under_way: HashMap<UserId, usize>,
    operations: usize,
    bytes: usize,
    /// What is left of the frames received last, and whose they are.
    group: (UserId, VecDeque<Bytes>),
}

impl Task {
    async fn run(
        mut self,
        mut endings: mpsc::UnboundedReceiver<(Ticket, Submitted)>,
        mut stopped: oneshot::Receiver<()>,
    ) {
        let mut burst = Vec::new();
        loop {
            tokio::select! {
                biased;
                _ = &mut stopped => break,
                _ = endings.recv_many(&mut burst, ENDINGS_MAX) => {
                    burst.drain(..).for_each(|(ticket, submitted)| self.on_ended(&ticket, submitted));
                }
                received = self.network.receive(), if self.group.1.is_empty() => {
                    self.on_received(received);
                }
            }
            self.take_group().await;
        }
        self.network.close().await;
    }

    fn has_room(&self) -> bool {
        self.operations < self.limits.operations_max && self.bytes < self.limits.operation_bytes_max
    }

    fn on_received(&mut self, received: Received) {
        // What a user that leaves has under way goes on, and counts as its own until it ends.
        let Received::Frames { from: Peer::User(user), frames } = received else {
            return;
        };
        self.group = (user, frames.into());
    }

    /// Takes the frames at hand while there is room. What is left of a group waits, and no user is read meanwhile.
    async fn take_group(&mut self) {
        while self.has_room()
            && let Some(frame) = self.group.1.pop_front()
        {
            let user = self.group.0;
            match wire::decode(&frame) {
                Ok(UserMessage::Submit { number, timeout_ms, operation }) => {
                    let timeout = Duration::from_millis(u64::from(timeout_ms));
                    self.submit(user, number, timeout, operation.0).await;
                }
                Err(error) => {
                    tracing::warn!(%user, %error, "refused, connection closed");
                    self.network.penalize(Peer::User(user), "wire");
                    self.group.1.clear();
                }
            }
        }
    }

    async fn submit(
        &mut self,
        user: UserId,
        number: SubmissionNumber,
        timeout: Duration,
        operation: Bytes,
    ) {
        // An envelope with it would be refused whole, with the operations of others.
        if operation.len() > self.operation_bytes_max {
            return self.tell(user, number, Ending::Refused(GatewayRefusal::TooLong));
        }
        if self.of(user) >= self.limits.operations_per_user_max {
            return self.tell(user, number, Ending::Refused(GatewayRefusal::Busy));
        }
        let bytes = operation.len();
        let deadline = Instant::now() + timeout.min(self.limits.timeout_max);
        let ticket = Ticket { user, number, bytes };
        if !self.client.submit_for(ticket, operation, deadline, &self.ended).await {
            return self.tell(user, number, Ending::Refused(GatewayRefusal::NotSent));
        }
        *self.under_way.entry(user).or_default() += 1;
        self.operations += 1;
        self.bytes += bytes;
    }

    fn of(&self, user: UserId) -> usize {
        self.under_way.get(&user).copied().unwrap_or(0)
    }

    fn on_ended(&mut self, ticket: &Ticket, submitted: Submitted) {
        self.operations = self.operations.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(ticket.bytes);
        match self.of(ticket.user) {
            0 | 1 => drop(self.under_way.remove(&ticket.user)),
            more => drop(self.under_way.insert(ticket.user, more - 1)),
        }
        self.tell(ticket.user, ticket.number, submitted.into());
    }

    /// Goes to every connection of the user: who did not ask under this number takes no notice.
    fn tell(&self, user: UserId, number: SubmissionNumber, ending: Ending) {
        let frame = wire::encode(&GatewayMessage::Ended { number, ending });
        self.network.send(Peer::User(user), Lane::Urgent, frame);
    }
}

#[cfg(test)]
#[path = "gateway_test.rs"]
mod tests;
