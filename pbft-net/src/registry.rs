//! Which connections exist, to whom, and who is shut out.
//!
//! The nodes are those of the configuration and never change, so the table itself needs no lock:
//! each node has its own, and a sender waits for nobody but another sender to the same node.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::close::CloseCode;
use crate::inbox::Serial;
use crate::lane::{Lane, LaneQueue, PerLane};
use crate::limits::Port;
use crate::shared::{LogGate, Shared};
use crate::{NetLimits, Node};

/// One connection that is up.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) serial: Serial,
    pub(crate) node: Node,
    pub(crate) connection: quinn::Connection,
    pub(crate) queues: PerLane<LaneQueue>,
}

/// Every configured node but ourselves.
#[derive(Debug)]
pub(crate) struct Registry {
    nodes: HashMap<Node, Entry>,
    client_links: AtomicUsize,
    next_serial: AtomicU64,
}

#[derive(Debug, Default)]
struct Entry {
    state: Mutex<State>,
    log_gate: LogGate,
}

#[derive(Debug, Default)]
struct State {
    /// Oldest first. At most one for a replica or gateway, a few for a client or user.
    links: Vec<Arc<Link>>,
    replaced_at: Option<Instant>,
    /// A connection has been up and ended.
    was_lost: bool,
    penalty: Option<Penalty>,
}

#[derive(Clone, Copy, Debug)]
struct Penalty {
    until: Instant,
    length: Duration,
}

impl Penalty {
    /// The one that follows: twice as long, unless the node has behaved for long enough since.
    fn after(previous: Option<Self>, now: Instant, limits: &NetLimits) -> Self {
        let length = match previous {
            Some(it) if now.saturating_duration_since(it.until) < limits.penalty_max => {
                it.length.saturating_mul(2).min(limits.penalty_max)
            }
            _ => limits.penalty_min,
        };
        Self { until: now + length, length }
    }
}

impl Registry {
    pub(crate) fn new(nodes: impl Iterator<Item = Node>) -> Self {
        Self {
            nodes: nodes.map(|node| (node, Entry::default())).collect(),
            client_links: AtomicUsize::new(0),
            next_serial: AtomicU64::new(0),
        }
    }

    fn lock(&self, node: Node) -> Option<MutexGuard<'_, State>> {
        let entry = self.nodes.get(&node)?;
        Some(entry.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a complaint about `node` may be logged now.
    pub(crate) fn may_log(&self, node: Node, line: &str) -> bool {
        self.nodes.get(&node).is_some_and(|entry| entry.log_gate.opens_for(line))
    }

    /// Until when `node` is shut out, if it is.
    pub(crate) fn penalized_until(&self, node: Node) -> Option<Instant> {
        let penalty = self.lock(node)?.penalty?;
        (penalty.until > Instant::now()).then_some(penalty.until)
    }

    pub(crate) fn is_up(&self, node: Node) -> bool {
        self.lock(node).is_some_and(|state| !state.links.is_empty())
    }

    pub(crate) fn round_trip(&self, node: Node) -> Option<Duration> {
        Some(self.lock(node)?.links.last()?.connection.rtt())
    }
}

impl Shared {
    /// Takes a connection whose HELLO was right into use: from here on frames are queued for it and
    /// the consumer hears of it. The error is the code to close it with.
    pub(crate) fn admit(
        self: &Arc<Self>,
        node: Node,
        port: Port,
        connection: &quinn::Connection,
    ) -> Result<Admitted, CloseCode> {
        let registry = &self.registry;
        let mut state = registry.lock(node).ok_or(CloseCode::Dropped)?;
        let now = Instant::now();
        // Under the lock: `close_all` sees this link, or we see that the network is closing.
        if self.is_closing() {
            return Err(CloseCode::Shutdown);
        }
        if state.penalty.is_some_and(|penalty| penalty.until > now) {
            self.counters.connections_penalized.bump();
            return Err(CloseCode::Penalized);
        }
        match node.serves() {
            true => self.make_room_for_replica(&mut state, now)?,
            false => self.make_room_for_client(&mut state)?,
        }
        let link = Arc::new(Link {
            serial: registry.next_serial.fetch_add(1, Ordering::Relaxed),
            node,
            connection: connection.clone(),
            queues: PerLane::new(|lane| LaneQueue::new(lane, self.limits.lane(port, lane))),
        });
        if state.was_lost && state.links.is_empty() {
            self.counters.reconnects.bump();
        }
        self.counters.ups.bump();
        if !node.serves() {
            registry.client_links.fetch_add(1, Ordering::Relaxed);
        }
        state.links.push(link.clone());
        // Still under the lock: who hears `Up` can send, and later connections come later there too.
        let lanes = Lane::ALL.map(|lane| self.limits.lane(port, lane));
        self.inbox.open(link.serial, node, lanes, &self.counters);
        drop(state);
        Ok(Admitted { shared: self.clone(), link })
    }

