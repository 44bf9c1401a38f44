//! Executed slots below the stable checkpoint, kept for others who missed them, within a bound.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use crate::certificate::CommitCertificate;
use crate::limits::Limits;
use crate::message::Batch;
use crate::types::Sequence;

/// Decided slots with their proof, the newest within the bounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    slots: BTreeMap<Sequence, (CommitCertificate, Arc<Batch>)>,
    bytes: usize,
}

impl History {
    /// Adds a slot and drops the oldest beyond the bounds.
    pub(crate) fn push(
        &mut self,
        certificate: CommitCertificate,
        batch: Arc<Batch>,
        limits: &Limits,
    ) {
        self.bytes = self.bytes.saturating_add(batch.wire_bytes());
        self.slots
            .insert(certificate.vote.sequence, (certificate, batch));
        while (self.slots.len() > limits.history_slots_max || self.bytes > limits.history_bytes_max)
            && let Some((_, (_, batch))) = self.slots.pop_first()
        {
            self.bytes = self.bytes.saturating_sub(batch.wire_bytes());
        }
    }

    /// The proof and body of a slot, if they are still kept.
    pub(crate) fn slot(&self, sequence: Sequence) -> Option<(&CommitCertificate, &Arc<Batch>)> {
        self.slots
            .get(&sequence)
            .map(|(certificate, batch)| (certificate, batch))
    }
}
