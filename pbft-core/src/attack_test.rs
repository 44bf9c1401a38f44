//! Attacks on what was thought done, found by reviewers: each test asserts what holds now.

use alloc::sync::Arc;
use alloc::vec;

use crate::certificate::{PreparedCertificate, Signatures};
use crate::evidence::Evidence;
use crate::message::*;
use crate::replica::*;
use crate::signed::Verified;
use crate::testing::*;
use crate::types::*;
use crate::wire;

const OTHER: Digest = Digest([9; 32]);

fn status(view: u64, slow_primary: bool) -> Statement {
    Statement::Status(Status {
        view: View(view),
        voted_view: View(view),
        slow_primary,
        ..Status::default()
    })
}

fn finds_slow(out: &Outbox) -> bool {
    says(out, |it| matches!(it, Statement::Status(status) if status.slow_primary)) > 0
}

fn leaves(out: &Outbox) -> bool {
    says(out, |it| matches!(it, Statement::ViewChange(_))) > 0
}

fn at(world: &World, replica: &mut Replica, millis: u64, message: Verified) -> Outbox {
    drive_at(world, replica, later(millis), Input::Deliver(message)).1
}

/// A frame of some 500 unsigned bytes: decoding alone fills slots up to the attacker's number.
#[test]
fn k8_decoding_evidence_costs_no_more_than_its_bytes() {
    for slots in [30_000_000_u64, 1 << 62, u64::MAX] {
        let vote = Vote { view: View(0), sequence: Sequence(slots), digest: OTHER };
        let prepared = vec![PreparedCertificate {
            vote,
            pre_prepare: Signature([0; 64]),
            prepares: Signatures::default(),
        }];
        let change = Arc::new(ViewChange { view: View(1), stable: None, prepared });
        let sender = ReplicaId(1);
        let signature = Signature([0; 64]);
        let changes = vec![SignedViewChange { sender, change, signature }];
        let new_view = Arc::new(NewView { view: View(1), changes });
        let first = Signed { sender, statement: Statement::NewView(new_view), signature };
        // Of the view that the NewView is about: else nothing would be compared.
        let again = Vote { view: View(1), ..vote };
        let second = Signed { sender, statement: Statement::PrePrepare(again), signature };
        let mut frame = wire::VERSION.to_le_bytes().to_vec();
        frame.extend(8_u32.to_le_bytes());
        frame.extend(0_u32.to_le_bytes());
        frame.extend(wire::encode_bare(&first));
        frame.extend(wire::encode_bare(&second));
        let began = std::time::Instant::now();
        assert!(wire::decode::<Message>(&frame).is_err(), "the two contradict nothing");
        let took = began.elapsed();
        assert!(took.as_secs() < 1, "{took:?} for slot {slots}");
    }
}

/// Nobody is faulty; a request takes 140 ms to execute; two clients, one request each at a time, whom
/// the backups know because they resend to all. The primary proposes each request in a millisecond.
#[test]
fn f8_slow_execution_is_no_slow_primary() {
    let world = World::new(4);
    let mut replica = world.replica(2);
    drive(&world, &mut replica, Input::Start);
    let mut all = Outbox::new();
    let order = |replica: &mut Replica, millis: u64, slot: u64, all: &mut Outbox| {
        let request = world.request(u32::try_from(slot % 2).unwrap(), slot);
        let told = world.verify(Message::Request(request.clone())).unwrap();
        all.extend(at(&world, replica, millis, told));
        let batch = Arc::new(Batch::new(later(millis).wall, vec![request]));
        all.extend(at(&world, replica, millis + 1, world.proposal(slot, &batch)));
        for sender in [0, 1, 3] {
            all.extend(at(&world, replica, millis + 3, world.commit(sender, slot, batch.digest())));
        }
    };
    order(&mut replica, 0, 1, &mut all);
    order(&mut replica, 5, 2, &mut all);
    for slot in 1..=5_u64 {
        let millis = slot * 140;
        let consumed = vec![(ClientId(u32::try_from(slot % 2).unwrap()), RequestNumber(slot))];
        let done = Input::Executed { sequence: Sequence(slot), consumed };
        all.extend(drive_at(&world, &mut replica, later(millis), done).1);
        order(&mut replica, millis + 1, slot + 2, &mut all);
    }
    assert!(!finds_slow(&all), "an honest primary was found slow after 6 slots");
}

