//! INV19: without faults nothing is said twice, nobody is refused, nobody is accused.

use super::{Checker, Observation};

pub(super) struct Quiet;

impl Checker for Quiet {
    fn name(&self) -> &'static str {
        "INV19 fault-free quietness"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::Resent { .. }
            | Observation::Relayed { .. }
            | Observation::Accused { .. }
            | Observation::Refused { .. } => Err(format!("{observation:?}")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use pbft_core::message::{Message, Operations, Request, RequestBody};
    use pbft_core::replica::To;
    use pbft_core::types::{ClientId, ReplicaId, RequestNumber, Signature};

    use super::*;

    #[test]
    fn repair_and_retransmission_are_found() {
        assert!(Quiet.observe(&Observation::Relayed { replica: ReplicaId(0) }).is_err());
        assert!(Quiet.observe(&Observation::Resent { client: ClientId(0) }).is_err());
    }
}
