use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::certificate::Signatures;
use crate::message::{Checkpoint, Request, RequestBody, SignedViewChange, ViewChange};
use crate::replica::{Action, To, Verdict};
use crate::signed::Forgery;
use crate::testing::*;
use crate::types::{Digest, RequestNumber, Signature};
use crate::wire;

const OTHER: Digest = Digest([9; 32]);

fn prepare_of(world: &World, sender: u32, digest: Digest) -> Signed {
    world.sign(sender, Statement::Prepare(vote(1, digest)))
}

fn message(evidence: Option<Evidence>) -> Message {
    Message::Evidence(Arc::new(evidence.unwrap()))
}

/// PITFALLS L9: evidence stands by itself, survives its encoding, and names whom it convicts.
#[test]
fn l9_two_statements_about_the_same_convict_their_signer_wherever_they_are_read() {
    let world = World::new(4);
    let (first, second) = (prepare_of(&world, 2, Digest([1; 32])), prepare_of(&world, 2, OTHER));
    let evidence = Evidence::new(first.clone(), second).unwrap();
    assert!(evidence.convicts(&world.cluster, &world.verifier));
    let read: Evidence = wire::decode(&wire::encode(&evidence)).unwrap();
    assert_eq!(read, evidence);
    assert_eq!((read.subject().replica, read.offence()), (ReplicaId(2), Offence::Equivocation));
    // Another cluster's keys are the same and its statements are not.
    let elsewhere = World::named("elsewhere", 4);
    assert!(!evidence.convicts(&elsewhere.cluster, &elsewhere.verifier));
    // Nothing is said twice in what is equal, whatever the signatures.
    let malleable = Signed { signature: Signature([3; 64]), ..first.clone() };
    assert_eq!(Evidence::new(first, malleable), None);
}

/// PITFALLS L9: what a framer can make up proves nothing.
#[test]
fn l9_fabricated_evidence_is_refused_at_the_door() {
    let world = World::new(4);
    let honest = prepare_of(&world, 2, Digest([1; 32]));
    let altered = Signed { statement: Statement::Prepare(vote(1, OTHER)), ..honest.clone() };
    let forged = world.verify(message(Evidence::new(honest.clone(), altered)));
    assert!(matches!(forged, Err(Forgery::Signature(_))), "{forged:?}");
    // A statement of another, under the accused's name.
    let borrowed = Signed { sender: ReplicaId(2), ..prepare_of(&world, 3, OTHER) };
    let forged = world.verify(message(Evidence::new(honest.clone(), borrowed)));
    assert!(matches!(forged, Err(Forgery::Signature(_))), "{forged:?}");
    // Statements that hold are not void.
    let refused = Err(Forgery::Evidence(ReplicaId(2)));
    assert_eq!(world.verify(message(Evidence::of_void(honest, None))), refused);
    let commit = world.sign(2, Statement::Commit(vote(1, OTHER)));
    assert_eq!(world.verify(message(Evidence::of_void(commit, None))), refused);
    // Nor is a proposal that came with a body it does not name: the relay put it there.
    let pre_prepare = world.sign(0, Statement::PrePrepare(vote(1, OTHER)));
    let swapped = Evidence::of_void(pre_prepare, Some(world.batch(&[1])));
    assert_eq!(world.verify(message(swapped)), Err(Forgery::Evidence(ReplicaId(0))));
}

/// PROTOCOL section 1: one statement that is invalid by itself.
#[test]
fn l9_a_void_statement_convicts_its_signer_alone() {
    let world = World::new(4);
    let convicts = |statement: Signed, batch| {
        let evidence = Evidence::of_void(statement, batch).unwrap();
        evidence.convicts(&world.cluster, &world.verifier)
    };
    // Prepare by the primary, PrePrepare by a backup, a checkpoint where none is taken.
    assert!(convicts(prepare_of(&world, 0, OTHER), None));
    assert!(convicts(world.sign(1, Statement::PrePrepare(vote(1, OTHER))), None));
    let checkpoint = Checkpoint { sequence: Sequence(3), digest: OTHER };
    assert!(convicts(world.sign(1, Statement::Checkpoint(checkpoint)), None));
    // A proposal with a request that its client did not sign.
    let honest = world.request(0, 1);
    let body = RequestBody {
        client: honest.client(),
        number: RequestNumber(7),
        operations: honest.operations().clone(),
    };
    let forged = Request::new(body, *honest.signature());
    let batch = Arc::new(Batch::new(NOW.wall, vec![forged]));
    let pre_prepare = world.sign(0, Statement::PrePrepare(vote(1, batch.digest())));
    assert!(convicts(pre_prepare.clone(), Some(Arc::clone(&batch))));
    assert!(!convicts(pre_prepare, None), "without the body nobody can tell");
    // A ViewChange with a certificate that nobody signed.
    let mut certificate = world.certificate(0, 1, OTHER);
    certificate.prepares = Signatures::raw(vec![
        (ReplicaId(1), Signature([1; 64])),
        (ReplicaId(2), Signature([2; 64])),
    ]);
    let change = ViewChange { view: View(1), stable: None, prepared: vec![certificate] };
    assert!(convicts(world.sign(3, Statement::ViewChange(Arc::new(change))), None));
}

