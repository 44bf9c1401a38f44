use alloc::vec;

use super::*;
use crate::message::{Message, Status};
use crate::replica::{Action, Input, To};
use crate::testing::*;

/// A slot that the NewView carried was decided by some, and its body was in nobody else's journal; no request waits, so
/// no time-out would ever ask for it.
#[test]
fn d11_a_carried_body_that_is_not_in_the_journal_is_asked_for_at_once_and_again() {
    let world = World::new(4);
    let batch = world.batch(&[1]);
    let certificate = world.certificate(0, 1, batch.digest());
    let changes =
        [0, 1, 3].map(|sender| world.change(sender, 1, None, core::slice::from_ref(&certificate)));
    let signed = world.new_view(1, changes.into());
    let Statement::NewView(new_view) = &signed.statement else { unreachable!() };
    let record =
        Record::NewView { new_view: Arc::clone(new_view), signature: Some(signed.signature) };
    let cluster = Arc::clone(&world.cluster);
    let mut replica =
        Replica::recover(ReplicaId(2), cluster, Limits::default(), vec![record]).unwrap();
    let asked = |out: &Outbox| {
        let fetch = out.iter().find_map(|action| match action {
            Action::Say { to: To::One(donor), statement: Statement::Fetch(fetch), .. } => {
                Some((*donor, fetch.bodies.clone()))
            }
            _ => None,
        });
        fetch.map(|(donor, bodies)| (donor.0, bodies.len(), bodies[0].digest == batch.digest()))
    };
    let (_, out) = drive(&world, &mut replica, Input::Start);
    assert_eq!(asked(&out), Some((1, 1, true)), "the primary of the view first");
    let (_, out) = drive_at(&world, &mut replica, later(1_000), Input::Wake);
    assert_eq!(asked(&out), Some((0, 1, true)), "then another");
    let body = Message::Body { sequence: Sequence(1), batch: Arc::clone(&batch) };
    deliver(&world, &mut replica, world.verify(body).unwrap());
    let (_, out) = drive_at(&world, &mut replica, later(2_000), Input::Wake);
    assert_eq!(asked(&out), None);
}

/// All are killed; one of them holds the certificate of a slot that the others prepared, and may be the only one who
/// was answered for it. Nobody says a Prepare again, so without those in the certificate the slot would wait for the
/// next request and for a view change.
#[test]
fn c12_a_certificate_brings_the_others_the_prepares_that_nobody_says_again() {
    let world = World::new(4);
    let batch = world.batch(&[1]);
    let certificate = world.certificate(0, 1, batch.digest());
    let record = Record::Prepared { certificate, batch: Some(batch) };
    let again = |id: u32, journal: Vec<Record>| {
        let cluster = Arc::clone(&world.cluster);
        let mut replica =
            Replica::recover(ReplicaId(id), cluster, Limits::default(), journal).unwrap();
        let (_, out) = drive(&world, &mut replica, Input::Start);
        (replica, out)
    };
    let (mut holder, said) = again(2, vec![record]);
    let mut commits_said = commits(&said);
    let mut others = [0, 1, 3].map(|id| again(id, Vec::new()).0);
    let mut done = Vec::new();
    let mut votes = vec![world.commit(2, 1, world.batch(&[1]).digest())];
    for other in &mut others {
        let id = other.id();
        let status = Statement::Status(Status::default());
        let asked = Input::Deliver(world.statement(id.0, status));
        let (_, out) = drive_at(&world, &mut holder, later(60_000), asked);
        for action in out {
            if let Action::Relay { to, message } = action {
                assert_eq!(to, To::One(id));
                let message = world.verify(message).unwrap();
                commits_said += commits(&deliver(&world, other, message).1);
            }
        }
        votes.push(world.commit(id.0, 1, world.batch(&[1]).digest()));
    }
    assert_eq!(commits_said, 4, "each says its own Commit");
    for other in &mut others {
        for vote in &votes {
            done.extend(executed(&deliver(&world, other, vote.clone()).1));
        }
    }
    assert_eq!(done, [1, 1, 1]);
}
