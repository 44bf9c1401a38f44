//! View changes, one rule each. Whole schedules are played in `pbft-sim/tests/scenarios`.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::certificate::Signatures;
use crate::crypto::Kind;
use crate::limits::Limits;
use crate::message::{Message, NewView, SignedViewChange, Statement, ViewChange, Vote};
use crate::replica::*;
use crate::signed::{self, Cache, Forgery, Scrutiny, VoidReason};
use crate::testing::*;
use crate::types::*;

const OTHER: Digest = Digest([9; 32]);

fn view_changes(out: &Outbox) -> Vec<Arc<ViewChange>> {
    let said = out.iter().filter_map(|action| match action {
        Action::Say { statement: Statement::ViewChange(change), .. } => Some(Arc::clone(change)),
        _ => None,
    });
    said.collect()
}

fn new_views(out: &Outbox) -> Vec<Arc<NewView>> {
    let said = out.iter().filter_map(|action| match action {
        Action::Say { statement: Statement::NewView(new_view), .. } => Some(Arc::clone(new_view)),
        _ => None,
    });
    said.collect()
}

fn pre_prepares(out: &Outbox) -> Vec<Vote> {
    let said = out.iter().filter_map(|action| match action {
        Action::Say { statement: Statement::PrePrepare(vote), .. } => Some(*vote),
        _ => None,
    });
    said.collect()
}

fn entered(out: &Outbox) -> Option<&ViewEntered> {
    out.iter().find_map(|action| match action {
        Action::ViewEntered(event) => Some(event),
        _ => None,
    })
}

/// A replica whose client's request is not executed: at `millis` it leaves the view, woken as often as a
/// host does.
fn suspect(world: &World, replica: &mut Replica, from: u64, to: u64) -> Outbox {
    let mut all = Outbox::new();
    let mut at = from;
    while at <= to {
        let (_, out) = drive_at(world, replica, later(at), Input::Wake);
        all.extend(out);
        at += 100;
    }
    all
}

fn with_request(world: &World, id: u32) -> Replica {
    let mut replica = world.replica(id);
    drive(world, &mut replica, Input::Start);
    let request = world.verify(Message::Request(world.request(0, 1))).unwrap();
    deliver(world, &mut replica, request);
    replica
}

/// Plain ViewChanges of all but `absent`, for a NewView.
fn plain(world: &World, view: u64, senders: &[u32]) -> Vec<SignedViewChange> {
    senders.iter().map(|sender| world.change(*sender, view, None, &[])).collect()
}

// --- Leaving ---

/// SEEDS P5.
#[test]
fn p5_an_unexecuted_request_ends_the_view_after_the_time_out_and_not_before() {
    let world = World::new(4);
    let mut replica = with_request(&world, 2);
    assert_eq!(view_changes(&suspect(&world, &mut replica, 0, 900)), vec![]);
    let said = view_changes(&suspect(&world, &mut replica, 1000, 1000));
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].view, View(1));
    // Left means left: no vote in the old view.
    let (verdict, out) = deliver(&world, &mut replica, world.proposal(1, &world.batch(&[1])));
    assert_eq!((verdict, out), (Verdict::Ignored(Reason::OtherView), vec![]));
}

#[test]
fn e3_a_slot_that_is_decided_but_not_executed_does_not_stop_the_timer() {
    let world = World::new(4);
    let mut replica = with_request(&world, 2);
    // Slot 2 holds the request and is decided; slot 1 never comes (PITFALLS C3 too).
    let batch = world.batch(&[1]);
    deliver(&world, &mut replica, world.proposal(2, &batch));
    for sender in [0, 1, 3] {
        deliver(&world, &mut replica, world.commit(sender, 2, batch.digest()));
    }
    let said = view_changes(&suspect(&world, &mut replica, 0, 1000));
    assert_eq!(said.len(), 1);
}

#[test]
fn c3_a_hole_left_by_the_primary_ends_its_view_and_the_new_one_fills_it_with_null() {
    let world = World::new(4);
    let mut replica = with_request(&world, 1);
    let batch = world.batch(&[1]);
    deliver(&world, &mut replica, world.proposal(2, &batch));
    for sender in [2, 3] {
        deliver(&world, &mut replica, world.prepare(sender, 2, batch.digest()));
    }
    assert_eq!(view_changes(&suspect(&world, &mut replica, 0, 1000)).len(), 1);
    let at = later(1100);
    for sender in [2, 3] {
        drive_at(&world, &mut replica, at, Input::Deliver(world.plain_change(sender, 1)));
    }
    // Primary of view 1: slot 1 is null, slot 2 is carried, slot 3 is fresh.
    assert_eq!(replica.view(), View(1));
    let slot = |sequence| replica.window().slot(Sequence(sequence)).unwrap().accepted.as_ref();
    assert_eq!(slot(1).unwrap().vote.digest, Digest::NULL);
    assert_eq!(slot(2).unwrap().vote.digest, batch.digest());
}

