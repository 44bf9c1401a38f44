//! HELLO: the first frame of each direction. A peer is up only once its HELLO agreed with ours.
//!
//! TLS alone cannot say this: in TLS 1.3 the dialler is "connected" before the acceptor has judged
//! its key, and a right key proves nothing about the cluster file the node was started with.
//!
//! Layout, little-endian: magic `PBFT`, wire version u16, then, fixed for one version: cluster
//! digest 32, configuration digest 32, kind of node u8 (0 replica, 1 client,
//! 2 user, 3 gateway), its id u32 (0 for a gateway).

use pbft_core::types::{ClientId, Digest, ReplicaId};

use crate::close::CloseCode;
use crate::{Node, UserId};

/// Longest HELLO of any version that we are willing to read.
pub(crate) const HELLO_BYTES_MAX: usize = 128;

/// What an operator does about a mismatch between these two.
pub(crate) fn remedy(ours: Node, theirs: Node) -> &'static str {
    match (ours, theirs) {
        (Node::User(_) | Node::Gateway, _) | (_, Node::User(_) | Node::Gateway) => {
            "take the user's directory and the gateway's from the same place"
        }
        _ => "copy the same cluster.toml to every host",
    }
}

const MAGIC: &[u8; 4] = b"PBFT";

/// What two nodes must agree on before they exchange a single frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Version of the messages inside the frames.
    pub wire_version: u16,
    /// The cluster: the digest that signatures are bound to.
    pub cluster: Digest,
    /// The configuration: members, clients and limits, the same file on every host.
    pub configuration: Digest,
}

/// Why a HELLO was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HelloError {
    /// Not a HELLO at all, or one of our version with the wrong length.
    Malformed,
    /// Another wire version: ours, theirs.
    Version(u16, u16),
    /// Another cluster: ours, theirs.
    Cluster(Digest, Digest),
    /// Another configuration: ours, theirs.
    Configuration(Digest, Digest),
    /// The TLS key belongs to the first node, the HELLO claims the second.
    Impostor(Node, Node),
}

impl HelloError {
    pub(crate) fn close_code(&self) -> CloseCode {
        match self {
            Self::Malformed | Self::Impostor(..) => CloseCode::BadHello,
            Self::Version(..) => CloseCode::WrongVersion,
            Self::Cluster(..) => CloseCode::WrongCluster,
            Self::Configuration(..) => CloseCode::WrongConfiguration,
        }
    }

    /// The field that differs, our value and theirs, if that is the fault.
    pub(crate) fn mismatch(&self) -> Option<(&'static str, String, String)> {
        match self {
            Self::Version(ours, theirs) => {
                Some(("wire_version", ours.to_string(), theirs.to_string()))
            }
            Self::Cluster(ours, theirs) => Some(("cluster", ours.short(), theirs.short())),
            Self::Configuration(ours, theirs) => {
                Some(("configuration", ours.short(), theirs.short()))
            }
            Self::Malformed | Self::Impostor(..) => None,
        }
    }

    /// The refusal in words that read the same at both ends: who refuses whom, the field, both
    /// values, and what to do about it.
    pub(crate) fn explain(&self, ours: Node, theirs: Node) -> String {
        let remedy = remedy(ours, theirs);
        match self {
            Self::Malformed => format!("{ours} refuses {theirs}: malformed HELLO"),
            Self::Impostor(owner, claimed) => {
                format!(
                    "{ours} refuses {theirs}: the TLS key is {owner}'s, the HELLO claims {claimed}"
                )
            }
            Self::Version(here, there) => format!(
                "{ours} refuses {theirs}: wire version {here} at {ours}, {there} at {theirs}; \
                 run the same release on every host, and {remedy}"
            ),
            Self::Cluster(here, there) => format!(
                "{ours} refuses {theirs}: cluster {} at {ours}, {} at {theirs}; \
                 {remedy}",
                here.short(),
                there.short()
            ),
            Self::Configuration(here, there) => format!(
                "{ours} refuses {theirs}: configuration digest {} at {ours}, {} at {theirs}; \
                 {remedy}",
                here.short(),
                there.short()
            ),
        }
    }
}

/// Our HELLO.
pub(crate) fn encode(identity: &Identity, node: Node) -> Vec<u8> {
    let (kind, id) = match node {
        Node::Replica(ReplicaId(id)) => (0, id),
        Node::Client(ClientId(id)) => (1, id),
        Node::User(UserId(id)) => (2, id),
        Node::Gateway => (3, 0),
    };
    let mut bytes = Vec::with_capacity(HELLO_BYTES_MAX);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&identity.wire_version.to_le_bytes());
    bytes.extend_from_slice(&identity.cluster.0);
    bytes.extend_from_slice(&identity.configuration.0);
    bytes.push(kind);
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes
}

/// Judges the HELLO of a peer whose TLS key belongs to `owner`. The version is compared before
/// anything that another version may lay out differently.
pub(crate) fn judge(ours: &Identity, owner: Node, bytes: &[u8]) -> Result<(), HelloError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(HelloError::Malformed)?;
    let (version, rest) = rest.split_first_chunk().ok_or(HelloError::Malformed)?;
    let version = u16::from_le_bytes(*version);
    if version != ours.wire_version {
        return Err(HelloError::Version(ours.wire_version, version));
    }
    let (cluster, rest) = rest.split_first_chunk::<32>().ok_or(HelloError::Malformed)?;
    let (configuration, rest) = rest.split_first_chunk::<32>().ok_or(HelloError::Malformed)?;
    let claimed = match rest {
        [0, id @ ..] => Node::Replica(ReplicaId(id_in(id)?)),
        [1, id @ ..] => Node::Client(ClientId(id_in(id)?)),
        [2, id @ ..] => Node::User(UserId(id_in(id)?)),
        [3, 0, 0, 0, 0] => Node::Gateway,
        _ => return Err(HelloError::Malformed),
    };
    let (cluster, configuration) = (Digest(*cluster), Digest(*configuration));
    if cluster != ours.cluster {
        return Err(HelloError::Cluster(ours.cluster, cluster));
    }
    if configuration != ours.configuration {
        return Err(HelloError::Configuration(ours.configuration, configuration));
    }
    if claimed != owner {
        return Err(HelloError::Impostor(owner, claimed));
    }
    Ok(())
}

fn id_in(bytes: &[u8]) -> Result<u32, HelloError> {
    bytes.try_into().map(u32::from_le_bytes).map_err(|_| HelloError::Malformed)
}

#[cfg(test)]
#[path = "hello_test.rs"]
mod tests;
