//! The network of one node: its endpoints, the tasks that accept and dial, and what its owner calls.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pbft_core::types::{ClientId, PublicKey, ReplicaId};
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt,
};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::close::{CloseCode, explain};
use crate::connection;
use crate::inbox::Received;
use crate::lane::Lane;
use crate::limits::{NetLimits, Port};
use crate::registry::Shared;
use crate::tls::{self, Roster, TlsKey};
use crate::{Identity, NetCounters, NetError, Node, listed};

/// A node's TLS key and where it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberAddress {
    /// Its public TLS key.
    pub tls_key: PublicKey,
    /// Its UDP address.
    pub address: SocketAddr,
}

/// A replica's two bound UDP sockets, so that ports given as 0 are known before they are configured.
#[derive(Debug)]
pub struct ReplicaSockets {
    peer: UdpSocket,
    client: UdpSocket,
    peer_address: SocketAddr,
    client_address: SocketAddr,
}

impl ReplicaSockets {
    /// Binds the port for peers and the port for clients.
    ///
    /// # Errors
    /// The port is in use, or the address is not this host's.
    pub fn bind(peer: SocketAddr, client: SocketAddr) -> Result<Self, NetError> {
        let (peer, peer_address) = bind(peer)?;
        let (client, client_address) = bind(client)?;
        Ok(ReplicaSockets { peer, client, peer_address, client_address })
    }

    /// Where peers reach the replica.
    pub fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    /// Where clients reach the replica.
    pub fn client_address(&self) -> SocketAddr {
        self.client_address
    }
}

fn bind(address: SocketAddr) -> Result<(UdpSocket, SocketAddr), NetError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => NetError::AddressInUse { address },
        _ => NetError::Socket { address, source },
    };
    let socket = UdpSocket::bind(address).map_err(failed)?;
    let bound = socket.local_addr().map_err(failed)?;
    Ok((socket, bound))
}

/// What a replica's network needs.
#[derive(Clone, Debug)]
pub struct ReplicaNetworkConfig {
    /// Which replica it is.
    pub id: ReplicaId,
    /// Its TLS key.
    pub tls_key: TlsKey,
    /// All members' keys and peer addresses, replica 0 first, this one included.
    pub members: Vec<MemberAddress>,
    /// The TLS keys of the clients, client 0 first.
    pub clients: Vec<PublicKey>,
    /// What peers and clients must agree on.
    pub identity: Identity,
    /// Bounds and deadlines.
    pub limits: NetLimits,
}

/// What a client's network needs.
#[derive(Clone, Debug)]
pub struct ClientNetworkConfig {
    /// Which client it is.
    pub id: ClientId,
    /// Its TLS key.
    pub tls_key: TlsKey,
    /// All replicas' keys and client addresses, replica 0 first.
    pub replicas: Vec<MemberAddress>,
    /// What replicas must agree on.
    pub identity: Identity,
    /// Bounds and deadlines.
    pub limits: NetLimits,
}

/// The network of one node. Dropping it closes everything at once; [`Network::close`] does so with grace.
#[derive(Debug)]
pub struct Network {
    shared: Arc<Shared>,
    endpoints: Vec<Endpoint>,
    tasks: Vec<AbortHandle>,
}

const PEER_PROTOCOL: &[u8] = b"pbft-peer/1";
const CLIENT_PROTOCOL: &[u8] = b"pbft-client/1";

impl Network {
    /// Starts a replica's network on the current tokio runtime.
    ///
    /// # Errors
    /// The limits or keys do not hold, or there is no runtime.
    pub fn replica(
        sockets: ReplicaSockets,
        config: ReplicaNetworkConfig,
    ) -> Result<Self, NetError> {
        config.limits.validate()?;
        let ReplicaNetworkConfig { id, tls_key, members, clients, identity, limits } = config;
        let own = usize::try_from(id.0).ok().and_then(|index| members.get(index));
        if own.map(|own| own.tls_key) != Some(tls_key.public()) {
            let reason = format!("the TLS key of {id:?} is not the one its entry lists");
            return Err(NetError::InvalidConfig { reason });
        }
        let keys: Vec<PublicKey> = members.iter().map(|member| member.tls_key).collect();
        let peers = Roster::new(listed(&keys, |index| Node::Replica(ReplicaId(index))))?;
        let callers = Roster::new(listed(&clients, |index| Node::Client(ClientId(index))))?;
        let shared = Arc::new(Shared::new(Node::Replica(id), identity, limits));
        let mut network = Network { shared, endpoints: Vec::new(), tasks: Vec::new() };
        let peer = network.listen(sockets.peer, Port::Peer, &tls_key, peers)?;
        network.listen(sockets.client, Port::Client, &tls_key, callers)?;
        // One of two dials, the higher: no race to settle.
        for (index, member) in (0..id.0).zip(&members) {
            network.dial(&peer, Port::Peer, &tls_key, Node::Replica(ReplicaId(index)), member)?;
        }
        Ok(network)
    }

