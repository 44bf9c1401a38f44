//! Lanes: one long-lived stream per direction and class, and the bounded queue that feeds it.
//!
//! A vote must not wait behind a batch of requests, so each class has a stream of its own (a lost
//! packet of one does not delay the other) and the urgent one has priority for every packet sent.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use quinn::{SendStream, WriteError};
use tokio::sync::Notify;

use crate::counters::Counters;
use crate::frame::{PREFIX_BYTES, prefix};
use crate::limits::LaneLimits;

/// The class of a frame. Frames of one lane arrive in the order sent; the lanes overtake each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Small and needed at once: votes, view changes, replies.
    Urgent,
    /// Large or able to wait: proposals with their requests.
    Bulk,
    /// State transfer, between replicas only: 100 MB of it must delay neither votes nor proposals
    /// (PITFALLS J9).
    Transfer,
}

impl Lane {
    pub(crate) const ALL: [Self; 3] = [Self::Urgent, Self::Bulk, Self::Transfer];

    /// The first byte of the lane's stream.
    pub(crate) fn tag(self) -> u8 {
        match self {
            Self::Urgent => 0,
            Self::Bulk => 1,
            Self::Transfer => 2,
        }
    }

    pub(crate) fn priority(self) -> i32 {
        match self {
            Self::Urgent => 2,
            Self::Bulk => 1,
            Self::Transfer => 0,
        }
    }
}

/// One of something per lane.
#[derive(Debug, Default)]
pub(crate) struct PerLane<T> {
    pub(crate) urgent: T,
    pub(crate) bulk: T,
    pub(crate) transfer: T,
}

impl<T> PerLane<T> {
    pub(crate) fn new(mut make: impl FnMut(Lane) -> T) -> Self {
        let (urgent, bulk) = (make(Lane::Urgent), make(Lane::Bulk));
        Self { urgent, bulk, transfer: make(Lane::Transfer) }
    }

    pub(crate) fn get(&self, lane: Lane) -> &T {
        match lane {
            Lane::Urgent => &self.urgent,
            Lane::Bulk => &self.bulk,
            Lane::Transfer => &self.transfer,
        }
    }

    pub(crate) fn get_mut(&mut self, lane: Lane) -> &mut T {
        match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Bulk => &mut self.bulk,
            Lane::Transfer => &mut self.transfer,
        }
    }
}

/// Waiting frames are copied together up to this size and written at once; measured, that doubles
/// the rate of small frames against a write each. A larger frame is written on its own, uncopied.
const COALESCED_BYTES_MAX: usize = 16 * 1024;

/// Frames waiting to be written to one lane of one connection.
///
/// Invariants: `bytes` is the sum of the lengths in `frames`; both stay within the limits.
#[derive(Debug)]
pub(crate) struct LaneQueue {
    frames_max: usize,
    bytes_max: usize,
    drops_newest: bool,
    state: Mutex<QueueState>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    frames: VecDeque<Bytes>,
    bytes: usize,
    closed: bool,
}

/// What the writer is to do next.
#[derive(Debug, PartialEq)]
enum Next {
    /// Write the buffer: this many frames are in it.
    Buffer(usize),
    /// Write this one frame.
    Large(Bytes),
    /// Wait for more.
    Wait,
    /// Everything is written and no more will come.
    End,
}

impl LaneQueue {
    pub(crate) fn new(lane: Lane, limits: &LaneLimits) -> Self {
        Self {
            frames_max: limits.outbound_frames_max,
            bytes_max: limits.outbound_bytes_max,
            // What was asked first is waited for the longest, and nothing of a transfer is obsolete.
            drops_newest: lane == Lane::Transfer,
            state: Mutex::default(),
            filled: Notify::new(),
        }
    }

    /// Adds a frame, dropping the oldest ones if there is no room: what is old is most likely
    /// obsolete, and the protocol repairs every loss by its status exchange (PITFALLS J10). On the
    /// transfer lane the new one is dropped: its asker asks again.
    pub(crate) fn push(&self, frame: Bytes, counters: &Counters) {
        let mut state = self.lock();
        if state.closed {
            counters.dropped_outbound_closed.bump();
            return;
        }
        while state.frames.len() >= self.frames_max || state.bytes + frame.len() > self.bytes_max {
            if self.drops_newest {
                counters.dropped_outbound_full.bump();
                return;
            }
            let Some(oldest) = state.frames.pop_front() else {
                break;
            };
            state.bytes -= oldest.len();
            counters.dropped_outbound_full.bump();
        }
        let was_empty = state.frames.is_empty();
        state.bytes += frame.len();
        state.frames.push_back(frame);
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// No more frames: the writer finishes the stream after those that wait.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Empties the queue of a connection that has ended.
    pub(crate) fn discard(&self, counters: &Counters) {
        let mut state = self.lock();
        state.closed = true;
        state.bytes = 0;
        counters.dropped_outbound_closed.add(state.frames.len());
        state.frames.clear();
    }

    /// Writes frames as they come, until the queue is closed and empty or the stream fails.
    /// Not cancel-safe: cancelling it abandons the stream.
    pub(crate) async fn write_to(
        &self,
        mut stream: SendStream,
        counters: &Counters,
    ) -> Result<SendStream, WriteError> {
        let mut buffer = BytesMut::new();
        loop {
            match self.next(&mut buffer) {
                Next::Wait => self.filled.notified().await,
                Next::End => {
                    // Fails only if the stream is gone already, which the caller learns anyway.
                    let _ = stream.finish();
                    return Ok(stream);
                }
                Next::Buffer(frames) => {
                    let bytes = buffer.len();
                    stream.write_chunk(buffer.split().freeze()).await?;
                    counters.frames_sent.add(frames);
                    counters.bytes_sent.add(bytes);
                    counters.writes.bump();
                }
                Next::Large(frame) => {
                    let Some(prefix) = prefix(&frame) else {
                        continue;
                    };
                    let bytes = prefix.len() + frame.len();
                    stream.write_all_chunks(&mut [Bytes::copy_from_slice(&prefix), frame]).await?;
                    counters.frames_sent.bump();
                    counters.bytes_sent.add(bytes);
                    counters.writes.bump();
                }
            }
        }
    }

    /// Fills `buffer` with waiting frames. Requires: `buffer` is empty.
    fn next(&self, buffer: &mut BytesMut) -> Next {
        let mut state = self.lock();
        let mut frames = 0;
        while let Some(first) = state.frames.front() {
            if buffer.len() + PREFIX_BYTES + first.len() > COALESCED_BYTES_MAX {
                if frames > 0 {
                    break;
                }
                let large = first.clone();
                state.frames.pop_front();
                state.bytes -= large.len();
                return Next::Large(large);
            }
            let Some(prefix) = prefix(first) else { break };
            if frames == 0 {
                // Room for what waits, in one allocation, and no more than that.
                let waiting = state.bytes + state.frames.len() * PREFIX_BYTES;
                buffer.reserve(waiting.min(COALESCED_BYTES_MAX));
            }
            buffer.put_slice(&prefix);
            buffer.put_slice(first);
            state.bytes -= first.len();
            state.frames.pop_front();
            frames += 1;
        }
        match (frames, state.closed) {
            (0, true) => Next::End,
            (0, false) => Next::Wait,
            (frames, _) => Next::Buffer(frames),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, QueueState> {
        // A panic cannot have left the plain data inside half changed in a way that matters.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "lane_test.rs"]
mod tests;
