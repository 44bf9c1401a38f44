//! Every bound and deadline of the network, with the relations between them checked in one place.

use std::time::Duration;

use crate::hello::HELLO_BYTES_MAX;
use crate::lane::Lane;
use crate::{NetError, Node};

/// Bounds of one lane of one connection. Both ends should agree on `frame_bytes_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneLimits {
    /// Largest frame, in bytes, in either direction. A longer inbound one closes the connection.
    pub frame_bytes_max: usize,
    /// Frames waiting to be written; the oldest goes when one more arrives.
    pub outbound_frames_max: usize,
    /// Bytes waiting to be written.
    pub outbound_bytes_max: usize,
    /// Frames received and not yet consumed; when full, the lane is not read until there is room.
    pub inbound_frames_max: usize,
    /// Bytes received and not yet consumed.
    pub inbound_bytes_max: usize,
}

/// QUIC flow-control windows of one connection, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// What one stream may have in flight towards us and unread.
    pub stream_bytes: u32,
    /// What all streams together may have in flight towards us and unread.
    pub receive_bytes: u32,
    /// What we keep for retransmission until it is acknowledged.
    pub send_bytes: u32,
}

/// All bounds of one network. Start from [`NetLimits::default`] and change what you must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetLimits {
    /// The urgent lane between two replicas.
    pub peer_urgent: LaneLimits,
    /// The bulk lane between two replicas.
    pub peer_bulk: LaneLimits,
    /// The lane of state transfer between two replicas.
    pub peer_transfer: LaneLimits,
    /// Each lane between a client and a replica.
    pub client: LaneLimits,
    /// Each lane between a user and its gateway.
    pub user: LaneLimits,
    /// Flow control between two replicas.
    pub peer_windows: Windows,
    /// Flow control between a client and a replica.
    pub client_windows: Windows,
    /// Flow control between a user and its gateway.
    pub user_windows: Windows,
    /// Incoming connections per port that may be between first packet and accepted HELLO.
    pub handshakes_max: usize,
    /// The same for one source address, so that one host cannot use up all of them.
    pub handshakes_per_address_max: usize,
    /// Time from the first packet to the end of the TLS handshake.
    pub handshake_deadline: Duration,
    /// Time from the end of the TLS handshake to the last byte of the HELLO.
    pub hello_deadline: Duration,
    /// Time from the first to the last byte of one frame, not counting time we did not read.
    pub message_deadline: Duration,
    /// A connection without any packet for this long is dead.
    pub idle_timeout: Duration,
    /// An otherwise silent connection sends a packet this often.
    pub keep_alive: Duration,
    /// Round-trip time assumed before it is measured; retransmission of the first flight hangs on it.
    pub initial_round_trip: Duration,
    /// Pause before the first redial; it doubles, with jitter, up to `reconnect_max`.
    pub reconnect_min: Duration,
    /// Longest pause between dials.
    pub reconnect_max: Duration,
    /// A replica may replace its own live connection once in this time.
    pub replace_interval: Duration,
    /// How long a node stays shut out after a first `penalize`; it doubles up to `penalty_max`.
    pub penalty_min: Duration,
    /// Longest time a node stays shut out, and how long it must behave to start again at the minimum.
    pub penalty_max: Duration,
    /// Connections one client, or one user of a gateway, may hold; the oldest is closed when it opens one more.
    pub connections_per_client_max: usize,
    /// Connections all clients, or all users of a gateway, together may hold; at least one for each listed.
    pub client_connections_max: usize,
    /// How long `close` waits for what is queued to arrive, and then for the other ends to hear of it.
    pub close_deadline: Duration,
    /// Whether to hand the kernel several datagrams at once (GSO). Some network cards get it wrong.
    pub segmentation_offload: bool,
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const MIB_U32: u32 = 1024 * 1024;

