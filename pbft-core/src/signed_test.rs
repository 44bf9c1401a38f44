use alloc::vec;

use super::*;
use crate::certificate::{CommitCertificate, StableProof};
use crate::message::{Checkpoint, RequestBody};
use crate::testing::*;
use crate::types::RequestNumber;

fn commit_certificate(world: &World, digest: Digest, signers: &[u32]) -> CommitCertificate {
    let vote = vote(1, digest);
    let signatures = signers.iter().map(|sender| {
        let signed = world.sign(*sender, Statement::Commit(vote));
        (signed.sender, signed.signature)
    });
    CommitCertificate { vote, commits: Signatures::raw(signatures.collect()) }
}

fn certificate(world: &World, signers: &[u32]) -> Result<Verified, Forgery> {
    let certificate = commit_certificate(world, Digest([9; 32]), signers);
    world.verify(Message::Committed { certificate, batch: None })
}

#[test]
fn a2_a_certificate_lists_a_quorum_of_distinct_members_in_order() {
    let world = World::new(4);
    assert!(certificate(&world, &[0, 1, 3]).is_ok());
    for signers in [&[0, 1][..], &[0, 1, 1], &[0, 0, 1], &[1, 0, 2], &[0, 1, 2, 3], &[]] {
        assert_eq!(certificate(&world, signers), Err(Forgery::Signers), "{signers:?}");
    }
    let foreign = certificate(&world, &[0, 1, 4]);
    assert_eq!(foreign, Err(Forgery::UnknownReplica(ReplicaId(4))));
}

#[test]
fn a1_a_certificate_of_2f_plus_1_is_too_small_when_n_is_not_3f_plus_1() {
    let world = World::new(6);
    assert_eq!(certificate(&world, &[0, 1, 2]), Err(Forgery::Signers));
    assert!(certificate(&world, &[0, 1, 2, 3]).is_ok());
}

#[test]
fn a7_a_body_that_does_not_hash_to_the_signed_digest_is_void() {
    let world = World::new(4);
    let batch = world.batch(&[1]);
    let pre_prepare = world.sign(0, Statement::PrePrepare(vote(1, batch.digest())));
    let swapped = Message::Proposal { pre_prepare, batch: world.batch(&[2]) };
    assert_eq!(world.verify(swapped), Err(Forgery::BodyDigest));
    let certificate = commit_certificate(&world, batch.digest(), &[0, 1, 2]);
    let swapped = Message::Committed { certificate, batch: Some(world.batch(&[2])) };
    assert_eq!(world.verify(swapped), Err(Forgery::BodyDigest));
}

/// The digest covers the client signatures, so a relay cannot spoil a certified body.
#[test]
fn a7_the_batch_digest_covers_the_client_signatures() {
    let world = World::new(4);
    let request = world.request(0, 1);
    let mut spoiled = *request.signature();
    spoiled.0[0] ^= 1;
    let body = RequestBody {
        client: request.client(),
        number: request.number(),
        operations: request.operations().clone(),
    };
    let other = Request::new(body, spoiled);
    assert_eq!(other.digest(), request.digest(), "the identity excludes the signature (B4)");
    assert_ne!(
        Batch::new(NOW.wall, vec![other]).digest(),
        Batch::new(NOW.wall, vec![request]).digest()
    );
}

#[test]
fn a9_only_the_primary_of_the_view_proposes_and_it_never_prepares() {
    let world = World::new(4);
    let batch = world.batch(&[1]);
    let vote = vote(1, batch.digest());
    let pre_prepare = world.sign(1, Statement::PrePrepare(vote));
    let by_backup = world.verify(Message::Proposal { pre_prepare, batch });
    assert_eq!(by_backup, Err(Forgery::NotPrimary(ReplicaId(1))));
    let prepare = world.verify(Message::Statement(world.sign(0, Statement::Prepare(vote))));
    assert_eq!(prepare, Err(Forgery::PrimaryPrepared(ReplicaId(0))));
    // In view 1 the places change.
    let vote = Vote { view: View(1), ..vote };
    assert!(world.verify(Message::Statement(world.sign(1, Statement::PrePrepare(vote)))).is_ok());
    assert!(world.verify(Message::Statement(world.sign(0, Statement::Prepare(vote)))).is_ok());
}