#[test]
fn e4_the_timer_belongs_to_the_oldest_request_whatever_else_is_executed() {
    let world = World::new(4);
    let mut replica = with_request(&world, 2);
    for (slot, number) in [(1, 2), (2, 3)] {
        let at = later(slot * 400);
        let batch = world.batch(&[number]);
        drive_at(&world, &mut replica, at, Input::Deliver(world.proposal(slot, &batch)));
        for sender in [0, 1, 3] {
            let commit = world.commit(sender, slot, batch.digest());
            drive_at(&world, &mut replica, at, Input::Deliver(commit));
        }
        let consumed = vec![(ClientId(0), RequestNumber(number))];
        let done = Input::Executed { sequence: Sequence(slot), consumed };
        drive_at(&world, &mut replica, at, done);
    }
    assert_eq!(view_changes(&suspect(&world, &mut replica, 900, 1000)).len(), 1);
}

/// A client that asks the backups alone, at a time when the primary has no room for it, ends no view.
#[test]
fn f5_the_request_the_timer_runs_for_is_relayed_again() {
    let world = World::new(4);
    let mut replica = with_request(&world, 2);
    let out = suspect(&world, &mut replica, 100, 900);
    let relays = out.iter().filter(|action| {
        matches!(action, Action::Relay { to: To::One(ReplicaId(0)), message: Message::Request(_) })
    });
    assert_eq!(relays.count(), 4);
}

#[test]
fn e9_a_stopped_process_does_not_blame_the_primary_when_it_wakes() {
    let world = World::new(4);
    let mut replica = with_request(&world, 2);
    suspect(&world, &mut replica, 0, 500);
    // Stopped for ten seconds: the timer starts anew instead of firing.
    assert_eq!(view_changes(&suspect(&world, &mut replica, 10_500, 11_400)), vec![]);
    assert_eq!(view_changes(&suspect(&world, &mut replica, 11_500, 11_500)).len(), 1);
}

#[test]
fn the_timer_stands_still_while_only_a_checkpoint_is_missing() {
    let world = World::new(4);
    let mut replica = world.replica(2);
    drive(&world, &mut replica, Input::Start);
    for slot in 1..=8 {
        let batch = world.batch(&[slot]);
        deliver(&world, &mut replica, world.proposal(slot, &batch));
        for sender in [0, 1, 3] {
            deliver(&world, &mut replica, world.commit(sender, slot, batch.digest()));
        }
        let consumed = vec![(ClientId(0), RequestNumber(slot))];
        drive(&world, &mut replica, Input::Executed { sequence: Sequence(slot), consumed });
    }
    let request = world.verify(Message::Request(world.request(0, 9))).unwrap();
    deliver(&world, &mut replica, request);
    assert_eq!(view_changes(&suspect(&world, &mut replica, 0, 3000)), vec![]);
}

// --- Joining ---

#[test]
fn d14_f_plus_one_others_are_joined_at_their_lowest_view_and_one_traitor_moves_nobody() {
    let world = World::new(7);
    let mut replica = world.replica(6);
    for view in [5, 6, 1 << 62] {
        let (_, out) = deliver(&world, &mut replica, world.plain_change(1, view));
        assert_eq!(view_changes(&out), vec![], "one sender counts once");
    }
    deliver(&world, &mut replica, world.plain_change(2, 9));
    let (_, out) = deliver(&world, &mut replica, world.plain_change(3, 4));
    let said = view_changes(&out);
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].view, View(4), "the lowest of f + 1");
}

#[test]
fn d14_views_near_the_integer_limit_are_refused() {
    let world = World::new(4);
    for view in [0, (1 << 62) + 1, u64::MAX] {
        let change = world.change(1, view, None, &[]).to_signed();
        let verdict = world.verify(Message::Statement(change)).map(|_| ());
        assert_eq!(verdict, Err(Forgery::View(View(view))));
        let vote = Vote { view: View(view), sequence: Sequence(1), digest: OTHER };
        let commit = world.verify(Message::Statement(world.sign(1, Statement::Commit(vote))));
        assert_eq!(commit.is_ok(), view == 0);
    }
}

#[test]
fn d14_the_highest_view_has_no_next() {
    let world = World::new(4);
    let mut replica = world.replica(3);
    for sender in [1, 2] {
        deliver(&world, &mut replica, world.plain_change(sender, 1 << 62));
    }
    assert_eq!(replica.summary().voted_view, View::MAX);
    deliver(&world, &mut replica, world.plain_change(3, 1 << 62));
    assert_eq!(view_changes(&suspect(&world, &mut replica, 0, 10_000)), vec![]);
    // Nor does it wake for ever: what cannot be waited for is waited for once more.
    assert!(replica.deadline().is_none_or(|due| due > later(10_000).instant));
}

#[test]
fn d15_a_view_change_with_a_wrong_signature_is_refused() {
    let world = World::new(4);
    let mut change = world.change(1, 1, None, &[]).to_signed();
    change.sender = ReplicaId(2);
    let verdict = world.verify(Message::Statement(change));
    assert!(matches!(verdict, Err(Forgery::Signature(_))));
}