/// What one replica found an hour ago and has taken back ever since still counts.
#[test]
fn f1_a_finding_taken_back_does_not_count() {
    let world = World::new(4);
    let mut replica = world.replica(2);
    drive(&world, &mut replica, Input::Start);
    at(&world, &mut replica, 100, world.statement(1, status(0, true)));
    let mut millis = 200;
    while millis < 3_600_000 {
        at(&world, &mut replica, millis, world.statement(1, status(0, false)));
        millis += 400;
    }
    let out = at(&world, &mut replica, millis, world.statement(3, status(0, true)));
    assert!(!leaves(&out), "left, although only one replica finds the primary slow now");
}

/// A traitor withholds its Checkpoint from a backup that executes 50 ms behind the others: the
/// proposals it holds for slots above its h + L count as never received.
#[test]
fn f8_a_proposal_that_waits_for_h_is_not_late() {
    let world = World::new(4);
    let mut replica = world.replica(2);
    drive(&world, &mut replica, Input::Start);
    let first = world.batch(&[1]);
    let mut all = Outbox::new();
    all.extend(at(&world, &mut replica, 1, world.proposal(1, &first)));
    for sender in [0, 1, 3] {
        all.extend(at(&world, &mut replica, 2, world.commit(sender, 1, first.digest())));
    }
    for slot in 9..=12 {
        let batch = world.batch(&[slot]);
        all.extend(at(&world, &mut replica, 10, world.proposal(slot, &batch)));
        for sender in [0, 1] {
            all.extend(at(&world, &mut replica, 12, world.commit(sender, slot, batch.digest())));
        }
    }
    let stable = world.verify(Message::Stable(world.stable(4, OTHER))).unwrap();
    all.extend(at(&world, &mut replica, 50, stable));
    assert!(replica.window().slot(Sequence(9)).unwrap().accepted.is_some());
    assert!(!finds_slow(&all), "all proposals had come at once");
}

/// One link is made anew and loses what was under way: the four slots in flight.
#[test]
fn f8_one_reconnect_does_not_make_the_primary_slow_for_the_rest_of_its_view() {
    let world = World::new(4);
    let mut replica = world.replica(2);
    drive(&world, &mut replica, Input::Start);
    let mut all = Outbox::new();
    let first = world.batch(&[1]);
    all.extend(at(&world, &mut replica, 1, world.proposal(1, &first)));
    for sender in [0, 1, 3] {
        all.extend(at(&world, &mut replica, 2, world.commit(sender, 1, first.digest())));
    }
    for slot in 2..=5 {
        for sender in [1, 3] {
            let commit = world.commit(sender, slot, world.batch(&[slot]).digest());
            all.extend(at(&world, &mut replica, 10, commit));
        }
    }
    for slot in 2..=5 {
        let batch = world.batch(&[slot]);
        let certificate = world.commit_certificate(0, slot, batch.digest());
        let repaired = world.verify(Message::Committed { certificate, batch: Some(batch) });
        all.extend(at(&world, &mut replica, 110, repaired.unwrap()));
    }
    assert!(!finds_slow(&all), "four lost messages, once");
}

/// The floor is not there: one decoy at the top of the window, then every request waits 0.9 s.
#[test]
fn f1_a_decoy_at_the_top_of_the_window_does_not_keep_the_primary_busy() {
    let world = World::new(4);
    let mut replica = world.replica(2);
    drive(&world, &mut replica, Input::Start);
    let mut all = Outbox::new();
    // Some request of an accomplice.
    let decoy = Arc::new(Batch::new(NOW.wall, vec![world.request(1, 1)]));
    all.extend(at(&world, &mut replica, 1, world.proposal(8, &decoy)));
    for slot in 1..=7_u64 {
        let millis = slot * 1000;
        let request = world.request(0, slot);
        let told = world.verify(Message::Request(request.clone())).unwrap();
        all.extend(at(&world, &mut replica, millis, told));
        for wait in [200, 400, 600, 800] {
            all.extend(drive_at(&world, &mut replica, later(millis + wait), Input::Wake).1);
        }
        let batch = Arc::new(Batch::new(later(millis).wall, vec![request]));
        all.extend(at(&world, &mut replica, millis + 900, world.proposal(slot, &batch)));
        for sender in [0, 1, 3] {
            let commit = world.commit(sender, slot, batch.digest());
            all.extend(at(&world, &mut replica, millis + 902, commit));
        }
        let consumed = vec![(ClientId(0), RequestNumber(slot))];
        let done = Input::Executed { sequence: Sequence(slot), consumed };
        all.extend(drive_at(&world, &mut replica, later(millis + 903), done).1);
    }
    assert!(!leaves(&all), "the request timer alone sees nothing");
    assert!(finds_slow(&all), "seven requests in a row waited 0.9 s each, nothing else to do");
}