#[test]
fn b3_one_request_with_a_forged_signature_voids_the_proposal() {
    let world = World::new(4);
    let good = world.request(0, 1);
    let operations = crate::message::Operations::new([b"forged"]).unwrap();
    let body = RequestBody { client: ClientId(1), number: RequestNumber(1), operations };
    let forged = Request::new(body, *good.signature());
    let batch = Arc::new(Batch::new(NOW.wall, vec![good, forged]));
    let pre_prepare = world.sign(0, Statement::PrePrepare(vote(1, batch.digest())));
    let verdict = world.verify(Message::Proposal { pre_prepare, batch });
    assert_eq!(verdict, Err(Forgery::Signature(Author::Client(ClientId(1)))));
}

/// Those of a batch are judged together, and each for itself.
#[test]
fn b3_a_forged_signature_is_found_wherever_it_stands_and_nothing_else_is_blamed() {
    let world = World::new(4);
    for at in 0..4 {
        let mut requests: Vec<Request> = (1..=4).map(|number| world.request(0, number)).collect();
        let operations = crate::message::Operations::new([b"forged"]).unwrap();
        let body = RequestBody { client: ClientId(1), number: RequestNumber(1), operations };
        requests[at] = Request::new(body, *requests[at].signature());
        let mut cache = Cache::default();
        let (cluster, verifier) = (&*world.cluster, &world.verifier);
        let mut door = Door { cluster, verifier, cache: &mut cache };
        let verdict = door.requests(&requests);
        assert_eq!(verdict, Err(Forgery::Signature(Author::Client(ClientId(1)))), "{at}");
        assert_eq!(cache.young.len(), 3, "what holds is remembered, and nothing else");
    }
}