#[test]
fn k1_one_view_change_is_kept_per_sender_and_a_second_one_for_its_view_is_evidence() {
    let world = World::new(4);
    let mut replica = world.replica(3);
    deliver(&world, &mut replica, world.plain_change(1, 5));
    let certificate = world.certificate(0, 1, OTHER);
    let other = world.change(1, 5, None, &[certificate]).to_signed();
    let (verdict, out) = deliver(&world, &mut replica, world.signed(other));
    assert!(matches!(verdict, Verdict::Refused(Misbehavior::Equivocation(subject))
        if subject.kind == Kind::ViewChange && subject.view == View(5)));
    assert!(out.iter().any(|action| matches!(action, Action::Accuse(_))));
    let lower = deliver(&world, &mut replica, world.plain_change(1, 4)).0;
    assert_eq!(lower, Verdict::Ignored(Reason::OtherView));
}

/// PITFALLS D1: who has committed a slot and then leaves it out is caught, and nobody else is.
#[test]
fn d1_a_view_change_that_leaves_out_what_its_sender_committed_is_evidence() {
    let world = World::new(4);
    let mut replica = world.replica(3);
    let batch = world.batch(&[1]);
    deliver(&world, &mut replica, world.proposal(1, &batch));
    for sender in [1, 2] {
        deliver(&world, &mut replica, world.commit(sender, 1, batch.digest()));
    }
    let certificate = world.certificate(0, 1, batch.digest());
    let honest = world.change(1, 1, None, &[certificate]).to_signed();
    deliver(&world, &mut replica, world.signed(honest));
    assert!(replica.evidence().is_empty());
    deliver(&world, &mut replica, world.plain_change(2, 1));
    let evidence = replica.evidence().iter().next().unwrap();
    assert!(evidence.convicts(&world.cluster, &world.verifier));
    assert_eq!(evidence.subject().replica, ReplicaId(2));
    // A checkpoint at or above the slot is as good as its certificate.
    let mut other = world.replica(3);
    deliver(&world, &mut other, world.commit(2, 1, batch.digest()));
    let change = world.change(2, 1, Some(world.stable(4, OTHER)), &[]).to_signed();
    deliver(&world, &mut other, world.signed(change));
    assert!(other.evidence().is_empty());
}

// --- Timers ---

#[test]
fn e1_the_time_out_doubles_per_failed_view_to_its_cap_and_halves_on_fresh_slots_only() {
    let world = World::new(13);
    let mut replica = with_request(&world, 12);
    let base = Limits::default().view_timeout;
    suspect(&world, &mut replica, 0, 1000);
    assert_eq!(replica.summary().timeout, base * 2);
    let mut at = 1000;
    for view in 1..=8 {
        for sender in 0..8 {
            let change = world.plain_change(sender, view);
            drive_at(&world, &mut replica, later(at), Input::Deliver(change));
        }
        let wait = u64::try_from(replica.summary().timeout.as_millis()).unwrap();
        suspect(&world, &mut replica, at, at + wait);
        at += wait;
        assert_eq!(replica.summary().voted_view, View(view + 1), "{wait}");
    }
    assert_eq!(replica.summary().timeout, Limits::default().view_timeout_max);
    // Entering a view changes nothing: only what it orders does.
    let new_view = world.new_view(9, plain(&world, 9, &[0, 1, 2, 3, 4, 5, 6, 7, 9]));
    drive_at(&world, &mut replica, later(at), Input::Deliver(world.signed(new_view)));
    assert_eq!(replica.summary().timeout, Limits::default().view_timeout_max);
}

#[test]
fn e2_the_next_view_is_waited_for_from_q_view_changes_on_and_not_from_the_own() {
    let world = World::new(4);
    let mut replica = with_request(&world, 3);
    suspect(&world, &mut replica, 0, 1000);
    // Alone it waits for ever.
    assert_eq!(view_changes(&suspect(&world, &mut replica, 1100, 20_000)), vec![]);
    let at = |change| Input::Deliver(change);
    drive_at(&world, &mut replica, later(20_000), at(world.plain_change(1, 1)));
    assert_eq!(view_changes(&suspect(&world, &mut replica, 20_100, 30_000)), vec![]);
    // The third, for a later view, counts as well: two restarts and one impatient replica must not
    // stop the cluster.
    drive_at(&world, &mut replica, later(30_000), at(world.plain_change(2, 7)));
    assert_eq!(view_changes(&suspect(&world, &mut replica, 30_100, 31_900)), vec![]);
    let said = view_changes(&suspect(&world, &mut replica, 32_000, 32_000));
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].view, View(2));
}

// --- What a ViewChange carries ---

#[test]
fn d1_a_view_change_carries_the_prepared_slots_and_the_stable_proof() {
    let world = World::new(4);
    let mut replica = with_request(&world, 1);
    let batch = world.batch(&[1]);
    deliver(&world, &mut replica, world.proposal(5, &batch));
    for sender in [2, 3] {
        deliver(&world, &mut replica, world.prepare(sender, 5, batch.digest()));
    }
    let proof = world.stable(4, OTHER);
    deliver(&world, &mut replica, world.verify(Message::Stable(proof.clone())).unwrap());
    let mut said = Outbox::new();
    for sender in [2, 3] {
        said.extend(deliver(&world, &mut replica, world.plain_change(sender, 1)).1);
    }
    let said = view_changes(&said);
    assert_eq!(said[0].stable, Some(proof));
    let votes: Vec<Vote> = said[0].prepared.iter().map(|it| it.vote).collect();
    assert_eq!(votes, [vote(5, batch.digest())]);
    assert_eq!(said[0].prepared[0].prepares.len(), 2);
}

