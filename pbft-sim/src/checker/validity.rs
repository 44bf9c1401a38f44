//! INV4: every operation executed was submitted by its client under that number.

use std::collections::BTreeMap;

use pbft_core::message::Operations;
use pbft_core::types::{ClientId, RequestNumber};

use super::{Checker, Observation};

#[derive(Default)]
pub(super) struct Validity(BTreeMap<(ClientId, RequestNumber), Operations>);

impl Checker for Validity {
    fn name(&self) -> &'static str {
        "INV4 validity"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::Submitted { client, number, operations } => {
                self.0.insert((*client, *number), operations.clone());
            }
            Observation::Operation { replica, entry } => {
                let submitted = self.0.get(&(entry.client, entry.number));
                let known = submitted.is_some_and(|operations| {
                    operations.iter().any(|operation| operation == &entry.operation[..])
                });
                if !known {
                    return Err(format!("{replica:?} executed what nobody submitted: {entry:?}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pbft_core::types::{ReplicaId, Sequence};

    use super::*;
    use crate::ledger::Entry;

    #[test]
    fn an_operation_nobody_submitted_is_found() {
        let mut checker = Validity::default();
        let (client, number) = (ClientId(0), RequestNumber(1));
        let operations = Operations::new([b"a"]).unwrap();
        checker.observe(&Observation::Submitted { client, number, operations }).unwrap();
        let mut run = |operation: &'static [u8]| {
            let entry =
                Entry { sequence: Sequence(1), client, number, operation: operation.into() };
            checker.observe(&Observation::Operation { replica: ReplicaId(0), entry })
        };
        assert!(run(b"a").is_ok() && run(b"b").is_err());
    }
}
