//! I1: every correct replica gives the one strict verdict on a signature. What the verifier of the run accepted
//! is looked at again by [`crate::keys`], with nothing of the verifier's own code.

use std::sync::PoisonError;

use super::{Checker, Observation};
use crate::keys::{Keys, Lax};

pub(super) struct Strict(Lax);

impl Strict {
    pub(super) fn new(keys: &Keys) -> Strict {
        Strict(keys.lax().clone())
    }
}

impl Checker for Strict {
    fn name(&self) -> &'static str {
        "one strict verdict on a signature"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        let Observation::Stepped { .. } = observation else { return Ok(()) };
        let lax = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lax.as_ref().map_or(Ok(()), |what| Err(format!("accepted {what}")))
    }
}

#[cfg(test)]
mod tests {
    use pbft_core::crypto::{Author, verdict};
    use pbft_core::limits::Limits;
    use pbft_core::replica::Replica;
    use pbft_core::types::{PublicKey, ReplicaId};

    use super::*;
    use crate::options::Options;

    #[test]
    fn a_signature_of_small_order_is_refused_and_would_be_found() {
        let keys = Keys::new(&Options { ed25519: true, ..Options::fault_free(1, 4) }).unwrap();
        let author = Author::Replica(ReplicaId(2));
        let edge = keys.edge(author).unwrap();
        let small = edge.of_small_order(b"words");
        let key: &PublicKey = &keys.cluster.members()[2];
        // The equation holds: only the strict rule stands between it and acceptance.
        assert!(!crate::keys::is_strict(key, &small));
        assert!(!verdict(key, b"words", &small));
        let (one, two) = (edge.again(b"words", 0), edge.again(b"words", 1));
        assert!(one != two && keys.verifier.verify(author, b"words", &one));
        assert!(keys.verifier.verify(author, b"words", &two));
        assert!(!keys.verifier.verify(author, b"words", &small));
        let mut checker = Strict::new(&keys);
        let replica = Replica::new(ReplicaId(0), keys.cluster.clone(), Limits::default()).unwrap();
        let observation = Observation::Stepped { replica: &replica };
        assert!(checker.observe(&observation).is_ok());
        *keys.lax().lock().unwrap() = Some("this".to_owned());
        assert!(checker.observe(&observation).is_err());
    }
}