#[test]
fn d18_a_view_change_is_durable_before_it_is_said_and_resent_byte_for_byte() {
    let world = World::new(4);
    let mut replica = world.replica(3);
    let mut out = Outbox::new();
    for sender in [1, 2] {
        let change = Input::Deliver(world.plain_change(sender, 2));
        replica.step(NOW, change, &mut out);
    }
    let id = out.iter().find_map(|action| match action {
        Action::Persist { id, record: Record::ViewChange(_) } => Some(*id),
        _ => None,
    });
    assert_eq!(view_changes(&out), vec![]);
    let mut out = Outbox::new();
    replica.step(NOW, Input::Durable(id.unwrap()), &mut out);
    let said = view_changes(&out);
    assert_eq!(said.len(), 1);
    // A restart says exactly the same again.
    let record = Record::ViewChange(Arc::clone(&said[0]));
    let cluster = Arc::clone(&world.cluster);
    let mut again = Replica::recover(ReplicaId(3), cluster, Limits::default(), [record]).unwrap();
    let (_, out) = drive(&world, &mut again, Input::Start);
    assert_eq!(view_changes(&out), said);
    assert_eq!(again.summary().voted_view, View(2), "D19");
}

// --- NewView ---

/// SEEDS P6: Q ViewChanges, the primary's own among them, make a NewView; said once (PITFALLS D13).
fn start_as_primary(n: u32) -> (World, Replica, Vec<Arc<NewView>>) {
    let world = World::new(n);
    let mut replica = world.replica(1);
    let mut said = Vec::new();
    for sender in (0..n).filter(|sender| *sender != 1) {
        let (_, out) = deliver(&world, &mut replica, world.plain_change(sender, 1));
        said.extend(new_views(&out));
    }
    (world, replica, said)
}

#[test]
fn d13_new_view_is_said_once_at_n_4_where_f_plus_one_is_nearly_a_quorum_and_at_n_7() {
    for n in [4, 5, 6, 7] {
        let (world, replica, said) = start_as_primary(n);
        assert_eq!(said.len(), 1, "n = {n}");
        assert_eq!(said[0].changes.len(), world.cluster.quorum());
        assert!(said[0].changes.iter().any(|change| change.sender == ReplicaId(1)));
        assert_eq!(replica.view(), View(1));
    }
}

#[test]
fn d13_view_changes_that_come_while_the_new_view_is_not_durable_yet_start_no_second_one() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    let mut out = Outbox::new();
    for sender in [0, 2] {
        let change = Input::Deliver(world.plain_change(sender, 1));
        replica.step(NOW, change, &mut out);
    }
    // The own ViewChange is durable, comes back, and makes the quorum; the NewView waits for the disk.
    let own = world.plain_change(1, 1);
    replica.step(NOW, Input::Durable(WriteId(1)), &mut out);
    replica.step(NOW, Input::Deliver(own), &mut out);
    replica.step(NOW, Input::Deliver(world.plain_change(3, 1)), &mut out);
    let starts =
        |action: &&Action| matches!(action, Action::Persist { record: Record::NewView { .. }, .. });
    assert_eq!(out.iter().filter(starts).count(), 1);
    assert_eq!(new_views(&out), vec![]);
}

#[test]
fn d2_a_pre_prepare_that_differs_from_o_gets_no_vote_and_is_evidence_with_the_new_view() {
    let world = World::new(4);
    let batch = world.batch(&[1]);
    let entered = || {
        let mut replica = world.replica(3);
        let certificate = world.certificate(0, 1, batch.digest());
        let mut changes = plain(&world, 1, &[1, 2]);
        changes.insert(0, world.change(0, 1, None, &[certificate]));
        deliver(&world, &mut replica, world.signed(world.new_view(1, changes)));
        assert_eq!(replica.view(), View(1));
        replica
    };
    for digest in [OTHER, Digest::NULL] {
        let mut replica = entered();
        let (verdict, out) = deliver(&world, &mut replica, world.pre_prepare(1, 1, digest));
        assert_eq!(verdict, Verdict::Refused(Misbehavior::ContradictsNewView(Sequence(1))));
        assert_eq!(prepares(&out), 0);
        let evidence = replica.evidence().iter().next().unwrap();
        assert!(evidence.convicts(&world.cluster, &world.verifier));
        assert_eq!(evidence.subject().replica, ReplicaId(1));
        assert!(replica.is_changing(), "convicted in the view it leads");
    }
    let mut replica = entered();
    // The right one is voted for, its body not being at hand.
    let (_, out) = deliver(&world, &mut replica, world.pre_prepare(1, 1, batch.digest()));
    assert_eq!(prepares(&out), 1);
}

