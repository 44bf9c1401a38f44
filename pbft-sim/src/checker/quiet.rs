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
            | Observation::ViewEntered { .. }
            | Observation::Restoring { .. }
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
        let operations = Operations::new([b"a"]).unwrap();
        let body = RequestBody { client: ClientId(0), number: RequestNumber(1), operations };
        let message = Box::new(Message::Request(Request::new(body, Signature([0; 64]))));
        let (replica, to) = (ReplicaId(0), To::One(ReplicaId(1)));
        assert!(Quiet.observe(&Observation::Relayed { replica, to, message }).is_err());
        assert!(Quiet.observe(&Observation::Resent { client: ClientId(0) }).is_err());
    }
}
