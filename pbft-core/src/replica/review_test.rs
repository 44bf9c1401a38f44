//! What a review found: schedules that ended otherwise once.

use alloc::vec;

use super::*;
use crate::message::{Checkpoint, Status};
use crate::replica::{Input, Standing};
use crate::testing::*;
use crate::types::{ClientId, Digest, RequestNumber, WallTime};

fn answer(world: &World, replica: &mut Replica, sender: u32, voted: u64) {
    let status = Status {
        view: View(voted),
        voted_view: View(voted),
        answers: vec![(replica.id(), WallTime(NOW.wall.0))],
        ..Status::default()
    };
    deliver(world, replica, world.statement(sender, Statement::Status(status)));
}

fn prove(world: &World, replica: &mut Replica, sequence: u64) -> Outbox {
    let proof = world.stable(sequence, Digest([7; 32]));
    deliver(world, replica, world.verify(Message::Stable(proof)).unwrap()).1
}

fn decided_elsewhere(world: &World) -> (Replica, Outbox) {
    let mut primary = world.replica(0);
    let batch = world.batch(&[1]);
    let certificate = world.commit_certificate(1, 1, batch.digest());
    let message = Message::Committed { certificate, batch: Some(batch) };
    deliver(world, &mut primary, world.verify(message).unwrap());
    let request = world.request(1, 1);
    let out = deliver(world, &mut primary, world.verify(Message::Request(request)).unwrap()).1;
    (primary, out)
}

/// The primary of a view that the others have left learns slot 1's decision of view 1, and then a request.
#[test]
fn l6_a_primary_proposes_nothing_for_a_slot_that_it_knows_decided() {
    let world = World::new(4);
    let (_, out) = decided_elsewhere(&world);
    let against = |statement: &Statement| matches!(statement, Statement::PrePrepare(vote) if vote.sequence == Sequence(1));
    assert_eq!(says(&out, against), 0, "PROTOCOL section 3, rule 6");
}

/// The same; a traitor brings the proposal back.
#[test]
fn l6_a_proposal_that_was_said_and_not_noted_silences_nobody() {
    let world = World::new(4);
    let (mut primary, out) = decided_elsewhere(&world);
    for action in out {
        if let Action::Say { statement: statement @ Statement::PrePrepare(_), .. } = action {
            let message = world.statement(0, statement);
            if primary.wants(message.message()).is_ok() {
                deliver(&world, &mut primary, message);
            }
        }
    }
    assert_eq!(primary.summary().standing, Standing::Voting);
}

/// Seven replicas; of the five that answer first one lies.
#[test]
fn g10_one_liar_among_those_who_answer_first_keeps_nobody_silent_for_ever() {
    let world = World::new(7);
    let mut replica = lost(&world, 1);
    answer(&world, &mut replica, 0, 1 << 61);
    for sender in 2..=5 {
        answer(&world, &mut replica, sender, 0);
    }
    let out = prove(&world, &mut replica, 16);
    let through = out.iter().find_map(|action| match action {
        Action::Reinstated { through } => Some(*through),
        _ => None,
    });
    assert!(through.is_none_or(|through| through < View(100)), "{through:?}");
    answer(&world, &mut replica, 6, 0);
    assert!(replica.may_promise_in(View(100)), "silent through {:?}", replica.amnesia);
}

