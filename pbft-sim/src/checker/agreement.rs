//! INV1: no two correct replicas execute different batches at one slot. Bodies are compared, not what the
//! replica takes for their identity: a digest that does not cover the body would hide the difference (PITFALLS A7).

use std::collections::BTreeMap;
use std::sync::Arc;

use pbft_core::message::Batch;
use pbft_core::types::{ReplicaId, Sequence};

use super::{Checker, Observation};

#[derive(Default)]
pub(super) struct Agreement(BTreeMap<Sequence, (ReplicaId, Arc<Batch>)>);

impl Checker for Agreement {
    fn name(&self) -> &'static str {
        "INV1 agreement"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        let Observation::Executed { replica, sequence, batch } = observation else {
            return Ok(());
        };
        let (first, agreed) =
            self.0.entry(*sequence).or_insert_with(|| (*replica, Arc::clone(batch)));
        if agreed == batch {
            return Ok(());
        }
        Err(format!("slot {sequence}: {first:?} executed {agreed:?}, {replica:?} {batch:?}"))
    }
}

#[cfg(test)]
mod tests {
    use pbft_core::types::WallTime;

    use super::*;

    #[test]
    fn two_batches_at_one_slot_are_found() {
        let mut checker = Agreement::default();
        let mut run = |replica, time| {
            let batch = Arc::new(Batch::new(WallTime(time), vec![]));
            let sequence = Sequence(1);
            checker.observe(&Observation::Executed { replica: ReplicaId(replica), sequence, batch })
        };
        assert!(run(0, 1).is_ok() && run(1, 1).is_ok() && run(2, 2).is_err());
    }
}
