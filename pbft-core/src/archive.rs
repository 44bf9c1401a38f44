//! Snapshots: the owner of the hash trees, who takes checkpoints' digests and serves others.
//!
//! The owner of the state only freezes what changed ([`crate::state::ReplicatedState::freeze`]); hashing it and
//! answering peers happens here, wherever the host runs it, while execution goes on.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::certificate::StableProof;
use crate::cluster::Cluster;
use crate::crypto::Hasher;
use crate::state::Frozen;
use crate::transfer::{Ask, DEPTH, PART_BYTES_MAX, Part, PartOf, TreeName, What};
use crate::tree::{PageTree, TreeHead};
use crate::types::{Digest, Instant, Sequence};

/// How many of the latest stable snapshots are kept for others.
const STABLE_KEPT: usize = 2;
/// How many older ones are kept because somebody is fetching them (PITFALLS G4).
const PINNED_MAX: usize = 2;
/// A snapshot is being fetched if it was asked for within this time.
const PIN_IDLE: Duration = Duration::from_secs(10);
/// No snapshot is kept for others longer than this after it was first asked for.
const PIN_MAX: Duration = Duration::from_secs(600);

/// The whole replicated state after a slot, under its hash trees. Cloning shares the pages.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// After which slot.
    pub sequence: Sequence,
    /// The framework's own pages: agreed time, sessions.
    pub sessions: PageTree,
    /// The application's pages.
    pub application: PageTree,
}

/// The digest of a state whose trees have these heads: slot, agreed time, sessions, application,
/// configuration and execution version are all below them.
pub fn state_digest(
    cluster: &Cluster,
    sequence: Sequence,
    sessions: &TreeHead,
    application: &TreeHead,
) -> Digest {
    let mut hasher = Hasher::new("checkpoint");
    hasher.number(cluster.epoch().0);
    hasher.number(sequence.0);
    for head in [sessions, application] {
        hasher.number(head.total_bytes);
        hasher.fixed(&head.root().0);
    }
    hasher.finish()
}

impl Snapshot {
    /// The digest that a checkpoint of it names.
    pub fn digest(&self, cluster: &Cluster) -> Digest {
        state_digest(cluster, self.sequence, &self.sessions.head(), &self.application.head())
    }

    /// Takes in what changed up to a later slot: hashes the changed pages and nothing else.
    pub fn apply(&mut self, frozen: Frozen) {
        self.sequence = frozen.sequence;
        self.sessions.apply(frozen.sessions);
        self.application.apply(frozen.application);
    }
}

#[derive(Clone, Copy, Debug)]
struct Pin {
    since: Instant,
    last: Instant,
}

/// The current snapshot and those kept for others.
#[derive(Clone, Debug)]
pub struct Archive {
    cluster: Arc<Cluster>,
    current: Snapshot,
    kept: BTreeMap<Sequence, Snapshot>,
    stable: Sequence,
    pins: BTreeMap<Sequence, Pin>,
}

impl Archive {
    /// An archive that holds the state before slot 1.
    pub fn new(cluster: Arc<Cluster>) -> Self {
        Archive {
            cluster,
            current: Snapshot::default(),
            kept: BTreeMap::new(),
            stable: Sequence(0),
            pins: BTreeMap::new(),
        }
    }

    /// Takes in what changed and returns the digest of the state.
    pub fn apply(&mut self, frozen: Frozen) -> Digest {
        self.current.apply(frozen);
        self.current.digest(&self.cluster)
    }

    /// The current snapshot.
    pub fn current(&self) -> &Snapshot {
        &self.current
    }

    /// Keeps the current snapshot, taken at a checkpoint slot.
    pub fn keep(&mut self) {
        self.kept.insert(self.current.sequence, self.current.clone());
    }

    /// A transferred snapshot becomes the current one. Later ones, of a state that was wrong, go.
    pub fn install(&mut self, snapshot: Snapshot) {
        let _ = self.kept.split_off(&snapshot.sequence);
        self.kept.insert(snapshot.sequence, snapshot.clone());
        self.current = snapshot;
    }

