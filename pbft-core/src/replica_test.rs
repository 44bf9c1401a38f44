use alloc::vec;

use super::*;
use crate::certificate::{CommitCertificate, Signatures, StableProof};
use crate::message::{Checkpoint, Status};
use crate::testing::*;
use crate::types::Digest;

const OTHER: Digest = Digest([9; 32]);

/// A backup that has accepted a proposal for slot 1.
fn backup_with_proposal(world: &World) -> (Replica, Arc<Batch>) {
    let mut replica = world.replica(1);
    let batch = world.batch(&[1]);
    let (verdict, out) = deliver(world, &mut replica, world.proposal(1, &batch));
    assert_eq!(verdict, Verdict::Accepted);
    assert_eq!(prepares(&out), 1);
    (replica, batch)
}

/// SEEDS P3: at n = 4 a backup is prepared after exactly two Prepares, its own included.
#[test]
fn p3_prepared_after_two_prepares_at_a_backup_and_committed_after_three_commits() {
    let world = World::new(4);
    let (mut replica, batch) = backup_with_proposal(&world);
    let digest = batch.digest();
    let (_, out) = deliver(&world, &mut replica, world.prepare(2, 1, digest));
    assert_eq!(commits(&out), 1);
    // The own Commit counts; with one more there are two, with the third it is decided.
    let (_, out) = deliver(&world, &mut replica, world.commit(2, 1, digest));
    assert_eq!(executed(&out), vec![]);
    let (_, out) = deliver(&world, &mut replica, world.commit(0, 1, digest));
    assert_eq!(executed(&out), vec![1]);
}

/// SEEDS P3: the primary needs two Prepares of backups; its PrePrepare is its word.
#[test]
fn p3_the_primary_is_prepared_by_two_backups_and_never_prepares() {
    let world = World::new(4);
    let mut primary = world.replica(0);
    let request = world.verify(Message::Request(world.request(0, 1))).unwrap();
    let (_, out) = deliver(&world, &mut primary, request);
    assert_eq!(says(&out, |said| matches!(said, Statement::PrePrepare(_))), 1);
    assert_eq!(prepares(&out), 0);
    let digest = Batch::new(NOW.wall, vec![world.request(0, 1)]).digest();
    let (_, out) = deliver(&world, &mut primary, world.prepare(1, 1, digest));
    assert_eq!(commits(&out), 0);
    let (_, out) = deliver(&world, &mut primary, world.prepare(3, 1, digest));
    assert_eq!(commits(&out), 1);
}

#[test]
fn a2_a_vote_repeated_counts_once() {
    let world = World::new(7);
    let (mut replica, batch) = backup_with_proposal(&world);
    let digest = batch.digest();
    for _ in 0..5 {
        let (_, out) = deliver(&world, &mut replica, world.prepare(2, 1, digest));
        assert_eq!(commits(&out), 0);
        let (_, out) = deliver(&world, &mut replica, world.commit(2, 1, digest));
        assert_eq!(executed(&out), vec![]);
    }
    let slot = replica.window().slot(Sequence(1)).unwrap();
    assert!(slot.prepared.is_none() && slot.committed.is_none());
}

#[test]
fn a6_prepares_for_another_digest_or_slot_do_not_add_up() {
    let world = World::new(4);
    let (mut replica, batch) = backup_with_proposal(&world);
    for vote in [world.prepare(2, 1, OTHER), world.prepare(3, 2, batch.digest())] {
        let (_, out) = deliver(&world, &mut replica, vote);
        assert_eq!(commits(&out), 0);
    }
}

#[test]
fn a6_commits_for_different_digests_do_not_add_up() {
    let world = World::new(4);
    let (mut replica, batch) = backup_with_proposal(&world);
    for commit in
        [world.commit(0, 1, batch.digest()), world.commit(2, 1, OTHER), world.commit(3, 1, OTHER)]
    {
        let (_, out) = deliver(&world, &mut replica, commit);
        assert_eq!(executed(&out), vec![]);
    }
    assert!(replica.window().slot(Sequence(1)).unwrap().committed.is_none());
}

