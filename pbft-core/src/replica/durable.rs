//! Durable before said: an action that must wait is not an action yet.
//!
//! A vote that leaves before its record is safe may be forgotten in a crash and contradicted afterwards;
//! then an honest replica equivocates and two quorums can certify different batches (PITFALLS H1):
//!
//! ```text
//!   r1 prepares d at slot 5, says Commit(d), crashes, forgets
//!   r2, r3 with r1's Commit decide d; r1 comes back, joins r0 in a new view without d's certificate
//!   the new view may now decide d' at slot 5
//! ```
//!
//! So the replica hands such an action to the host only after `Durable` covers its record.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::replica::io::{Action, Outbox, Record};
use crate::types::{Sequence, WriteId};

/// Numbers the writes and holds back what waits for them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    last: WriteId,
    durable: WriteId,
    held: BTreeMap<WriteId, Vec<Action>>,
    /// Which write holds the proof of which stable checkpoint, ascending; the older ones are dropped as
    /// soon as a newer one is durable.
    stable: BTreeMap<Sequence, WriteId>,
}

impl Journal {
    /// The last write.
    pub(crate) fn last(&self) -> WriteId {
        self.last
    }

    /// Has `record` written; the returned number is what to wait for.
    pub(crate) fn persist(&mut self, record: Record, out: &mut Outbox) -> WriteId {
        self.last = WriteId(self.last.0.saturating_add(1));
        if let Record::Stable(proof) = &record {
            self.stable.insert(proof.sequence(), self.last);
        }
        out.push(Action::Persist { id: self.last, record });
        self.last
    }

    /// How many writes are on their way.
    pub(crate) fn waiting(&self) -> u64 {
        self.last.0 - self.durable.0
    }

    /// Lets `action` out once write `id` is durable: at once if it is.
    pub(crate) fn after(&mut self, id: WriteId, action: Action, out: &mut Outbox) {
        if id <= self.durable {
            out.push(action);
        } else {
            self.held.entry(id).or_default().push(action);
        }
    }

    /// The write that proves a stable checkpoint at or above `floor`, the lowest such. 0, which is always
    /// durable, if `floor` is 0: the state before slot 1 needs no proof.
    pub(crate) fn proving(&self, floor: Sequence) -> WriteId {
        if floor == Sequence(0) {
            return WriteId(0);
        }
        self.stable.range(floor..).map(|(_, id)| *id).min().unwrap_or(self.last)
    }

    /// After a restart: the proof of this stable checkpoint is in the journal already.
    pub(crate) fn recover_stable(&mut self, stable: Sequence) {
        self.stable.insert(stable, WriteId(0));
    }

    /// Everything up to `id` is durable. Returns false for a number never given out.
    pub(crate) fn durable(&mut self, id: WriteId, out: &mut Outbox) -> bool {
        if id > self.last {
            return false;
        }
        self.durable = self.durable.max(id);
        while let Some(entry) = self.held.first_entry()
            && *entry.key() <= self.durable
        {
            out.extend(entry.remove());
        }
        let durable = self.durable;
        let newest = self.stable.iter().rev().find(|(_, id)| **id <= durable).map(|(s, _)| *s);
        if let Some(newest) = newest {
            self.stable = self.stable.split_off(&newest);
        }
        true
    }

    /// Forgets everything held back: a halted replica says nothing more.
    pub(crate) fn silence(&mut self) {
        self.held.clear();
    }
}