    /// Starts a client's network on the current tokio runtime.
    ///
    /// # Errors
    /// The limits or keys do not hold, no port can be bound, or there is no runtime.
    pub fn client(config: ClientNetworkConfig) -> Result<Self, NetError> {
        config.limits.validate()?;
        let ClientNetworkConfig { id, tls_key, replicas, identity, limits } = config;
        let shared = Arc::new(Shared::new(Node::Client(id), identity, limits));
        let mut network = Network { shared, endpoints: Vec::new(), tasks: Vec::new() };
        let any: SocketAddr = if replicas.iter().any(|replica| replica.address.is_ipv6()) {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        };
        let (socket, _) = bind(any)?;
        let endpoint = network.endpoint(socket, Port::Client, &tls_key, None)?;
        for (index, replica) in (0_u32..).zip(&replicas) {
            let node = Node::Replica(ReplicaId(index));
            network.dial(&endpoint, Port::Client, &tls_key, node, replica)?;
        }
        Ok(network)
    }

    /// Queues a frame for a node. Never waits: when the lane's queue is full the oldest frame goes, and a
    /// node that is not connected gets nothing. Every connection of a client gets the frame.
    pub fn send(&self, to: Node, lane: Lane, frame: Bytes) {
        self.shared.send(to, lane, frame);
    }

    /// The next group of frames of one connection, in turn over all that have some; or that a node came
    /// or went. Cancel safe.
    pub async fn receive(&self) -> Received {
        self.shared.inbox.receive().await
    }

    /// As [`Network::receive`], if something is there now.
    pub fn try_receive(&self) -> Option<Received> {
        self.shared.inbox.try_receive()
    }

    /// Closes a node's connections and shuts it out for a while, longer each time.
    pub fn penalize(&self, node: Node, reason: &'static str) {
        self.shared.penalize(node, reason);
    }

    /// All counters as they stand.
    pub fn counters(&self) -> NetCounters {
        self.shared.counters.snapshot()
    }

    /// The measured round trip to a node, if it is up.
    pub fn round_trip(&self, node: Node) -> Option<Duration> {
        self.shared.round_trip(node)
    }

    /// Whether a node is connected and its HELLO agreed.
    pub fn is_up(&self, node: Node) -> bool {
        self.shared.is_up(node)
    }

    /// Writes what is queued, closes every connection with [`CloseCode::Shutdown`] and waits, within the
    /// close deadline, until the other ends have heard.
    pub async fn close(&self) {
        self.shared.begin_closing();
        self.tasks.iter().for_each(AbortHandle::abort);
        let limit = self.shared.limits.close_deadline;
        let _ = timeout(limit, async {
            while self.shared.has_links() {
                sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        for endpoint in &self.endpoints {
            endpoint.close(CloseCode::Shutdown.wire(), b"shutting down");
        }
        let _ = timeout(limit, async {
            for endpoint in &self.endpoints {
                endpoint.wait_idle().await;
            }
        })
        .await;
    }

    fn endpoint(
        &mut self,
        socket: UdpSocket,
        port: Port,
        key: &TlsKey,
        server: Option<ServerConfig>,
    ) -> Result<Endpoint, NetError> {
        // Without a runtime quinn would panic.
        Handle::try_current().map_err(|_| NetError::NoRuntime)?;
        let purpose: &[u8] = if port == Port::Peer { b"peer" } else { b"client" };
        let (reset_key, id_key) = key.reset_keys(purpose)?;
        let mut config = EndpointConfig::new(reset_key);
        config.cid_generator(move || {
            Box::new(quinn_proto::HashedConnectionIdGenerator::from_key(id_key))
        });
        let address = socket.local_addr().unwrap_or_else(|_| (Ipv4Addr::UNSPECIFIED, 0).into());
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = Endpoint::new(config, server, socket, runtime)
            .map_err(|source| NetError::Socket { address, source })?;
        self.endpoints.push(endpoint.clone());
        Ok(endpoint)
    }

    fn listen(
        &mut self,
        socket: UdpSocket,
        port: Port,
        key: &TlsKey,
        roster: Roster,
    ) -> Result<Endpoint, NetError> {
        let roster = Arc::new(roster);
        let crypto = tls::server_config(key, Arc::clone(&roster), protocol(port))?;
        let limits = &self.shared.limits;
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(transport(limits, port)?);
        config.migration(false);
        config.max_incoming(limits.handshakes_max);
        config.incoming_buffer_size(64 << 10);
        config.incoming_buffer_size_total(4 << 20);
        let endpoint = self.endpoint(socket, port, key, Some(config))?;
        let task = accept(Arc::clone(&self.shared), endpoint.clone(), roster, port);
        self.tasks.push(tokio::spawn(task).abort_handle());
        Ok(endpoint)
    }

    fn dial(
        &mut self,
        endpoint: &Endpoint,
        port: Port,
        key: &TlsKey,
        node: Node,
        member: &MemberAddress,
    ) -> Result<(), NetError> {
        let crypto = tls::client_config(key, member.tls_key, protocol(port))?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(transport(&self.shared.limits, port)?);
        let dialler = Dialler {
            shared: Arc::clone(&self.shared),
            endpoint: endpoint.clone(),
            config,
            node,
            port,
            address: member.address,
        };
        self.tasks.push(tokio::spawn(dialler.run()).abort_handle());
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        for endpoint in &self.endpoints {
            endpoint.close(CloseCode::Dropped.wire(), b"");
        }
    }
}

fn protocol(port: Port) -> &'static [u8] {
    match port {
        Port::Peer => PEER_PROTOCOL,
        Port::Client => CLIENT_PROTOCOL,
    }
}

/// The transport's settings: everything a peer could make grow is bounded (PITFALLS J2).
fn transport(limits: &NetLimits, port: Port) -> Result<Arc<TransportConfig>, NetError> {
    let windows = match port {
        Port::Peer => &limits.peer_windows,
        Port::Client => &limits.client_windows,
    };
    let idle = IdleTimeout::try_from(limits.idle_timeout)
        .map_err(|_| NetError::InvalidLimits { relation: "idle_timeout is too long for QUIC" })?;
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(2))
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(limits.keep_alive))
        .stream_receive_window(VarInt::from_u32(windows.stream_bytes))
        .receive_window(VarInt::from_u32(windows.receive_bytes))
        .send_window(u64::from(windows.send_bytes))
        .initial_rtt(limits.initial_round_trip)
        .datagram_receive_buffer_size(None)
        .allow_spin(false)
        .enable_segmentation_offload(limits.segmentation_offload);
    Ok(Arc::new(config))
}

