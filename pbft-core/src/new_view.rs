//! What a new view takes over from the old ones: one pure function, used by the primary to build and by
//! everybody to check (PITFALLS D2).
//!
//! ```text
//!   slot           1     2     3     4     5     6
//!   ViewChange r1  [h]         c v0        c v0
//!   ViewChange r2  [h]         c v1              |
//!   ViewChange r3        [h]                     |
//!                        min   |     |     max
//!   O                          v1's  null  v0's        fresh slots start at 6
//! ```
//!
//! Why it is safe: what was decided at a slot was committed by Q replicas, each of which held a
//! certificate for it before it said so and takes it along. Any Q ViewChanges share f + 1 replicas with
//! those, so one of them is correct and its certificate, or a later one, is there. A later one names the
//! same digest, by the same argument about its own view.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::certificate::StableProof;
use crate::message::{ViewChange, Vote};
use crate::types::{Digest, Sequence, View};

/// What the view starts with. Everything is a function of the ViewChanges alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The view.
    pub view: View,
    /// Proof of the highest stable checkpoint among the ViewChanges; `None` when it is 0.
    pub stable: Option<StableProof>,
    /// The highest certified slot, or `min` if there is none above it. Fresh slots start after it.
    pub max: Sequence,
    /// O: for every slot in (min, max] the digest to agree on again, null where none was certified.
    pub digests: BTreeMap<Sequence, Digest>,
}

/// Two certificates or two proofs that cannot both exist with at most f faults (PITFALLS D4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two certificates of one view differ at slot {0}: more than f replicas are faulty")]
pub struct Conflict(pub Sequence);

impl Plan {
    /// The slot of the highest stable checkpoint.
    pub fn min(&self) -> Sequence {
        self.stable.as_ref().map_or(Sequence(0), StableProof::sequence)
    }

    /// The PrePrepares that the primary says for it, ascending.
    pub fn votes(&self) -> impl Iterator<Item = Vote> + '_ {
        let vote = |(sequence, digest): (&Sequence, &Digest)| Vote {
            view: self.view,
            sequence: *sequence,
            digest: *digest,
        };
        self.digests.iter().map(vote)
    }

    /// How many slots between min and max nobody had certified.
    pub fn nulls(&self) -> usize {
        self.digests.values().filter(|digest| **digest == Digest::NULL).count()
    }
}

/// Computes O for `view` from `changes`, which must be valid; the whole set counts, not only those with
/// the highest checkpoint (PITFALLS D6).
///
/// # Errors
/// Two certificates for one slot in one view, or two stable checkpoints at one slot, with different
/// digests: more than f replicas are faulty and no choice is safe.
pub fn plan<'a>(
    view: View,
    changes: impl IntoIterator<Item = &'a ViewChange>,
) -> Result<Plan, Conflict> {
    let mut stable: Option<&StableProof> = None;
    let mut best: BTreeMap<Sequence, Vote> = BTreeMap::new();
    for change in changes {
        if let Some(proof) = &change.stable {
            match stable {
                Some(held) if held.sequence() > proof.sequence() => {}
                Some(held) if held.sequence() == proof.sequence() => {
                    if held.checkpoint.digest != proof.checkpoint.digest {
                        return Err(Conflict(proof.sequence()));
                    }
                }
                _ => stable = Some(proof),
            }
        }
        for certificate in &change.prepared {
            let vote = certificate.vote;
            let held = best.entry(vote.sequence).or_insert(vote);
            if held.view == vote.view && held.digest != vote.digest {
                return Err(Conflict(vote.sequence));
            }
            if vote.view > held.view {
                *held = vote;
            }
        }
    }
    let stable = stable.cloned();
    let min = stable.as_ref().map_or(Sequence(0), StableProof::sequence);
    let certified = best.split_off(&min.next());
    let max = certified.last_key_value().map_or(min, |(sequence, _)| *sequence);
    let mut digests = BTreeMap::new();
    let mut sequence = min.next();
    while sequence <= max {
        let digest = certified.get(&sequence).map_or(Digest::NULL, |vote| vote.digest);
        digests.insert(sequence, digest);
        sequence = sequence.next();
    }
    Ok(Plan { view, stable, max, digests })
}

/// The digest that the plan of `changes` names for one slot, without making the plan: what `changes` hold
/// may be unchecked, their slots arbitrarily far apart.
pub fn named<'a>(
    changes: impl IntoIterator<Item = &'a ViewChange>,
    sequence: Sequence,
) -> Option<Digest> {
    let (mut min, mut max) = (Sequence(0), Sequence(0));
    let mut best: Option<Vote> = None;
    for change in changes {
        min = min.max(change.stable_sequence());
        for certificate in &change.prepared {
            let vote = certificate.vote;
            max = max.max(vote.sequence);
            if vote.sequence != sequence {
                continue;
            }
            match best {
                Some(held) if held.view == vote.view && held.digest != vote.digest => return None,
                Some(held) if held.view >= vote.view => {}
                _ => best = Some(vote),
            }
        }
    }
    (sequence > min && sequence <= max).then(|| best.map_or(Digest::NULL, |vote| vote.digest))
}

/// The certified bodies that the plan of `changes` could name: what a primary must hold before it says so.
pub fn certified<'a>(changes: impl IntoIterator<Item = &'a ViewChange>) -> Vec<Vote> {
    let votes = changes.into_iter().flat_map(|change| &change.prepared);
    votes.map(|certificate| certificate.vote).filter(|vote| vote.digest != Digest::NULL).collect()
}

#[cfg(test)]
#[path = "new_view_test.rs"]
mod tests;