#[test]
fn a8_the_first_of_two_proposals_wins_and_the_pair_is_evidence() {
    let world = World::new(4);
    let (mut replica, first) = backup_with_proposal(&world);
    let second = world.batch(&[2]);
    let (verdict, out) = deliver(&world, &mut replica, world.proposal(1, &second));
    assert!(matches!(verdict, Verdict::Refused(Misbehavior::Equivocation(_))), "{verdict:?}");
    assert_eq!(prepares(&out), 0);
    let [Action::Accuse(evidence), Action::Relay { to: To::All, .. }, ..] = &out[..] else {
        panic!("{out:?}")
    };
    assert_eq!(says(&out, |statement| matches!(statement, Statement::ViewChange(_))), 1);
    assert!(evidence.convicts(&world.cluster, &world.verifier));
    assert_eq!(evidence.subject().replica, ReplicaId(0));
    let accepted = replica.window().slot(Sequence(1)).unwrap().accepted.clone().unwrap();
    assert_eq!(accepted.vote.digest, first.digest());
    // Said once, however often it is repeated.
    let (_, out) = deliver(&world, &mut replica, world.proposal(1, &second));
    assert_eq!(out, vec![]);
}

#[test]
fn a5_a_vote_is_final_and_a_second_one_is_evidence() {
    let world = World::new(4);
    let (mut replica, batch) = backup_with_proposal(&world);
    deliver(&world, &mut replica, world.commit(2, 1, batch.digest()));
    let (verdict, out) = deliver(&world, &mut replica, world.commit(2, 1, OTHER));
    assert!(matches!(verdict, Verdict::Refused(Misbehavior::Equivocation(_))));
    assert!(matches!(out[..], [Action::Accuse(_), Action::Relay { to: To::All, .. }]));
    let (_, out) = deliver(&world, &mut replica, world.commit(0, 1, batch.digest()));
    assert_eq!(executed(&out), vec![]);
    let (_, out) = deliver(&world, &mut replica, world.commit(3, 1, batch.digest()));
    assert_eq!(executed(&out), vec![1], "the first vote still counts");
}

#[test]
fn a11_commits_that_come_first_are_kept_and_the_body_may_come_last() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    let batch = world.batch(&[1]);
    for sender in [0, 2, 3] {
        let (_, out) = deliver(&world, &mut replica, world.commit(sender, 1, batch.digest()));
        assert_eq!(executed(&out), vec![]);
    }
    let (_, out) = deliver(&world, &mut replica, world.proposal(1, &batch));
    assert_eq!(executed(&out), vec![1]);
}

#[test]
fn c1_a_proposal_above_the_window_is_dropped_and_leaves_nothing() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    for sequence in [17, 1000, Sequence::MAX.0] {
        let (verdict, out) =
            deliver(&world, &mut replica, world.proposal(sequence, &world.batch(&[1])));
        assert_eq!(verdict, Verdict::Ignored(Reason::AboveWindow));
        assert_eq!(out, vec![]);
    }
    assert_eq!(replica.window().slots().count(), 0);
}

/// PITFALLS C2: one proposal per slot in (h + L, h + 2L] is held, and voted on when h moves.
#[test]
fn c2_a_proposal_one_window_ahead_waits_for_h() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    let batch = world.batch(&[1]);
    let (verdict, out) = deliver(&world, &mut replica, world.proposal(9, &batch));
    assert_eq!((verdict, out), (Verdict::Accepted, vec![]));
    let (verdict, _) = deliver(&world, &mut replica, world.proposal(9, &world.batch(&[2])));
    assert_eq!(verdict, Verdict::Ignored(Reason::AboveWindow));
    let mut said = 0;
    for sender in [0, 2, 3] {
        let (_, out) = deliver(&world, &mut replica, world.checkpoint(sender, 4, OTHER));
        said += prepares(&out);
    }
    assert_eq!((replica.summary().stable, said), (Sequence(4), 1));
}

#[test]
fn k1_votes_for_far_slots_and_other_views_take_no_memory() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    for sequence in 1..200 {
        deliver(&world, &mut replica, world.prepare(2, sequence, OTHER));
        deliver(&world, &mut replica, world.commit(3, sequence, OTHER));
    }
    for view in 1..50 {
        let vote = Vote { view: View(view), sequence: Sequence(1), digest: OTHER };
        let message = world.statement(3, Statement::Commit(vote));
        assert_eq!(deliver(&world, &mut replica, message).0, Verdict::Ignored(Reason::OtherView));
    }
    // Two windows of eight slots, whatever is sent.
    assert_eq!(replica.window().slots().count(), 16);
}

#[test]
fn k1_a_sender_keeps_only_its_newest_checkpoints_here() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    for index in 1..100 {
        deliver(&world, &mut replica, world.checkpoint(2, index * 4, OTHER));
    }
    assert_eq!(replica.checkpoints.kept(), 3, "L / K + 1");
}