#[test]
fn d9_a_slot_agreed_on_again_is_not_executed_again() {
    let world = World::new(4);
    let mut replica = world.replica(3);
    let batch = world.batch(&[1]);
    let digest = batch.digest();
    deliver(&world, &mut replica, world.proposal(1, &batch));
    for sender in [1, 2] {
        deliver(&world, &mut replica, world.prepare(sender, 1, digest));
    }
    for sender in [0, 1] {
        deliver(&world, &mut replica, world.commit(sender, 1, digest));
    }
    let done = Input::Executed { sequence: Sequence(1), consumed: vec![] };
    drive(&world, &mut replica, done);
    let certificate = world.certificate(0, 1, digest);
    let mut changes = plain(&world, 1, &[1, 2]);
    changes.insert(0, world.change(0, 1, None, &[certificate]));
    let mut all = deliver(&world, &mut replica, world.signed(world.new_view(1, changes))).1;
    let again = [
        world.pre_prepare(1, 1, digest),
        world.prepare_in(0, 1, 1, digest),
        world.prepare_in(2, 1, 1, digest),
    ];
    for message in again {
        all.extend(deliver(&world, &mut replica, message).1);
    }
    assert_eq!((prepares(&all), commits(&all)), (1, 1));
    assert_eq!(executed(&all), Vec::<u64>::new());
}

#[test]
fn d10_the_time_of_a_carried_batch_is_not_judged() {
    let world = World::new(4);
    let mut replica = world.replica(3);
    let batch = world.batch(&[1]);
    deliver(&world, &mut replica, world.proposal(1, &batch));
    let certificate = world.certificate(0, 1, batch.digest());
    let mut changes = plain(&world, 1, &[1, 2]);
    changes.insert(0, world.change(0, 1, None, &[certificate]));
    // An hour later.
    let at = later(3_600_000);
    let new_view = world.signed(world.new_view(1, changes));
    drive_at(&world, &mut replica, at, Input::Deliver(new_view));
    let carried = world.pre_prepare(1, 1, batch.digest());
    let (_, out) = drive_at(&world, &mut replica, at, Input::Deliver(carried));
    assert_eq!(prepares(&out), 1);
}

#[test]
fn d11_a_body_that_is_missing_is_fetched_by_digest_and_nothing_is_committed_before() {
    let world = World::new(4);
    let mut replica = world.replica(3);
    let batch = world.batch(&[1]);
    let digest = batch.digest();
    let certificate = world.certificate(0, 1, digest);
    let mut changes = plain(&world, 1, &[1, 2]);
    changes.insert(0, world.change(0, 1, None, &[certificate]));
    let (_, out) = deliver(&world, &mut replica, world.signed(world.new_view(1, changes)));
    let asked = |out: &Outbox| {
        let asked = out.iter().filter_map(|action| match action {
            Action::Say { to: To::One(peer), statement: Statement::Fetch(_), .. } => Some(peer.0),
            _ => None,
        });
        asked.collect::<Vec<u32>>()
    };
    // The primary of the view first, then the others in turn.
    assert_eq!(asked(&out), [1]);
    let again = suspect(&world, &mut replica, 100, 200);
    assert_eq!(asked(&again), [0, 2]);
    deliver(&world, &mut replica, world.pre_prepare(1, 1, digest));
    let mut out = deliver(&world, &mut replica, world.prepare_in(0, 1, 1, digest)).1;
    out.extend(deliver(&world, &mut replica, world.prepare_in(2, 1, 1, digest)).1);
    assert_eq!(commits(&out), 0, "a certificate without its body is not held");
    let wrong = Message::Body { sequence: Sequence(1), batch: world.batch(&[2]) };
    assert!(replica.wants(&wrong).is_err());
    let body = world.verify(Message::Body { sequence: Sequence(1), batch }).unwrap();
    let (_, out) = deliver(&world, &mut replica, body);
    assert_eq!(commits(&out), 1);
}

#[test]
fn d11_the_primary_leaves_out_a_sender_whose_bodies_do_not_come() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    let batch = world.batch(&[1]);
    let certificate = world.certificate(0, 1, batch.digest());
    let liar = world.change(3, 1, None, &[certificate]);
    deliver(&world, &mut replica, world.signed(liar.to_signed()));
    let (_, out) = deliver(&world, &mut replica, world.plain_change(0, 1));
    assert_eq!(new_views(&out), vec![], "the body of a certificate is missing");
    assert_eq!(says(&out, |said| matches!(said, Statement::Fetch(_))), 1);
    let (_, out) = deliver(&world, &mut replica, world.plain_change(2, 1));
    let said = new_views(&out);
    assert_eq!(said.len(), 1);
    assert!(said[0].changes.iter().all(|change| change.sender != ReplicaId(3)));
}

#[test]
fn d11_the_primary_starts_once_the_body_is_here() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    let batch = world.batch(&[1]);
    let certificate = world.certificate(0, 1, batch.digest());
    let change = world.change(3, 1, None, &[certificate]);
    deliver(&world, &mut replica, world.signed(change.to_signed()));
    deliver(&world, &mut replica, world.plain_change(0, 1));
    let body = world.verify(Message::Body { sequence: Sequence(1), batch: Arc::clone(&batch) });
    let (_, out) = deliver(&world, &mut replica, body.unwrap());
    assert_eq!(new_views(&out).len(), 1);
    let carried = Vote { view: View(1), sequence: Sequence(1), digest: batch.digest() };
    assert_eq!(pre_prepares(&out), [carried]);
}