/// The floor is not there: four cheap proposals make good for each late one.
#[test]
fn f1_proposals_that_nobody_waits_for_do_not_make_good_for_late_ones() {
    let world = World::new(4);
    let mut replica = world.replica(2);
    drive(&world, &mut replica, Input::Start);
    let mut all = Outbox::new();
    let mut slot = 0;
    let mut order = |replica: &mut Replica, millis: u64, request: Request, all: &mut Outbox| {
        slot += 1;
        if slot % 4 == 1 && slot > 1 {
            let stable = world.verify(Message::Stable(world.stable(slot - 1, OTHER))).unwrap();
            all.extend(at(&world, replica, millis, stable));
        }
        let consumed = vec![(request.client(), request.number())];
        let batch = Arc::new(Batch::new(later(millis).wall, vec![request]));
        all.extend(at(&world, replica, millis, world.proposal(slot, &batch)));
        for sender in [0, 1, 3] {
            let commit = world.commit(sender, slot, batch.digest());
            all.extend(at(&world, replica, millis + 2, commit));
        }
        let done = Input::Executed { sequence: Sequence(slot), consumed };
        all.extend(drive_at(&world, replica, later(millis + 3), done).1);
    };
    for number in 1..=20_u64 {
        let millis = number * 1000;
        let request = world.request(0, number);
        let told = world.verify(Message::Request(request.clone())).unwrap();
        all.extend(at(&world, &mut replica, millis, told));
        for wait in [200, 400, 600, 800] {
            all.extend(drive_at(&world, &mut replica, later(millis + wait), Input::Wake).1);
        }
        order(&mut replica, millis + 900, request, &mut all);
        for decoy in 0..4 {
            // An accomplice's old request again and again.
            order(&mut replica, millis + 910 + 5 * decoy, world.request(1, 1), &mut all);
        }
    }
    assert!(!leaves(&all));
    assert!(finds_slow(&all), "every request of a correct client waited 0.9 s, twenty times");
}

/// The floor is not there: an old request every 100 ms starts the wait anew.
#[test]
fn f1_an_old_request_proposed_again_does_not_end_the_wait_of_another() {
    let world = World::new(4);
    let mut replica = world.replica(2);
    drive(&world, &mut replica, Input::Start);
    let mut all = Outbox::new();
    let mut slot = 0;
    let mut order = |replica: &mut Replica, millis: u64, request: Request, all: &mut Outbox| {
        slot += 1;
        if slot % 4 == 1 && slot > 1 {
            let stable = world.verify(Message::Stable(world.stable(slot - 1, OTHER))).unwrap();
            all.extend(at(&world, replica, millis, stable));
        }
        let consumed = vec![(request.client(), request.number())];
        let batch = Arc::new(Batch::new(later(millis).wall, vec![request]));
        all.extend(at(&world, replica, millis, world.proposal(slot, &batch)));
        for sender in [0, 1, 3] {
            let commit = world.commit(sender, slot, batch.digest());
            all.extend(at(&world, replica, millis + 2, commit));
        }
        let done = Input::Executed { sequence: Sequence(slot), consumed };
        all.extend(drive_at(&world, replica, later(millis + 3), done).1);
    };
    for number in 1..=20_u64 {
        let millis = number * 1000;
        let request = world.request(0, number);
        let told = world.verify(Message::Request(request.clone())).unwrap();
        all.extend(at(&world, &mut replica, millis, told));
        for wait in 1..=8 {
            order(&mut replica, millis + wait * 100, world.request(1, 1), &mut all);
        }
        order(&mut replica, millis + 900, request, &mut all);
    }
    assert!(!leaves(&all));
    assert!(finds_slow(&all), "every request of a correct client waited 0.9 s, twenty times");
}