    /// For a gateway as well. The new connection wins: the other end would not have dialled if it still had the old one.
    /// Not too often though, or two processes with one key would chase each other for ever.
    fn make_room_for_replica(&self, state: &mut State, now: Instant) -> Result<(), CloseCode> {
        let Some(old) = state.links.first().cloned() else {
            return Ok(());
        };
        let interval = self.limits.replace_interval;
        let is_live = old.connection.close_reason().is_none();
        let too_soon = |at: Instant| is_live && now.saturating_duration_since(at) < interval;
        if state.replaced_at.is_some_and(too_soon) {
            self.counters.replacements_refused.bump();
            return Err(CloseCode::ReplacedTooSoon);
        }
        state.replaced_at = Some(now);
        self.counters.connections_replaced.bump();
        self.end(state, &old, CloseCode::Replaced);
        Ok(())
    }

    /// For a user as well. A client may use several connections; beyond its share its own oldest one goes.
    fn make_room_for_client(&self, state: &mut State) -> Result<(), CloseCode> {
        let total = self.registry.client_links.load(Ordering::Relaxed);
        let is_full = total >= self.limits.client_connections_max;
        if !is_full && state.links.len() < self.limits.connections_per_client_max {
            return Ok(());
        }
        self.counters.connections_limited.bump();
        let Some(oldest) = state.links.first().cloned() else {
            return Err(CloseCode::TooManyConnections);
        };
        self.end(state, &oldest, CloseCode::TooManyConnections);
        Ok(())
    }

    /// Closes a link and takes it out of use at once; its task notices later.
    fn end(&self, state: &mut State, link: &Link, code: CloseCode) {
        link.connection.close(code.wire(), format!("{code:?}").as_bytes());
        self.forget(state, link);
    }

    fn forget(&self, state: &mut State, link: &Link) {
        let before = state.links.len();
        state.links.retain(|it| it.serial != link.serial);
        if state.links.len() == before {
            return;
        }
        state.was_lost = true;
        self.counters.downs.bump();
        if !link.node.serves() {
            self.registry.client_links.fetch_sub(1, Ordering::Relaxed);
        }
        for lane in Lane::ALL {
            link.queues.get(lane).discard(&self.counters);
        }
    }

    /// Queues a frame for every connection of `to`.
    pub(crate) fn send(&self, to: Node, port: Port, lane: Lane, frame: Bytes) {
        if frame.is_empty() || frame.len() > self.limits.lane(port, lane).frame_bytes_max {
            self.counters.dropped_outbound_size.bump();
            return;
        }
        let state = self.registry.lock(to);
        let links = state.as_ref().map(|state| state.links.as_slice()).unwrap_or_default();
        let Some((last, others)) = links.split_last() else {
            self.counters.dropped_outbound_unconnected.bump();
            return;
        };
        for link in others {
            link.queues.get(lane).push(frame.clone(), &self.counters);
        }
        last.queues.get(lane).push(frame, &self.counters);
    }

    /// Closes every connection of `node` and shuts it out for a while.
    pub(crate) fn penalize(&self, node: Node, reason: &str) {
        let Some(mut state) = self.registry.lock(node) else {
            return;
        };
        let now = Instant::now();
        if state.penalty.is_some_and(|running| now < running.until) {
            // One burst is one offence, however many of its frames were already queued.
            return;
        }
        let penalty = Penalty::after(state.penalty, now, &self.limits);
        state.penalty = Some(penalty);
        self.counters.penalties.bump();
        for link in state.links.clone() {
            self.end(&mut state, &link, CloseCode::Penalized);
        }
        drop(state);
        if self.registry.may_log(node, reason) {
            let length = penalty.length;
            tracing::warn!(target: "pbft::net", %node, reason, ?length, "node shut out for a while");
        }
    }

    /// Lets every connection write what is queued, and then end.
    pub(crate) fn close_all(&self) {
        for node in self.registry.nodes.keys() {
            let Some(state) = self.registry.lock(*node) else {
                continue;
            };
            for link in &state.links {
                for lane in Lane::ALL {
                    link.queues.get(lane).close();
                }
            }
        }
    }
}

/// A link in use. Dropping it, also by aborting the task that holds it, takes it out of use.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) shared: Arc<Shared>,
    pub(crate) link: Arc<Link>,
}

impl Admitted {
    /// Nothing is sent over the link any more; what it delivers is still received.
    pub(crate) fn stop_sending(&self) {
        if let Some(mut state) = self.shared.registry.lock(self.link.node) {
            self.shared.forget(&mut state, &self.link);
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.stop_sending();
        self.shared.inbox.close(self.link.serial);
    }
}

#[cfg(test)]
#[path = "registry_test.rs"]
mod tests;