#[test]
fn d12_a_replica_behind_the_new_views_checkpoint_enters_at_once_and_votes_above_it() {
    let world = World::new(4);
    let mut replica = world.replica(3);
    drive(&world, &mut replica, Input::Start);
    let proof = world.stable(8, OTHER);
    let mut changes = plain(&world, 1, &[1, 2]);
    changes.insert(0, world.change(0, 1, Some(proof), &[]));
    let (_, out) = deliver(&world, &mut replica, world.signed(world.new_view(1, changes)));
    let event = entered(&out).unwrap();
    assert_eq!((event.view, event.min, event.cause), (View(1), Sequence(8), Cause::Followed));
    assert_eq!(replica.window().stable(), Sequence(8));
    let batch = world.batch(&[1]);
    let vote = Vote { view: View(1), sequence: Sequence(9), digest: batch.digest() };
    let pre_prepare = world.sign(1, Statement::PrePrepare(vote));
    let fresh = world.verify(Message::Proposal { pre_prepare, batch }).unwrap();
    let (_, out) = deliver(&world, &mut replica, fresh);
    assert_eq!(prepares(&out), 1);
    assert_eq!(executed(&out), Vec::<u64>::new());
    // Its log does not come: after some patience it asks for the state.
    let out = suspect(&world, &mut replica, 0, 2000);
    assert!(out.iter().any(|action| matches!(action, Action::Restore { .. })));
}

#[test]
fn no_vote_in_a_view_before_its_new_view_and_none_after_leaving_it() {
    let world = World::new(4);
    let mut replica = world.replica(3);
    for sender in [1, 2] {
        deliver(&world, &mut replica, world.plain_change(sender, 1));
    }
    let (verdict, _) = deliver(&world, &mut replica, world.pre_prepare(1, 1, OTHER));
    assert_eq!(verdict, Verdict::Ignored(Reason::OtherView), "no NewView yet");
    // D17: what proves itself is still accepted between views, and executed (D20).
    let batch = world.batch(&[1]);
    let certificate = world.commit_certificate(0, 1, batch.digest());
    let message = Message::Committed { certificate, batch: Some(batch) };
    let (_, out) = deliver(&world, &mut replica, world.verify(message).unwrap());
    assert_eq!(executed(&out), [1]);
    assert_eq!(replica.summary().voted_view, View(1), "a certificate lets nobody enter a view");
}

#[test]
fn a_new_view_that_would_undo_a_decision_stops_the_replica() {
    let world = World::new(4);
    let mut replica = world.replica(3);
    let batch = world.batch(&[1]);
    let certificate = world.commit_certificate(0, 1, batch.digest());
    let message = Message::Committed { certificate, batch: Some(batch) };
    deliver(&world, &mut replica, world.verify(message).unwrap());
    let certificate = world.certificate(0, 1, OTHER);
    let mut changes = plain(&world, 1, &[1, 2]);
    changes.insert(0, world.change(0, 1, None, &[certificate]));
    let (_, out) = deliver(&world, &mut replica, world.signed(world.new_view(1, changes)));
    assert_eq!(out.last(), Some(&Action::Halt(Halt::TwoDecisions { sequence: Sequence(1) })));
}

/// One primary can sign two NewViews for its view, and any NewView can be late: neither is proof of more than
/// f faults, and neither is entered.
#[test]
fn a_new_view_no_later_than_a_decision_it_contradicts_stops_nobody() {
    for (decided, verdict) in [
        (1, Verdict::Refused(Misbehavior::ContradictsDecision(Sequence(1)))),
        (2, Verdict::Ignored(Reason::OtherView)),
    ] {
        let world = World::new(4);
        let mut replica = world.replica(3);
        let batch = world.batch(&[1]);
        let certificate = world.commit_certificate(decided, 1, batch.digest());
        let message = Message::Committed { certificate, batch: Some(batch) };
        deliver(&world, &mut replica, world.verify(message).unwrap());
        let certificate = world.certificate(0, 1, OTHER);
        let mut changes = plain(&world, 1, &[1, 2]);
        changes.insert(0, world.change(0, 1, None, &[certificate]));
        let (seen, out) = deliver(&world, &mut replica, world.signed(world.new_view(1, changes)));
        assert_eq!((seen, out), (verdict, vec![]), "decided in view {decided}");
        assert_eq!((replica.view(), replica.summary().halted), (View(0), None));
    }
}

#[test]
fn a_void_new_view_moves_only_those_who_wait_for_it() {
    let world = World::new(4);
    let mut replica = with_request(&world, 3);
    let (verdict, out) = drive(&world, &mut replica, Input::VoidNewView(View(1 << 61)));
    assert_eq!((verdict, out), (Verdict::Ignored(Reason::OtherView), vec![]));
    for sender in [1, 2] {
        deliver(&world, &mut replica, world.plain_change(sender, 1));
    }
    let (_, out) = drive(&world, &mut replica, Input::VoidNewView(View(1)));
    let said = view_changes(&out);
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].view, View(2));
}

// --- Bad input: any bad part voids the whole, by name (PITFALLS D3) ---

