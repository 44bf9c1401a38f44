//! INV6: what correct replicas executed are prefixes of one sequence, without gaps.

use std::collections::BTreeMap;

use pbft_core::types::{ReplicaId, Sequence};

use super::{Checker, Observation};
use crate::ledger::Entry;

#[derive(Default)]
pub(super) struct TotalOrder {
    agreed: Vec<Entry>,
    operations: BTreeMap<ReplicaId, usize>,
    slots: BTreeMap<ReplicaId, Sequence>,
}

impl Checker for TotalOrder {
    fn name(&self) -> &'static str {
        "INV6 total order"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::Operation { replica, entry } => {
                let position = self.operations.entry(*replica).or_default();
                match self.agreed.get(*position) {
                    None => self.agreed.push(entry.clone()),
                    Some(agreed) if agreed == entry => {}
                    Some(agreed) => {
                        return Err(format!(
                            "operation {position} is {agreed:?} elsewhere and {entry:?} at {replica:?}"
                        ));
                    }
                }
                *position += 1;
            }
            Observation::Executed { replica, sequence, .. } => {
                let last = self.slots.entry(*replica).or_default();
                if *sequence != last.next() {
                    return Err(format!("{replica:?} executed slot {sequence} after {last}"));
                }
                *last = *sequence;
            }
            // By transfer or by restart: from here on it goes on after that slot.
            Observation::Restored { replica, sequence } => {
                let before = self.agreed.iter().filter(|entry| entry.sequence <= *sequence).count();
                self.operations.insert(*replica, before);
                self.slots.insert(*replica, *sequence);
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use pbft_core::message::Batch;
    use pbft_core::types::{ClientId, RequestNumber, WallTime};

    use super::*;

    #[test]
    fn another_order_and_a_gap_are_found() {
        let mut checker = TotalOrder::default();
        let mut run = |replica, number| {
            let entry = Entry {
                sequence: Sequence(1),
                client: ClientId(0),
                number: RequestNumber(number),
                operation: Bytes::new(),
            };
            checker.observe(&Observation::Operation { replica: ReplicaId(replica), entry })
        };
        assert!(run(0, 1).is_ok() && run(0, 2).is_ok() && run(1, 1).is_ok());
        assert!(run(1, 3).is_err());
        let batch = Arc::new(Batch::new(WallTime(0), vec![]));
        let gap = Observation::Executed { replica: ReplicaId(0), sequence: Sequence(2), batch };
        assert!(checker.observe(&gap).is_err());
    }
}
