use std::net::Ipv4Addr;

use super::*;
use crate::keys::NodeKeys;

fn keys(index: u8) -> PublicKeys {
    NodeKeys::from_seeds([index; 32], [index + 100; 32]).public()
}

fn replicas(n: u8) -> Vec<ReplicaEntry> {
    let address = |port: u8| SocketAddr::from((Ipv4Addr::LOCALHOST, 7000 + u16::from(port)));
    let entry = |index: u8| ReplicaEntry {
        keys: keys(index),
        peer_address: address(2 * index),
        client_address: address(2 * index + 1),
    };
    (0..n).map(entry).collect()
}

fn deployment(replicas: Vec<ReplicaEntry>) -> Result<Deployment, ConfigError> {
    let (constants, timeouts) = (Constants::default(), Timeouts::default());
    Deployment::new("test", replicas, vec![keys(50)], constants, timeouts, false)
}

#[test]
fn a_deployment_comes_back_from_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(CLUSTER_FILE);
    let deployment = deployment(replicas(4)).unwrap();
    deployment.store(&path).unwrap();
    let loaded = Deployment::load(&path).unwrap();
    assert_eq!(loaded.cluster().id(), deployment.cluster().id());
    assert_eq!(loaded.identity(), deployment.identity());
    assert!(deployment.store(&path).is_err(), "never overwritten");
}

#[test]
fn j5_a_tls_key_used_twice_or_as_a_signing_key_is_refused() {
    for key in [keys(1).tls, keys(1).signing, keys(50).tls] {
        let mut replicas = replicas(4);
        replicas[0].keys.tls = key;
        let error = deployment(replicas).unwrap_err();
        assert_eq!((error.field.as_str(), error.value), ("tls_key", key.to_hex()));
    }
}

#[test]
fn an_address_used_twice_is_refused() {
    let mut replicas = replicas(4);
    replicas[3].client_address = replicas[0].peer_address;
    let error = deployment(replicas).unwrap_err();
    assert_eq!((error.field.as_str(), error.value.as_str()), ("client_address", "127.0.0.1:7000"));
}

#[test]
fn moving_a_host_changes_the_handshake_and_not_the_cluster() {
    let here = deployment(replicas(4)).unwrap();
    let mut moved = replicas(4);
    moved[0].peer_address.set_port(9999);
    let there = deployment(moved).unwrap();
    assert_eq!(here.cluster().id(), there.cluster().id());
    assert_ne!(here.identity().configuration, there.identity().configuration);
}

#[test]
fn keys_find_their_place_or_say_why_not() {
    let deployment = deployment(replicas(4)).unwrap();
    assert_eq!(deployment.replica_of(&keys(2)), Ok(ReplicaId(2)));
    assert_eq!(deployment.client_of(&keys(50)), Ok(ClientId(0)));
    assert_eq!(deployment.replica_of(&keys(50)).unwrap_err().field, "signing_key");
    let mixed = PublicKeys { tls: keys(3).tls, ..keys(2) };
    assert_eq!(deployment.replica_of(&mixed).unwrap_err().field, "tls_key");
}

#[test]
fn durations_are_whole_numbers_with_a_unit() {
    for (text, millis) in [("500ms", 500), ("10s", 10_000), ("2m", 120_000), ("1000us", 1)] {
        assert_eq!(duration("timeout", text), Ok(Duration::from_millis(millis)));
    }
    for text in ["", "10", "s", "1.5s", "-1s", "10 s", "99999999999999999999s"] {
        assert_eq!(duration("timeout", text).unwrap_err().value, text);
    }
}
