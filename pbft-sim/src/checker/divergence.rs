//! C5: a replica that can know its own state to be wrong does not go on: in the step in which the digest agreed
//! on and the own one are both there and differ, it finds so.

use std::collections::BTreeMap;

use pbft_core::types::{Digest, ReplicaId, Sequence};

use super::{Checker, Observation};

#[derive(Default)]
struct Known {
    own: BTreeMap<Sequence, Digest>,
    stable: Option<(Sequence, Digest)>,
    found: bool,
}

#[derive(Default)]
pub(super) struct Divergence(BTreeMap<ReplicaId, Known>);

impl Divergence {
    fn judge(&self, replica: ReplicaId) -> Result<(), String> {
        let Some(known) = self.0.get(&replica) else { return Ok(()) };
        let Some((sequence, agreed)) = known.stable else { return Ok(()) };
        match known.own.get(&sequence) {
            Some(own) if *own != agreed && !known.found => Err(format!(
                "{replica:?} goes on with {own:?} after slot {sequence}, where {agreed:?} is stable"
            )),
            _ => Ok(()),
        }
    }
}

impl Checker for Divergence {
    fn name(&self) -> &'static str {
        "INV7 own divergence noticed"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::Snapshotted { replica, sequence, digest } => {
                self.0.entry(*replica).or_default().own.insert(*sequence, *digest);
            }
            Observation::Stable { replica, proof } => {
                let known = self.0.entry(*replica).or_default();
                known.stable = Some((proof.sequence(), proof.checkpoint.digest));
                known.own = known.own.split_off(&proof.sequence());
            }
            Observation::Diverged { replica, .. } => {
                self.0.entry(*replica).or_default().found = true;
            }
            // Another state from here on, and nothing is known of it yet.
            Observation::Restored { replica, .. } | Observation::Restarted { replica } => {
                self.0.remove(replica);
            }
            Observation::Stepped { replica } => return self.judge(replica.id()),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pbft_core::certificate::{Signatures, StableProof};
    use pbft_core::message::Checkpoint;

    use super::*;

    #[test]
    fn a_replica_that_goes_on_with_another_state_is_found() {
        let (replica, sequence) = (ReplicaId(1), Sequence(8));
        let checkpoint = Checkpoint { sequence, digest: Digest([1; 32]) };
        let proof = StableProof { checkpoint, signatures: Signatures::default() };
        let own = |byte| Observation::Snapshotted { replica, sequence, digest: Digest([byte; 32]) };
        for stable_first in [false, true] {
            let mut checker = Divergence::default();
            let stable = Observation::Stable { replica, proof: proof.clone() };
            let mut pair = [own(2), stable];
            if stable_first {
                pair.reverse();
            }
            for observation in &pair {
                assert!(checker.judge(replica).is_ok());
                checker.observe(observation).unwrap();
            }
            assert!(checker.judge(replica).is_err());
            checker.observe(&own(1)).unwrap();
            assert!(checker.judge(replica).is_ok(), "the right one");
            checker.observe(&own(2)).unwrap();
            checker.observe(&Observation::Diverged { replica, sequence }).unwrap();
            assert!(checker.judge(replica).is_ok(), "it says so itself");
        }
    }
}