/// Evidence is counted in pieces, not bytes; nothing in the footprint shows it.
#[test]
fn k6_evidence_about_one_replica_is_bounded_in_bytes() {
    let world = World::new(4);
    let mut replica = world.replica(2);
    drive(&world, &mut replica, Input::Start);
    for slot in 1..=64 {
        let operations = Operations::new([vec![7; 7 << 20]]).unwrap();
        let body = RequestBody { client: ClientId(0), number: RequestNumber(slot), operations };
        let batch = Arc::new(Batch::new(NOW.wall, vec![Request::new(body, Signature([0; 64]))]));
        let pre_prepare = world.sign(0, Statement::PrePrepare(vote(slot, batch.digest())));
        let evidence = Evidence::of_void(pre_prepare, Some(batch)).unwrap();
        let message = Message::Evidence(Arc::new(evidence));
        deliver(&world, &mut replica, world.verify(message).unwrap());
    }
    let bytes: usize = replica.evidence().iter().map(|it| wire::encode(it).len()).sum();
    assert_eq!(replica.footprint().evidence_bytes, bytes);
    assert!(bytes < 64 << 20, "{bytes} bytes");
}

/// One harmless wrong vote uses up what is shown of its sender, and the real equivocation later is
/// shown by nobody.
#[test]
fn l9_one_vote_is_shown_once() {
    let world = World::new(4);
    let mut replica = world.replica(2);
    drive(&world, &mut replica, Input::Start);
    let batch = world.batch(&[1]);
    let mut all = Outbox::new();
    let shown = |out: &Outbox| {
        let relays = out.iter().filter(|action| {
            matches!(action, Action::Relay { message: Message::Statement(signed), .. } if signed.sender == ReplicaId(3))
        });
        relays.count()
    };
    all.extend(deliver(&world, &mut replica, world.proposal(1, &batch)).1);
    all.extend(deliver(&world, &mut replica, world.prepare(3, 1, OTHER)).1);
    all.extend(deliver(&world, &mut replica, world.prepare(1, 1, batch.digest())).1);
    for sender in [0, 1] {
        all.extend(deliver(&world, &mut replica, world.commit(sender, 1, batch.digest())).1);
    }
    let second = world.batch(&[2]);
    let mut all = Outbox::new();
    all.extend(deliver(&world, &mut replica, world.proposal(2, &second)).1);
    all.extend(deliver(&world, &mut replica, world.prepare(3, 2, OTHER)).1);
    assert_eq!(shown(&all), 1, "the equivocation in slot 2 is not shown");
}

/// Outside of the four parts: a replica that repairs a diverged state joins a view change meanwhile and
/// never says its ViewChange.
#[test]
fn c5_a_view_change_joined_while_diverged_is_said_once_the_state_is_right() {
    let world = World::new(4);
    let mut replica = world.replica(2);
    drive(&world, &mut replica, Input::Start);
    for slot in 1..=4 {
        let batch = world.batch(&[slot]);
        deliver(&world, &mut replica, world.proposal(slot, &batch));
        for sender in [0, 1, 3] {
            deliver(&world, &mut replica, world.commit(sender, slot, batch.digest()));
        }
        let done = Input::Executed { sequence: Sequence(slot), consumed: vec![] };
        drive(&world, &mut replica, done);
    }
    drive(
        &world,
        &mut replica,
        Input::Snapshotted { sequence: Sequence(4), digest: Digest([1; 32]) },
    );
    let stable = world.verify(Message::Stable(world.stable(4, OTHER))).unwrap();
    deliver(&world, &mut replica, stable);
    let mut all = Outbox::new();
    for sender in [1, 3] {
        all.extend(deliver(&world, &mut replica, world.plain_change(sender, 1)).1);
    }
    assert!(replica.is_changing(), "it has left its view, durably");
    let restored = Input::Restored { sequence: Sequence(4), digest: OTHER, consumed: vec![] };
    all.extend(drive(&world, &mut replica, restored).1);
    assert!(leaves(&all), "Q may need it");
}