#[test]
fn c4_a_checkpoint_is_stable_on_a_quorum_of_equal_digests_only() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    deliver(&world, &mut replica, world.checkpoint(0, 4, OTHER));
    deliver(&world, &mut replica, world.checkpoint(2, 4, Digest([8; 32])));
    deliver(&world, &mut replica, world.checkpoint(2, 4, OTHER));
    assert_eq!(replica.summary().stable, Sequence(0));
    let (_, out) = deliver(&world, &mut replica, world.checkpoint(3, 4, OTHER));
    assert_eq!(replica.summary().stable, Sequence(0), "two equal of three: {out:?}");
}

/// Orders slots 1 to `count` at replica 1 and reports them executed.
fn run_to(world: &World, replica: &mut Replica, count: u64) -> Outbox {
    let mut all = Outbox::new();
    for sequence in 1..=count {
        let batch = world.batch(&[sequence]);
        let digest = batch.digest();
        let mut messages =
            vec![world.proposal(sequence, &batch), world.prepare(2, sequence, digest)];
        messages.extend([0, 2].map(|sender| world.commit(sender, sequence, digest)));
        for message in messages {
            all.extend(deliver(world, replica, message).1);
        }
        let consumed = vec![(ClientId(0), RequestNumber(sequence))];
        let done = Input::Executed { sequence: Sequence(sequence), consumed };
        all.extend(drive(world, replica, done).1);
    }
    all
}

#[test]
fn c5_a_state_that_differs_from_the_stable_one_is_repaired_and_says_nothing_meanwhile() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    run_to(&world, &mut replica, 4);
    let own = Input::Snapshotted { sequence: Sequence(4), digest: Digest([1; 32]) };
    drive(&world, &mut replica, own);
    for sender in [0, 2] {
        deliver(&world, &mut replica, world.checkpoint(sender, 4, OTHER));
    }
    let (_, out) = deliver(&world, &mut replica, world.checkpoint(3, 4, OTHER));
    let own = Digest([1; 32]);
    let (after, sequence) = (Sequence(0), Sequence(4));
    assert!(out.contains(&Action::Diverged { after, sequence, own, agreed: OTHER }), "{out:?}");
    let asked = |action: &Action| matches!(action, Action::Restore { proof } if proof.sequence() == Sequence(4));
    assert!(out.iter().any(asked), "{out:?}");
    // It holds its votes and its answers back.
    let (_, out) = deliver(&world, &mut replica, world.proposal(5, &world.batch(&[5])));
    assert_eq!((prepares(&out), commits(&out)), (0, 0));
    let old = world.verify(Message::Request(world.request(0, 1))).unwrap();
    let (_, out) = deliver(&world, &mut replica, old);
    assert!(!out.iter().any(|action| matches!(action, Action::Answer { .. })), "{out:?}");
    // Restored, it votes again, and says no second Checkpoint for that slot.
    let restored = Input::Restored { sequence: Sequence(4), digest: OTHER, consumed: vec![] };
    let (_, out) = drive(&world, &mut replica, restored);
    assert_eq!(says(&out, |said| matches!(said, Statement::Checkpoint(_))), 0);
    let (_, out) = deliver(&world, &mut replica, world.proposal(6, &world.batch(&[6])));
    assert_eq!(prepares(&out), 1);
}

/// What was said of a wrong state cannot be said otherwise later: that would convict an honest replica.
#[test]
fn c5_a_checkpoint_said_of_a_wrong_state_is_not_said_again_of_the_right_one() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    run_to(&world, &mut replica, 8);
    let checkpoints = |out: &Outbox| says(out, |said| matches!(said, Statement::Checkpoint(_)));
    for (slot, said) in [(4, 1), (8, 1)] {
        let own = Input::Snapshotted { sequence: Sequence(slot), digest: Digest([1; 32]) };
        assert_eq!(checkpoints(&drive(&world, &mut replica, own).1), said);
    }
    for sender in [0, 2, 3] {
        deliver(&world, &mut replica, world.checkpoint(sender, 4, OTHER));
    }
    let restored = Input::Restored { sequence: Sequence(4), digest: OTHER, consumed: vec![] };
    let (_, out) = drive(&world, &mut replica, restored);
    assert_eq!(executed(&out), [5, 6, 7, 8], "from the right state on");
    for slot in 5..=8 {
        let done = Input::Executed { sequence: Sequence(slot), consumed: vec![] };
        drive(&world, &mut replica, done);
    }
    let right = Input::Snapshotted { sequence: Sequence(8), digest: Digest([2; 32]) };
    assert_eq!(checkpoints(&drive(&world, &mut replica, right).1), 0);
}

