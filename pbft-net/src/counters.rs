//! Counters: one per reason, so that no refusal and no dropped frame is ever silent.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A snapshot of every counter of one network, all counted since it started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct NetCounters {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The live counters. Relaxed ordering: they inform people, and decide nothing.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> NetCounters {
                NetCounters { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Outgoing connection attempts.
    dials_started,
    /// Outgoing attempts that did not come up: nobody there, another key, refused.
    dials_failed,
    /// Incoming handshakes that TLS refused: unlisted key, wrong protocol name, broken handshake.
    handshakes_refused,
    /// Incoming handshakes that missed their deadline.
    handshakes_timed_out,
    /// Incoming handshakes turned away because too many were under way.
    handshakes_shed,
    /// Incoming handshakes answered with a QUIC Retry, to prove the source address.
    handshakes_retried,
    /// Peers whose HELLO named another wire version, cluster or configuration.
    hello_mismatches,
    /// Peers whose HELLO was no HELLO, or claimed to be another node than the TLS key's owner.
    hello_malformed,
    /// Peers that sent no HELLO before the deadline.
    hello_timeouts,
    /// Connections that the other end closed with a refusal.
    refused_by_peer,
    /// Connections closed because the same replica opened a newer one.
    connections_replaced,
    /// New connections refused because the same replica had replaced one a moment ago.
    replacements_refused,
    /// Client connections closed to make room, or refused because there was none.
    connections_limited,
    /// Connections refused because their node was being penalized.
    connections_penalized,
    /// Calls of `penalize`, and faults of framing, which penalize by themselves.
    penalties,
    /// Inbound length prefixes above the lane's limit.
    frames_oversized,
    /// Inbound frames of length zero.
    frames_empty,
    /// Inbound frames that were not complete before the whole-message deadline.
    frames_timed_out,
    /// Streams that break the lane rules: unknown tag, wrong order, one too many, reset, stopped.
    streams_invalid,
    /// Outbound frames dropped, oldest first, because the lane's queue was full.
    dropped_outbound_full,
    /// Outbound frames dropped because their node was not connected.
    dropped_outbound_unconnected,
    /// Outbound frames dropped because they were empty or above the lane's limit: a fault of the caller.
    dropped_outbound_size,
    /// Outbound frames still queued when their connection ended.
    dropped_outbound_closed,
    /// Inbound frames discarded unread, because their node reconnected faster than they were consumed.
    dropped_inbound,
    /// Frames written to streams.
    frames_sent,
    /// Bytes written to streams, length prefixes included.
    bytes_sent,
    /// Writes that carried them: `frames_sent / writes` is the coalescing achieved.
    writes,
    /// Frames read from streams.
    frames_received,
    /// Bytes of the frames read, length prefixes excluded.
    bytes_received,
    /// Connections that came up: HELLO received and accepted.
    ups,
    /// Connections that had been up and ended.
    downs,
    /// Connections that came up again after this network had lost an earlier one to the same node.
    reconnects,
    /// Tasks that panicked: always a bug.
    task_panics,
}

/// One counter.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn bump(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
