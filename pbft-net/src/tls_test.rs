use super::*;

#[test]
fn a_seed_gives_the_public_key_of_rfc_8032_and_debug_shows_no_secret() {
    let seed = pbft_core::types::unhex32(
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    );
    let key = TlsKey::from_seed(&seed.unwrap()).unwrap();
    assert_eq!(
        key.public().to_hex(),
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    );
    let shown = format!("{key:?}");
    assert!(shown.contains("redacted") && !shown.contains("9d61"), "{shown}");
}

#[test]
fn a_key_that_is_no_ed25519_key_is_refused() {
    let error = TlsKey::from_pkcs8_der(b"junk").unwrap_err();
    assert!(matches!(error, NetError::InvalidKey { .. }), "{error}");
}

#[test]
fn reset_keys_are_stable_over_a_restart_and_differ_per_port() {
    let tag = |purpose: &[u8]| {
        let (key, id) = TlsKey::from_seed(&[7; 32]).unwrap().reset_keys(purpose).unwrap();
        let mut tag = [0; 32];
        key.sign(b"x", &mut tag);
        assert!(key.verify(b"x", &tag).is_ok() && key.verify(b"y", &tag).is_err());
        (tag, id)
    };
    assert_eq!(tag(b"peer"), tag(b"peer"));
    assert_ne!(tag(b"peer"), tag(b"client"));
}

#[test]
fn two_nodes_with_one_key_are_refused() {
    let replica = |id| Node::Replica(pbft_core::types::ReplicaId(id));
    let key = PublicKey([1; 32]);
    let error = Roster::new([(key, replica(0)), (key, replica(1))].into_iter()).unwrap_err();
    assert!(error.to_string().contains("r0 and r1 list the same TLS key"), "{error}");
}
