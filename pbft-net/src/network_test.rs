//! Correct networks among themselves.

use std::time::Duration;

use bytes::Bytes;
use pbft_core::types::Digest;

use crate::test_support::*;
use crate::{Lane, NetError, Network, Received, ReplicaSockets};

fn numbered(count: u32) -> Vec<Bytes> {
    (0..count).map(|number| Bytes::copy_from_slice(&number.to_le_bytes())).collect()
}

async fn pair(cluster: &mut Cluster) -> (Network, Network) {
    let pair = (cluster.start(0), cluster.start(1));
    until_up(&pair.0, replica(1), true).await;
    until_up(&pair.1, replica(0), true).await;
    pair
}

async fn exchange_on_both_lanes() {
    let mut cluster = Cluster::new(2);
    let (r0, r1) = pair(&mut cluster).await;
    let c0 = cluster.start_client(0);
    until_up(&c0, replica(1), true).await;
    until_up(&r1, client(0), true).await;
    let large = Bytes::from(vec![7; 1 << 20]);
    for (from, from_node, to, to_node) in [
        (&r0, replica(0), &r1, replica(1)),
        (&r1, replica(1), &r0, replica(0)),
        (&c0, client(0), &r1, replica(1)),
        (&r1, replica(1), &c0, client(0)),
    ] {
        from.send(to_node, Lane::Bulk, large.clone());
        for frame in numbered(1000) {
            from.send(to_node, Lane::Urgent, frame);
        }
        let seen = frames(to, from_node, 1001).await;
        let (bulk, urgent): (Vec<_>, Vec<_>) = seen.into_iter().partition(|it| it.len() > 4);
        assert_eq!((bulk.len(), &bulk[0]), (1, &large));
        assert_eq!(urgent, numbered(1000));
        let round_trip = from.round_trip(to_node).unwrap();
        assert!(round_trip > Duration::ZERO && round_trip < Duration::from_secs(1));
    }
    let counters = r0.counters();
    assert_eq!((counters.frames_sent, counters.frames_received), (1001, 1001));
    assert!(counters.writes < 100, "no coalescing: {counters:?}");
    // The client may come up here after all this, but no frame came twice.
    while let Some(received) = r0.try_receive() {
        assert!(!matches!(received, Received::Frames { .. }));
    }
}