impl Default for NetLimits {
    fn default() -> Self {
        Self {
            peer_urgent: LaneLimits {
                frame_bytes_max: 4 * MIB,
                outbound_frames_max: 4096,
                outbound_bytes_max: 32 * MIB,
                inbound_frames_max: 4096,
                inbound_bytes_max: 8 * MIB,
            },
            peer_bulk: LaneLimits {
                frame_bytes_max: 8 * MIB,
                outbound_frames_max: 4096,
                outbound_bytes_max: 32 * MIB,
                inbound_frames_max: 1024,
                inbound_bytes_max: 16 * MIB,
            },
            peer_transfer: LaneLimits {
                frame_bytes_max: MIB,
                outbound_frames_max: 256,
                outbound_bytes_max: 8 * MIB,
                inbound_frames_max: 256,
                inbound_bytes_max: 4 * MIB,
            },
            client: LaneLimits {
                frame_bytes_max: 2 * MIB,
                outbound_frames_max: 4096,
                outbound_bytes_max: 4 * MIB,
                inbound_frames_max: 1024,
                inbound_bytes_max: 2 * MIB,
            },
            // There may be thousands of them, and an operation is at most 64 KiB unless the cluster says otherwise.
            user: LaneLimits {
                frame_bytes_max: 128 * KIB,
                outbound_frames_max: 256,
                outbound_bytes_max: 256 * KIB,
                inbound_frames_max: 64,
                inbound_bytes_max: 128 * KIB,
            },
            peer_windows: Windows {
                stream_bytes: 8 * MIB_U32,
                receive_bytes: 32 * MIB_U32,
                send_bytes: 32 * MIB_U32,
            },
            client_windows: Windows {
                stream_bytes: MIB_U32,
                receive_bytes: 4 * MIB_U32,
                send_bytes: 4 * MIB_U32,
            },
            user_windows: Windows {
                stream_bytes: MIB_U32 / 8,
                receive_bytes: MIB_U32 / 4,
                send_bytes: MIB_U32 / 4,
            },
            handshakes_max: 128,
            handshakes_per_address_max: 64,
            handshake_deadline: Duration::from_secs(3),
            hello_deadline: Duration::from_secs(2),
            message_deadline: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(2),
            initial_round_trip: Duration::from_millis(20),
            reconnect_min: Duration::from_millis(100),
            reconnect_max: Duration::from_secs(5),
            replace_interval: Duration::from_millis(250),
            penalty_min: Duration::from_secs(1),
            penalty_max: Duration::from_secs(60),
            connections_per_client_max: 8,
            client_connections_max: 1024,
            close_deadline: Duration::from_secs(1),
            segmentation_offload: true,
        }
    }
}

