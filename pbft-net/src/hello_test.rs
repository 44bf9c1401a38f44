use super::*;

const OURS: Identity =
    Identity { wire_version: 1, cluster: Digest([2; 32]), configuration: Digest([3; 32]) };
const PEER: Node = Node::Replica(ReplicaId(2));

#[test]
fn an_equal_identity_is_accepted_from_the_owner_of_the_key_only() {
    let hello = encode(&OURS, PEER);
    assert!(hello.len() <= HELLO_BYTES_MAX);
    assert_eq!(judge(&OURS, PEER, &hello), Ok(()));
    let other = Node::Client(ClientId(2));
    assert_eq!(judge(&OURS, other, &hello), Err(HelloError::Impostor(other, PEER)));
}

#[test]
fn a_mismatch_names_the_field_both_values_and_the_remedy() {
    let theirs = Identity { configuration: Digest([0xbb; 32]), ..OURS };
    let error = judge(&OURS, PEER, &encode(&theirs, PEER)).unwrap_err();
    assert_eq!(
        error.explain(Node::Replica(ReplicaId(0)), PEER),
        "r0 refuses r2: configuration digest 0303030303030303 at r0, bbbbbbbbbbbbbbbb at r2; \
         copy the same cluster.toml to every host"
    );
}

#[test]
fn a_future_version_of_any_length_is_told_apart_from_junk() {
    let hello = [MAGIC.as_slice(), &9_u16.to_le_bytes(), b"whatever"].concat();
    assert_eq!(judge(&OURS, PEER, &hello), Err(HelloError::Version(1, 9)));
    let mut hello = encode(&OURS, PEER);
    hello.push(0);
    for junk in [&b""[..], b"PBF", b"PBFT\x01", b"GET / HTTP/1.1", &hello] {
        assert_eq!(judge(&OURS, PEER, junk), Err(HelloError::Malformed));
    }
}
