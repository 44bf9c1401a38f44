//! The inbox: one bounded queue per connection, served round-robin.
//!
//! A peer that floods fills its own queue and is then not read any more; QUIC's flow control stops
//! it at the source. What it cannot do is delay another peer's frame by more than one group per
//! connection (PITFALLS F3).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::Node;
use crate::counters::Counters;
use crate::lane::{Lane, PerLane};
use crate::limits::LaneLimits;

/// Most frames handed over at once.
pub const GROUP_FRAMES_MAX: usize = 64;
/// Places in a group kept for the bulk lane if it has something, so that urgent frames without end
/// cannot starve it.
const GROUP_BULK_MIN: usize = 16;

/// What the network hands to its consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// Frames of one connection, oldest first within each lane, urgent ones before bulk ones;
    /// between one and [`GROUP_FRAMES_MAX`] of them. Authenticated as coming from `from`, and
    /// otherwise whatever that node chose to send.
    Frames {
        /// The node at the other end.
        from: Node,
        /// Its frames.
        frames: Vec<Bytes>,
    },
    /// The node is connected: frames to it will be sent from now on. Said once, also for a client
    /// that opens more connections; said again, after a `Down`, when a replica reconnects.
    Up(Node),
    /// The last connection to the node has ended, and all it sent has been handed over.
    Down(Node),
}

/// Names one connection for as long as the process lives.
pub(crate) type Serial = u64;

/// The inbound queues of all connections.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    arrived: Notify,
}

/// Invariants: a connection is in `ready` exactly once if it has frames and not at all if it has
/// none; a node is in `changed` at most once.
#[derive(Debug, Default)]
struct State {
    connections: HashMap<Serial, Connection>,
    ready: VecDeque<Serial>,
    nodes: HashMap<Node, Presence>,
    changed: VecDeque<Node>,
}

#[derive(Debug)]
struct Connection {
    node: Node,
    lanes: PerLane<Queue>,
    /// The connection has ended; what is left is handed over, then it is forgotten.
    closed: bool,
}

#[derive(Debug)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    frames_max: usize,
    bytes_max: usize,
    /// The reader waits for room.
    blocked: bool,
    room: Arc<Notify>,
}

/// What the consumer has been told about a node, against what is true. Transitions it was too slow
/// to see are merged, so that a peer that flaps cannot grow a queue of them.
#[derive(Debug, Default)]
struct Presence {
    connections: usize,
    /// Counts the times `connections` rose from zero.
    generation: u64,
    told: Option<u64>,
    queued: bool,
}

impl Inbox {
    /// Registers a connection. A replica's earlier one counts as gone: `Down` and `Up` follow.
    pub(crate) fn open(
        &self,
        serial: Serial,
        node: Node,
        limits: [&LaneLimits; 3],
        counters: &Counters,
    ) {
        let [urgent, bulk, transfer] = limits.map(|limits| Queue {
            frames: VecDeque::new(),
            bytes: 0,
            frames_max: limits.inbound_frames_max,
            bytes_max: limits.inbound_bytes_max,
            blocked: false,
            room: Arc::new(Notify::new()),
        });
        let mut state = self.lock();
        // What an ended connection left unread may wait for the consumer, but only until the node's
        // next one: reconnecting must not be a way to fill memory. A replica has one connection,
        // so nothing of its earlier one may arrive after this.
        let stale: Vec<Serial> = state.outdated_by(node).collect();
        for serial in stale {
            counters.dropped_inbound.add(state.forget(serial));
        }
        let connection =
            Connection { node, lanes: PerLane { urgent, bulk, transfer }, closed: false };
        state.connections.insert(serial, connection);
        let presence = state.nodes.entry(node).or_default();
        presence.connections += 1;
        if presence.connections == 1 || node.serves() {
            presence.generation = presence.generation.wrapping_add(1);
        }
        state.announce(node);
        drop(state);
        self.arrived.notify_one();
    }

