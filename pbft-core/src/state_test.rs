use alloc::vec;

use super::*;
use crate::message::{Operations, RequestBody};
use crate::testing::{Recorder, World, client_key, state};

const VIEW: View = View(0);

fn apply(state: &mut ReplicatedState, slot: u64, time: u64, requests: Vec<Request>) -> Vec<Answer> {
    let batch = Batch::new(WallTime(time), requests);
    let applied = state.apply(Sequence(slot), Some(&batch), VIEW).unwrap();
    applied.replies.into_iter().map(|reply| reply.answer).collect()
}

fn done(text: &str) -> Answer {
    let outcome = Outcome::Done(Bytes::copy_from_slice(text.as_bytes()));
    Answer::Executed([outcome].into_iter().collect())
}

fn recorded(state: &ReplicatedState) -> Bytes {
    state.application().query(b"").unwrap()
}

#[test]
fn b1_a_request_ordered_twice_in_one_batch_or_in_two_slots_is_executed_once() {
    let world = World::new(4);
    let mut state = state(&world);
    let request = world.request_for(0, 1, b"a");
    let answers = apply(&mut state, 1, 5, vec![request.clone(), request.clone()]);
    assert_eq!(answers, vec![done("1"), done("1")], "the duplicate gets the kept reply");
    assert_eq!(apply(&mut state, 2, 6, vec![request.clone()]), vec![done("1")]);
    assert_eq!(recorded(&state), "a");
    let digest = request.digest();
    let kept = state.kept_reply(ClientId(0), RequestNumber(1), digest, VIEW).unwrap();
    assert_eq!(kept.answer, done("1"));
}

#[test]
fn b4_a_number_used_for_other_operations_is_refused_and_a_stale_one_is_a_no_op() {
    let world = World::new(4);
    let mut state = state(&world);
    apply(&mut state, 1, 5, vec![world.request_for(0, 1, b"a")]);
    let used = apply(&mut state, 2, 6, vec![world.request_for(0, 1, b"b")]);
    assert_eq!(used, vec![Answer::NumberUsed]);
    // W is 8: with 9 consumed, 1 falls out, and 2 is free still.
    apply(&mut state, 3, 7, vec![world.request_for(0, 9, b"c")]);
    let answers =
        apply(&mut state, 4, 8, vec![world.request_for(0, 1, b"a"), world.request_for(0, 2, b"d")]);
    assert_eq!(answers, vec![Answer::Stale, done("3")]);
    assert_eq!(recorded(&state), "acd");
}

#[test]
fn what_is_kept_of_a_client_does_not_grow_with_its_requests() {
    let world = World::new(4);
    let mut state = state(&world);
    for number in 1..=30 {
        apply(&mut state, number, number, vec![world.request_for(0, number, b"a")]);
        // W is 8.
        let kept: Vec<u64> = state.sessions[0].kept.keys().map(|number| number.0).collect();
        let expected: Vec<u64> = (number.saturating_sub(7).max(1)..=number).collect();
        assert_eq!(kept, expected);
    }
}

#[test]
fn b5_a_jump_in_numbers_harms_its_own_client_only() {
    let world = World::new(4);
    let mut state = state(&world);
    apply(&mut state, 1, 5, vec![world.request_for(0, RequestNumber::BOUND.0 - 1, b"a")]);
    let answers =
        apply(&mut state, 2, 6, vec![world.request_for(0, 1, b"x"), world.request_for(1, 1, b"b")]);
    assert_eq!(answers, vec![Answer::Stale, done("2")]);
}

/// The digest of a state whose changes so far are in `kept`.
fn digest(world: &World, state: &mut ReplicatedState, kept: &mut Snapshot) -> Digest {
    kept.apply(state.freeze().unwrap());
    kept.digest(&world.cluster)
}