#[tokio::test]
async fn both_lanes_reach_replicas_and_clients_on_a_current_thread_runtime() {
    exchange_on_both_lanes().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_lanes_reach_replicas_and_clients_on_a_multi_thread_runtime() {
    exchange_on_both_lanes().await;
}

#[tokio::test]
async fn up_comes_before_the_first_frame_and_down_after_the_last() {
    let mut cluster = Cluster::new(2);
    let (r0, r1) = pair(&mut cluster).await;
    for frame in numbered(500) {
        r1.send(replica(0), Lane::Urgent, frame.clone());
        r1.send(replica(0), Lane::Bulk, frame);
    }
    r1.close().await;
    assert_eq!(next(&r0).await, Received::Up(replica(1)));
    let mut seen = 0;
    loop {
        match next(&r0).await {
            Received::Frames { frames, .. } => seen += frames.len(),
            other => break assert_eq!(other, Received::Down(replica(1))),
        }
    }
    assert_eq!(seen, 1000, "{:#?}", r1.counters());
    assert_eq!(r1.counters().dropped_outbound_closed, 0);
    r1.send(replica(0), Lane::Urgent, Bytes::from("late"));
    assert_eq!(r1.counters().dropped_outbound_unconnected, 1);
}

#[tokio::test]
async fn two_networks_that_close_together_lose_nothing_queued() {
    let mut cluster = Cluster::new(2);
    let (r0, r1) = pair(&mut cluster).await;
    for frame in numbered(100) {
        r0.send(replica(1), Lane::Bulk, frame.clone());
        r1.send(replica(0), Lane::Bulk, frame);
    }
    tokio::join!(r0.close(), r1.close());
    assert_eq!(frames(&r0, replica(1), 100).await, numbered(100));
    assert_eq!(frames(&r1, replica(0), 100).await, numbered(100));
}

#[tokio::test]
async fn a_replica_that_restarts_on_its_port_is_connected_again() {
    let mut cluster = Cluster::new(2);
    let (r0, r1) = pair(&mut cluster).await;
    r0.close().await;
    drop(r0);
    until_up(&r1, replica(0), false).await;
    cluster.rebind(0).await;
    let r0 = cluster.start(0);
    until_up(&r1, replica(0), true).await;
    r1.send(replica(0), Lane::Urgent, Bytes::from("again"));
    assert_eq!(frames(&r0, replica(1), 1).await, ["again"]);
    assert_eq!(r1.counters().reconnects, 1);
    // The other way round: the one that dials restarts, without a word.
    drop(r1);
    cluster.rebind(1).await;
    let r1 = cluster.start(1);
    until_up(&r1, replica(0), true).await;
    r1.send(replica(0), Lane::Urgent, Bytes::from("once more"));
    assert_eq!(frames(&r0, replica(1), 1).await, ["once more"]);
}

#[tokio::test]
async fn a_full_queue_drops_its_oldest_frames_and_other_drops_are_counted_too() {
    let mut cluster = Cluster::new(3);
    cluster.limits.peer_urgent.outbound_frames_max = 8;
    let (r0, r1) = pair(&mut cluster).await;
    // Nothing else runs on this thread meanwhile, so nothing is written.
    for frame in numbered(100) {
        r1.send(replica(0), Lane::Urgent, frame);
    }
    assert_eq!(r1.counters().dropped_outbound_full, 92);
    assert_eq!(frames(&r0, replica(1), 8).await, numbered(100)[92..]);
    r1.send(replica(2), Lane::Urgent, Bytes::from("nobody there"));
    r1.send(replica(9), Lane::Urgent, Bytes::from("no such replica"));
    assert_eq!(r1.counters().dropped_outbound_unconnected, 2);
    r1.send(replica(0), Lane::Urgent, Bytes::new());
    r1.send(replica(0), Lane::Urgent, Bytes::from(vec![0; 5 << 20]));
    assert_eq!(r1.counters().dropped_outbound_size, 2);
}

#[tokio::test]
async fn a_consumer_that_does_not_read_stops_its_sender_and_nothing_is_lost() {
    let mut cluster = Cluster::new(2);
    cluster.limits.peer_bulk.inbound_frames_max = 16;
    cluster.limits.peer_windows.stream_bytes = 64 * 1024;
    let (r0, r1) = pair(&mut cluster).await;
    let frame = |number: u32| Bytes::from([&number.to_le_bytes()[..], &[0; 1000]].concat());
    for number in 0..2000 {
        r1.send(replica(0), Lane::Bulk, frame(number));
    }
    until(&r0, "inbox full", |it| it.frames_received > 16).await;
    // A full queue and the piece of the stream that did not fit: far from the 2000 sent.
    assert!(r0.counters().frames_received < 100, "{:?}", r0.counters());
    // The urgent lane is not held up by it.
    r1.send(replica(0), Lane::Urgent, Bytes::from("urgent"));
    let mut seen = Vec::new();
    let mut urgent_at = None;
    while seen.len() < 2000 {
        if let Received::Frames { frames, .. } = next(&r0).await {
            for frame in frames {
                if frame == "urgent" {
                    urgent_at = Some(seen.len());
                } else {
                    seen.push(frame);
                }
            }
        }
    }
    assert!(urgent_at.unwrap() < 1000, "{urgent_at:?}");
    assert_eq!(seen, (0..2000).map(frame).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_flooder_does_not_delay_another_peer() {
    let mut cluster = Cluster::new(3);
    let r0 = cluster.start(0);
    let (r1, r2) = (cluster.start(1), cluster.start(2));
    until_up(&r1, replica(0), true).await;
    until_up(&r2, replica(0), true).await;
    for frame in numbered(4096) {
        r1.send(replica(0), Lane::Urgent, frame);
    }
    until(&r0, "flood", |it| it.frames_received >= 4096).await;
    r2.send(replica(0), Lane::Bulk, Bytes::from(vec![2; 1 << 20]));
    until(&r0, "the honest frame", |it| it.bytes_received > 1 << 20).await;
    let mut before = 0;
    loop {
        match next(&r0).await {
            Received::Frames { from, .. } if from == replica(2) => break,
            Received::Frames { frames, .. } => before += frames.len(),
            _ => {}
        }
    }
    assert!(before <= crate::GROUP_FRAMES_MAX, "{before} frames of the flooder came first");
}

#[tokio::test]
async fn every_connection_of_a_client_gets_a_copy_and_the_oldest_makes_room() {
    let mut cluster = Cluster::new(1);
    cluster.limits.connections_per_client_max = 2;
    cluster.limits.reconnect_min = Duration::from_secs(60);
    cluster.limits.reconnect_max = Duration::from_secs(60);
    let r0 = cluster.start(0);
    let first = cluster.start_client(1);
    until(&r0, "first", |it| it.ups == 1).await;
    let second = cluster.start_client(1);
    until(&r0, "second", |it| it.ups == 2).await;
    r0.send(client(1), Lane::Urgent, Bytes::from("reply"));
    for network in [&first, &second] {
        assert_eq!(frames(network, replica(0), 1).await, ["reply"]);
    }
    let third = cluster.start_client(1);
    until(&r0, "third", |it| it.ups == 3).await;
    until(&first, "told", |it| it.refused_by_peer == 1).await;
    assert_eq!(r0.counters().connections_limited, 1);
    assert!(!first.is_up(replica(0)));
    r0.send(client(1), Lane::Urgent, Bytes::from("more"));
    for network in [&second, &third] {
        assert_eq!(frames(network, replica(0), 1).await, ["more"]);
    }
    // The consumer was told once.
    assert_eq!(next(&r0).await, Received::Up(client(1)));
    assert_eq!(r0.try_receive(), None);
}

#[tokio::test]
async fn a_penalized_node_is_closed_refused_and_let_in_again_later() {
    let mut cluster = Cluster::new(2);
    cluster.limits.penalty_min = Duration::from_millis(400);
    let (r0, r1) = pair(&mut cluster).await;
    for _ in 0..50 {
        r0.penalize(replica(1), "sends nonsense");
    }
    assert!(!r0.is_up(replica(1)));
    until(&r0, "refusal", |it| it.connections_penalized >= 1).await;
    assert!(!r0.is_up(replica(1)));
    until(&r1, "told", |it| it.refused_by_peer >= 2).await;
    assert_eq!((r0.counters().penalties, r0.counters().downs), (1, 1));
    until_up(&r0, replica(1), true).await;
    // The one that penalizes does not dial either.
    let dials = r1.counters().dials_started;
    r1.penalize(replica(0), "sends nonsense");
    until_up(&r0, replica(1), false).await;
    assert_eq!(r1.counters().dials_started, dials);
    until_up(&r1, replica(0), true).await;
}

#[tokio::test]
async fn a_hello_mismatch_of_any_field_is_named_counted_and_refused() {
    for field in ["wire_version", "cluster", "configuration"] {
        let log = Log::default();
        let guard = log.capture();
        let mut cluster = Cluster::new(2);
        let mut config = cluster.config(1);
        match field {
            "wire_version" => config.identity.wire_version = 9,
            "cluster" => config.identity.cluster = Digest([9; 32]),
            _ => config.identity.configuration = Digest([9; 32]),
        }
        let (r0, r1) = (cluster.start(0), cluster.start_with(config));
        // Each end refuses by itself; which of them is first in one attempt is chance.
        let noticed = |it: &crate::NetCounters| it.hello_mismatches + it.refused_by_peer >= 2;
        until(&r0, "noticed at r0", noticed).await;
        until(&r1, "noticed at r1", noticed).await;
        assert!(r0.counters().hello_mismatches + r1.counters().hello_mismatches >= 2);
        assert!(!r0.is_up(replica(1)) && !r1.is_up(replica(0)));
        assert_eq!((r0.counters().ups, r1.counters().ups), (0, 0));
        assert_eq!((r0.try_receive(), r1.try_receive()), (None, None));
        drop(guard);
        let text = log.text();
        for part in
            [&format!("field=\"{field}\""), "ours=", "theirs=", "copy the same cluster.toml"]
        {
            assert!(text.contains(part), "{part} missing in {text}");
        }
    }
}

#[tokio::test]
async fn dropping_a_network_ends_its_connections_at_once() {
    let mut cluster = Cluster::new(2);
    let (r0, r1) = pair(&mut cluster).await;
    let shared = std::sync::Arc::downgrade(&r1.shared());
    drop(r1);
    until_up(&r0, replica(1), false).await;
    let gone = async {
        while shared.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
}

#[tokio::test]
async fn a_port_in_use_and_contradictions_are_named_with_a_remedy() {
    let sockets = ReplicaSockets::bind(ANY, ANY).unwrap();
    let address = sockets.peer_address();
    let error = ReplicaSockets::bind(address, ANY).unwrap_err();
    assert!(matches!(error, NetError::AddressInUse { address: it } if it == address));
    let text = error.to_string();
    assert!(
        text.contains(&address.to_string()) && text.contains("configure another port"),
        "{text}"
    );

    let cluster = Cluster::new(2);
    let refused = |change: fn(&mut crate::ReplicaNetworkConfig)| {
        let mut config = cluster.config(1);
        change(&mut config);
        let sockets = ReplicaSockets::bind(ANY, ANY).unwrap();
        Network::replica(sockets, config).unwrap_err().to_string()
    };
    let text = refused(|config| config.tls_key = replica_key(0));
    assert!(text.contains("correct the id, the key file or"), "{text}");
    let text = refused(|config| config.members.truncate(1));
    assert!(text.contains("only 1 replicas are listed"), "{text}");
    let text = refused(|config| config.clients[0] = config.members[0].tls_key);
    assert!(text.contains("r0 and c0 list the same TLS key"), "{text}");
    let text = refused(|config| config.limits.handshakes_max = 0);
    assert!(text.contains("handshakes_max"), "{text}");
}

#[test]
fn a_network_outside_a_runtime_is_an_error_not_a_panic() {
    let config = Cluster::new(1).config(0);
    let sockets = ReplicaSockets::bind(ANY, ANY).unwrap();
    assert!(matches!(Network::replica(sockets, config), Err(NetError::NoRuntime)));
}