    /// The connection has ended. What it delivered stays until it is consumed.
    pub(crate) fn close(&self, serial: Serial) {
        let mut state = self.lock();
        let Some(connection) = state.connections.get_mut(&serial) else {
            return;
        };
        connection.closed = true;
        for lane in Lane::ALL {
            connection.lanes.get(lane).room.notify_one();
        }
        if connection.is_empty() {
            state.forget(serial);
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Moves `frames` into the connection's queue, waiting for room. `false` once it has ended.
    /// Cancel-safe: what was not moved is still in `frames`.
    pub(crate) async fn push(
        &self,
        serial: Serial,
        lane: Lane,
        frames: &mut VecDeque<Bytes>,
    ) -> bool {
        loop {
            let room = {
                let mut state = self.lock();
                let State { connections, ready, .. } = &mut *state;
                let Some(connection) = connections.get_mut(&serial) else {
                    return false;
                };
                if connection.closed {
                    return false;
                }
                let was_empty = connection.is_empty();
                let queue = connection.lanes.get_mut(lane);
                while let Some(frame) = frames.pop_front() {
                    if !queue.has_room(frame.len()) {
                        frames.push_front(frame);
                        break;
                    }
                    queue.bytes += frame.len();
                    queue.frames.push_back(frame);
                }
                queue.blocked = !frames.is_empty();
                let room = queue.room.clone();
                if was_empty && !connection.is_empty() {
                    ready.push_back(serial);
                    self.arrived.notify_one();
                }
                room
            };
            if frames.is_empty() {
                return true;
            }
            room.notified().await;
        }
    }

    /// The next group or transition, if one waits.
    pub(crate) fn try_receive(&self) -> Option<Received> {
        let mut state = self.lock();
        state.transition().or_else(|| state.group())
    }

    /// The next group or transition. Cancel-safe. One consumer at a time is woken.
    pub(crate) async fn receive(&self) -> Received {
        loop {
            if let Some(received) = self.try_receive() {
                return received;
            }
            self.arrived.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn transition(&mut self) -> Option<Received> {
        while let Some(node) = self.changed.pop_front() {
            let Some(presence) = self.nodes.get_mut(&node) else {
                continue;
            };
            presence.queued = false;
            let current = (presence.connections > 0).then_some(presence.generation);
            if presence.told == current {
                continue;
            }
            if presence.told.take().is_some() {
                if current.is_some() {
                    self.announce(node);
                }
                return Some(Received::Down(node));
            }
            presence.told = current;
            return Some(Received::Up(node));
        }
        None
    }

    fn group(&mut self) -> Option<Received> {
        while let Some(serial) = self.ready.pop_front() {
            let Some(connection) = self.connections.get_mut(&serial) else {
                continue;
            };
            let from = connection.node;
            let frames = connection.take_group();
            if !connection.is_empty() {
                // To the back: every other connection with something comes first.
                self.ready.push_back(serial);
            } else if connection.closed {
                self.forget(serial);
            }
            if !frames.is_empty() {
                return Some(Received::Frames { from, frames });
            }
        }
        None
    }

    /// Forgets a connection and returns how many frames were lost with it.
    fn forget(&mut self, serial: Serial) -> usize {
        let Some(connection) = self.connections.remove(&serial) else {
            return 0;
        };
        for lane in Lane::ALL {
            // A reader that waits for room shall learn that there will be none.
            connection.lanes.get(lane).room.notify_one();
        }
        if !connection.is_empty() {
            self.ready.retain(|ready| *ready != serial);
        }
        if let Some(presence) = self.nodes.get_mut(&connection.node) {
            presence.connections = presence.connections.saturating_sub(1);
        }
        self.announce(connection.node);
        let lost = |lane| connection.lanes.get(lane).frames.len();
        Lane::ALL.into_iter().map(lost).sum()
    }

    fn announce(&mut self, node: Node) {
        if let Some(presence) = self.nodes.get_mut(&node)
            && !presence.queued
        {
            presence.queued = true;
            self.changed.push_back(node);
        }
    }

    fn outdated_by(&self, node: Node) -> impl Iterator<Item = Serial> {
        let only_one = node.serves();
        let outdated = move |it: &Connection| it.node == node && (it.closed || only_one);
        self.connections.iter().filter(move |(_, it)| outdated(it)).map(|(serial, _)| *serial)
    }
}

impl Connection {
    fn is_empty(&self) -> bool {
        Lane::ALL.into_iter().all(|lane| self.lanes.get(lane).frames.is_empty())
    }

    fn take_group(&mut self) -> Vec<Bytes> {
        let PerLane { urgent, bulk, transfer } = &mut self.lanes;
        // Of a transfer one frame at a time: each is large, and nothing is lost by its waiting.
        let last = transfer.frames.len().min(1);
        let kept = bulk.frames.len().min(GROUP_BULK_MIN) + last;
        let all = urgent.frames.len() + bulk.frames.len() + last;
        let mut group = Vec::with_capacity(all.min(GROUP_FRAMES_MAX));
        urgent.take(GROUP_FRAMES_MAX - kept, &mut group);
        bulk.take((GROUP_FRAMES_MAX - last).saturating_sub(group.len()), &mut group);
        transfer.take(last, &mut group);
        group
    }
}

impl Queue {
    fn has_room(&self, bytes: usize) -> bool {
        self.frames.len() < self.frames_max && self.bytes + bytes <= self.bytes_max
    }

    fn take(&mut self, frames_max: usize, group: &mut Vec<Bytes>) {
        let count = frames_max.min(self.frames.len());
        for frame in self.frames.drain(..count) {
            self.bytes -= frame.len();
            group.push(frame);
        }
        if count > 0 && self.blocked {
            self.blocked = false;
            self.room.notify_one();
        }
    }
}

#[cfg(test)]
#[path = "inbox_test.rs"]
mod tests;