/// PITFALLS G1, B2: everything installed comes from the pages, sessions included, and goes on alike.
#[test]
fn g1_a_restored_state_is_the_donors_and_goes_on_like_it() {
    let world = World::new(4);
    let (mut donor, mut late) = (state(&world), state(&world));
    let (mut theirs, mut ours) = (Snapshot::default(), Snapshot::default());
    for (slot, number) in (1..).zip([1, 2, 9, 10, 3, 26, 20]) {
        let requests = vec![world.request_for(0, number, b"a"), world.request_for(1, number, b"b")];
        apply(&mut donor, slot, slot * 10, requests);
    }
    // Something of its own that must go.
    apply(&mut late, 1, 5, vec![world.request_for(1, 7, b"zzz")]);
    digest(&world, &mut late, &mut ours);
    let expected = digest(&world, &mut donor, &mut theirs);
    let consumed = late.restore(&theirs).unwrap();
    assert_eq!(recorded(&late), recorded(&donor));
    assert_eq!((late.time(), late.last_applied()), (donor.time(), donor.last_applied()));
    // W is 8: of 26, 20 and older ones, what is in (18, 26] is kept.
    let numbers =
        |client| vec![(ClientId(client), RequestNumber(20)), (ClientId(client), RequestNumber(26))];
    assert_eq!(consumed, [numbers(0), numbers(1)].concat());
    let request = world.request_for(0, 26, b"a");
    let kept = late.kept_reply(ClientId(0), RequestNumber(26), request.digest(), VIEW);
    assert!(matches!(kept.map(|it| it.answer), Some(Answer::Executed(_))));
    ours = theirs.clone();
    assert_eq!(digest(&world, &mut late, &mut ours), expected);
    for state in [&mut late, &mut donor] {
        apply(state, 8, 90, vec![world.request_for(0, 27, b"c"), world.request_for(0, 26, b"a")]);
    }
    assert_eq!(digest(&world, &mut late, &mut ours), digest(&world, &mut donor, &mut theirs));
}

#[test]
fn a_snapshot_of_another_cluster_or_with_a_page_out_of_place_is_refused() {
    let (world, other) = (World::new(4), World::named("other", 4));
    let mut donor = state(&other);
    let mut kept = Snapshot::default();
    digest(&other, &mut donor, &mut kept);
    let mut late = state(&world);
    assert_eq!(late.restore(&kept), Err(StateError::Foreign(0)));
    let mut donor = state(&world);
    apply(&mut donor, 1, 5, vec![world.request_for(0, 3, b"a")]);
    let mut kept = Snapshot::default();
    digest(&world, &mut donor, &mut kept);
    let page = kept.sessions.page(4);
    let pages = alloc::vec![(4, Bytes::new()), (5, page)];
    kept.sessions.apply(PageChanges { count: 6, total_bytes: 0, pages });
    assert_eq!(late.restore(&kept), Err(StateError::Foreign(5)));
    assert_eq!(late.last_applied(), Sequence(0));
}

#[test]
fn b2_sessions_are_part_of_the_digest() {
    let world = World::new(4);
    let (mut one, mut other) = (state(&world), state(&world));
    apply(&mut one, 1, 5, vec![world.request_for(0, 1, b"a")]);
    apply(&mut other, 1, 5, vec![world.request_for(1, 1, b"a")]);
    assert_eq!(recorded(&one), recorded(&other));
    let digest = |state: &mut ReplicatedState| digest(&world, state, &mut Snapshot::default());
    assert_ne!(digest(&mut one), digest(&mut other));
}

/// The digest is a function of the state, not of when it was taken before.
#[test]
fn the_digest_does_not_depend_on_when_digests_were_taken() {
    let world = World::new(4);
    let (mut often, mut once) = (state(&world), state(&world));
    let mut kept = Snapshot::default();
    for (slot, number) in (1..).zip([1, 2, 9, 10, 3, 26, 20, 21, 40]) {
        for state in [&mut often, &mut once] {
            apply(state, slot, slot, vec![world.request_for(0, number, b"a")]);
        }
        digest(&world, &mut often, &mut kept);
    }
    let once = digest(&world, &mut once, &mut Snapshot::default());
    assert_eq!(digest(&world, &mut often, &mut kept), once);
}

