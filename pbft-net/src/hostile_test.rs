//! Faulty and hostile peers against a correct replica.

use std::time::Duration;

use bytes::Bytes;

use crate::close::CloseCode;
use crate::endpoint::protocol;
use crate::lane::Lane;
use crate::limits::Port;
use crate::test_support::*;
use crate::{Identity, Received, TlsKey};

fn code(code: CloseCode) -> u64 {
    code.wire().into_inner()
}

#[tokio::test]
async fn a_key_that_is_not_listed_is_refused_in_the_handshake() {
    let mut cluster = Cluster::new(2);
    let r0 = cluster.start(0);
    let stranger = TlsKey::from_seed(&[250; 32]).unwrap();
    // A dialler may be told only after it believes itself connected.
    if let Ok(raw) = Raw::dial(&cluster, &stranger, protocol(Port::Peer)).await {
        raw.connection.closed().await;
    }
    until(&r0, "refused", |it| it.handshakes_refused == 1).await;
    // A client's key is listed, but not for the port between replicas.
    if let Ok(raw) = Raw::dial(&cluster, &client_key(0), protocol(Port::Peer)).await {
        raw.connection.closed().await;
    }
    until(&r0, "refused", |it| it.handshakes_refused == 2).await;
    assert_eq!(r0.try_receive(), None);
}

#[tokio::test]
async fn a_listed_member_at_another_members_address_is_refused() {
    let mut cluster = Cluster::new(3);
    let (r0, r1) = (cluster.start(0), cluster.start(1));
    let mut config = cluster.config(2);
    let swapped = config.members[0].address;
    config.members[0].address = config.members[1].address;
    config.members[1].address = swapped;
    let r2 = cluster.start_with(config);
    until(&r2, "failed", |it| it.dials_failed >= 2).await;
    until(&r0, "refused", |it| it.handshakes_refused >= 1).await;
    until(&r1, "refused", |it| it.handshakes_refused >= 1).await;
    assert!(!r2.is_up(replica(0)) && !r2.is_up(replica(1)));
    assert_eq!(r2.counters().ups, 0);
}

#[tokio::test]
async fn another_protocol_name_is_refused_in_the_handshake() {
    let mut cluster = Cluster::new(2);
    let r0 = cluster.start(0);
    for name in [&b"pbft-peer/2"[..], protocol(Port::Client)] {
        let error = Raw::dial(&cluster, &replica_key(1), name).await.err().unwrap();
        let text = crate::close::explain(&error);
        assert!(text.contains("no common protocol"), "{text}");
    }
    until(&r0, "refused", |it| it.handshakes_refused == 2).await;
}

#[tokio::test]
async fn a_length_prefix_above_the_limit_closes_and_penalizes() {
    let mut cluster = Cluster::new(2);
    let r0 = cluster.start(0);
    let (raw, mut stream) = Raw::up(&cluster).await;
    until_up(&r0, replica(1), true).await;
    stream.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
    assert_eq!(raw.close_code().await, code(CloseCode::BadFrame));
    let counters = r0.counters();
    assert_eq!((counters.frames_oversized, counters.penalties), (1, 1));
    assert!(!r0.is_up(replica(1)));
    let raw = Raw::replica_1(&cluster).await;
    assert_eq!(raw.close_code().await, code(CloseCode::Penalized));
}

/// Probes for larger and larger datagrams are under way while a connection is young, and must leave room for the frame
/// that closes it; else the other end hears nothing, and of a reset when it asks.
#[tokio::test]
async fn the_reason_of_a_close_arrives_while_the_path_is_probed() {
    for age in 0..30 {
        let mut cluster = Cluster::new(2);
        let r0 = cluster.start(0);
        let (raw, mut stream) = Raw::up(&cluster).await;
        for _ in 0..age {
            stream.write_all(&framed(b"older")).await.unwrap();
            frames(&r0, replica(1), 1).await;
        }
        stream.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
        assert_eq!(raw.close_code().await, code(CloseCode::BadFrame));
    }
}

#[tokio::test]
async fn an_empty_frame_closes() {
    let mut cluster = Cluster::new(2);
    let r0 = cluster.start(0);
    let (raw, _stream) = Raw::up(&cluster).await;
    let _bulk = raw.stream(&[Lane::Bulk.tag(), 0, 0, 0, 0]).await;
    assert_eq!(raw.close_code().await, code(CloseCode::BadFrame));
    assert_eq!(r0.counters().frames_empty, 1);
}

#[tokio::test]
async fn a_message_sent_by_half_hits_the_deadline_but_an_idle_lane_does_not() {
    let mut cluster = Cluster::new(2);
    cluster.limits.message_deadline = Duration::from_millis(200);
    let r0 = cluster.start(0);
    let (raw, mut stream) = Raw::up(&cluster).await;
    stream.write_all(&framed(b"whole")).await.unwrap();
    assert_eq!(frames(&r0, replica(1), 1).await, ["whole"]);
    // Idle for longer than the deadline, measured by another half-sent message's deadline: the
    // first half of the bulk frame starts the clock, the urgent lane rests meanwhile.
    let _bulk = raw.stream(&[&[Lane::Bulk.tag()][..], &framed(b"half")[..6]].concat()).await;
    assert_eq!(raw.close_code().await, code(CloseCode::FrameTimeout));
    assert_eq!((r0.counters().frames_timed_out, r0.counters().penalties), (1, 1));
}

