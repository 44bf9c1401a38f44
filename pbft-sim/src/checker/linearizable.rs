//! INV8: client histories are linearizable. With the order known from executions that is: whoever ended
//! before another began comes before it, and both have the results of that order (INV22).

use std::collections::BTreeMap;

use pbft_core::client::ClientOutcome;
use pbft_core::types::{ClientId, RequestNumber, Sequence};

use super::{Checker, Observation};

type Key = (ClientId, RequestNumber);
/// A place in the total order: slot, and order within it.
type Position = (Sequence, u64);

#[derive(Default)]
pub(super) struct Linearizable {
    executed: BTreeMap<Key, Position>,
    count: u64,
    /// The last place of any request that has ended.
    ended: Position,
    /// For each request: the last place of those that had ended when it began.
    began_after: BTreeMap<Key, Position>,
}

impl Linearizable {
    fn check(&self, key: Key) -> Result<(), String> {
        let (Some(position), Some(floor)) = (self.executed.get(&key), self.began_after.get(&key))
        else {
            return Ok(());
        };
        if position > floor {
            return Ok(());
        }
        Err(format!("{key:?} at {position:?} began after the one at {floor:?} had ended"))
    }
}

impl Checker for Linearizable {
    fn name(&self) -> &'static str {
        "INV8 linearizability"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::Submitted { client, number, .. } => {
                self.began_after.insert((*client, *number), self.ended);
                Ok(())
            }
            Observation::Operation { entry, .. } => {
                let key = (entry.client, entry.number);
                if self.executed.contains_key(&key) {
                    return Ok(());
                }
                self.count += 1;
                self.executed.insert(key, (entry.sequence, self.count));
                self.check(key)
            }
            Observation::Completed { client, number, outcome: ClientOutcome::Committed(_) } => {
                let Some(position) = self.executed.get(&(*client, *number)) else {
                    return Err(format!("{client:?} {number:?} ended and nobody executed it"));
                };
                self.ended = self.ended.max(*position);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pbft_core::message::Operations;
    use pbft_core::types::ReplicaId;

    use super::*;
    use crate::ledger::Entry;

    #[test]
    fn a_request_ordered_before_one_that_had_ended_when_it_began_is_found() {
        let mut checker = Linearizable::default();
        let client = ClientId(0);
        let submit = |number| Observation::Submitted {
            client,
            number: RequestNumber(number),
            operations: Operations::new([b"a"]).unwrap(),
        };
        let execute = |number, sequence| Observation::Operation {
            replica: ReplicaId(0),
            entry: Entry {
                sequence: Sequence(sequence),
                client,
                number: RequestNumber(number),
                operation: Bytes::new(),
            },
        };
        let end = |number| Observation::Completed {
            client,
            number: RequestNumber(number),
            outcome: ClientOutcome::Committed([].into_iter().collect()),
        };
        for good in [submit(1), execute(1, 5), end(1), submit(2)] {
            checker.observe(&good).unwrap();
        }
        assert!(checker.observe(&execute(2, 4)).is_err());
        assert!(checker.observe(&end(3)).is_err());
    }
}