/// A split proposal is in nobody's hands alone: whoever sees another's vote for something else shows both.
#[test]
fn l9_a_vote_for_something_else_than_was_proposed_here_is_shown_around_with_the_proposal() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    let batch = world.batch(&[1]);
    deliver(&world, &mut replica, world.proposal(1, &batch));
    let (_, out) = deliver(&world, &mut replica, world.prepare(2, 1, OTHER));
    let shown: Vec<&Statement> = out
        .iter()
        .filter_map(|action| match action {
            Action::Relay { to: To::All, message: Message::Statement(signed) } => {
                Some(&signed.statement)
            }
            _ => None,
        })
        .collect();
    let proposed = Statement::PrePrepare(vote(1, batch.digest()));
    assert_eq!(shown, [&Statement::Prepare(vote(1, OTHER)), &proposed]);
    // Nobody is convicted yet; the one to whom the other batch was proposed now can.
    assert!(replica.evidence().is_empty());
    let mut other = world.replica(2);
    let second = world.batch(&[2]);
    deliver(&world, &mut other, world.proposal(1, &second));
    let (verdict, out) = deliver(&world, &mut other, world.statement(0, proposed));
    assert!(matches!(verdict, Verdict::Refused(_)), "{verdict:?}");
    assert!(matches!(out[..], [Action::Accuse(_), Action::Relay { to: To::All, .. }, ..]));
    assert!(other.is_changing(), "the primary is convicted in the view it leads");
}

/// PITFALLS K6: a traitor that votes against every proposal does not make the others talk without end, and
/// one that convicts itself of many things leaves room for others'.
#[test]
fn k6_what_is_shown_around_and_kept_is_bounded_for_each_replica() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    let mut relays = 0;
    for slot in 1..=8 {
        let batch = world.batch(&[slot]);
        deliver(&world, &mut replica, world.proposal(slot, &batch));
        let (_, out) = deliver(&world, &mut replica, world.prepare(2, slot, OTHER));
        relays += out.iter().filter(|action| matches!(action, Action::Relay { .. })).count();
    }
    assert_eq!(relays, 8, "four votes with their proposals between two stable checkpoints");
    let mut store = EvidenceStore::new(8, 1 << 20, 4);
    let pair = |sender: u32, slot: u64| {
        let said = |digest| world.sign(sender, Statement::Commit(vote(slot, digest)));
        Evidence::new(said(Digest([1; 32])), said(OTHER)).unwrap()
    };
    let kept = (1..=9).filter(|slot| store.insert(&pair(2, *slot))).count();
    assert_eq!((kept, store.len()), (2, 2));
    assert!(store.insert(&pair(3, 1)), "the others' share is theirs");
}

/// PITFALLS L9: a certificate that arrives is compared with the votes held.
#[test]
fn l9_a_certificate_with_another_vote_than_was_heard_convicts_its_signer() {
    let world = World::new(4);
    let mut replica = world.replica(1);
    deliver(&world, &mut replica, world.commit(2, 1, OTHER));
    let batch = world.batch(&[1]);
    let certificate = world.commit_certificate(0, 1, batch.digest());
    let committed = Message::Committed { certificate, batch: Some(batch) };
    let verified = world.verify(committed).unwrap();
    deliver(&world, &mut replica, verified);
    let accused: Vec<Subject> = replica.evidence().iter().map(Evidence::subject).collect();
    assert_eq!(accused.iter().map(|subject| subject.replica).collect::<Vec<_>>(), [ReplicaId(2)]);
}

/// PITFALLS L9: after a fork in one view, the two certificates convict everyone who is in both.
#[test]
fn l9_what_was_kept_of_a_fork_convicts_everyone_who_signed_both_sides() {
    let world = World::new(4);
    let side = |digest: Digest, signers: &[u32]| -> Vec<Signed> {
        let said = |sender: &u32| world.sign(*sender, Statement::Commit(vote(1, digest)));
        signers.iter().map(said).collect()
    };
    let mut kept = side(Digest([1; 32]), &[0, 1, 2]);
    kept.extend(side(OTHER, &[0, 1, 3]));
    // And one who committed, and left it out of its ViewChange.
    let omits = ViewChange { view: View(1), stable: None, prepared: vec![] };
    let omission = SignedViewChange {
        sender: ReplicaId(2),
        signature: world.sign(2, Statement::ViewChange(Arc::new(omits.clone()))).signature,
        change: Arc::new(omits),
    };
    kept.push(omission.to_signed());
    let convicted: Vec<(u32, Offence)> =
        convict(&kept).iter().map(|it| (it.subject().replica.0, it.offence())).collect();
    let equivocation = Offence::Equivocation;
    assert_eq!(convicted, [(0, equivocation), (1, equivocation), (2, Offence::Omission)]);
}
