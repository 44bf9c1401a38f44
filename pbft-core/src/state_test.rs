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
    Answer::Executed(vec![Outcome::Done(Bytes::copy_from_slice(text.as_bytes()))])
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
fn b5_a_jump_in_numbers_harms_its_own_client_only() {
    let world = World::new(4);
    let mut state = state(&world);
    apply(&mut state, 1, 5, vec![world.request_for(0, RequestNumber::BOUND.0 - 1, b"a")]);
    let answers =
        apply(&mut state, 2, 6, vec![world.request_for(0, 1, b"x"), world.request_for(1, 1, b"b")]);
    assert_eq!(answers, vec![Answer::Stale, done("2")]);
}

#[test]
fn b2_sessions_are_part_of_the_digest() {
    let world = World::new(4);
    let (mut one, mut other) = (state(&world), state(&world));
    apply(&mut one, 1, 5, vec![world.request_for(0, 1, b"a")]);
    apply(&mut other, 1, 5, vec![world.request_for(1, 1, b"a")]);
    assert_eq!(recorded(&one), recorded(&other));
    assert_ne!(one.digest().unwrap(), other.digest().unwrap());
}

/// The digest is a function of the state, not of when it was taken before.
#[test]
fn the_digest_does_not_depend_on_when_digests_were_taken() {
    let world = World::new(4);
    let (mut often, mut once) = (state(&world), state(&world));
    for (slot, number) in (1..).zip([1, 2, 9, 10, 3, 26, 20, 21, 40]) {
        for state in [&mut often, &mut once] {
            apply(state, slot, slot, vec![world.request_for(0, number, b"a")]);
        }
        often.digest().unwrap();
    }
    assert_eq!(often.digest().unwrap(), once.digest().unwrap());
}

#[test]
fn slot_time_and_application_all_change_the_digest() {
    let world = World::new(4);
    let digest = |requests: &[(u64, &[u8])], time, null| {
        let mut state = state(&world);
        let requests = requests.iter().map(|(number, op)| world.request_for(0, *number, op));
        apply(&mut state, 1, time, requests.collect());
        if null {
            state.apply(Sequence(2), None, VIEW).unwrap();
        }
        state.digest().unwrap()
    };
    let digests = [
        digest(&[(1, b"a")], 5, false),
        digest(&[(1, b"b")], 5, false),
        digest(&[(1, b"a")], 6, false),
        digest(&[(1, b"a")], 5, true),
        digest(&[(2, b"a")], 5, false),
        digest(&[(1, b"a"), (2, b"refuse")], 5, false),
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
    let before = state.digest().unwrap();
    for slot in [0, 2] {
        assert!(matches!(
            state.apply(Sequence(slot), None, VIEW),
            Err(StateError::OutOfOrder { .. })
        ));
    }
    assert_eq!(state.digest().unwrap(), before);
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
    assert_ne!(outcomes[0], outcomes[1]);
}

#[test]
fn a_fresh_application_is_told_to_start_from_nothing() {
    let world = World::new(4);
    let dirty = Recorder(b"left over".to_vec());
    let state = ReplicatedState::new(Arc::clone(&world.cluster), Box::new(dirty));
    assert_eq!(recorded(&state), "");
}
