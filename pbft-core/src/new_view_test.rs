use alloc::vec;

use proptest::prelude::*;

use super::*;
use crate::certificate::{PreparedCertificate, Signatures};
use crate::message::Checkpoint;
use crate::types::Signature;

fn digest(byte: u8) -> Digest {
    Digest([byte; 32])
}

fn certificate(view: u64, sequence: u64, byte: u8) -> PreparedCertificate {
    let vote = Vote { view: View(view), sequence: Sequence(sequence), digest: digest(byte) };
    let pre_prepare = Signature([0; 64]);
    PreparedCertificate { vote, pre_prepare, prepares: Signatures::default() }
}

fn proof(sequence: u64) -> StableProof {
    let checkpoint = Checkpoint { sequence: Sequence(sequence), digest: digest(200) };
    StableProof { checkpoint, signatures: Signatures::default() }
}

fn change(stable: u64, prepared: Vec<PreparedCertificate>) -> ViewChange {
    let stable = (stable > 0).then(|| proof(stable));
    ViewChange { view: View(9), stable, prepared }
}

fn order(plan: &Plan) -> Vec<(u64, u8)> {
    plan.digests.iter().map(|(sequence, digest)| (sequence.0, digest.0[0])).collect()
}

/// SEEDS P6: min to max, the highest view's digest each, null for gaps.
#[test]
fn p6_every_slot_from_min_to_max_has_the_highest_views_digest_or_null() {
    let changes = [
        change(4, vec![certificate(0, 5, 1), certificate(0, 8, 4)]),
        change(4, vec![certificate(1, 5, 2)]),
        change(0, vec![certificate(0, 3, 9), certificate(0, 6, 3)]),
    ];
    let plan = plan(View(9), &changes).unwrap();
    assert_eq!((plan.min(), plan.max), (Sequence(4), Sequence(8)));
    assert_eq!(order(&plan), [(5, 2), (6, 3), (7, 0), (8, 4)]);
    assert_eq!(plan.nulls(), 1);
}

#[test]
fn d4_the_highest_view_wins_whatever_the_order_and_the_majority() {
    let high = change(0, vec![certificate(3, 1, 7)]);
    let low = || change(0, vec![certificate(1, 1, 6)]);
    for changes in
        [[high.clone(), low(), low()], [low(), high.clone(), low()], [low(), low(), high]]
    {
        assert_eq!(order(&plan(View(9), &changes).unwrap()), [(1, 7)]);
    }
}

#[test]
fn d4_two_digests_of_one_view_are_more_than_f_faults() {
    let changes = [change(0, vec![certificate(3, 1, 7)]), change(0, vec![certificate(3, 1, 6)])];
    assert_eq!(plan(View(9), &changes), Err(Conflict(Sequence(1))));
    let mut other = proof(4);
    other.checkpoint.digest = digest(201);
    let changes =
        [change(4, vec![]), ViewChange { view: View(9), stable: Some(other), prepared: vec![] }];
    assert_eq!(plan(View(9), &changes), Err(Conflict(Sequence(4))));
}

#[test]
fn d5_the_gap_before_the_last_slot_is_null_and_max_is_the_last_certified_one() {
    let changes = [change(0, vec![certificate(0, 1, 1), certificate(0, 3, 3)]), change(0, vec![])];
    let plan = plan(View(9), &changes).unwrap();
    assert_eq!(plan.max, Sequence(3));
    assert_eq!(order(&plan), [(1, 1), (2, 0), (3, 3)]);
}

#[test]
fn d6_the_whole_set_counts_and_not_only_those_with_the_highest_checkpoint() {
    let changes = [change(4, vec![]), change(0, vec![certificate(0, 5, 5)])];
    assert_eq!(order(&plan(View(9), &changes).unwrap()), [(5, 5)]);
}

#[test]
fn d8_fresh_slots_go_on_after_what_was_carried_and_after_the_checkpoint() {
    assert_eq!(plan(View(9), &[change(8, vec![certificate(0, 9, 1)])]).unwrap().max, Sequence(9));
    let empty = plan(View(9), &[change(8, vec![])]).unwrap();
    assert_eq!((empty.max, empty.digests.len()), (Sequence(8), 0));
}

/// The rule as the paper words it, slot by slot over all ViewChanges: slow, and written apart.
fn reference(changes: &[ViewChange]) -> Vec<(u64, u8)> {
    let min = changes.iter().map(|change| change.stable_sequence().0).max().unwrap_or(0);
    let all: Vec<Vote> =
        changes.iter().flat_map(|change| &change.prepared).map(|it| it.vote).collect();
    let max = all.iter().map(|vote| vote.sequence.0).max().unwrap_or(0).max(min);
    let slot = |sequence| {
        let of_slot = all.iter().filter(|vote| vote.sequence.0 == sequence);
        let best = of_slot.max_by_key(|vote| vote.view);
        (sequence, best.map_or(0, |vote| vote.digest.0[0]))
    };
    (min + 1..=max).map(slot).collect()
}

proptest! {
    #[test]
    fn d2_the_plan_is_the_papers_rule(
        changes in prop::collection::vec(
            (0_u64..3, prop::collection::btree_map(1_u64..12, 0_u64..4, 0..8)), 1..5)
    ) {
        // One digest for each view and slot, as with at most f faults.
        let changes: Vec<ViewChange> = changes.into_iter().map(|(stable, slots)| {
            let certified = slots.into_iter().filter(|(sequence, _)| *sequence > stable * 4);
            let certificates = certified.map(|(sequence, view)| {
                certificate(view, sequence, u8::try_from(1 + sequence * 5 + view).unwrap())
            });
            change(stable * 4, certificates.collect())
        }).collect();
        let plan = plan(View(9), &changes).unwrap();
        prop_assert_eq!(order(&plan), reference(&changes));
    }
}
