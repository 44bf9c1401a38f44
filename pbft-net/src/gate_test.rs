use pbft_core::cluster::ClusterConfig;
use pbft_core::crypto::{Ed25519Signer, Ed25519Verifier};
use pbft_core::limits::{Constants, FRAME_BYTES_MAX, Limits};
use pbft_core::message::{Operations, RequestBody, Statement, Vote};
use pbft_core::signed::sign;
use pbft_core::types::{Digest, ReplicaId, RequestNumber, Sequence, View};

use super::*;

fn key(kind: u8, index: u8) -> Ed25519Signer {
    let mut seed = [kind; 32];
    seed[0] = index;
    Ed25519Signer::from_seed(&seed)
}

fn cluster(name: &str) -> Arc<Cluster> {
    let config = ClusterConfig {
        name: name.to_owned(),
        members: (0..4).map(|index| key(1, index).public()).collect(),
        clients: (0..2).map(|index| key(2, index).public()).collect(),
        constants: Constants::default(),
        development: false,
    };
    Arc::new(Cluster::new(config).unwrap())
}

fn edge() -> (Gate, Replica) {
    let cluster = cluster("here");
    let verifier = Box::new(Ed25519Verifier::new(&cluster).unwrap());
    let replica = Replica::new(ReplicaId(1), Arc::clone(&cluster), Limits::default()).unwrap();
    (Gate::new(cluster, verifier), replica)
}

fn commit(cluster: &Cluster, sequence: u64) -> Vec<u8> {
    let vote = Vote { view: View(0), sequence: Sequence(sequence), digest: Digest([1; 32]) };
    let signed = sign(cluster, &key(1, 2), ReplicaId(2), Statement::Commit(vote));
    wire::encode(&Message::Statement(signed)).to_vec()
}

fn request(client: u8) -> Vec<u8> {
    let operations = Operations::new([b"op"]).unwrap();
    let id = ClientId(u32::from(client));
    let body = RequestBody { client: id, number: RequestNumber(1), operations };
    wire::encode(&ClientMessage::Request(body.sign(&cluster("here"), &key(2, client)))).to_vec()
}

#[test]
fn what_no_correct_peer_sends_is_malice_with_a_name_and_a_count() {
    let (mut gate, replica) = edge();
    let good = commit(&cluster("here"), 1);
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let mut version = good.clone();
    version[0] = 9;
    let cases = [
        (b"garbage".to_vec(), "wire_version"),
        (Vec::new(), "wire_truncated"),
        (good[..good.len() - 1].to_vec(), "wire_truncated"),
        ([&good[..], b"x"].concat(), "wire_trailing"),
        (vec![1; FRAME_BYTES_MAX + 1], "wire_oversized"),
        (version, "wire_version"),
        (forged, "bad_signature"),
        (commit(&cluster("another"), 1), "bad_signature"),
    ];
    for (frame, name) in &cases {
        let Refused { rejection, evidence } =
            gate.pass_peer(&replica, ReplicaId(1), frame).unwrap_err();
        assert!(rejection.is_malice() && evidence.is_none());
        assert_eq!(rejection.name(), *name);
    }
    assert_eq!(gate.counts().values().sum::<u64>(), 8);
    assert_eq!((gate.counts()["bad_signature"], gate.counts()["wire_version"]), (2, 2));
    assert!(gate.pass_peer(&replica, ReplicaId(1), &good).is_ok());
}

#[test]
fn what_is_replayed_or_far_ahead_is_dropped_before_its_signature_is_paid_for() {
    let (mut gate, mut replica) = edge();
    let good = commit(&cluster("here"), 1);
    let FromPeer::Protocol(verified) = gate.pass_peer(&replica, ReplicaId(1), &good).unwrap()
    else {
        panic!("a vote is for the replica");
    };
    let input = pbft_core::replica::Input::Deliver(verified);
    replica.step(pbft_core::types::Time::default(), input, &mut Vec::new());
    let mut far = commit(&cluster("here"), 1_000_000);
    // Its signature does not even hold; nobody looks.
    *far.last_mut().unwrap() ^= 1;
    for frame in [good, far] {
        let Refused { rejection, .. } = gate.pass_peer(&replica, ReplicaId(1), &frame).unwrap_err();
        assert!(!rejection.is_malice(), "an honest peer may send this: {rejection}");
    }
    assert_eq!(gate.counts()["unneeded"], 2);
}

#[test]
fn a_client_speaks_for_itself_only() {
    let (mut gate, replica) = edge();
    let mine = gate.pass_client(&replica, ClientId(0), &request(0)).unwrap();
    assert!(matches!(mine, FromClient::Request(_)));
    let other = gate.pass_client(&replica, ClientId(0), &request(1)).unwrap_err();
    assert_eq!((other, other.is_malice()), (Rejection::NotOwn(ClientId(1)), true));
    let query = wire::encode(&ClientMessage::Query);
    assert_eq!(gate.pass_client(&replica, ClientId(1), &query), Ok(FromClient::Query));
    // A vote on the client port is no client message.
    let vote = commit(&cluster("here"), 1);
    assert!(gate.pass_client(&replica, ClientId(0), &vote).unwrap_err().is_malice());
}

#[test]
fn what_its_signer_did_sign_and_no_correct_replica_does_convicts_it() {
    let (mut gate, replica) = edge();
    let cluster = cluster("here");
    // The primary prepares its own proposal.
    let vote = Vote { view: View(0), sequence: Sequence(1), digest: Digest([1; 32]) };
    let signed = sign(&cluster, &key(1, 0), ReplicaId(0), Statement::Prepare(vote));
    let frame = wire::encode(&Message::Statement(signed)).to_vec();
    let refused = gate.pass_peer(&replica, ReplicaId(1), &frame).unwrap_err();
    assert_eq!(refused.rejection.name(), "prepare_by_primary");
    let evidence = refused.evidence.unwrap();
    let Message::Evidence(evidence) = evidence.message() else { panic!("it is evidence") };
    assert_eq!(evidence.subject().replica, ReplicaId(0));
    // In its name, by another: that convicts nobody.
    let forged = sign(&cluster, &key(1, 3), ReplicaId(0), Statement::Prepare(vote));
    let frame = wire::encode(&Message::Statement(forged)).to_vec();
    assert_eq!(gate.pass_peer(&replica, ReplicaId(1), &frame).unwrap_err().evidence, None);
}

/// What a replica lacks it says itself: an old status played again would take the place of the true one.
#[test]
fn f3_a_status_of_another_replica_is_not_taken_second_hand() {
    let (mut gate, replica) = edge();
    let fetch = Statement::Fetch(pbft_core::message::Fetch { bodies: vec![] });
    let signed = sign(&cluster("here"), &key(1, 2), ReplicaId(2), fetch);
    let frame = wire::encode(&Message::Statement(signed));
    let refused = gate.pass_peer(&replica, ReplicaId(3), &frame).unwrap_err();
    assert_eq!(refused.rejection.name(), "second_hand");
    assert!(gate.pass_peer(&replica, ReplicaId(2), &frame).is_ok());
}