#[test]
fn checkpoints_move_the_window_and_old_slots_become_history() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    let out = run_to(&world, &mut replica, 4);
    assert!(out.contains(&Action::Snapshot { sequence: Sequence(4) }));
    drive(&world, &mut replica, Input::Snapshotted { sequence: Sequence(4), digest: OTHER });
    deliver(&world, &mut replica, world.checkpoint(0, 4, OTHER));
    let (_, out) = deliver(&world, &mut replica, world.checkpoint(2, 4, OTHER));
    assert!(matches!(persisted(&out)[..], [Record::Stable(_)]));
    assert!(out.contains(&Action::Discard { below: Sequence(4) }));
    assert_eq!(replica.window().slots().count(), 0);
    // A laggard's status is answered from what is kept below h.
    let later = Time { instant: NOW.instant.after(core::time::Duration::from_secs(1)), ..NOW };
    let laggard = world.replica(3);
    let mut said = Outbox::new();
    laggard.clone().step(NOW, Input::Start, &mut said);
    let Some(Action::Say { statement, .. }) = said.first() else { panic!("{said:?}") };
    let mut out = Outbox::new();
    replica.step(later, Input::Deliver(world.statement(3, statement.clone())), &mut out);
    let certificates = out.iter().filter(|action| {
        matches!(
            action,
            Action::Relay {
                to: To::One(ReplicaId(3)),
                message: Message::Committed { batch: Some(_), .. }
            }
        )
    });
    assert_eq!(certificates.count(), 4);
    assert!(
        out.iter()
            .any(|action| matches!(action, Action::Relay { message: Message::Stable(_), .. }))
    );
}

/// PROTOCOL section 4: the Commit waits for the prepared certificate, the Checkpoint for its record.
#[test]
fn h1_a_commit_is_held_until_its_certificate_is_durable() {
    let world = World::new(4);
    let (mut replica, batch) = backup_with_proposal(&world);
    let mut out = Outbox::new();
    replica.step(NOW, Input::Deliver(world.prepare(2, 1, batch.digest())), &mut out);
    let [Action::Persist { id, record: Record::Prepared { .. } }] = out[..] else {
        panic!("{out:?}")
    };
    out.clear();
    let verdict = replica.step(NOW, Input::Durable(WriteId(id.0 + 1)), &mut out);
    assert_eq!((verdict, out.len()), (Verdict::Ignored(Reason::Unexpected), 0));
    replica.step(NOW, Input::Durable(id), &mut out);
    assert_eq!(commits(&out), 1);
}

#[test]
fn g10_a_replica_that_lost_its_store_executes_and_promises_nothing() {
    let world = World::new(4);
    let cluster = Arc::clone(&world.cluster);
    let mut replica = Replica::with_lost_store(ReplicaId(1), cluster, Limits::default()).unwrap();
    let mut out = run_to(&world, &mut replica, 3);
    // Its own Commit is missing, so it needs a third of the others.
    for sequence in 1..=3 {
        let digest = world.batch(&[sequence]).digest();
        out.extend(deliver(&world, &mut replica, world.commit(3, sequence, digest)).1);
    }
    assert_eq!(executed(&out), vec![1, 2, 3]);
    assert_eq!(says(&out, |statement| !matches!(statement, Statement::Status(_))), 0);
}

#[test]
fn l3_a_proposal_with_an_absurd_time_gets_no_prepare_but_can_still_be_decided() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    let batch = Arc::new(Batch::new(crate::types::WallTime(1), vec![world.request(0, 1)]));
    let (verdict, out) = deliver(&world, &mut replica, world.proposal(1, &batch));
    assert_eq!((verdict, prepares(&out)), (Verdict::Accepted, 0));
    for sender in [2, 3] {
        deliver(&world, &mut replica, world.prepare(sender, 1, batch.digest()));
    }
    deliver(&world, &mut replica, world.commit(2, 1, batch.digest()));
    let (_, out) = deliver(&world, &mut replica, world.commit(3, 1, batch.digest()));
    assert_eq!(executed(&out), vec![1]);
}

