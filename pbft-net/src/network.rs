//! The public handle: starts the tasks of a network, and ends them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pbft_core::types::PublicKey;
use quinn::Endpoint;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::accept::Acceptor;
use crate::close::CloseCode;
use crate::config::{
    self, ClientNetworkConfig, GatewayNetworkConfig, GatewaySocket, ReplicaNetworkConfig,
    ReplicaSockets, UserNetworkConfig,
};
use crate::dial::{Target, keep_connected};
use crate::limits::Port;
use crate::shared::Shared;
use crate::tls::{self, Roster};
use crate::{
    Identity, Lane, MemberAddress, NetCounters, NetError, NetLimits, Node, Received, TlsKey,
    endpoint,
};

/// The connections of one node: a replica's to its peers and clients, a client's to the replicas, a gateway's to
/// its users, or a user's to its gateway.
///
/// Dropping it closes every connection and ends every task; [`close`](Self::close) does so
/// gracefully. All methods may be called from several tasks at once.
pub struct Network {
    shared: Arc<Shared>,
    /// Empty once closed: an endpoint holds its port for as long as somebody holds it.
    endpoints: Mutex<Vec<Endpoint>>,
    /// The accept loops and the diallers, which own all other tasks. Aborted when dropped.
    tasks: Mutex<JoinSet<()>>,
}

impl Network {
    /// Starts a replica's network: it accepts peers of a higher id and clients, and dials peers of a
    /// lower id. Must be called inside a tokio runtime with its io and time drivers on; a
    /// `current_thread` one will do.
    ///
    /// # Errors
    /// The configuration or the limits contradict themselves, TLS refuses them, or no runtime
    /// surrounds the call.
    pub fn replica(
        sockets: ReplicaSockets,
        config: ReplicaNetworkConfig,
    ) -> Result<Self, NetError> {
        Handle::try_current().map_err(|_| NetError::NoRuntime)?;
        config.check()?;
        let own = Node::Replica(config.id);
        let nodes = config.nodes()?;
        let roster = |wanted: fn(&Node, &Node) -> bool| {
            let wanted = nodes.iter().filter(move |(_, node)| wanted(node, &own)).copied();
            Roster::new(wanted).map(Arc::new)
        };
        // The lower id never dials, so there is one connection per pair, and no tie to break.
        let callers = roster(|node, own| matches!(node, Node::Replica(_)) && node > own)?;
        let clients = roster(|node, _| matches!(node, Node::Client(_)))?;
        let others = nodes.iter().map(|(_, node)| *node).filter(|node| *node != own);
        let shared = Arc::new(Shared::new(own, config.identity, config.limits, others));

        let (peer_address, client_address) = (sockets.peer_address(), sockets.client_address());
        let (key, limits) = (&config.tls_key, &shared.limits);
        let listen = |socket, address, port, roster: &Arc<Roster>| {
            endpoint::listening(socket, address, port, key, roster.clone(), limits)
        };
        let peer_endpoint = listen(sockets.peer, peer_address, Port::Peer, &callers)?;
        let client_endpoint = listen(sockets.client, client_address, Port::Client, &clients)?;
        let mut targets = Vec::new();
        for (index, member) in config.members.iter().enumerate() {
            let node = config::replica(index)?;
            if node < own {
                targets.push(target(node, Port::Peer, member, key, limits)?);
            }
        }

        let mut tasks = JoinSet::new();
        for (endpoint, port, roster) in
            [(&peer_endpoint, Port::Peer, callers), (&client_endpoint, Port::Client, clients)]
        {
            let (shared, endpoint) = (shared.clone(), endpoint.clone());
            tasks.spawn(Acceptor { shared, endpoint, port, roster }.run());
        }
        for target in targets {
            tasks.spawn(keep_connected(shared.clone(), peer_endpoint.clone(), target));
        }
        let endpoints = Mutex::new(vec![peer_endpoint, client_endpoint]);
        Ok(Self { shared, endpoints, tasks: Mutex::new(tasks) })
    }

    /// Starts a client's network: it dials every replica, from a port the system chooses. Must be
    /// called inside a tokio runtime, as [`replica`](Self::replica).
    ///
    /// # Errors
    /// As for [`replica`](Self::replica), or no socket can be had.
    pub fn client(config: ClientNetworkConfig) -> Result<Self, NetError> {
        Handle::try_current().map_err(|_| NetError::NoRuntime)?;
        config.check()?;
        let own = Node::Client(config.id);
        let nodes: Vec<Node> =
            (0..config.replicas.len()).map(config::replica).collect::<Result<_, _>>()?;
        let targets = nodes.into_iter().zip(config.replicas).collect();
        Self::dialling(own, config.identity, &config.tls_key, config.limits, targets)
    }

    /// Starts a gateway's network: it accepts its users. Must be called inside a tokio runtime, as
    /// [`replica`](Self::replica).
    ///
    /// # Errors
    /// As for [`replica`](Self::replica).
    pub fn gateway(socket: GatewaySocket, config: GatewayNetworkConfig) -> Result<Self, NetError> {
        Handle::try_current().map_err(|_| NetError::NoRuntime)?;
        config.check()?;
        let roster = Arc::new(Roster::new(config.nodes())?);
        let users = config.users.iter().map(|user| Node::User(user.id));
        let shared = Arc::new(Shared::new(Node::Gateway, config.identity, config.limits, users));
        let (address, port) = (socket.address(), Port::User);
        let (key, limits) = (&config.tls_key, &shared.limits);
        let endpoint =
            endpoint::listening(socket.socket, address, port, key, roster.clone(), limits)?;
        let mut tasks = JoinSet::new();
        let endpoints = Mutex::new(vec![endpoint.clone()]);
        tasks.spawn(Acceptor { shared: shared.clone(), endpoint, port, roster }.run());
        Ok(Self { shared, endpoints, tasks: Mutex::new(tasks) })
    }

