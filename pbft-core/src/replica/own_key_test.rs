use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::limits::Limits;
use crate::replica::{Input, Summary};
use crate::testing::*;
use crate::types::{Digest, Instant, ReplicaId, Sequence, Time};

const OTHER: Digest = Digest([9; 32]);

fn is_silenced(replica: &Replica) -> bool {
    let Summary { standing, .. } = replica.summary();
    standing == Standing::Impersonated
}

/// Delivers something in the name of replica 1 to replica 1, as others bring it: what the edge would drop is
/// not delivered.
fn hear(world: &World, replica: &mut Replica, message: Verified) -> Outbox {
    match replica.wants(message.message()) {
        Ok(()) => deliver(world, replica, message).1,
        Err(_) => Outbox::new(),
    }
}

/// Replica 1 of four, that has said Prepare and Commit for slot 1.
fn committed(world: &World) -> (Replica, Vec<Record>, Digest) {
    let mut replica = world.replica(1);
    let batch = world.batch(&[1]);
    let mut out = deliver(world, &mut replica, world.proposal(1, &batch)).1;
    out.extend(deliver(world, &mut replica, world.prepare(2, 1, batch.digest())).1);
    assert_eq!((prepares(&out), commits(&out)), (1, 1));
    let journal = persisted(&out).into_iter().cloned().collect();
    (replica, journal, batch.digest())
}

#[test]
fn l6_a_vote_of_the_own_key_that_was_never_said_ends_all_promises() {
    let world = World::new(4);
    let (_, _, digest) = committed(&world);
    let strange: Vec<Verified> = vec![
        world.prepare(1, 1, OTHER),
        world.commit(1, 1, OTHER),
        world.prepare(1, 2, OTHER),
        world.commit(1, 2, digest),
        world.prepare_in(1, 7, 1, OTHER),
        world.plain_change(1, 3),
        world.pre_prepare(1, 1, OTHER),
    ];
    for message in strange {
        let (mut replica, _, _) = committed(&world);
        let text = alloc::format!("{message:?}");
        let out = hear(&world, &mut replica, message);
        assert!(is_silenced(&replica), "{text}");
        assert!(out.iter().any(|action| matches!(action, Action::Impersonated(_))));
        assert_eq!(persisted(&out), vec![&Record::Lost], "what else was said is not in the store");
        let out = deliver(&world, &mut replica, world.proposal(2, &world.batch(&[2]))).1;
        assert_eq!(prepares(&out), 0);
    }
}

#[test]
fn l6_a_replay_of_what_was_said_silences_nobody() {
    let world = World::new(4);
    let (mut replica, _, digest) = committed(&world);
    for message in [world.prepare(1, 1, digest), world.commit(1, 1, digest)] {
        hear(&world, &mut replica, message);
    }
    assert!(!is_silenced(&replica));
    // Entering view 1, whose primary it is, it says ViewChange, NewView and the slot again.
    for sender in [2, 3] {
        deliver(&world, &mut replica, world.plain_change(sender, 1));
    }
    assert_eq!(replica.view(), View(1));
    let own = replica.kept_statements().into_iter().filter(|signed| signed.sender == ReplicaId(1));
    let own: Vec<Signed> = own.collect();
    assert!(own.len() >= 2, "{own:?}");
    for signed in own {
        hear(&world, &mut replica, world.signed(signed));
    }
    // Old votes of the view left.
    for message in [world.prepare(1, 1, digest), world.commit(1, 5, OTHER)] {
        hear(&world, &mut replica, message);
    }
    assert!(!is_silenced(&replica));
}

#[test]
fn l6_after_a_restart_old_votes_are_the_own_and_those_beyond_all_it_can_have_said_are_not() {
    let world = World::new(4);
    let (_, journal, digest) = committed(&world);
    let recover = || {
        let cluster = Arc::clone(&world.cluster);
        let limits = Limits::default();
        let mut again = Replica::recover(ReplicaId(1), cluster, limits, journal.clone()).unwrap();
        drive(&world, &mut again, Input::Start);
        again
    };
    let mut again = recover();
    // Prepares leave without a record; what was said of slots up to 2L is not known.
    for message in
        [world.prepare(1, 1, digest), world.prepare(1, 2, OTHER), world.commit(1, 8, OTHER)]
    {
        hear(&world, &mut again, message);
    }
    assert!(!is_silenced(&again));
    hear(&world, &mut again, world.plain_change(1, 1));
    assert!(is_silenced(&again), "a ViewChange would be in the journal");
    let mut again = recover();
    hear(&world, &mut again, world.commit(1, 1, OTHER));
    assert!(is_silenced(&again), "the journal says otherwise");
}

/// Found by the simulator.
#[test]
fn l6_a_commit_held_back_until_after_the_view_change_is_the_own() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    let batch = world.batch(&[1]);
    deliver(&world, &mut replica, world.proposal(1, &batch));
    let mut out = Outbox::new();
    replica.step(NOW, Input::Deliver(world.prepare(2, 1, batch.digest())), &mut out);
    let [Action::Persist { id, .. }] = out[..] else { panic!("{out:?}") };
    for sender in [2, 3] {
        replica.step(NOW, Input::Deliver(world.plain_change(sender, 2)), &mut out);
    }
    assert!(replica.is_changing());
    replica.step(NOW, Input::Durable(id), &mut out);
    assert_eq!(commits(&out), 1);
    hear(&world, &mut replica, world.commit(1, 1, batch.digest()));
    assert!(!is_silenced(&replica));
}

#[test]
fn l6_evidence_against_oneself_counts_by_what_is_in_it() {
    let world = World::new(4);
    let (mut replica, _, digest) = committed(&world);
    let vote = |digest| Vote { view: View(0), sequence: Sequence(1), digest };
    let pair = |first, second| {
        let sign = |digest| world.sign(1, Statement::Prepare(vote(digest)));
        let evidence = Evidence::new(sign(first), sign(second)).unwrap();
        world.verify(Message::Evidence(Arc::new(evidence))).unwrap()
    };
    hear(&world, &mut replica, pair(digest, OTHER));
    assert!(is_silenced(&replica));
}

#[test]
fn l6_another_checkpoint_than_the_own_is_somebody_elses() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    let own = Record::Checkpoint(crate::message::Checkpoint {
        sequence: Sequence(4),
        digest: Digest([4; 32]),
    });
    let cluster = Arc::clone(&world.cluster);
    replica = Replica::recover(replica.id(), cluster, Limits::default(), [own]).unwrap();
    drive(&world, &mut replica, Input::Start);
    hear(&world, &mut replica, world.checkpoint(1, 4, Digest([4; 32])));
    // What lies above may have been said before the restart.
    hear(&world, &mut replica, world.checkpoint(1, 8, OTHER));
    assert!(!is_silenced(&replica));
    hear(&world, &mut replica, world.checkpoint(1, 4, OTHER));
    assert!(is_silenced(&replica));
}

#[test]
fn l6_with_a_lost_store_nothing_of_the_own_key_is_strange() {
    let world = World::new(4);
    let cluster = Arc::clone(&world.cluster);
    let mut replica = Replica::with_lost_store(ReplicaId(1), cluster, Limits::default()).unwrap();
    let now = Time { instant: Instant(1), ..NOW };
    drive_at(&world, &mut replica, now, Input::Start);
    for message in [world.plain_change(1, 9), world.commit(1, 3, OTHER)] {
        hear(&world, &mut replica, message);
    }
    assert!(!is_silenced(&replica));
}
