//! Bounded frames between mutually authenticated nodes over QUIC.
//!
//! Replicas reach each other on one port and are reached by clients on another, so that a flood of
//! clients cannot starve the replicas and the peer port can refuse every key that is no member's in
//! the TLS handshake. A node is up only after a HELLO in which protocol version, cluster and
//! configuration agreed. Frames travel in two lanes, [`Lane::Urgent`] before [`Lane::Bulk`]; every
//! queue is bounded, and nothing is resent after a reconnect: repair is the protocol's job.
//!
//! [`Network`] moves the frames; [`gate::Gate`] turns those of peers and clients into verified
//! messages on the task that owns the replica. There are no protocol decisions here.

use std::fmt;

use pbft_core::types::{ClientId, PublicKey, ReplicaId};

mod close;
mod connection;
mod counters;
mod error;
mod frame;
pub mod gate;
mod hello;
mod inbox;
mod lane;
mod limits;
mod network;
mod registry;
mod tls;

pub use close::CloseCode;
pub use counters::NetCounters;
pub use error::NetError;
pub use hello::Identity;
pub use inbox::{GROUP_FRAMES_MAX, Received};
pub use lane::Lane;
pub use limits::{LaneLimits, NetLimits, Windows};
pub use network::{
    ClientNetworkConfig, MemberAddress, Network, ReplicaNetworkConfig, ReplicaSockets,
};
pub use tls::TlsKey;

/// Who is at an end of a connection, as its TLS key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// A member of the cluster.
    Replica(ReplicaId),
    /// An admitted client.
    Client(ClientId),
}

impl fmt::Display for Node {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Replica(id) => write!(formatter, "{id:?}"),
            Node::Client(id) => write!(formatter, "{id:?}"),
        }
    }
}

/// The node a TLS key belongs to, for messages about a list of keys.
pub(crate) fn listed(
    keys: &[PublicKey],
    node: impl Fn(u32) -> Node,
) -> impl Iterator<Item = (PublicKey, Node)> {
    (0_u32..).zip(keys).map(move |(index, key)| (*key, node(index)))
}