/// Both checkpoints of the window are taken before the proof that ends the loss arrives.
#[test]
fn g10_checkpoints_taken_in_silence_are_said_when_the_loss_is_over() {
    let world = World::new(4);
    let mut replica = lost(&world, 1);
    for sender in [0, 2, 3] {
        answer(&world, &mut replica, sender, 0);
    }
    let mut said = 0;
    let checkpoint = |statement: &Statement| matches!(statement, Statement::Checkpoint(_));
    for slot in 1..=24 {
        let batch = world.batch(&[slot]);
        let certificate = world.commit_certificate(0, slot, batch.digest());
        let message = Message::Committed { certificate, batch: Some(batch) };
        let mut out = deliver(&world, &mut replica, world.verify(message).unwrap()).1;
        assert_eq!(executed(&out), vec![slot]);
        let (sequence, number) = (Sequence(slot), RequestNumber(slot));
        let consumed = vec![(ClientId(0), number)];
        out.extend(drive(&world, &mut replica, Input::Executed { sequence, consumed }).1);
        if slot % 4 == 0 {
            let digest = Digest([7; 32]);
            out.extend(drive(&world, &mut replica, Input::Snapshotted { sequence, digest }).1);
        }
        said += says(&out, checkpoint);
    }
    assert_eq!(said, 0);
    let mut out = prove(&world, &mut replica, 16);
    assert!(out.iter().any(|action| matches!(action, Action::Reinstated { .. })));
    // However long it lives and whatever it hears, the two above h are never said.
    let status = Status { stable: Sequence(16), executed: Sequence(24), ..Status::default() };
    for millis in [1000, 2000, 4000, 8000] {
        out.extend(drive_at(&world, &mut replica, later(millis), Input::Wake).1);
        let message = world.statement(2, Statement::Status(status.clone()));
        out.extend(drive_at(&world, &mut replica, later(millis), Input::Deliver(message)).1);
    }
    let wanted = |sequence| Checkpoint { sequence: Sequence(sequence), digest: Digest([7; 32]) };
    for sequence in [20, 24] {
        let is =
            |it: &Statement| matches!(it, Statement::Checkpoint(it) if *it == wanted(sequence));
        assert_eq!(says(&out, is), 1, "slot {sequence}");
    }
}

/// A proposal waits for h to move; the view is left; h moves.
#[test]
fn d17_after_its_view_change_a_replica_says_no_prepare_for_a_proposal_that_waited() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    let batch = world.batch(&[9]);
    deliver(&world, &mut replica, world.proposal(9, &batch));
    for sender in [2, 3] {
        deliver(&world, &mut replica, world.plain_change(sender, 2));
    }
    assert!(replica.is_changing());
    let out = prove(&world, &mut replica, 4);
    assert_eq!(prepares(&out), 0, "of view 0, after ViewChange(2)");
}

/// What a replica that is back may have voted for before counts for others who ask it.
#[test]
fn g10_who_has_forgotten_its_votes_answers_with_the_most_they_can_have_been() {
    let world = World::new(4);
    let mut replica = lost(&world, 1);
    for sender in [0, 2, 3] {
        answer(&world, &mut replica, sender, 4);
    }
    prove(&world, &mut replica, 16);
    let mut out = Outbox::new();
    replica.step(NOW, Input::Connected(ReplicaId(2)), &mut out);
    let [Action::Say { statement: Statement::Status(status), .. }] = &out[..] else {
        panic!("{out:?}")
    };
    assert!(status.voted_view >= View(5), "it may have said ViewChange(5)");
}

/// A disk that is full: nothing becomes durable here, and the others need nobody else.
#[test]
fn h7_what_waits_for_a_full_disk_is_bounded() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    let mut waiting = 0;
    for slot in 1..=200 {
        let batch = world.batch(&[slot]);
        let digest = batch.digest();
        let mut messages = vec![world.proposal(slot, &batch)];
        messages.extend([2, 3].map(|sender| world.prepare(sender, slot, digest)));
        messages.extend([0, 2, 3].map(|sender| world.commit(sender, slot, digest)));
        let mut out = Outbox::new();
        for message in messages {
            replica.step(NOW, Input::Deliver(message), &mut out);
        }
        let consumed = vec![(ClientId(0), RequestNumber(slot))];
        replica.step(NOW, Input::Executed { sequence: Sequence(slot), consumed }, &mut out);
        if slot % 4 == 0 {
            let proof = world.verify(Message::Stable(world.stable(slot, Digest([7; 32])))).unwrap();
            replica.step(NOW, Input::Deliver(proof), &mut out);
        }
        let prepared = |record: &&&Record| matches!(record, Record::Prepared { .. });
        waiting += persisted(&out).iter().filter(prepared).count();
    }
    // L is 8.
    assert!(waiting <= 32, "{waiting} batches wait in memory for the disk");
}