#[test]
fn slot_time_and_application_all_change_the_digest() {
    let world = World::new(4);
    let of = |requests: &[(u64, &[u8])], time, null| {
        let mut state = state(&world);
        let requests = requests.iter().map(|(number, op)| world.request_for(0, *number, op));
        apply(&mut state, 1, time, requests.collect());
        if null {
            state.apply(Sequence(2), None, VIEW).unwrap();
        }
        digest(&world, &mut state, &mut Snapshot::default())
    };
    let digests = [
        of(&[(1, b"a")], 5, false),
        of(&[(1, b"b")], 5, false),
        of(&[(1, b"a")], 6, false),
        of(&[(1, b"a")], 5, true),
        of(&[(2, b"a")], 5, false),
        of(&[(1, b"a"), (2, b"refuse")], 5, false),
    ];
    let mut unique = digests.to_vec();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), digests.len());
}

#[test]
fn l3_agreed_time_never_goes_back_and_null_keeps_it() {
    let world = World::new(4);
    let mut state = state(&world);
    apply(&mut state, 1, 50, vec![world.request(0, 1)]);
    apply(&mut state, 2, 20, vec![world.request(0, 2)]);
    assert_eq!(state.time(), WallTime(50));
    state.apply(Sequence(3), None, VIEW).unwrap();
    assert_eq!((state.time(), state.last_applied()), (WallTime(50), Sequence(3)));
}

#[test]
fn a_slot_out_of_order_changes_nothing() {
    let world = World::new(4);
    let mut state = state(&world);
    let mut kept = Snapshot::default();
    let before = digest(&world, &mut state, &mut kept);
    for slot in [0, 2] {
        assert!(matches!(
            state.apply(Sequence(slot), None, VIEW),
            Err(StateError::OutOfOrder { .. })
        ));
    }
    assert_eq!(digest(&world, &mut state, &mut kept), before);
}

fn envelope(world: &World, operations: &[&[u8]]) -> Request {
    let operations = Operations::new(operations).unwrap();
    let body = RequestBody { client: ClientId(0), number: RequestNumber(1), operations };
    body.sign(&world.cluster, &client_key(0))
}

#[test]
fn operations_of_one_request_have_an_outcome_each_in_order() {
    let world = World::new(4);
    let mut state = state(&world);
    let answers = apply(&mut state, 1, 5, vec![envelope(&world, &[b"a", b"refuse", b"b"])]);
    let [Answer::Executed(outcomes)] = &answers[..] else { panic!("{answers:?}") };
    let outcomes: Vec<Outcome> = outcomes.iter().collect();
    assert!(
        matches!(&outcomes[..], [Outcome::Done(_), Outcome::Refused(refusal), Outcome::Done(_)] if refusal.code() == 7)
    );
    assert_eq!(recorded(&state), "ab");
}

#[test]
fn results_beyond_the_bound_are_a_deterministic_error_and_the_reply_stays_within_it() {
    let world = World::new(4);
    let mut state = state(&world);
    let request = envelope(&world, &[b"size 40000", b"size 40000", b"size 10"]);
    let answers = apply(&mut state, 1, 5, vec![request]);
    let [answer @ Answer::Executed(outcomes)] = &answers[..] else { panic!("{answers:?}") };
    let outcomes: Vec<Outcome> = outcomes.iter().collect();
    assert!(matches!(&outcomes[..], [Outcome::Done(_), Outcome::ResultTooLong, Outcome::Done(_)]));
    let bound = usize::try_from(world.cluster.constants().results_bytes_max).unwrap();
    assert!(wire::encode_bare(answer).len() <= bound);
}

#[test]
fn every_operation_has_a_seed_of_its_own_that_all_replicas_share() {
    let world = World::new(4);
    let (mut one, mut other) = (state(&world), state(&world));
    let run = |state: &mut ReplicatedState| {
        apply(state, 1, 5, vec![envelope(&world, &[b"seed", b"seed"])])
    };
    let seeds = run(&mut one);
    assert_eq!(seeds, run(&mut other));
    let [Answer::Executed(outcomes)] = &seeds[..] else { panic!("{seeds:?}") };
    let outcomes: Vec<Outcome> = outcomes.iter().collect();
    assert_ne!(outcomes[0], outcomes[1]);
}

#[test]
fn a_fresh_application_is_told_to_start_from_nothing() {
    let world = World::new(4);
    let dirty = Recorder(b"left over".to_vec());
    let state = ReplicatedState::new(Arc::clone(&world.cluster), Box::new(dirty));
    assert_eq!(recorded(&state), "");
}