#[test]
fn i1_a_verdict_that_is_missing_is_no() {
    struct Short;
    impl Verifier for Short {
        fn verify(&self, _: Author, _: &[u8], _: &Signature) -> bool {
            true
        }
        fn verify_each(&self, claims: &[Claim<'_>]) -> Vec<bool> {
            vec![true; claims.len() - 1]
        }
    }
    let world = World::new(4);
    let cluster = &*world.cluster;
    let mut door = Door { cluster, verifier: &Short, cache: &mut Cache::default() };
    let verdict = door.requests(&[world.request(0, 1), world.request(1, 1)]);
    assert_eq!(verdict, Err(Forgery::Signature(Author::Client(ClientId(1)))));
}

#[test]
fn b16_empty_and_oversized_batches_and_requests_are_void() {
    let world = World::new(4);
    let proposal = |batch: Batch| {
        let pre_prepare = world.sign(0, Statement::PrePrepare(vote(1, batch.digest())));
        world.verify(Message::Proposal { pre_prepare, batch: Arc::new(batch) })
    };
    let requests = |count| (1..=count).map(|number| world.request(0, number)).collect();
    assert_eq!(proposal(Batch::new(NOW.wall, vec![])), Err(Forgery::BatchBounds));
    assert!(proposal(Batch::new(NOW.wall, requests(4))).is_ok());
    assert_eq!(proposal(Batch::new(NOW.wall, requests(5))), Err(Forgery::BatchBounds));
    let long = vec![0; (64 << 10) + 1];
    for request in [world.request(0, 0), world.request(0, 1 << 63), world.request_for(0, 1, &long)]
    {
        assert_eq!(world.verify(Message::Request(request)), Err(Forgery::RequestBounds));
    }
    let stranger = RequestBody {
        client: ClientId(2),
        number: RequestNumber(1),
        operations: world.request(0, 1).operations().clone(),
    };
    let stranger = stranger.sign(&world.cluster, &client_key(2));
    let verdict = world.verify(Message::Request(stranger));
    assert_eq!(verdict, Err(Forgery::UnknownClient(ClientId(2))));
}

#[test]
fn c1_a_slot_that_can_never_be_ordered_is_void() {
    let world = World::new(4);
    for sequence in [0, Sequence::MAX.0 + 1, u64::MAX] {
        let vote = vote(sequence, Digest([9; 32]));
        for (sender, statement) in [
            (0, Statement::PrePrepare(vote)),
            (1, Statement::Prepare(vote)),
            (2, Statement::Commit(vote)),
        ] {
            let verdict = world.verify(Message::Statement(world.sign(sender, statement)));
            assert_eq!(verdict, Err(Forgery::Slot(Sequence(sequence))));
        }
    }
}

#[test]
fn the_null_digest_is_void_in_view_0_and_checkpoints_fall_on_the_interval() {
    let world = World::new(4);
    let null = world.sign(1, Statement::Prepare(vote(1, Digest::NULL)));
    assert_eq!(world.verify(Message::Statement(null)), Err(Forgery::NullDigest));
    let checkpoint = Checkpoint { sequence: Sequence(5), digest: Digest([1; 32]) };
    let signed = world.sign(1, Statement::Checkpoint(checkpoint));
    assert_eq!(world.verify(Message::Statement(signed)), Err(Forgery::CheckpointSlot(Sequence(5))));
    let proof = StableProof { checkpoint, signatures: Signatures::default() };
    assert_eq!(world.verify(Message::Stable(proof)), Err(Forgery::CheckpointSlot(Sequence(5))));
}

/// A signature means one thing: kind, cluster, sender and every field are under it.
#[test]
fn i5_a_signature_is_good_for_one_kind_one_cluster_and_one_sender() {
    let world = World::new(4);
    let vote = vote(1, Digest([9; 32]));
    let prepare = world.sign(1, Statement::Prepare(vote));
    let verdict = |signed| world.verify(Message::Statement(signed)).map(|_| ());
    assert_eq!(verdict(prepare.clone()), Ok(()));
    let forged = Err(Forgery::Signature(Author::Replica(ReplicaId(1))));
    let as_commit = Signed { statement: Statement::Commit(vote), ..prepare.clone() };
    assert_eq!(verdict(as_commit), forged);
    let elsewhere = World::named("another", 4).sign(1, Statement::Prepare(vote));
    assert_eq!(verdict(elsewhere), forged);
    let fields = [
        Vote { view: View(2), ..vote },
        Vote { sequence: Sequence(2), ..vote },
        Vote { digest: Digest([8; 32]), ..vote },
    ];
    for vote in fields {
        assert_eq!(
            verdict(Signed { statement: Statement::Prepare(vote), ..prepare.clone() }),
            forged
        );
    }
    let by_another = Signed { sender: ReplicaId(2), ..prepare };
    assert_eq!(verdict(by_another), Err(Forgery::Signature(Author::Replica(ReplicaId(2)))));
}

#[test]
fn m6_one_flipped_bit_anywhere_in_a_signed_message_is_rejected() {
    let world = World::new(4);
    let signed = world.sign(1, Statement::Commit(vote(1, Digest([9; 32]))));
    let frame = crate::wire::encode(&Message::Statement(signed));
    for bit in 0..frame.len() * 8 {
        let mut flipped = frame.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(message) = crate::wire::decode::<Message>(&flipped) {
            assert!(world.verify(message).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn a_status_is_bounded_and_in_order() {
    let world = World::new(4);
    let held = |sequence| crate::message::Held {
        sequence: Sequence(sequence),
        pre_prepare: false,
        body: false,
        committed: false,
        prepares: Default::default(),
        commits: Default::default(),
    };
    let status = |slots| {
        let status = Status { slots, ..Status::default() };
        world.verify(Message::Statement(world.sign(1, Statement::Status(status)))).map(|_| ())
    };
    assert_eq!(status((1..=16).map(held).collect()), Ok(()));
    assert_eq!(status((1..=17).map(held).collect()), Err(Forgery::StatusBounds));
    assert_eq!(status(vec![held(2), held(2)]), Err(Forgery::StatusBounds));
    assert_eq!(status(vec![held(2), held(1)]), Err(Forgery::StatusBounds));
}

#[test]
fn the_cache_is_bounded_and_holds_good_signatures_only() {
    let world = World::new(4);
    let mut cache = Cache::new(4);
    for sequence in 1..100 {
        let mut signed = world.sign(1, Statement::Commit(vote(sequence, Digest([9; 32]))));
        if sequence % 2 == 0 {
            signed.signature.0[0] ^= 1;
        }
        for _ in 0..2 {
            let message = Message::Statement(signed.clone());
            let good =
                verify(&world.cluster, &world.verifier, &mut cache, message, Scrutiny::Whole)
                    .is_ok();
            assert_eq!(good, sequence % 2 == 1);
        }
    }
    assert!(cache.young.len() + cache.old.len() <= 8);
}