#[test]
fn c12_a_certificate_with_its_body_repairs_a_slot_never_heard_of() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    let batch = world.batch(&[1]);
    let statement = Statement::Commit(vote(1, batch.digest()));
    let signatures = [0, 2, 3].map(|sender| {
        let signed = world.sign(sender, statement.clone());
        (signed.sender, signed.signature)
    });
    let certificate =
        CommitCertificate { vote: vote(1, batch.digest()), commits: Signatures::new(signatures) };
    let message = Message::Committed { certificate, batch: Some(batch) };
    let (_, out) = deliver(&world, &mut replica, world.verify(message.clone()).unwrap());
    assert_eq!(executed(&out), vec![1]);
    let done = Input::Executed { sequence: Sequence(1), consumed: vec![] };
    drive(&world, &mut replica, done);
    let (verdict, _) = deliver(&world, &mut replica, world.verify(message).unwrap());
    assert_eq!(verdict, Verdict::Ignored(Reason::BelowWindow));
}

#[test]
fn a_laggard_adopts_a_stable_proof_and_votes_above_it_before_it_has_executed() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    let checkpoint = Checkpoint { sequence: Sequence(8), digest: OTHER };
    let signatures = [0, 2, 3].map(|sender| {
        let signed = world.sign(sender, Statement::Checkpoint(checkpoint));
        (signed.sender, signed.signature)
    });
    let proof = StableProof { checkpoint, signatures: Signatures::new(signatures) };
    deliver(&world, &mut replica, world.verify(Message::Stable(proof)).unwrap());
    let (_, out) = deliver(&world, &mut replica, world.proposal(9, &world.batch(&[9])));
    assert_eq!((prepares(&out), replica.summary().executed), (1, Sequence(0)));
}

#[test]
fn b8_a_backup_relays_a_request_once_and_again_only_when_asked_again() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    let request = world.request(0, 1);
    let message = || Input::Deliver(world.verify(Message::Request(request.clone())).unwrap());
    let relayed = |replica: &mut Replica, millis| {
        let instant = NOW.instant.after(core::time::Duration::from_millis(millis));
        let mut out = Outbox::new();
        replica.step(Time { instant, ..NOW }, message(), &mut out);
        out.iter()
            .filter(|action| matches!(action, Action::Relay { to: To::One(ReplicaId(0)), .. }))
            .count()
    };
    assert_eq!(relayed(&mut replica, 0), 1);
    assert_eq!(relayed(&mut replica, 10), 0);
    assert_eq!(relayed(&mut replica, 500), 1);
}

#[test]
fn b6_a_consumed_number_is_answered_again_and_not_ordered_again() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    run_to(&world, &mut replica, 1);
    let request = world.verify(Message::Request(world.request(0, 1))).unwrap();
    let (verdict, out) = deliver(&world, &mut replica, request);
    assert_eq!(verdict, Verdict::Ignored(Reason::Consumed));
    assert!(matches!(out[..], [Action::Answer { client: ClientId(0), .. }]));
}

#[test]
fn k5_a_client_has_at_most_two_windows_of_requests_waiting() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    for number in 1..=16 {
        let request = world.verify(Message::Request(world.request(0, number))).unwrap();
        assert_eq!(deliver(&world, &mut replica, request).0, Verdict::Accepted);
    }
    let request = world.verify(Message::Request(world.request(0, 17))).unwrap();
    let (verdict, out) = deliver(&world, &mut replica, request);
    assert_eq!(verdict, Verdict::Ignored(Reason::Busy));
    assert!(matches!(out[..], [Action::Busy { .. }]));
    let request = world.verify(Message::Request(world.request(1, 1))).unwrap();
    assert_eq!(deliver(&world, &mut replica, request).0, Verdict::Accepted);
}

#[test]
fn the_primary_stops_at_its_own_high_watermark() {
    let world = World::new(4);
    let limits = Limits { slots_in_flight_max: 100, ..Limits::default() };
    let cluster = Arc::clone(&world.cluster);
    let mut primary = Replica::new(ReplicaId(0), cluster, limits).unwrap();
    let mut proposed = 0;
    for number in 1..=8 {
        for client in 0..2 {
            let message = Message::Request(world.request(client, number));
            let (_, out) = deliver(&world, &mut primary, world.verify(message).unwrap());
            let votes = out.iter().filter_map(|action| match action {
                Action::Say { statement: Statement::PrePrepare(vote), .. } => Some(*vote),
                _ => None,
            });
            for vote in votes {
                proposed += 1;
                for sender in 1..4 {
                    let commit = world.commit(sender, vote.sequence.0, vote.digest);
                    deliver(&world, &mut primary, commit);
                }
                let consumed = vec![(ClientId(client), RequestNumber(number))];
                let done = Input::Executed { sequence: vote.sequence, consumed };
                drive(&world, &mut primary, done);
            }
        }
    }
    assert_eq!(proposed, 8, "h + L");
}