fn void(world: &World, change: &SignedViewChange) -> Option<VoidReason> {
    match world.verify(Message::Statement(change.to_signed())) {
        Err(Forgery::ViewChange(reason)) => Some(reason),
        other => {
            assert!(other.is_ok(), "{other:?}");
            None
        }
    }
}

#[test]
fn d3_every_bad_part_of_a_view_change_voids_it_and_is_named() {
    let world = World::new(4);
    let good = world.certificate(0, 5, OTHER);
    let stable = world.stable(4, OTHER);
    let change = |stable, prepared: &[_]| world.change(1, 3, stable, prepared);
    assert_eq!(void(&world, &change(Some(stable.clone()), core::slice::from_ref(&good))), None);

    let spoil = |edit: &dyn Fn(&mut crate::certificate::StableProof)| {
        let mut proof = stable.clone();
        edit(&mut proof);
        void(&world, &change(Some(proof), &[]))
    };
    assert_eq!(spoil(&|p| p.checkpoint.sequence = Sequence(5)), Some(VoidReason::StableSlot));
    let signers = |p: &crate::certificate::StableProof| -> Vec<_> {
        p.signatures.iter().map(|(r, s)| (r, *s)).collect()
    };
    let few = |p: &mut crate::certificate::StableProof| {
        p.signatures = Signatures::raw(signers(p)[..2].to_vec());
    };
    assert_eq!(spoil(&few), Some(VoidReason::StableSigners), "C4: too few signers");
    let twice = |p: &mut crate::certificate::StableProof| {
        let list = signers(p);
        p.signatures = Signatures::raw(vec![list[0], list[0], list[1]]);
    };
    assert_eq!(spoil(&twice), Some(VoidReason::StableSigners));
    assert_eq!(
        spoil(&|p| p.checkpoint.digest = Digest([8; 32])),
        Some(VoidReason::StableSignature)
    );

    let spoil = |edit: &dyn Fn(&mut crate::certificate::PreparedCertificate)| {
        let mut certificate = good.clone();
        edit(&mut certificate);
        void(&world, &change(None, &[certificate]))
    };
    assert_eq!(spoil(&|c| c.vote.sequence = Sequence(9)), Some(VoidReason::OutsideWindow));
    assert_eq!(spoil(&|c| c.vote.sequence = Sequence(0)), Some(VoidReason::OutsideWindow));
    assert_eq!(spoil(&|c| c.vote.view = View(3)), Some(VoidReason::CertificateView));
    assert_eq!(spoil(&|c| c.vote.digest = Digest::NULL), Some(VoidReason::NullDigest));
    assert_eq!(spoil(&|c| c.vote.sequence = Sequence(6)), Some(VoidReason::CertificateSignature));
    assert_eq!(
        spoil(&|c| c.vote.view = View(1)),
        Some(VoidReason::CertificateSigners),
        "wrong view"
    );
    assert_eq!(
        spoil(&|c| c.pre_prepare = Signature([1; 64])),
        Some(VoidReason::CertificateSignature)
    );
    let replace = |ids: [u32; 2]| {
        let mut certificate = good.clone();
        let sign = |id: u32| {
            let statement = Statement::Prepare(certificate.vote);
            (ReplicaId(id), world.sign(id, statement).signature)
        };
        certificate.prepares = Signatures::raw(ids.iter().map(|id| sign(*id)).collect());
        void(&world, &change(None, &[certificate]))
    };
    assert_eq!(replace([1, 2]), None);
    for ids in [[1, 1], [2, 1], [0, 1], [1, 4]] {
        assert_eq!(replace(ids), Some(VoidReason::CertificateSigners), "{ids:?}");
    }
    let one = {
        let mut certificate = good.clone();
        let first = certificate.prepares.iter().next().map(|(r, s)| (r, *s)).unwrap();
        certificate.prepares = Signatures::raw(vec![first]);
        void(&world, &change(None, &[certificate]))
    };
    assert_eq!(one, Some(VoidReason::CertificateSigners), "short");
    let twice = change(None, &[good.clone(), good.clone()]);
    assert_eq!(void(&world, &twice), Some(VoidReason::Order));
    let backwards = change(None, &[world.certificate(0, 6, OTHER), good.clone()]);
    assert_eq!(void(&world, &backwards), Some(VoidReason::Order));
    // A certificate of another cluster: same keys, another name.
    let foreign = World::named("other", 4).certificate(0, 5, OTHER);
    assert_eq!(void(&world, &change(None, &[foreign])), Some(VoidReason::CertificateSignature));
}

#[test]
fn d3_a_view_change_checked_outside_only_joins_and_starts_no_view() {
    let world = World::new(4);
    // Its body is at hand, so that nothing but the check keeps it out.
    let batch = world.batch(&[1]);
    let mut forged = world.certificate(0, 1, batch.digest());
    forged.pre_prepare = Signature([1; 64]);
    let change = world.change(2, 1, None, &[forged]).to_signed();
    let mut replica = world.replica(1);
    deliver(&world, &mut replica, world.proposal(1, &batch));
    assert_eq!(replica.scrutiny(&Message::Statement(change.clone())), Scrutiny::Whole);
    let other = world.replica(3);
    assert_eq!(other.scrutiny(&Message::Statement(change.clone())), Scrutiny::Outer);
    let outer = signed::verify(
        &world.cluster,
        &world.verifier,
        &mut Cache::default(),
        Message::Statement(change),
        Scrutiny::Outer,
    );
    let mut all = deliver(&world, &mut replica, outer.unwrap()).1;
    all.extend(deliver(&world, &mut replica, world.plain_change(0, 1)).1);
    assert_eq!(view_changes(&all).len(), 1, "it joins");
    assert_eq!(new_views(&all), vec![], "and does not build on it");
}

