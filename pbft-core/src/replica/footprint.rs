//! How much a replica keeps, and the most it may (PITFALLS K8).
//!
//! Everything that peers and clients can make it keep has a bound, and the bounds are those of an honest
//! worst case: with n members, window L, interval K and W numbers per client, a replica holds at most
//!
//! ```text
//!   slots          4 L                   (2 L above h, 2 L not executed yet), each with
//!   votes          2 n per slot          104 bytes
//!   bodies         5 per slot            one batch
//!   checkpoints    n (L / K + 1)         96 bytes
//!   view changes   n, and their bodies n L
//!   pending        its limits, in requests and in bytes
//!   history        its limits, in slots and in bytes
//!   evidence       its limits, in pieces and in bytes, an equal share for each member
//! ```

use super::{Limits, Replica};
use crate::cluster::Cluster;

/// What is kept, or the most that may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Slots of which anything is held.
    pub slots: usize,
    /// Prepares and Commits.
    pub votes: usize,
    /// Bodies of slots.
    pub bodies: usize,
    /// Bytes of those.
    pub body_bytes: usize,
    /// Checkpoints heard.
    pub checkpoints: usize,
    /// ViewChanges heard.
    pub view_changes: usize,
    /// Certificates in those.
    pub certificates: usize,
    /// Bodies fetched to start a view.
    pub fetched: usize,
    /// Requests waiting.
    pub pending: usize,
    /// Bytes of those.
    pub pending_bytes: usize,
    /// Executed slots kept for others.
    pub history: usize,
    /// Bytes of their batches.
    pub history_bytes: usize,
    /// Pieces of evidence.
    pub evidence: usize,
    /// Bytes of those.
    pub evidence_bytes: usize,
}

/// Bytes of a vote or a checkpoint with its signature and its place in a tree.
const VOTE_BYTES: usize = 160;

impl Footprint {
    /// The most that a replica of `cluster` under `limits` may keep.
    pub fn most(cluster: &Cluster, limits: &Limits) -> Footprint {
        let constants = cluster.constants();
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let batch = usize::try_from(constants.batch_bytes_max).unwrap_or(usize::MAX);
        let (n, window) = (cluster.n(), count(constants.window));
        let per_window =
            count(constants.window.checked_div(constants.checkpoint_interval).unwrap_or(2));
        let slots = window.saturating_mul(4);
        let bodies = slots.saturating_mul(5);
        Footprint {
            slots,
            votes: slots.saturating_mul(2 * n),
            bodies,
            body_bytes: bodies.saturating_mul(batch),
            checkpoints: n * (per_window + 1),
            view_changes: n,
            certificates: n.saturating_mul(window),
            fetched: n.saturating_mul(window),
            pending: limits.pending_requests_max,
            pending_bytes: limits.pending_bytes_max,
            history: limits.history_slots_max,
            history_bytes: limits.history_bytes_max,
            evidence: limits.evidence_max.max(n),
            evidence_bytes: limits.evidence_bytes_max,
        }
    }

    /// All of it, by name.
    pub fn counts(&self) -> [(&'static str, usize); 14] {
        [
            ("slots", self.slots),
            ("votes", self.votes),
            ("bodies", self.bodies),
            ("body bytes", self.body_bytes),
            ("checkpoints", self.checkpoints),
            ("view changes", self.view_changes),
            ("certificates", self.certificates),
            ("fetched bodies", self.fetched),
            ("pending requests", self.pending),
            ("pending bytes", self.pending_bytes),
            ("history slots", self.history),
            ("history bytes", self.history_bytes),
            ("evidence", self.evidence),
            ("evidence bytes", self.evidence_bytes),
        ]
    }

    /// What of it is more than `most` allows.
    pub fn exceeds(&self, most: &Footprint) -> Option<(&'static str, usize)> {
        let pairs = self.counts().into_iter().zip(most.counts());
        { pairs }.find(|((_, kept), (_, most))| kept > most).map(|(kept, _)| kept)
    }

    /// Bytes, roughly, without what the allocator adds.
    pub fn bytes(&self) -> usize {
        let certificate = VOTE_BYTES
            .saturating_mul(self.votes.checked_div(2 * self.slots.max(1)).unwrap_or(0).max(1));
        [
            self.votes.saturating_add(self.checkpoints).saturating_mul(VOTE_BYTES),
            self.certificates.saturating_mul(certificate),
            self.body_bytes,
            self.pending_bytes,
            self.history_bytes,
            self.evidence_bytes,
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }
}

impl Replica {
    /// How much this replica keeps. Counts everything, so it is for tests and tools.
    pub fn footprint(&self) -> Footprint {
        let mut kept = Footprint {
            checkpoints: self.checkpoints.count(),
            view_changes: self.views.changes.len(),
            fetched: self.views.bodies.len(),
            pending: self.pending.len(),
            pending_bytes: self.pending.bytes(),
            history: self.history.len(),
            history_bytes: self.history.bytes(),
            evidence: self.evidence.len(),
            evidence_bytes: self.evidence.bytes(),
            ..Footprint::default()
        };
        let changes = self.views.changes.values();
        kept.certificates = changes.map(|heard| heard.signed.change.prepared.len()).sum();
        for (_, slot) in self.window.slots() {
            kept.slots += 1;
            kept.votes += slot.prepares.len() + slot.commits.len();
            for body in slot.bodies() {
                kept.bodies += 1;
                kept.body_bytes += body.wire_bytes();
            }
        }
        kept
    }
}
