use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::limits::Limits;
use crate::message::{Message, Statement, Vote};
use crate::replica::{Input, Standing, Summary};
use crate::testing::*;
use crate::types::{Digest, Sequence};

// K = 4, L = 8: nothing was voted on above c0 + L, and from c0 + 16 on nothing open could have been.

fn answer(sender: u32, asked: u64, stable: u64, executed: u64, voted: u64) -> (u32, Status) {
    let status = Status {
        view: View(voted),
        voted_view: View(voted),
        stable: Sequence(stable),
        executed: Sequence(executed),
        answers: vec![(ReplicaId(1), WallTime(asked))],
        ..Status::default()
    };
    (sender, status)
}

fn hear(world: &World, replica: &mut Replica, (sender, status): (u32, Status)) -> Outbox {
    deliver(world, replica, world.statement(sender, Statement::Status(status))).1
}

fn prove(world: &World, replica: &mut Replica, sequence: u64) -> Outbox {
    let proof = world.stable(sequence, Digest([7; 32]));
    deliver(world, replica, world.verify(Message::Stable(proof)).unwrap()).1
}

fn standing(replica: &Replica) -> Standing {
    let Summary { standing, .. } = replica.summary();
    standing
}

const ASKED: u64 = NOW.wall.0;

#[test]
fn g10_a_lost_store_is_over_two_windows_above_what_all_the_others_have_executed() {
    let world = World::new(4);
    let mut replica = lost(&world, 1);
    for sender in [0, 2, 3] {
        hear(&world, &mut replica, answer(sender, ASKED, 4, 11, 2));
    }
    // They may all have taken the checkpoint at 8, so it must be proven before the bound is known.
    prove(&world, &mut replica, 4);
    prove(&world, &mut replica, 8);
    prove(&world, &mut replica, 20);
    assert_eq!(standing(&replica), Standing::NonVoting, "c0 is 8, and 20 is below 8 + 16");
    let out = prove(&world, &mut replica, 24);
    assert_eq!(standing(&replica), Standing::Silent);
    assert!(out.contains(&Action::Reinstated { through: View(3) }));
    let records: Vec<&Record> = persisted(&out);
    assert_eq!(records.last(), Some(&&Record::Reinstated { through: View(3) }));
}

#[test]
fn g10_answers_to_an_earlier_question_do_not_count() {
    let world = World::new(4);
    let mut replica = lost(&world, 1);
    for sender in [0, 2, 3] {
        hear(&world, &mut replica, answer(sender, ASKED - 1, 0, 0, 0));
    }
    prove(&world, &mut replica, 64);
    assert_eq!(standing(&replica), Standing::NonVoting);
}

#[test]
fn g10_fewer_than_n_minus_f_others_are_not_enough() {
    let world = World::new(4);
    let mut replica = lost(&world, 1);
    for sender in [0, 2, 2] {
        hear(&world, &mut replica, answer(sender, ASKED, 0, 0, 0));
    }
    prove(&world, &mut replica, 64);
    assert_eq!(standing(&replica), Standing::NonVoting);
}

#[test]
fn g10_a_liar_can_neither_hold_the_loss_up_nor_end_it_early() {
    let world = World::new(7);
    let mut replica = lost(&world, 1);
    // Six others, f = 2, one of whom besides this replica may lie: five will do.
    hear(&world, &mut replica, answer(0, ASKED, 1 << 40, 1 << 40, 1 << 40));
    for sender in 2..=6 {
        hear(&world, &mut replica, answer(sender, ASKED, 0, 3, u64::from(sender)));
    }
    prove(&world, &mut replica, 12);
    assert_eq!(standing(&replica), Standing::NonVoting);
    let out = prove(&world, &mut replica, 16);
    assert!(out.contains(&Action::Reinstated { through: View(6) }), "{out:?}");
}

#[test]
fn g10_others_answer_whoever_asks_until_it_asks_no_more() {
    let world = World::new(4);
    let mut replica = world.replica(0);
    let answers = |replica: &mut Replica, asks: Option<WallTime>| {
        let status = Status { asks, ..Status::default() };
        deliver(&world, replica, world.statement(1, Statement::Status(status)));
        let mut out = Outbox::new();
        replica.step(NOW, Input::Connected(ReplicaId(2)), &mut out);
        let [Action::Say { statement: Statement::Status(status), .. }] = &out[..] else {
            panic!("{out:?}")
        };
        status.answers.clone()
    };
    let asked = Some(WallTime(5));
    assert_eq!(answers(&mut replica, asked), vec![(ReplicaId(1), WallTime(5))]);
    assert_eq!(answers(&mut replica, None), vec![]);
}

