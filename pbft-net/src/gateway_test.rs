//! A gateway and its users, correct and not.

use bytes::Bytes;
use pbft_core::types::Digest;

use crate::close::CloseCode;
use crate::endpoint::protocol;
use crate::limits::Port;
use crate::test_support::*;
use crate::{Identity, Lane, NetError, Network, Node, Received, TlsKey, UserEntry, UserId};

#[tokio::test]
async fn users_and_their_gateway_exchange_frames_on_both_lanes() {
    let gateway = Gateway::start(2);
    let users = [gateway.start_user(0), gateway.start_user(1)];
    for (id, user) in (0..).zip(&users) {
        until_up(user, Node::Gateway, true).await;
        until_up(&gateway.network, user_node(id), true).await;
        for lane in [Lane::Urgent, Lane::Bulk] {
            user.send(Node::Gateway, lane, Bytes::from(vec![7; 100_000]));
            assert_eq!(frames(&gateway.network, user_node(id), 1).await[0].len(), 100_000);
            gateway.network.send(user_node(id), lane, Bytes::from(format!("for {id}")));
            assert_eq!(frames(user, Node::Gateway, 1).await, [format!("for {id}")]);
        }
    }
}

#[tokio::test]
async fn a_user_that_is_not_listed_is_refused_in_the_handshake() {
    let gateway = Gateway::start(1);
    let stranger = gateway.start_user(1);
    until(&gateway.network, "refused", |it| it.handshakes_refused >= 1).await;
    assert!(!stranger.is_up(Node::Gateway));
    assert_eq!(gateway.network.counters().ups, 0);
    assert_eq!(gateway.network.try_receive(), None);
}

#[tokio::test]
async fn a_gateway_with_another_key_than_the_pinned_one_is_refused_by_its_user() {
    let gateway = Gateway::start(1);
    let mut config = gateway.user(0);
    config.gateway.tls_key = client_key(1).public();
    let user = Network::user(config).unwrap();
    until(&user, "failed", |it| it.dials_failed >= 2).await;
    assert_eq!((user.counters().ups, gateway.network.counters().ups), (0, 0));
}

/// Neither another key at the right door nor the right key at another door.
#[tokio::test]
async fn users_and_clients_are_refused_at_each_others_ports() {
    let mut cluster = Cluster::new(1);
    let r0 = cluster.start(0);
    let gateway = Gateway::start(1);
    let dial = async |network: &Network, refused, target, key: TlsKey, name| {
        if let Ok(raw) = Raw::dial_at(target, &cluster.limits, &key, name).await {
            raw.connection.closed().await;
        }
        until(network, "refused", |it| it.handshakes_refused == refused).await;
        assert_eq!(network.try_receive(), None);
    };
    let (user_port, client_port) = (&gateway.entry, &cluster.client_ports[0]);
    // Replicas and clients of the cluster are no users, and a user cannot ask for another protocol.
    dial(&gateway.network, 1, user_port, client_key(1), protocol(Port::User)).await;
    dial(&gateway.network, 2, user_port, replica_key(0), protocol(Port::User)).await;
    dial(&gateway.network, 3, user_port, user_key(0), protocol(Port::Client)).await;
    dial(&r0, 1, client_port, user_key(0), protocol(Port::Client)).await;
    dial(&r0, 2, client_port, client_key(0), protocol(Port::User)).await;
    dial(&r0, 3, client_port, user_key(0), protocol(Port::User)).await;
}

