//! Networks on loopback for the tests, and a peer that speaks raw QUIC to them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use pbft_core::types::{ClientId, Digest, ReplicaId};
use quinn::{ConnectionError, Endpoint, SendStream};
use tokio::time::{Instant, sleep, timeout};

use crate::hello;
use crate::lane::Lane;
use crate::limits::Port;
use crate::{
    ClientNetworkConfig, GatewayNetworkConfig, GatewaySocket, Identity, MemberAddress, NetCounters,
    NetLimits, Network, Node, Received, ReplicaNetworkConfig, ReplicaSockets, TlsKey, UserEntry,
    UserId, UserNetworkConfig, config, endpoint, tls,
};

/// Far more than any condition below takes; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(crate) fn replica(id: u32) -> Node {
    Node::Replica(ReplicaId(id))
}

pub(crate) fn client(id: u32) -> Node {
    Node::Client(ClientId(id))
}

pub(crate) fn replica_key(id: u32) -> TlsKey {
    TlsKey::from_seed(&[u8::try_from(id).unwrap() + 1; 32]).unwrap()
}

pub(crate) fn client_key(id: u32) -> TlsKey {
    TlsKey::from_seed(&[u8::try_from(id).unwrap() + 101; 32]).unwrap()
}

pub(crate) fn user_node(id: u32) -> Node {
    Node::User(UserId(id))
}

pub(crate) fn user_key(id: u32) -> TlsKey {
    TlsKey::from_seed(&[u8::try_from(id).unwrap() + 201; 32]).unwrap()
}

pub(crate) fn identity() -> Identity {
    Identity { wire_version: 1, cluster: Digest([1; 32]), configuration: Digest([2; 32]) }
}

/// Defaults, but patient with nobody.
pub(crate) fn limits() -> NetLimits {
    NetLimits {
        reconnect_min: Duration::from_millis(20),
        reconnect_max: Duration::from_millis(200),
        replace_interval: Duration::from_millis(10),
        ..NetLimits::default()
    }
}

/// A cluster whose replicas are started one by one.
pub(crate) struct Cluster {
    sockets: Vec<Option<ReplicaSockets>>,
    pub(crate) members: Vec<MemberAddress>,
    pub(crate) client_ports: Vec<MemberAddress>,
    pub(crate) limits: NetLimits,
}

impl Cluster {
    pub(crate) fn new(replicas: u32) -> Self {
        let ids = 0..replicas;
        let sockets: Vec<_> =
            ids.clone().map(|_| ReplicaSockets::bind(ANY, ANY).unwrap()).collect();
        let list = |address: fn(&ReplicaSockets) -> SocketAddr| {
            let of = |(id, sockets)| {
                let tls_key = replica_key(id).public();
                MemberAddress { tls_key, address: address(sockets) }
            };
            ids.clone().zip(&sockets).map(of).collect()
        };
        Self {
            members: list(ReplicaSockets::peer_address),
            client_ports: list(ReplicaSockets::client_address),
            sockets: sockets.into_iter().map(Some).collect(),
            limits: limits(),
        }
    }

    pub(crate) fn config(&self, id: u32) -> ReplicaNetworkConfig {
        ReplicaNetworkConfig {
            id: ReplicaId(id),
            tls_key: replica_key(id),
            members: self.members.clone(),
            clients: (0..2).map(|id| client_key(id).public()).collect(),
            identity: identity(),
            limits: self.limits.clone(),
        }
    }

    pub(crate) fn start(&mut self, id: u32) -> Network {
        let config = self.config(id);
        self.start_with(config)
    }

    pub(crate) fn start_with(&mut self, config: ReplicaNetworkConfig) -> Network {
        let sockets = self.sockets[config.id.0 as usize].take().unwrap();
        Network::replica(sockets, config).unwrap()
    }