/// A replica that is back, in view 0, with nothing said through view 1; h is 16.
fn back(world: &World) -> (Replica, Vec<Record>) {
    let mut replica = lost(world, 1);
    let mut journal = vec![Record::Lost];
    for sender in [0, 2, 3] {
        hear(world, &mut replica, answer(sender, ASKED, 0, 0, 0));
    }
    let out = prove(world, &mut replica, 16);
    journal.extend(persisted(&out).into_iter().cloned());
    (replica, journal)
}

#[test]
fn g10_nothing_is_said_in_views_that_the_lost_store_may_have_been_about() {
    let world = World::new(4);
    let (mut replica, _) = back(&world);
    let batch = world.batch(&[1]);
    let (_, out) = deliver(&world, &mut replica, world.proposal(17, &batch));
    assert_eq!(prepares(&out), 0, "an old ViewChange for view 1 may be under way");
    // Joining others for view 1, it votes for view 2 at once.
    let mut said = Outbox::new();
    for sender in [2, 3] {
        said.extend(deliver(&world, &mut replica, world.plain_change(sender, 1)).1);
    }
    let views = said.iter().filter_map(|action| match action {
        Action::Say { statement: Statement::ViewChange(change), .. } => Some(change.view),
        _ => None,
    });
    assert_eq!(views.collect::<Vec<_>>(), vec![View(2)]);
}

#[test]
fn g10_nothing_is_said_before_the_end_of_the_loss_is_durable() {
    let world = World::new(4);
    let mut replica = lost(&world, 1);
    for sender in [0, 2, 3] {
        hear(&world, &mut replica, answer(sender, ASKED, 0, 0, 0));
    }
    let proof = world.verify(Message::Stable(world.stable(16, Digest([7; 32])))).unwrap();
    let mut out = Outbox::new();
    replica.step(NOW, Input::Deliver(proof), &mut out);
    for sender in [2, 3] {
        replica.step(NOW, Input::Deliver(world.plain_change(sender, 2)), &mut out);
    }
    let change = |statement: &Statement| matches!(statement, Statement::ViewChange(_));
    assert_eq!(says(&out, change), 0);
    let ids = out.iter().filter_map(|action| match action {
        Action::Persist { id, .. } => Some(*id),
        _ => None,
    });
    let last = ids.max().unwrap();
    replica.step(NOW, Input::Durable(last), &mut out);
    assert_eq!(says(&out, change), 1);
}

#[test]
fn g10_a_vote_that_needs_nothing_else_waits_for_the_end_of_the_loss_too() {
    let world = World::new(4);
    let mut replica = lost(&world, 1);
    let changes = [0, 2, 3].map(|sender| world.change(sender, 2, None, &[]));
    deliver(&world, &mut replica, world.signed(world.new_view(2, changes.to_vec())));
    for sender in [0, 2, 3] {
        hear(&world, &mut replica, answer(sender, ASKED, 0, 0, 0));
    }
    prove(&world, &mut replica, 4);
    let proof = world.verify(Message::Stable(world.stable(16, Digest([7; 32])))).unwrap();
    let mut out = Outbox::new();
    replica.step(NOW, Input::Deliver(proof), &mut out);
    assert_eq!((standing(&replica), replica.view()), (Standing::Voting, View(2)));
    let batch = world.batch(&[1]);
    let vote = Vote { view: View(2), sequence: Sequence(17), digest: batch.digest() };
    let pre_prepare = world.sign(2, Statement::PrePrepare(vote));
    let proposal = world.verify(Message::Proposal { pre_prepare, batch }).unwrap();
    replica.step(NOW, Input::Deliver(proposal), &mut out);
    assert_eq!(prepares(&out), 0);
    replica.step(NOW, Input::Durable(replica.journal.last()), &mut out);
    assert_eq!(prepares(&out), 1);
}

#[test]
fn g10_a_restart_in_the_middle_of_a_loss_is_still_a_loss_and_after_it_is_none() {
    let world = World::new(4);
    let (_, journal) = back(&world);
    let recover = |journal: &[Record]| {
        let cluster = Arc::clone(&world.cluster);
        Replica::recover(ReplicaId(1), cluster, Limits::default(), journal.to_vec()).unwrap()
    };
    let over = journal.iter().position(|record| matches!(record, Record::Reinstated { .. }));
    assert_eq!(standing(&recover(&journal[..over.unwrap()])), Standing::NonVoting);
    let again = recover(&journal);
    assert_eq!(standing(&again), Standing::Silent);
    assert!(!again.may_promise_in(View(1)) && again.may_promise_in(View(2)));
}