/// Deadlines beyond this are taken for mistakes, and sums of two stay far from any overflow.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl NetLimits {
    /// Checks every range and every relation between two limits.
    ///
    /// # Errors
    /// [`NetError::InvalidLimits`] with the first relation that does not hold.
    pub fn check(&self) -> Result<(), NetError> {
        let rules = [
            (
                self.lanes().all(|lane| lane.frame_bytes_max >= HELLO_BYTES_MAX),
                "frame_bytes_max must be at least 128 bytes, room for a HELLO",
            ),
            (
                self.lanes().all(|lane| u32::try_from(lane.frame_bytes_max).is_ok()),
                "frame_bytes_max must fit the 32-bit length prefix",
            ),
            (
                self.lanes()
                    .all(|lane| lane.outbound_frames_max >= 1 && lane.inbound_frames_max >= 1),
                "every lane queue must hold at least one frame",
            ),
            (
                self.lanes().all(|lane| lane.outbound_bytes_max >= lane.frame_bytes_max),
                "outbound_bytes_max must hold at least one frame of frame_bytes_max",
            ),
            (
                self.lanes().all(|lane| lane.inbound_bytes_max >= lane.frame_bytes_max),
                "inbound_bytes_max must hold at least one frame of frame_bytes_max",
            ),
            (
                self.windows().all(|window| window.stream_bytes >= 16 * 1024),
                "stream_bytes must be at least 16 KiB",
            ),
            (
                self.windows().all(|window| window.receive_bytes / 2 >= window.stream_bytes),
                "receive_bytes must be at least twice stream_bytes: a full bulk lane must not block the urgent one",
            ),
            (
                self.windows().all(|window| window.send_bytes / 2 >= window.stream_bytes),
                "send_bytes must be at least twice stream_bytes: a full bulk lane must not block the urgent one",
            ),
            (
                self.handshakes_max >= 1 && self.handshakes_max <= 4096,
                "handshakes_max must be 1..=4096",
            ),
            (
                self.handshakes_per_address_max >= 1
                    && self.handshakes_per_address_max <= self.handshakes_max,
                "handshakes_per_address_max must be 1..=handshakes_max",
            ),
            (
                self.durations()
                    .iter()
                    .all(|duration| !duration.is_zero() && *duration <= DURATION_MAX),
                "every duration must be above zero and at most a day",
            ),
            (
                self.keep_alive.saturating_mul(2) <= self.idle_timeout,
                "keep_alive must be at most half of idle_timeout, else a quiet connection dies",
            ),
            (
                self.initial_round_trip < self.handshake_deadline,
                "initial_round_trip must be below handshake_deadline",
            ),
            (
                self.reconnect_min <= self.reconnect_max,
                "reconnect_min must not exceed reconnect_max",
            ),
            (self.penalty_min <= self.penalty_max, "penalty_min must not exceed penalty_max"),
            (self.connections_per_client_max >= 1, "connections_per_client_max must be at least 1"),
            (
                self.client_connections_max >= self.connections_per_client_max,
                "client_connections_max must be at least connections_per_client_max",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, relation)) => Err(NetError::InvalidLimits { relation }),
            None => Ok(()),
        }
    }

    /// Upper bound, in bytes, on what queues and flow-control windows can hold in one replica of a
    /// cluster of `members`, if every peer and every client connection is hostile. Frames handed
    /// to the consumer are not included.
    pub fn memory_bytes_max(&self, members: usize) -> u64 {
        let lanes = [&self.peer_urgent, &self.peer_bulk, &self.peer_transfer];
        let peer = lanes.map(lane).iter().sum::<u64>() + window(&self.peer_windows);
        let client = 2 * lane(&self.client) + window(&self.client_windows);
        let peers = count(members.saturating_sub(1)).saturating_mul(peer);
        peers.saturating_add(count(self.client_connections_max).saturating_mul(client))
    }

    /// The same for one gateway, if every connection of its users is hostile.
    pub fn gateway_memory_bytes_max(&self) -> u64 {
        let user = 2 * lane(&self.user) + window(&self.user_windows);
        count(self.client_connections_max).saturating_mul(user)
    }

    pub(crate) fn lane(&self, port: Port, lane: Lane) -> &LaneLimits {
        match (port, lane) {
            (Port::Peer, Lane::Urgent) => &self.peer_urgent,
            (Port::Peer, Lane::Bulk) => &self.peer_bulk,
            (Port::Peer, Lane::Transfer) => &self.peer_transfer,
            (Port::Client, _) => &self.client,
            (Port::User, _) => &self.user,
        }
    }

    fn lanes(&self) -> impl Iterator<Item = &LaneLimits> {
        [&self.peer_urgent, &self.peer_bulk, &self.peer_transfer, &self.client, &self.user]
            .into_iter()
    }

    fn windows(&self) -> impl Iterator<Item = &Windows> {
        [&self.peer_windows, &self.client_windows, &self.user_windows].into_iter()
    }

    fn durations(&self) -> [Duration; 12] {
        [
            self.handshake_deadline,
            self.hello_deadline,
            self.message_deadline,
            self.idle_timeout,
            self.keep_alive,
            self.initial_round_trip,
            self.reconnect_min,
            self.reconnect_max,
            self.replace_interval,
            self.penalty_min,
            self.penalty_max,
            self.close_deadline,
        ]
    }
}

fn lane(limits: &LaneLimits) -> u64 {
    // One more frame: the one being reassembled.
    count(limits.outbound_bytes_max + limits.inbound_bytes_max + limits.frame_bytes_max)
}

fn window(windows: &Windows) -> u64 {
    u64::from(windows.receive_bytes).saturating_add(u64::from(windows.send_bytes))
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Which port of a replica or a gateway a connection uses, at either end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// Between two replicas.
    Peer,
    /// Between a client and a replica.
    Client,
    /// Between a user and its gateway.
    User,
}

impl Port {
    /// Which port a connection between these two uses.
    pub(crate) fn between(one: Node, other: Node) -> Self {
        match (one, other) {
            (Node::Replica(_), Node::Replica(_)) => Self::Peer,
            (Node::User(_) | Node::Gateway, _) | (_, Node::User(_) | Node::Gateway) => Self::User,
            _ => Self::Client,
        }
    }

    /// Whether it has a lane for state transfer.
    pub(crate) fn has_transfer(self) -> bool {
        self == Self::Peer
    }
}

#[cfg(test)]
#[path = "limits_test.rs"]
mod tests;
