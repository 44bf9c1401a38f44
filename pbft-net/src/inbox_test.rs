use super::*;
use pbft_core::types::{ClientId, ReplicaId};

const PEER: Node = Node::Replica(ReplicaId(1));
const OTHER: Node = Node::Replica(ReplicaId(2));
const CLIENT: Node = Node::Client(ClientId(0));

fn limits() -> LaneLimits {
    let mut limits = crate::NetLimits::default().peer_urgent;
    limits.inbound_frames_max = 200;
    limits
}

fn open(inbox: &Inbox, serial: Serial, node: Node) -> u64 {
    let counters = Counters::default();
    inbox.open(serial, node, [&limits(), &limits(), &limits()], &counters);
    counters.snapshot().dropped_inbound
}

/// Pushes `count` frames and returns how many did not fit.
async fn push(inbox: &Inbox, serial: Serial, lane: Lane, count: usize) -> usize {
    let mut frames: VecDeque<Bytes> = (0..count).map(|_| Bytes::from_static(b"x")).collect();
    tokio::select! {
        biased;
        _ = inbox.push(serial, lane, &mut frames) => {}
        () = std::future::ready(()) => {}
    }
    frames.len()
}

fn group(received: Option<Received>) -> (Node, usize) {
    match received {
        Some(Received::Frames { from, frames }) => (from, frames.len()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn connections_take_turns_in_groups_of_bounded_size() {
    let inbox = Inbox::default();
    open(&inbox, 1, PEER);
    open(&inbox, 2, OTHER);
    push(&inbox, 1, Lane::Urgent, 150).await;
    push(&inbox, 2, Lane::Urgent, 1).await;
    assert_eq!(inbox.try_receive(), Some(Received::Up(PEER)));
    assert_eq!(inbox.try_receive(), Some(Received::Up(OTHER)));
    assert_eq!(group(inbox.try_receive()), (PEER, 64));
    assert_eq!(group(inbox.try_receive()), (OTHER, 1));
    assert_eq!(group(inbox.try_receive()), (PEER, 64));
    assert_eq!(group(inbox.try_receive()), (PEER, 22));
    assert_eq!(inbox.try_receive(), None);
}

#[tokio::test]
async fn urgent_frames_come_first_but_leave_places_for_bulk() {
    let inbox = Inbox::default();
    open(&inbox, 1, PEER);
    inbox.try_receive();
    let mut bulk = VecDeque::from([Bytes::from_static(b"bulk")]);
    assert!(inbox.push(1, Lane::Bulk, &mut bulk).await);
    push(&inbox, 1, Lane::Urgent, 100).await;
    let Some(Received::Frames { frames, .. }) = inbox.try_receive() else { panic!() };
    assert_eq!((frames.len(), &frames[0][..], &frames[63][..]), (64, &b"x"[..], &b"bulk"[..]));
}

#[tokio::test]
async fn a_full_queue_makes_its_reader_wait_and_only_it() {
    let inbox = Inbox::default();
    open(&inbox, 1, PEER);
    open(&inbox, 2, OTHER);
    assert_eq!(push(&inbox, 1, Lane::Urgent, 250).await, 50);
    assert_eq!(push(&inbox, 1, Lane::Bulk, 10).await, 0);
    assert_eq!(push(&inbox, 2, Lane::Urgent, 10).await, 0);
    let mut waiting = VecDeque::from([Bytes::from_static(b"late")]);
    let (moved, ()) = tokio::join!(inbox.push(1, Lane::Urgent, &mut waiting), async {
        while inbox.try_receive().is_some() {}
    });
    assert!(moved && waiting.is_empty());
}

#[tokio::test]
async fn what_an_ended_connection_left_comes_before_down() {
    let inbox = Inbox::default();
    open(&inbox, 1, PEER);
    push(&inbox, 1, Lane::Urgent, 70).await;
    inbox.close(1);
    assert_eq!(inbox.try_receive(), Some(Received::Up(PEER)));
    assert_eq!(group(inbox.try_receive()), (PEER, 64));
    assert_eq!(group(inbox.try_receive()), (PEER, 6));
    assert_eq!(inbox.try_receive(), Some(Received::Down(PEER)));
    assert_eq!(inbox.try_receive(), None);
    assert!(!inbox.push(1, Lane::Urgent, &mut VecDeque::new()).await);
}

#[tokio::test]
async fn a_replica_that_reconnects_leaves_nothing_behind_and_is_announced_anew() {
    let inbox = Inbox::default();
    open(&inbox, 1, PEER);
    assert_eq!(inbox.try_receive(), Some(Received::Up(PEER)));
    push(&inbox, 1, Lane::Urgent, 5).await;
    // The earlier connection need not even have ended.
    assert_eq!(open(&inbox, 2, PEER), 5);
    inbox.close(1);
    assert_eq!(inbox.try_receive(), Some(Received::Down(PEER)));
    assert_eq!(inbox.try_receive(), Some(Received::Up(PEER)));
    assert_eq!(inbox.try_receive(), None);
}

#[tokio::test]
async fn a_reader_that_waits_for_room_learns_that_its_connection_was_replaced() {
    let inbox = Inbox::default();
    open(&inbox, 1, PEER);
    push(&inbox, 1, Lane::Urgent, 200).await;
    let mut waiting = VecDeque::from([Bytes::from_static(b"late")]);
    let (moved, _) =
        tokio::join!(inbox.push(1, Lane::Urgent, &mut waiting), async { open(&inbox, 2, PEER) });
    assert!(!moved);
}

#[tokio::test]
async fn changes_nobody_saw_are_merged() {
    let inbox = Inbox::default();
    for serial in 0..100 {
        open(&inbox, serial, PEER);
        inbox.close(serial);
    }
    assert_eq!(inbox.try_receive(), None);
    open(&inbox, 200, PEER);
    assert_eq!(inbox.try_receive(), Some(Received::Up(PEER)));
    assert_eq!(inbox.try_receive(), None);
    assert!(inbox.lock().connections.len() == 1 && inbox.lock().changed.is_empty());
}

#[tokio::test]
async fn a_client_is_up_while_any_of_its_connections_is() {
    let inbox = Inbox::default();
    open(&inbox, 1, CLIENT);
    open(&inbox, 2, CLIENT);
    assert_eq!(inbox.try_receive(), Some(Received::Up(CLIENT)));
    inbox.close(1);
    push(&inbox, 2, Lane::Bulk, 1).await;
    assert_eq!(group(inbox.try_receive()), (CLIENT, 1));
    inbox.close(2);
    assert_eq!(inbox.try_receive(), Some(Received::Down(CLIENT)));
    assert_eq!(inbox.try_receive(), None);
}
