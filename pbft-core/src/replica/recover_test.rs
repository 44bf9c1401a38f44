use alloc::vec;

use super::*;
use crate::message::Status;
use crate::replica::{Action, Input, To};
use crate::testing::*;

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
