//! Bounded frames between mutually authenticated nodes, over QUIC.
//!
//! The network moves opaque bytes. It decides nothing about the protocol; it guarantees who a frame came from, that nothing it holds grows without bound, and
//! that no node can hold up another.
//!
//! * A node *is* its ed25519 TLS key. Both ends of a connection check the other's key against
//!   their configuration inside the handshake, then compare wire version, cluster and
//!   configuration digest in a HELLO. Only then is the node [`Received::Up`].
//! * A connection has two [`Lane`]s: urgent frames are never held up by bulk ones.
//! * Sending never waits. A full queue drops its oldest frame, an absent node drops all of them,
//!   and every such loss is counted: delivery is best effort, and the protocol repeats what it needs.
//! * Receiving is served round-robin over connections. A full inbound queue is not read any more,
//!   until QUIC's flow control stops its sender.
//!
//! A gateway serves its users, and a user reaches its gateway, by the same means: another port with a protocol
//! name of its own, so that neither can be mistaken for a client or a replica.
//!
//! [`Network`] moves the frames; [`gate::Gate`] turns them into verified messages, on the task that owns
//! the replica.

mod accept;
mod close;
mod config;
mod connection;
mod counters;
mod dial;
mod endpoint;
mod error;
mod frame;
pub mod gate;
mod hello;
mod inbox;
mod lane;
mod limits;
mod network;
mod reader;
mod registry;
mod shared;
mod tls;

use std::fmt;

use pbft_core::types::{ClientId, ReplicaId};

pub use close::CloseCode;
pub use config::{
    ClientNetworkConfig, GatewayNetworkConfig, GatewaySocket, MemberAddress, ReplicaNetworkConfig,
    ReplicaSockets, USERS_MAX, UserEntry, UserNetworkConfig,
};
pub use counters::NetCounters;
pub use error::NetError;
pub use hello::Identity;
pub use inbox::{GROUP_FRAMES_MAX, Received};
pub use lane::Lane;
pub use limits::{LaneLimits, NetLimits, Windows};
pub use network::Network;
pub use tls::TlsKey;

/// A user of a gateway, by the number its gateway lists it with. It is nobody to the cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UserId(pub u32);

impl fmt::Debug for UserId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "u{}", self.0)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// A member of the cluster.
    Replica(ReplicaId),
    /// A listed client.
    Client(ClientId),
    /// A listed user, as its gateway sees it.
    User(UserId),
    /// The gateway, as its users see it.
    Gateway,
}

impl Node {
    /// Whether it serves others and so has one connection to each of them, the newest; those served may have
    /// several.
    pub(crate) fn serves(self) -> bool {
        matches!(self, Self::Replica(_) | Self::Gateway)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica(id) => write!(formatter, "{id:?}"),
            Self::Client(id) => write!(formatter, "{id:?}"),
            Self::User(id) => write!(formatter, "{id:?}"),
            Self::Gateway => formatter.write_str("gateway"),
        }
    }
}

#[cfg(test)]
mod gateway_test;
#[cfg(test)]
mod hostile_test;
#[cfg(test)]
mod network_test;
#[cfg(test)]
mod test_support;
