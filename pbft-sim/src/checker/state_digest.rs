//! INV7: the state after a slot has one digest, on every correct replica and in every life of it: executed,
//! executed again from a snapshot and the journal, or fetched and gone on from. (What an operation gives is
//! compared in the file `results`, the digest that a quorum agreed on in `checkpoint`.)

use std::collections::{BTreeMap, BTreeSet};

use pbft_core::types::{Digest, ReplicaId, Sequence};

use super::{Checker, Observation};

#[derive(Default)]
pub(super) struct StateDigest {
    first: BTreeMap<Sequence, (ReplicaId, Digest)>,
    /// Whose state was spoilt from outside.
    upset: BTreeSet<ReplicaId>,
}

impl Checker for StateDigest {
    fn name(&self) -> &'static str {
        "INV7 determinism"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::Upset { replica } => {
                self.upset.insert(*replica);
            }
            Observation::Snapshotted { replica, sequence, digest }
                if !self.upset.contains(replica) =>
            {
                let (first, agreed) = *self.first.entry(*sequence).or_insert((*replica, *digest));
                if agreed != *digest {
                    return Err(format!(
                        "after slot {sequence} {first:?} has {agreed:?}, {replica:?} has {digest:?}"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_state_after_a_replay_is_found_unless_a_bit_flipped_in_it() {
        let (replica, sequence) = (ReplicaId(1), Sequence(8));
        let took =
            |byte| Observation::Snapshotted { replica, sequence, digest: Digest([byte; 32]) };
        let mut checker = StateDigest::default();
        checker.observe(&took(1)).unwrap();
        checker.observe(&Observation::Restarted { replica }).unwrap();
        assert!(checker.observe(&took(1)).is_ok());
        assert!(checker.observe(&took(2)).is_err());
        checker.observe(&Observation::Upset { replica }).unwrap();
        assert!(checker.observe(&took(2)).is_ok());
    }
}