    /// Binds the ports of a stopped replica again, once the system lets go of them.
    pub(crate) async fn rebind(&mut self, id: u32) {
        let index = id as usize;
        let (peer, client) = (self.members[index].address, self.client_ports[index].address);
        let end = Instant::now() + PATIENCE;
        loop {
            match ReplicaSockets::bind(peer, client) {
                Ok(sockets) => break self.sockets[index] = Some(sockets),
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) fn start_client(&self, id: u32) -> Network {
        Network::client(ClientNetworkConfig {
            id: ClientId(id),
            tls_key: client_key(id),
            replicas: self.client_ports.clone(),
            identity: identity(),
            limits: self.limits.clone(),
        })
        .unwrap()
    }
}

/// A gateway with client 0's key, and what its users know of it.
pub(crate) struct Gateway {
    pub(crate) network: Network,
    pub(crate) entry: MemberAddress,
}

impl Gateway {
    pub(crate) fn config(users: Vec<UserEntry>) -> GatewayNetworkConfig {
        GatewayNetworkConfig {
            tls_key: client_key(0),
            users,
            identity: identity(),
            limits: limits(),
        }
    }

    pub(crate) fn start(users: u32) -> Self {
        let socket = GatewaySocket::bind(ANY).unwrap();
        let entry = MemberAddress { tls_key: client_key(0).public(), address: socket.address() };
        let users =
            (0..users).map(|id| UserEntry { id: UserId(id), tls_key: user_key(id).public() });
        let network = Network::gateway(socket, Self::config(users.collect())).unwrap();
        Self { network, entry }
    }

    pub(crate) fn user(&self, id: u32) -> UserNetworkConfig {
        UserNetworkConfig {
            id: UserId(id),
            tls_key: user_key(id),
            gateway: self.entry.clone(),
            identity: identity(),
            limits: limits(),
        }
    }

    pub(crate) fn start_user(&self, id: u32) -> Network {
        Network::user(self.user(id)).unwrap()
    }
}

/// Waits until `condition` holds of the counters.
pub(crate) async fn until(network: &Network, what: &str, condition: impl Fn(&NetCounters) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition(&network.counters()) {
        assert!(Instant::now() < end, "{what} at {network:?}: {:#?}", network.counters());
        sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until `network` has a connection to `node`, or has none.
pub(crate) async fn until_up(network: &Network, node: Node, up: bool) {
    let end = Instant::now() + PATIENCE;
    while network.is_up(node) != up {
        assert!(Instant::now() < end, "{network:?} {node}: {:#?}", network.counters());
        sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) async fn next(network: &Network) -> Received {
    let received = timeout(PATIENCE, network.receive()).await;
    received.unwrap_or_else(|_| panic!("nothing at {network:?}: {:#?}", network.counters()))
}

/// The next `count` frames from `node`; whatever else arrives is skipped.
pub(crate) async fn frames(network: &Network, node: Node, count: usize) -> Vec<Bytes> {
    let mut seen = Vec::new();
    while seen.len() < count {
        if let Received::Frames { from, frames } = next(network).await
            && from == node
        {
            seen.extend(frames);
        }
    }
    seen
}

/// A peer that can do what no correct one does.
pub(crate) struct Raw {
    pub(crate) connection: quinn::Connection,
    _endpoint: Endpoint,
}

impl Raw {
    /// Dials the peer port of replica 0.
    pub(crate) async fn dial(
        cluster: &Cluster,
        key: &TlsKey,
        protocol: &[u8],
    ) -> Result<Self, ConnectionError> {
        Self::dial_at(&cluster.members[0], &cluster.limits, key, protocol).await
    }

    /// Dials any port.
    pub(crate) async fn dial_at(
        target: &MemberAddress,
        limits: &NetLimits,
        key: &TlsKey,
        protocol: &[u8],
    ) -> Result<Self, ConnectionError> {
        let crypto = tls::client_config(key, target.tls_key, protocol).unwrap();
        let config = endpoint::client_config(crypto, Port::Peer, limits).unwrap();
        let (socket, address) = config::bind(ANY).unwrap();
        let endpoint = endpoint::dialling(socket, address, Port::Peer).unwrap();
        let connecting = endpoint.connect_with(config, target.address, "pbft").unwrap();
        let connection = timeout(PATIENCE, connecting).await.unwrap()?;
        Ok(Self { connection, _endpoint: endpoint })
    }

    /// Replica 1, with a correct handshake.
    pub(crate) async fn replica_1(cluster: &Cluster) -> Self {
        let protocol = endpoint::protocol(Port::Peer);
        Self::dial(cluster, &replica_key(1), protocol).await.unwrap()
    }

    /// Opens a stream and writes `bytes` to it.
    pub(crate) async fn stream(&self, bytes: &[u8]) -> SendStream {
        let mut stream = self.connection.open_uni().await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// Replica 1 with a correct HELLO; the urgent lane.
    pub(crate) async fn up(cluster: &Cluster) -> (Self, SendStream) {
        let raw = Self::replica_1(cluster).await;
        let stream = raw.stream(&hello_stream(&identity(), replica(1))).await;
        (raw, stream)
    }

    /// The code that the other end closes with.
    pub(crate) async fn close_code(&self) -> u64 {
        let error = timeout(PATIENCE, self.connection.closed()).await.unwrap();
        match error {
            ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            other => panic!("{other:?}"),
        }
    }
}

/// The first bytes of an urgent lane.
pub(crate) fn hello_stream(identity: &Identity, node: Node) -> Vec<u8> {
    [&[Lane::Urgent.tag()][..], &framed(&hello::encode(identity, node))].concat()
}

pub(crate) fn framed(frame: &[u8]) -> Vec<u8> {
    [&crate::frame::prefix(frame).unwrap()[..], frame].concat()
}

/// What was logged on this thread.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn capture(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish();
        tracing::subscriber::set_default(subscriber)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
