//! What a network is started with, and whether it makes sense together.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};

use pbft_core::types::{ClientId, PublicKey, ReplicaId};

use crate::tls::Roster;
use crate::{Identity, NetError, NetLimits, Node, TlsKey, UserId};

/// Where a replica is, and how to recognise it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberAddress {
    /// The public half of its [`TlsKey`].
    pub tls_key: PublicKey,
    /// Its UDP address: that of its peer port or of its client port, as the field that holds this says.
    pub address: SocketAddr,
}

/// What a replica's network needs to know.
#[derive(Clone, Debug)]
pub struct ReplicaNetworkConfig {
    /// Our own id.
    pub id: ReplicaId,
    /// Our own private TLS key.
    pub tls_key: TlsKey,
    /// Every replica with the address of its *peer* port, ourselves included; the index is the id.
    pub members: Vec<MemberAddress>,
    /// The TLS keys of the clients; the index is the id.
    pub clients: Vec<PublicKey>,
    /// What both ends of a connection must agree on.
    pub identity: Identity,
    /// Bounds and deadlines.
    pub limits: NetLimits,
}

/// What a client's network needs to know.
#[derive(Clone, Debug)]
pub struct ClientNetworkConfig {
    /// Our own id.
    pub id: ClientId,
    /// Our own private TLS key.
    pub tls_key: TlsKey,
    /// Every replica with the address of its *client* port; the index is the id.
    pub replicas: Vec<MemberAddress>,
    /// What both ends of a connection must agree on.
    pub identity: Identity,
    /// Bounds and deadlines.
    pub limits: NetLimits,
}

/// The most users one gateway may list.
pub const USERS_MAX: usize = 16_384;

/// A user, as its gateway lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserEntry {
    /// Its number at this gateway.
    pub id: UserId,
    /// The public half of its [`TlsKey`].
    pub tls_key: PublicKey,
}

/// What a gateway's network needs to know.
#[derive(Clone, Debug)]
pub struct GatewayNetworkConfig {
    /// Our own private TLS key, whose public half the users pin.
    pub tls_key: TlsKey,
    /// Every user, at most [`USERS_MAX`].
    pub users: Vec<UserEntry>,
    /// What both ends of a connection must agree on.
    pub identity: Identity,
    /// Bounds and deadlines.
    pub limits: NetLimits,
}

/// What a user's network needs to know.
#[derive(Clone, Debug)]
pub struct UserNetworkConfig {
    /// Our own number at the gateway.
    pub id: UserId,
    /// Our own private TLS key.
    pub tls_key: TlsKey,
    /// The gateway.
    pub gateway: MemberAddress,
    /// What both ends of a connection must agree on.
    pub identity: Identity,
    /// Bounds and deadlines.
    pub limits: NetLimits,
}

/// The bound UDP socket that a gateway's users connect to.
pub struct GatewaySocket {
    pub(crate) socket: UdpSocket,
    address: SocketAddr,
}

impl GatewaySocket {
    /// Binds it.
    ///
    /// # Errors
    /// [`NetError::AddressInUse`] or [`NetError::Socket`], naming the address.
    pub fn bind(address: SocketAddr) -> Result<Self, NetError> {
        let (socket, address) = bind(address)?;
        Ok(Self { socket, address })
    }

    /// The address that users reach us at, with the port the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl fmt::Debug for GatewaySocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "GatewaySocket({})", self.address)
    }
}

/// The two bound UDP sockets of a replica. They are bound before the configuration is made, so that
/// ports chosen by the system (port 0) can be written into it.
pub struct ReplicaSockets {
    pub(crate) peer: UdpSocket,
    pub(crate) client: UdpSocket,
    peer_address: SocketAddr,
    client_address: SocketAddr,
}

impl ReplicaSockets {
    /// Binds the socket that replicas talk over, and the one that clients connect to.
    ///
    /// # Errors
    /// [`NetError::AddressInUse`] or [`NetError::Socket`], naming the address.
    pub fn bind(peer: SocketAddr, client: SocketAddr) -> Result<Self, NetError> {
        let (peer, peer_address) = bind(peer)?;
        let (client, client_address) = bind(client)?;
        Ok(Self { peer, client, peer_address, client_address })
    }

    /// The address that replicas reach us at, with the port the system chose.
    pub fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    /// The address that clients reach us at, with the port the system chose.
    pub fn client_address(&self) -> SocketAddr {
        self.client_address
    }
}