#[test]
fn while_slots_are_under_way_a_further_one_carries_at_least_as_many_requests_as_they_do() {
    let world = World::new(4);
    let limits = Limits { slots_in_flight_max: 100, ..Limits::default() };
    let mut primary = Replica::new(ReplicaId(0), Arc::clone(&world.cluster), limits).unwrap();
    let mut carried = alloc::vec::Vec::new();
    for number in 1..=8 {
        let message = Message::Request(world.request(0, number));
        let (_, out) = deliver(&world, &mut primary, world.verify(message).unwrap());
        carried.extend(out.iter().filter_map(|action| match action {
            Action::Say { batch: Some(batch), .. } => Some(batch.requests().len()),
            _ => None,
        }));
    }
    assert_eq!(carried, [1, 1, 2, 4]);
}

/// A checkpoint may be stable before the last Commit of its slot is heard; it must not need repair.
#[test]
fn a_commit_that_comes_after_the_stable_checkpoint_still_decides_its_slot() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    run_to(&world, &mut replica, 3);
    let batch = world.batch(&[4]);
    deliver(&world, &mut replica, world.proposal(4, &batch));
    deliver(&world, &mut replica, world.commit(0, 4, batch.digest()));
    deliver(&world, &mut replica, world.commit(2, 4, batch.digest()));
    for sender in [0, 2, 3] {
        deliver(&world, &mut replica, world.checkpoint(sender, 4, OTHER));
    }
    assert_eq!(replica.summary().stable, Sequence(4));
    let (_, out) = deliver(&world, &mut replica, world.commit(3, 4, batch.digest()));
    assert_eq!(executed(&out), vec![4]);
}

/// A request that only this backup ever saw, and whose client gave up, does not keep its place for ever.
#[test]
fn k5_requests_that_became_stale_give_their_place_back() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    for number in 1..=16 {
        let request = world.verify(Message::Request(world.request(0, number))).unwrap();
        deliver(&world, &mut replica, request);
    }
    let batch = Arc::new(Batch::new(NOW.wall, vec![world.request(0, 20)]));
    deliver(&world, &mut replica, world.proposal(1, &batch));
    for sender in [0, 2, 3] {
        deliver(&world, &mut replica, world.commit(sender, 1, batch.digest()));
    }
    let consumed = vec![(ClientId(0), RequestNumber(20))];
    drive(&world, &mut replica, Input::Executed { sequence: Sequence(1), consumed });
    assert_eq!(replica.summary().pending, 4, "13 to 16: W is 8");
}

/// PITFALLS F1: f + 1 that find the primary slow leave its view together; one that says so moves nobody.
#[test]
fn f1_those_who_find_the_primary_slow_leave_together_and_one_alone_moves_nobody() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    let slow = |sender: u32, view: u64| {
        let status = Status {
            view: View(view),
            voted_view: View(view),
            slow_primary: true,
            ..Status::default()
        };
        world.statement(sender, Statement::Status(status))
    };
    for _ in 0..3 {
        deliver(&world, &mut replica, slow(2, 0));
    }
    deliver(&world, &mut replica, slow(3, 1));
    assert!(!replica.is_changing(), "one finder, and one who speaks of another view");
    let (_, out) = deliver(&world, &mut replica, slow(3, 0));
    assert_eq!(says(&out, |statement| matches!(statement, Statement::ViewChange(_))), 1);
}

/// PITFALLS G4, found by the simulator: the Checkpoint was said in an earlier life, and its snapshot may be gone.
#[test]
fn g4_nothing_is_dropped_for_a_snapshot_of_an_earlier_life() {
    let world = World::new(4);
    let digest = Digest([4; 32]);
    let own = Record::Checkpoint(Checkpoint { sequence: Sequence(4), digest });
    let cluster = Arc::clone(&world.cluster);
    let mut replica = Replica::recover(ReplicaId(1), cluster, Limits::default(), [own]).unwrap();
    let dropped = |out: &Outbox| out.iter().any(|it| matches!(it, Action::Discard { .. }));
    let proof = world.verify(Message::Stable(world.stable(4, digest))).unwrap();
    assert!(!dropped(&deliver(&world, &mut replica, proof).1));
    let restored = Input::Restored { sequence: Sequence(4), digest, consumed: vec![] };
    assert!(dropped(&drive(&world, &mut replica, restored).1), "now it is there");
}