#[test]
fn d2_every_bad_part_of_a_new_view_voids_it_and_is_named() {
    let world = World::new(4);
    let verdict = |changes| match world.verify(Message::Statement(world.new_view(1, changes))) {
        Err(Forgery::NewView { view: View(1), reason }) => Some(reason),
        other => {
            assert!(other.is_ok(), "{other:?}");
            None
        }
    };
    let good = plain(&world, 1, &[0, 1, 2]);
    assert_eq!(verdict(good.clone()), None);
    assert_eq!(verdict(plain(&world, 1, &[0, 1])), Some(VoidReason::Changes));
    assert_eq!(verdict(plain(&world, 1, &[0, 1, 2, 3])), Some(VoidReason::Changes));
    assert_eq!(verdict(plain(&world, 1, &[0, 1, 1])), Some(VoidReason::Changes));
    assert_eq!(verdict(plain(&world, 1, &[1, 0, 2])), Some(VoidReason::Changes));
    assert_eq!(verdict(plain(&world, 1, &[0, 2, 3])), Some(VoidReason::Changes), "not the own");
    let mut other = good.clone();
    other[2] = world.change(2, 2, None, &[]);
    assert_eq!(verdict(other), Some(VoidReason::OtherView));
    let mut forged = good.clone();
    forged[2].sender = ReplicaId(3);
    assert_eq!(verdict(forged), Some(VoidReason::ChangeSignature));
    let mut certificate = world.certificate(0, 1, OTHER);
    certificate.pre_prepare = Signature([1; 64]);
    let mut inside = good;
    inside[0] = world.change(0, 1, None, &[certificate]);
    assert_eq!(verdict(inside), Some(VoidReason::CertificateSignature));
    // Of somebody who is not its primary it is nobody's NewView.
    let new_view = NewView { view: View(1), changes: plain(&world, 1, &[0, 1, 2]) };
    let by_other = world.sign(2, Statement::NewView(Arc::new(new_view)));
    let verdict = world.verify(Message::Statement(by_other));
    assert_eq!(verdict, Err(Forgery::NotPrimary(ReplicaId(2))));
}

#[test]
fn a_cluster_whose_new_view_fits_no_frame_or_no_time_out_is_refused() {
    let slow = World::new(13);
    let mut limits = Limits::default();
    limits.check_for(&slow.cluster).unwrap();
    limits.view_timeout = core::time::Duration::from_millis(400);
    limits.status_interval = core::time::Duration::from_millis(50);
    limits.repair_delay = core::time::Duration::from_millis(50);
    let needed = Limits::view_timeout_min(&World::new(31).cluster);
    assert!(needed > limits.view_timeout);
    let error = limits.check_for(&World::new(31).cluster).unwrap_err();
    assert_eq!(error.field, "view_timeout");
}

// --- Restart ---

/// PROTOCOL section 4: votes below h + 2L may have been said and forgotten.
#[test]
fn a_recovered_replica_abstains_in_its_view_and_says_its_commits_again() {
    let world = World::new(4);
    let mut replica = world.replica(2);
    let batch = world.batch(&[1]);
    let digest = batch.digest();
    let mut journal = Vec::new();
    let mut keep = |out: &Outbox| journal.extend(persisted(out).into_iter().cloned());
    keep(&deliver(&world, &mut replica, world.proposal(1, &batch)).1);
    keep(&deliver(&world, &mut replica, world.prepare(1, 1, digest)).1);
    assert_eq!(journal.len(), 1);
    let cluster = Arc::clone(&world.cluster);
    let mut again = Replica::recover(ReplicaId(2), cluster, Limits::default(), journal).unwrap();
    let (_, out) = drive(&world, &mut again, Input::Start);
    assert_eq!(commits(&out), 1, "the same Commit is derived again");
    let (_, out) = deliver(&world, &mut again, world.proposal(2, &world.batch(&[2])));
    assert_eq!(prepares(&out), 0, "a forgotten Prepare could be contradicted");
    // In the next view nobody abstains, and what was prepared is carried.
    let mut said = Outbox::new();
    for sender in [1, 3] {
        said.extend(deliver(&world, &mut again, world.plain_change(sender, 1)).1);
    }
    assert_eq!(view_changes(&said)[0].prepared.len(), 1);
    let new_view = world.new_view(1, plain(&world, 1, &[0, 1, 3]));
    deliver(&world, &mut again, world.signed(new_view));
    let vote = Vote { view: View(1), sequence: Sequence(1), digest };
    let pre_prepare = world.sign(1, Statement::PrePrepare(vote));
    let fresh = world.verify(Message::Proposal { pre_prepare, batch }).unwrap();
    let (_, out) = deliver(&world, &mut again, fresh);
    assert_eq!(prepares(&out), 1);
}