#[tokio::test]
async fn silence_instead_of_hello_is_cut_off_and_holds_up_nobody() {
    let mut cluster = Cluster::new(3);
    cluster.limits.hello_deadline = Duration::from_millis(300);
    let r0 = cluster.start(0);
    let raw = Raw::replica_1(&cluster).await;
    let r2 = cluster.start(2);
    until_up(&r0, replica(2), true).await;
    assert_eq!(raw.close_code().await, code(CloseCode::HelloTimeout));
    assert_eq!(r0.counters().hello_timeouts, 1);
    until_up(&r2, replica(0), true).await;
    assert!(!r0.is_up(replica(1)));
}

#[tokio::test]
async fn nothing_is_delivered_without_a_valid_hello() {
    let mut cluster = Cluster::new(3);
    let r0 = cluster.start(0);
    let other = Identity { wire_version: 2, ..identity() };
    let attempts = [
        (vec![Lane::Bulk.tag(), 1, 0, 0, 0, 9], CloseCode::BadHello),
        (vec![9], CloseCode::BadHello),
        ([&[Lane::Urgent.tag()][..], &framed(b"frame")].concat(), CloseCode::BadHello),
        ([&[Lane::Urgent.tag()][..], &framed(&[0; 200])].concat(), CloseCode::BadHello),
        // The key is replica 1's, the claim is another's.
        (hello_stream(&identity(), replica(2)), CloseCode::BadHello),
        (hello_stream(&other, replica(1)), CloseCode::WrongVersion),
    ];
    for (bytes, expected) in attempts {
        let raw = Raw::replica_1(&cluster).await;
        let bytes = [bytes, framed(b"frame after")].concat();
        let _stream = raw.stream(&bytes).await;
        assert_eq!(raw.close_code().await, code(expected));
    }
    assert_eq!((r0.counters().hello_malformed, r0.counters().hello_mismatches), (5, 1));
    assert_eq!(r0.try_receive(), None);
}

#[tokio::test]
async fn a_broken_stream_closes() {
    for case in [
        "third stream of another lane",
        "fourth stream",
        "reset",
        "ended inside a frame",
        "wrong tag",
    ] {
        let mut cluster = Cluster::new(2);
        let r0 = cluster.start(0);
        let (raw, mut stream) = Raw::up(&cluster).await;
        until_up(&r0, replica(1), true).await;
        let _more = match case {
            "third stream of another lane" => {
                stream.finish().unwrap();
                let bulk = raw.stream(&[Lane::Bulk.tag()]).await;
                (bulk, Some(raw.stream(&[Lane::Urgent.tag()]).await))
            }
            "reset" => {
                stream.reset(1_u32.into()).unwrap();
                (stream, None)
            }
            "ended inside a frame" => {
                stream.write_all(&[1, 0]).await.unwrap();
                stream.finish().unwrap();
                (stream, None)
            }
            _ => (raw.stream(&[Lane::Urgent.tag()]).await, Some(stream)),
        };
        assert_eq!(raw.close_code().await, code(CloseCode::BadStream), "{case}");
        assert_eq!(r0.counters().streams_invalid, 1, "{case}");
    }
}

#[tokio::test]
async fn a_newer_connection_of_the_same_replica_replaces_the_old_one_but_not_too_often() {
    let mut cluster = Cluster::new(2);
    cluster.limits.replace_interval = Duration::from_secs(60);
    let r0 = cluster.start(0);
    let (first, _first) = Raw::up(&cluster).await;
    assert_eq!(next(&r0).await, Received::Up(replica(1)));
    let (second, mut stream) = Raw::up(&cluster).await;
    assert_eq!(first.close_code().await, code(CloseCode::Replaced));
    assert_eq!(next(&r0).await, Received::Down(replica(1)));
    assert_eq!(next(&r0).await, Received::Up(replica(1)));
    let (third, _third) = Raw::up(&cluster).await;
    assert_eq!(third.close_code().await, code(CloseCode::ReplacedTooSoon));
    stream.write_all(&framed(b"still here")).await.unwrap();
    assert_eq!(frames(&r0, replica(1), 1).await, [Bytes::from("still here")]);
    assert!(second.connection.close_reason().is_none());
    let counters = r0.counters();
    assert_eq!((counters.connections_replaced, counters.replacements_refused), (1, 1));
}

#[tokio::test]
async fn too_many_handshakes_are_retried_then_shed_and_the_others_go_on() {
    let mut cluster = Cluster::new(3);
    cluster.limits.handshakes_max = 2;
    cluster.limits.handshakes_per_address_max = 2;
    let r0 = cluster.start(0);
    // Two that never say HELLO hold both places; quinn answers the retry of the second by itself.
    let silent = [Raw::replica_1(&cluster).await, Raw::replica_1(&cluster).await];
    let refused = Raw::dial(&cluster, &replica_key(2), protocol(Port::Peer)).await;
    assert!(refused.is_err());
    let counters = r0.counters();
    assert!(counters.handshakes_retried >= 2 && counters.handshakes_shed == 1, "{counters:?}");
    drop(silent);
    let r2 = cluster.start(2);
    until_up(&r2, replica(0), true).await;
}