impl fmt::Debug for ReplicaSockets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ReplicaSockets({}, {})", self.peer_address, self.client_address)
    }
}

/// Binds one socket; returns it with its actual address.
pub(crate) fn bind(address: SocketAddr) -> Result<(UdpSocket, SocketAddr), NetError> {
    let refused = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => NetError::AddressInUse { address },
        _ => NetError::Socket { address, source },
    };
    let socket = UdpSocket::bind(address).map_err(refused)?;
    let bound = socket.local_addr().map_err(refused)?;
    Ok((socket, bound))
}

/// The replica with index `index` in a list.
pub(crate) fn replica(index: usize) -> Result<Node, NetError> {
    id(index).map(|id| Node::Replica(ReplicaId(id)))
}

/// The client with index `index` in a list.
pub(crate) fn client(index: usize) -> Result<Node, NetError> {
    id(index).map(|id| Node::Client(ClientId(id)))
}

fn id(index: usize) -> Result<u32, NetError> {
    u32::try_from(index).map_err(|_| invalid("more nodes than ids"))
}

fn invalid(reason: impl Into<String>) -> NetError {
    NetError::InvalidConfig { reason: reason.into() }
}

impl ReplicaNetworkConfig {
    /// Every node with its key, ourselves included.
    pub(crate) fn nodes(&self) -> Result<Vec<(PublicKey, Node)>, NetError> {
        let members = self.members.iter().enumerate();
        let members = members.map(|(index, it)| Ok((it.tls_key, replica(index)?)));
        let clients = self.clients.iter().enumerate();
        members.chain(clients.map(|(index, key)| Ok((*key, client(index)?)))).collect()
    }

    pub(crate) fn check(&self) -> Result<(), NetError> {
        self.limits.check()?;
        Roster::new(self.nodes()?.into_iter())?;
        let own = usize::try_from(self.id.0).ok().and_then(|id| self.members.get(id));
        let own = own.ok_or_else(|| {
            let count = self.members.len();
            invalid(format!("our id is {:?}, but only {count} replicas are listed", self.id))
        })?;
        if own.tls_key != self.tls_key.public() {
            return Err(invalid(format!(
                "our TLS key is {:?}, but {:?} is listed with {:?}; correct the id, the key file or \
                 the list",
                self.tls_key.public(),
                self.id,
                own.tls_key
            )));
        }
        if self.clients.len() > self.limits.client_connections_max {
            return Err(invalid(
                "more clients than client_connections_max; raise the limit or list fewer",
            ));
        }
        Ok(())
    }
}

impl ClientNetworkConfig {
    pub(crate) fn check(&self) -> Result<(), NetError> {
        self.limits.check()?;
        if self.replicas.is_empty() {
            return Err(invalid("no replica is listed"));
        }
        let replicas = self.replicas.iter().enumerate();
        let nodes: Vec<_> = replicas
            .map(|(index, it)| Ok((it.tls_key, replica(index)?)))
            .chain([Ok((self.tls_key.public(), Node::Client(self.id)))])
            .collect::<Result<_, NetError>>()?;
        Roster::new(nodes.into_iter()).map(drop)
    }
}

impl GatewayNetworkConfig {
    /// Every user with its key. Nobody else may connect, whatever keys the cluster lists.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (PublicKey, Node)> {
        self.users.iter().map(|user| (user.tls_key, Node::User(user.id)))
    }

    pub(crate) fn check(&self) -> Result<(), NetError> {
        self.limits.check()?;
        let own = (self.tls_key.public(), Node::Gateway);
        Roster::new(self.nodes().chain([own]))?;
        let mut ids = BTreeSet::new();
        if let Some(twice) = self.users.iter().find(|user| !ids.insert(user.id)) {
            let id = twice.id;
            return Err(invalid(format!("user {id} is listed twice; give each its own number")));
        }
        let count = self.users.len();
        if count > USERS_MAX {
            return Err(invalid(format!(
                "{count} users, at most {USERS_MAX}; start another gateway"
            )));
        }
        if count > self.limits.client_connections_max {
            return Err(invalid(
                "more users than client_connections_max; raise the limit or list fewer",
            ));
        }
        Ok(())
    }
}

impl UserNetworkConfig {
    pub(crate) fn check(&self) -> Result<(), NetError> {
        self.limits.check()?;
        let own = (self.tls_key.public(), Node::User(self.id));
        Roster::new([(self.gateway.tls_key, Node::Gateway), own].into_iter()).map(drop)
    }
}