    /// Starts a user's network: it dials its gateway, from a port the system chooses. Must be called inside a
    /// tokio runtime, as [`replica`](Self::replica).
    ///
    /// # Errors
    /// As for [`client`](Self::client).
    pub fn user(config: UserNetworkConfig) -> Result<Self, NetError> {
        Handle::try_current().map_err(|_| NetError::NoRuntime)?;
        config.check()?;
        let own = Node::User(config.id);
        let targets = vec![(Node::Gateway, config.gateway)];
        Self::dialling(own, config.identity, &config.tls_key, config.limits, targets)
    }

    /// A network that listens for nobody and dials these.
    fn dialling(
        own: Node,
        identity: Identity,
        key: &TlsKey,
        limits: NetLimits,
        servers: Vec<(Node, MemberAddress)>,
    ) -> Result<Self, NetError> {
        let only_v4 = servers.iter().all(|(_, server)| server.address.is_ipv4());
        let any: SocketAddr = if only_v4 {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let (socket, address) = config::bind(any)?;
        let port = if matches!(own, Node::User(_)) { Port::User } else { Port::Client };
        let endpoint = endpoint::dialling(socket, address, port)?;
        let targets = servers
            .iter()
            .map(|(node, server)| target(*node, Port::between(own, *node), server, key, &limits))
            .collect::<Result<Vec<_>, _>>()?;
        let nodes = servers.into_iter().map(|(node, _)| node);
        let shared = Arc::new(Shared::new(own, identity, limits, nodes));
        let mut tasks = JoinSet::new();
        for target in targets {
            tasks.spawn(keep_connected(shared.clone(), endpoint.clone(), target));
        }
        Ok(Self { shared, endpoints: Mutex::new(vec![endpoint]), tasks: Mutex::new(tasks) })
    }

    /// Queues a frame for `to`, to every connection if it is a client or user with several. Never waits: a
    /// full lane drops its oldest frame; a frame for a node that is not connected, or of a length of
    /// zero or above the lane's limit, is dropped. Every drop is counted.
    pub fn send(&self, to: Node, lane: Lane, frame: Bytes) {
        self.shared.send(to, Port::between(self.shared.own, to), lane, frame);
    }

    /// The next news of a node, or the next group of frames of one connection, connections taking
    /// turns. Waits for ever once the network is closed and all is handed over.
    ///
    /// Cancel-safe: a call that is dropped has taken nothing.
    pub async fn receive(&self) -> Received {
        self.shared.inbox.receive().await
    }

    /// What [`receive`](Self::receive) would return, if it would return at once.
    pub fn try_receive(&self) -> Option<Received> {
        self.shared.inbox.try_receive()
    }

    /// Closes the connections of a node that misbehaves, and refuses new ones for a while that
    /// doubles each time. `reason` goes to the log. Frames already received are still handed over.
    pub fn penalize(&self, node: Node, reason: &'static str) {
        self.shared.penalize(node, reason);
    }

    /// Everything counted since the start.
    pub fn counters(&self) -> NetCounters {
        self.shared.counters.snapshot()
    }

    /// The estimated round-trip time to a node, if it is connected; for a client with several
    /// connections that of the newest.
    pub fn round_trip(&self, node: Node) -> Option<Duration> {
        self.shared.registry.round_trip(node)
    }

    /// Whether frames to the node would be sent now.
    pub fn is_up(&self, node: Node) -> bool {
        self.shared.registry.is_up(node)
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Stops accepting and dialling, gives queued frames a moment to arrive, tells the other ends,
    /// and gives up the ports. Takes at most twice `close_deadline`. Received frames can still be
    /// taken afterwards. A second call returns at once.
    pub async fn close(&self) {
        let deadline = self.shared.limits.close_deadline;
        self.shared.start_closing();
        self.shared.close_all();
        let mut tasks = take(&self.tasks);
        let endpoints = take(&self.endpoints);
        let drained = async {
            while let Some(result) = tasks.join_next().await {
                self.shared.count_panic(&result);
            }
        };
        // Peers that do not take their frames are left behind.
        let _ = timeout(deadline, drained).await;
        tasks.shutdown().await;
        let idle = async {
            for endpoint in &endpoints {
                endpoint.close(CloseCode::Shutdown.wire(), b"shutdown");
            }
            for endpoint in &endpoints {
                endpoint.wait_idle().await;
            }
        };
        let _ = timeout(deadline, idle).await;
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for endpoint in take(&self.endpoints) {
            endpoint.close(CloseCode::Dropped.wire(), b"dropped");
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Network({})", self.shared.own)
    }
}

fn take<T: Default>(slot: &Mutex<T>) -> T {
    std::mem::take(&mut *slot.lock().unwrap_or_else(PoisonError::into_inner))
}

fn target(
    node: Node,
    port: Port,
    member: &MemberAddress,
    key: &TlsKey,
    limits: &NetLimits,
) -> Result<Target, NetError> {
    let expected: PublicKey = member.tls_key;
    let crypto = tls::client_config(key, expected, endpoint::protocol(port))?;
    let config = endpoint::client_config(crypto, port, limits)?;
    Ok(Target { node, port, address: member.address, config })
}