#[tokio::test]
async fn a_hello_of_another_cluster_or_another_user_is_refused_with_field_and_remedy() {
    let log = Log::default();
    let _guard = log.capture();
    let gateway = Gateway::start(2);
    let mut config = gateway.user(0);
    config.identity = Identity { cluster: Digest([9; 32]), ..identity() };
    let other = Network::user(config).unwrap();
    until(&gateway.network, "mismatch", |it| it.hello_mismatches >= 1).await;
    until(&other, "told", |it| it.dials_failed >= 1).await;
    let text = log.text();
    assert!(text.contains("cluster") && text.contains("take the user's directory"), "{text}");
    drop(other);
    // The right key with the number of another user.
    let mut config = gateway.user(1);
    config.id = UserId(0);
    let impostor = Network::user(config).unwrap();
    until(&gateway.network, "malformed", |it| it.hello_malformed >= 1).await;
    until(&impostor, "told", |it| it.dials_failed >= 1).await;
    assert_eq!(gateway.network.counters().ups, 0);
}

#[tokio::test]
async fn a_user_that_is_shut_out_is_told_and_comes_back() {
    let gateway = Gateway::start(1);
    let user = gateway.start_user(0);
    assert_eq!(next(&user).await, Received::Up(Node::Gateway));
    assert_eq!(next(&gateway.network).await, Received::Up(user_node(0)));
    gateway.network.penalize(user_node(0), "test");
    assert_eq!(next(&user).await, Received::Down(Node::Gateway));
    assert_eq!(next(&gateway.network).await, Received::Down(user_node(0)));
    assert_eq!(next(&user).await, Received::Up(Node::Gateway));
}

#[tokio::test]
async fn a_flooding_user_does_not_delay_another() {
    let gateway = Gateway::start(2);
    let (flooder, other) = (gateway.start_user(0), gateway.start_user(1));
    until_up(&flooder, Node::Gateway, true).await;
    until_up(&other, Node::Gateway, true).await;
    for _ in 0..200 {
        flooder.send(Node::Gateway, Lane::Bulk, Bytes::from(vec![0; 1000]));
    }
    until(&gateway.network, "full", |it| it.frames_received >= 64).await;
    other.send(Node::Gateway, Lane::Bulk, Bytes::from("one"));
    until(&gateway.network, "the other's", |it| it.bytes_received % 1000 == 3).await;
    let mut before = 0;
    loop {
        match next(&gateway.network).await {
            Received::Frames { from, .. } if from == user_node(1) => break,
            Received::Frames { frames, .. } => before += frames.len(),
            _ => {}
        }
    }
    assert!(before <= crate::GROUP_FRAMES_MAX, "{before} frames of the flooder came first");
}

#[tokio::test]
async fn users_that_share_a_key_or_a_number_are_refused_at_start() {
    let entry = |id, key| UserEntry { id: UserId(id), tls_key: user_key(key).public() };
    let refused = |users| {
        let socket = crate::GatewaySocket::bind(ANY).unwrap();
        match Network::gateway(socket, Gateway::config(users)) {
            Err(NetError::InvalidConfig { reason }) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused(vec![entry(0, 0), entry(1, 0)]).contains("u0 and u1 list the same TLS key"));
    assert!(refused(vec![entry(3, 0), entry(3, 1)]).contains("user 3 is listed twice"));
    let many = (0..1025_u32).map(|id| {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&id.to_le_bytes());
        UserEntry { id: UserId(id), tls_key: pbft_core::types::PublicKey(key) }
    });
    assert!(refused(many.collect()).contains("client_connections_max"));
}

#[test]
fn a_gateways_memory_is_bounded() {
    let limits = limits();
    assert!(limits.gateway_memory_bytes_max() < 1 << 31);
}

#[tokio::test]
async fn a_frame_above_the_limit_closes_and_penalizes_a_user() {
    let gateway = Gateway::start(1);
    let raw =
        Raw::dial_at(&gateway.entry, &limits(), &user_key(0), protocol(Port::User)).await.unwrap();
    let _urgent = raw
        .stream(&[&hello_stream(&identity(), user_node(0))[..], &u32::MAX.to_le_bytes()].concat())
        .await;
    assert_eq!(raw.close_code().await, CloseCode::BadFrame.wire().into_inner());
    assert_eq!(gateway.network.counters().penalties, 1);
}
