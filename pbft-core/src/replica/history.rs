//! Executed slots below the stable checkpoint, kept for others who missed them, within a bound.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use crate::certificate::CommitCertificate;
use crate::limits::Limits;
use crate::message::Batch;
use crate::types::{Instant, Sequence};

/// Decided slots with their proof, the newest within the bounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    slots: BTreeMap<Sequence, Decided>,
    bytes: usize,
}

/// A decided slot.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) certificate: CommitCertificate,
    /// `None` for the null request.
    pub(crate) batch: Option<Arc<Batch>>,
    /// When its certificate was formed: others may be about to form theirs.
    pub(crate) at: Instant,
}

impl Decided {
    fn bytes(&self) -> usize {
        self.batch.as_ref().map_or(0, |batch| batch.wire_bytes())
    }
}

impl History {
    /// Adds a slot and drops the oldest beyond the bounds.
    pub(crate) fn push(&mut self, decided: Decided, limits: &Limits) {
        self.bytes = self.bytes.saturating_add(decided.bytes());
        self.slots.insert(decided.certificate.vote.sequence, decided);
        while (self.slots.len() > limits.history_slots_max || self.bytes > limits.history_bytes_max)
            && let Some((_, oldest)) = self.slots.pop_first()
        {
            self.bytes = self.bytes.saturating_sub(oldest.bytes());
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of their batches.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Decided> {
        self.slots.values()
    }

    /// A slot, if it is still kept.
    pub(crate) fn slot(&self, sequence: Sequence) -> Option<&Decided> {
        self.slots.get(&sequence)
    }
}