/// Takes connections in. Never waits for a peer: each has a task, and so many at most are unauthenticated.
async fn accept(shared: Arc<Shared>, endpoint: Endpoint, roster: Arc<Roster>, port: Port) {
    let places = Arc::new(Semaphore::new(shared.limits.handshakes_max));
    let busy = shared.limits.handshakes_max / 2;
    while let Some(incoming) = endpoint.accept().await {
        if places.available_permits() <= busy && incoming.may_retry() {
            // Half full: prove the source address first (PITFALLS J3).
            shared.counters.handshakes_retried.bump();
            let _ = incoming.retry();
            continue;
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            shared.counters.handshakes_shed.bump();
            incoming.refuse();
            continue;
        };
        let (shared, roster) = (Arc::clone(&shared), Arc::clone(&roster));
        tokio::spawn(async move {
            let connecting = match incoming.accept() {
                Ok(connecting) => connecting,
                Err(_) => return shared.counters.handshakes_refused.bump(),
            };
            let connection = match timeout(shared.limits.handshake_deadline, connecting).await {
                Err(_) => return shared.counters.handshakes_timed_out.bump(),
                Ok(Err(error)) => {
                    shared.counters.handshakes_refused.bump();
                    tracing::debug!(here = %shared.me, reason = explain(&error), "handshake refused");
                    return;
                }
                Ok(Ok(connection)) => connection,
            };
            let Some(node) = roster.owner(&connection) else {
                return;
            };
            // The HELLO has a deadline of its own; the place is free for the next handshake.
            drop(place);
            connection::run(&shared, connection, node, port).await;
        });
    }
}

/// Keeps one connection to a node: dials, runs it, dials again.
struct Dialler {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    config: ClientConfig,
    node: Node,
    port: Port,
    address: SocketAddr,
}

impl Dialler {
    async fn run(self) {
        let (min, max) = (self.shared.limits.reconnect_min, self.shared.limits.reconnect_max);
        let mut pause = min;
        let mut was_up = false;
        loop {
            sleep(self.shared.penalty_left(self.node)).await;
            self.shared.counters.dials_started.bump();
            match self.connect().await {
                Ok(connection) => {
                    let shared = &self.shared;
                    if connection::run(shared, connection, self.node, self.port).await {
                        pause = min;
                        was_up = true;
                    }
                }
                Err(reason) => {
                    self.shared.counters.dials_failed.bump();
                    tracing::debug!(here = %self.shared.me, node = %self.node, reason, "dial failed");
                }
            }
            sleep(jittered(pause)).await;
            pause = pause.saturating_mul(2).min(max);
            if was_up {
                self.shared.counters.reconnects.bump();
            }
        }
    }

    async fn connect(&self) -> Result<quinn::Connection, String> {
        // The name is not sent and not checked; the key is (see `tls`).
        let connecting = self.endpoint.connect_with(self.config.clone(), self.address, "pbft");
        let connecting = connecting.map_err(|error| error.to_string())?;
        match timeout(self.shared.limits.handshake_deadline, connecting).await {
            Err(_) => Err("no answer before the deadline".to_owned()),
            Ok(outcome) => outcome.map_err(|error| explain(&error)),
        }
    }
}

/// Between half of `pause` and all of it, so that nodes that lost a peer together do not return together.
fn jittered(pause: Duration) -> Duration {
    let nanos = Instant::now().elapsed().subsec_nanos();
    let spread = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), nanos) % 1000;
    pause.mul_f64(0.5 + f64::from(u32::try_from(spread).unwrap_or(0)) / 2000.0)
}
