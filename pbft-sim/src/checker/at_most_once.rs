//! INV5: an operation changes a replica's state at most once, counted where it does: in the application.

use std::collections::BTreeMap;

use bytes::Bytes;
use pbft_core::types::{ClientId, ReplicaId, RequestNumber, Sequence};

use super::{Checker, Observation};

/// Every operation of a simulation carries its client, number and index in its bytes.
#[derive(Default)]
pub(super) struct AtMostOnce(BTreeMap<(ReplicaId, ClientId, RequestNumber, Bytes), Sequence>);

impl Checker for AtMostOnce {
    fn name(&self) -> &'static str {
        "INV5 at most once"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        let (replica, entry) = match observation {
            Observation::Operation { replica, entry } => (replica, entry),
            // The state is another one now: what follows that slot has not been executed on it yet.
            Observation::Restored { replica, sequence } => {
                self.0.retain(|(of, ..), at| of != replica || *at <= *sequence);
                return Ok(());
            }
            _ => return Ok(()),
        };
        let key = (*replica, entry.client, entry.number, entry.operation.clone());
        if self.0.insert(key, entry.sequence).is_none() {
            return Ok(());
        }
        Err(format!("{replica:?} executed twice: {entry:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Entry;

    #[test]
    fn a_second_execution_on_one_replica_is_found() {
        let mut checker = AtMostOnce::default();
        let mut run = |replica, sequence| {
            let entry = Entry {
                sequence: Sequence(sequence),
                client: ClientId(0),
                number: RequestNumber(1),
                operation: Bytes::from_static(b"a"),
            };
            checker.observe(&Observation::Operation { replica: ReplicaId(replica), entry })
        };
        assert!(run(0, 1).is_ok() && run(1, 1).is_ok() && run(0, 2).is_err());
    }
}
