//! INV18: a replica keeps no slot above h + 2L, nor one that is both executed and at or below h. One that
//! is catching up may keep decided slots within 2L of what it has executed.

use pbft_core::limits::Constants;

use super::{Checker, Observation};

pub(super) struct WindowBounds {
    two_windows: u64,
}

impl WindowBounds {
    pub(super) fn new(constants: &Constants) -> Self {
        WindowBounds { two_windows: 2 * constants.window }
    }
}

impl Checker for WindowBounds {
    fn name(&self) -> &'static str {
        "INV18 window"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        let Observation::Stepped { replica } = observation else {
            return Ok(());
        };
        let summary = replica.summary();
        for (sequence, slot) in replica.window().slots() {
            let above = sequence > summary.stable.plus(self.two_windows);
            let catching_up =
                slot.committed.is_some() && sequence <= summary.executed.plus(self.two_windows);
            let done = sequence <= summary.stable && sequence <= summary.executed;
            if (above && !catching_up) || done {
                return Err(format!(
                    "{:?} keeps slot {sequence}: stable {}, executed {}",
                    replica.id(),
                    summary.stable,
                    summary.executed
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pbft_core::limits::Limits;
    use pbft_core::replica::{Input, Replica};
    use pbft_core::types::{ReplicaId, Time};

    use super::*;
    use crate::keys::Keys;
    use crate::options::Options;

    #[test]
    fn a_slot_beyond_the_bound_is_found() {
        use pbft_core::crypto::Author;
        use pbft_core::message::{Message, Statement, Vote};
        use pbft_core::signed::{Cache, Scrutiny, sign, verify};
        use pbft_core::types::{Digest, Sequence, View};

        let keys = Keys::new(&Options::fault_free(1, 4)).unwrap();
        let cluster = &keys.cluster;
        let mut replica = Replica::new(ReplicaId(1), cluster.clone(), Limits::default()).unwrap();
        let vote = Vote { view: View(0), sequence: Sequence(20), digest: Digest([1; 32]) };
        let signer = keys.signer(Author::Replica(ReplicaId(2)));
        let signed = sign(cluster, &*signer, ReplicaId(2), Statement::Prepare(vote));
        let mut cache = Cache::default();
        let message = Message::Statement(signed);
        let verified =
            verify(cluster, &*keys.verifier, &mut cache, message, Scrutiny::Whole).unwrap();
        replica.step(Time::default(), Input::Deliver(verified), &mut Vec::new());
        let observation = Observation::Stepped { replica: &replica };
        assert!(WindowBounds { two_windows: 32 }.observe(&observation).is_ok());
        assert!(WindowBounds { two_windows: 8 }.observe(&observation).is_err());
    }
}