    /// The checkpoint at `sequence` is stable: of those at or below it the two latest stay, and those
    /// being fetched, within their bounds.
    pub fn stable(&mut self, sequence: Sequence, now: Instant) {
        self.stable = self.stable.max(sequence);
        self.unpin(now);
        let below = self.kept.range(..=self.stable).rev().skip(STABLE_KEPT).map(|(at, _)| *at);
        let old: Vec<Sequence> = below.collect();
        for sequence in old {
            if !self.pins.contains_key(&sequence) {
                self.kept.remove(&sequence);
            }
        }
    }

    /// Only a snapshot that is kept anyway can be pinned, so that none is pinned again for ever.
    fn is_recent(&self, sequence: Sequence) -> bool {
        let mut recent = self.kept.range(..=self.stable).rev().take(STABLE_KEPT);
        recent.any(|(at, _)| *at == sequence)
    }

    fn unpin(&mut self, now: Instant) {
        self.pins.retain(|_, pin| now.since(pin.last) < PIN_IDLE && now.since(pin.since) < PIN_MAX);
    }

    /// The latest stable snapshot kept: what a replica goes on from after a restart, because whoever has
    /// executed a slot above h also holds its decision for others, and a snapshot holds none.
    pub fn latest_stable(&self) -> Option<&Snapshot> {
        self.kept.range(..=self.stable).next_back().map(|(_, snapshot)| snapshot)
    }

    /// After a restart `snapshot` is the current one. Later ones stay: their Checkpoints were said, so
    /// others may count on this replica to hold those states once they are stable.
    pub fn resume(&mut self, snapshot: Snapshot) {
        self.current = snapshot;
    }

    /// The snapshot that `proof` is about, if it is kept here: then there is nothing to fetch.
    pub fn proven(&self, proof: &StableProof) -> Option<&Snapshot> {
        let snapshot = self.kept.get(&proof.sequence())?;
        (snapshot.digest(&self.cluster) == proof.checkpoint.digest).then_some(snapshot)
    }

    /// The snapshots kept, oldest first.
    pub fn snapshots(&self) -> impl DoubleEndedIterator<Item = &Snapshot> {
        self.kept.values()
    }

    /// How many snapshots are kept.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Answers a peer from the snapshot it asks for and keeps that one for it, or says that it is gone.
    pub fn answer(&mut self, now: Instant, ask: &Ask) -> Part {
        let sequence = ask.sequence;
        let gone = Part { sequence, what: PartOf::Gone };
        // What is not stable yet nobody can have a proof for.
        let Some(snapshot) = self.kept.get(&sequence).filter(|_| sequence <= self.stable) else {
            return gone;
        };
        let what = snapshot.answer(&ask.what);
        self.unpin(now);
        if let Some(pin) = self.pins.get_mut(&sequence) {
            pin.last = now;
        } else if self.pins.len() < PINNED_MAX + STABLE_KEPT && self.is_recent(sequence) {
            self.pins.insert(sequence, Pin { since: now, last: now });
        }
        Part { sequence, what }
    }
}

impl Snapshot {
    fn answer(&self, what: &What) -> PartOf {
        match what {
            What::Head => PartOf::Head {
                sessions: self.sessions.head(),
                application: self.application.head(),
            },
            What::Nodes { tree, height, index } => {
                let at = usize::try_from(*index).unwrap_or(usize::MAX);
                let digests = if u32::from(*height) <= 24 && at < 1 << 24 {
                    self.tree(*tree).expand(u32::from(*height), at, DEPTH)
                } else {
                    Vec::new()
                };
                PartOf::Nodes { tree: *tree, height: *height, index: *index, digests }
            }
            What::Pages { tree, numbers } => {
                let mut pages = Vec::new();
                let mut bytes = 0_usize;
                for number in numbers {
                    let page =
                        self.tree(*tree).page(usize::try_from(*number).unwrap_or(usize::MAX));
                    bytes = bytes.saturating_add(page.len());
                    if !pages.is_empty() && bytes > PART_BYTES_MAX {
                        break;
                    }
                    pages.push((*number, page));
                }
                PartOf::Pages { tree: *tree, pages }
            }
        }
    }

    /// One of its two trees.
    pub fn tree(&self, name: TreeName) -> &PageTree {
        match name {
            TreeName::Sessions => &self.sessions,
            TreeName::Application => &self.application,
        }
    }
}

#[cfg(test)]
#[path = "archive_test.rs"]
mod tests;
