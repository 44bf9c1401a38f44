//! INV2: what one correct replica holds decided is decided: no later certificate, decision or new view at
//! that slot says otherwise.

use std::collections::BTreeMap;

use pbft_core::types::{Digest, ReplicaId, Sequence, View};

use super::{Checker, Observation};

/// Where a slot was decided, and by what.
#[derive(Clone, Copy, Debug)]
struct Decision {
    by: ReplicaId,
    view: View,
    digest: Digest,
}

#[derive(Default)]
pub(super) struct CommitStability {
    decided: BTreeMap<Sequence, Decision>,
    /// What was looked at already: highest certified view, and whether decided, by replica and slot.
    seen: BTreeMap<(ReplicaId, Sequence), (Option<View>, bool)>,
}

impl CommitStability {
    fn decide(&mut self, at: Sequence, new: Decision) -> Result<(), String> {
        let held = *self.decided.entry(at).or_insert(new);
        // The lowest view of a decision is what later certificates are measured by.
        if new.view < held.view && new.digest == held.digest {
            self.decided.insert(at, new);
        }
        if held.digest == new.digest {
            return Ok(());
        }
        Err(format!("slot {at}: {:?} holds {held:?}, {:?} holds {new:?}", held.by, new.by))
    }

    fn certify(&self, at: Sequence, new: Decision) -> Result<(), String> {
        match self.decided.get(&at) {
            Some(held) if new.view > held.view && new.digest != held.digest => {
                Err(format!("slot {at}: decided {held:?}, prepared later {new:?}"))
            }
            _ => Ok(()),
        }
    }
}

impl Checker for CommitStability {
    fn name(&self) -> &'static str {
        "INV2 commit stability"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        let Observation::Stepped { replica } = observation else {
            return Ok(());
        };
        let id = replica.id();
        for (at, slot) in replica.window().slots() {
            let now = (slot.prepared.as_ref().map(|it| it.vote.view), slot.committed.is_some());
            let before = self.seen.insert((id, at), now).unwrap_or_default();
            if before == now {
                continue;
            }
            if let Some(committed) = &slot.committed {
                let vote = committed.vote;
                let digest = vote.digest;
                self.decide(at, Decision { by: id, view: vote.view, digest })?;
            }
            if let Some(prepared) = &slot.prepared {
                let vote = prepared.vote;
                let digest = vote.digest;
                self.certify(at, Decision { by: id, view: vote.view, digest })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_decision_and_a_later_certificate_for_another_digest_are_found() {
        let mut checker = CommitStability::default();
        let of = |view, byte| Decision {
            by: ReplicaId(0),
            view: View(view),
            digest: Digest([byte; 32]),
        };
        assert!(checker.decide(Sequence(1), of(1, 1)).is_ok());
        assert!(checker.decide(Sequence(1), of(2, 1)).is_ok());
        assert!(checker.certify(Sequence(1), of(1, 2)).is_ok(), "an older certificate may differ");
        assert!(checker.certify(Sequence(1), of(2, 2)).is_err());
        assert!(checker.decide(Sequence(1), of(3, 2)).is_err());
    }
}
