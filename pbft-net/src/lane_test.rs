use super::*;
use crate::NetLimits;

fn queue(frames_max: usize, bytes_max: usize) -> LaneQueue {
    queue_of(Lane::Bulk, frames_max, bytes_max)
}

fn queue_of(lane: Lane, frames_max: usize, bytes_max: usize) -> LaneQueue {
    let limits = NetLimits::default().peer_urgent;
    LaneQueue::new(
        lane,
        &LaneLimits { outbound_frames_max: frames_max, outbound_bytes_max: bytes_max, ..limits },
    )
}

fn drain(queue: &LaneQueue) -> Vec<u8> {
    let mut buffer = BytesMut::new();
    queue.next(&mut buffer);
    buffer.to_vec()
}

#[test]
fn the_oldest_frames_go_when_there_are_too_many_frames() {
    let (queue, counters) = (queue(2, 1000), Counters::default());
    for frame in ["a", "b", "c"] {
        queue.push(Bytes::from(frame), &counters);
    }
    assert_eq!(counters.snapshot().dropped_outbound_full, 1);
    assert_eq!(drain(&queue), b"\x01\0\0\0b\x01\0\0\0c");
}

#[test]
fn the_oldest_frames_go_when_there_are_too_many_bytes() {
    let (queue, counters) = (queue(100, 10), Counters::default());
    for frame in ["aaaa", "bbbb", "cccccccc"] {
        queue.push(Bytes::from(frame), &counters);
    }
    assert_eq!(counters.snapshot().dropped_outbound_full, 2);
    assert_eq!(drain(&queue), b"\x08\0\0\0cccccccc");
    assert_eq!(queue.lock().bytes, 0);
}

/// What was asked first is waited for the longest; who asked for the rest asks again.
#[test]
fn of_a_transfer_the_newest_frames_go() {
    let (queue, counters) = (queue_of(Lane::Transfer, 2, 1000), Counters::default());
    for frame in ["a", "b", "c"] {
        queue.push(Bytes::from(frame), &counters);
    }
    assert_eq!(counters.snapshot().dropped_outbound_full, 1);
    assert_eq!(drain(&queue), b"\x01\0\0\0a\x01\0\0\0b");
}

#[test]
fn small_frames_share_a_write_and_a_large_one_has_its_own() {
    let (queue, counters) = (queue(100, 1 << 20), Counters::default());
    let large = Bytes::from(vec![9; COALESCED_BYTES_MAX]);
    for frame in [Bytes::from("a"), Bytes::from("b"), large.clone(), Bytes::from("c")] {
        queue.push(frame, &counters);
    }
    let mut buffer = BytesMut::new();
    assert_eq!(queue.next(&mut buffer), Next::Buffer(2));
    buffer.clear();
    assert_eq!(queue.next(&mut buffer), Next::Large(large));
    assert_eq!(queue.next(&mut buffer), Next::Buffer(1));
    buffer.clear();
    assert_eq!(queue.next(&mut buffer), Next::Wait);
    queue.close();
    assert_eq!(queue.next(&mut buffer), Next::End);
}
