//! Which connections are up, and who is shut out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::close::CloseCode;
use crate::counters::Counters;
use crate::inbox::{Inbox, Serial};
use crate::lane::{Lane, LaneQueue, PerLane};
use crate::limits::{NetLimits, Port};
use crate::{Identity, Node};

/// What all tasks of one network share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) me: Node,
    pub(crate) identity: Identity,
    pub(crate) limits: NetLimits,
    pub(crate) counters: Counters,
    pub(crate) inbox: Inbox,
    registry: Mutex<Registry>,
}

#[derive(Debug, Default)]
struct Registry {
    links: HashMap<Node, Vec<Link>>,
    penalties: HashMap<Node, Penalty>,
    clients: usize,
    serial: Serial,
    closing: bool,
}

#[derive(Debug)]
struct Link {
    serial: Serial,
    connection: quinn::Connection,
    queues: Arc<PerLane<LaneQueue>>,
    since: Instant,
}

#[derive(Debug)]
struct Penalty {
    until: Instant,
    length: Duration,
}

impl Shared {
    pub(crate) fn new(me: Node, identity: Identity, limits: NetLimits) -> Self {
        Shared {
            me,
            identity,
            limits,
            counters: Counters::default(),
            inbox: Inbox::default(),
            registry: Mutex::default(),
        }
    }

    /// Takes in a connection whose HELLO agreed.
    pub(crate) fn admit(
        &self,
        node: Node,
        port: Port,
        connection: &quinn::Connection,
    ) -> Result<(Serial, Arc<PerLane<LaneQueue>>), CloseCode> {
        let mut registry = self.lock();
        if registry.closing {
            return Err(CloseCode::Shutdown);
        }
        let now = Instant::now();
        if registry.penalties.get(&node).is_some_and(|penalty| now < penalty.until) {
            self.counters.connections_penalized.bump();
            return Err(CloseCode::Penalized);
        }
        self.make_room(&mut registry, node, now)?;
        registry.serial += 1;
        let serial = registry.serial;
        let queues = PerLane::new(|lane| LaneQueue::new(self.limits.lane(port, lane)));
        let queues = Arc::new(queues);
        let link = Link {
            serial,
            connection: connection.clone(),
            queues: Arc::clone(&queues),
            since: now,
        };
        if matches!(node, Node::Client(_)) {
            registry.clients += 1;
        }
        registry.links.entry(node).or_default().push(link);
        drop(registry);
        let limits = [Lane::Urgent, Lane::Bulk].map(|lane| self.limits.lane(port, lane));
        self.inbox.open(serial, node, limits, &self.counters);
        self.counters.ups.bump();
        Ok((serial, queues))
    }

    /// A replica has one connection: the newer takes over, but not many times a second. A client has a
    /// few: the oldest goes.
    fn make_room(
        &self,
        registry: &mut Registry,
        node: Node,
        now: Instant,
    ) -> Result<(), CloseCode> {
        let links = registry.links.entry(node).or_default();
        match (node, links.first()) {
            (Node::Replica(_), Some(old)) => {
                if now.duration_since(old.since) < self.limits.replace_interval {
                    self.counters.replacements_refused.bump();
                    return Err(CloseCode::ReplacedTooSoon);
                }
                self.counters.connections_replaced.bump();
                close(&old.connection, CloseCode::Replaced, "a newer connection took over");
            }
            (Node::Client(_), Some(old))
                if links.len() >= self.limits.connections_per_client_max =>
            {
                self.counters.connections_limited.bump();
                close(&old.connection, CloseCode::TooManyConnections, "one client, too many");
                // The link itself goes when its task notices.
            }
            (Node::Client(_), _) if registry.clients >= self.limits.client_connections_max => {
                self.counters.connections_limited.bump();
                return Err(CloseCode::TooManyConnections);
            }
            _ => {}
        }
        Ok(())
    }

    /// The connection has ended.
    pub(crate) fn forget(&self, node: Node, serial: Serial) {
        let mut registry = self.lock();
        if let Some(links) = registry.links.get_mut(&node) {
            let before = links.len();
            links.retain(|link| {
                let keep = link.serial != serial;
                if !keep {
                    Lane::ALL
                        .iter()
                        .for_each(|lane| link.queues.get(*lane).discard(&self.counters));
                }
                keep
            });
            let gone = before - links.len();
            if links.is_empty() {
                registry.links.remove(&node);
            }
            if matches!(node, Node::Client(_)) {
                registry.clients = registry.clients.saturating_sub(gone);
            }
        }
        drop(registry);
        self.inbox.close(serial);
        self.counters.downs.bump();
    }

    pub(crate) fn send(&self, node: Node, lane: Lane, frame: Bytes) {
        let port = match (self.me, node) {
            (Node::Replica(_), Node::Replica(_)) => Port::Peer,
            _ => Port::Client,
        };
        if frame.is_empty() || frame.len() > self.limits.lane(port, lane).frame_bytes_max {
            self.counters.dropped_outbound_size.bump();
            return;
        }
        let registry = self.lock();
        match registry.links.get(&node) {
            None => self.counters.dropped_outbound_unconnected.bump(),
            Some(links) => {
                for link in links {
                    link.queues.get(lane).push(frame.clone(), &self.counters);
                }
            }
        }
    }

    /// Closes all connections of `node` and shuts it out for a while, longer each time.
    pub(crate) fn penalize(&self, node: Node, reason: &str) {
        self.counters.penalties.bump();
        let mut registry = self.lock();
        let now = Instant::now();
        let (min, max) = (self.limits.penalty_min, self.limits.penalty_max);
        let length = match registry.penalties.get(&node) {
            // Who has behaved for the longest penalty starts anew.
            Some(last) if now < last.until + max => last.length.saturating_mul(2).min(max),
            _ => min,
        };
        registry.penalties.insert(node, Penalty { until: now + length, length });
        for link in registry.links.get(&node).into_iter().flatten() {
            close(&link.connection, CloseCode::Penalized, reason);
        }
    }

    /// How long `node` is still shut out.
    pub(crate) fn penalty_left(&self, node: Node) -> Duration {
        let until = self.lock().penalties.get(&node).map(|penalty| penalty.until);
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn is_up(&self, node: Node) -> bool {
        self.lock().links.contains_key(&node)
    }

    pub(crate) fn round_trip(&self, node: Node) -> Option<Duration> {
        self.lock().links.get(&node)?.last().map(|link| link.connection.rtt())
    }

    /// Lets writers finish what is queued and admits nobody any more.
    pub(crate) fn begin_closing(&self) {
        let mut registry = self.lock();
        registry.closing = true;
        for link in registry.links.values().flatten() {
            Lane::ALL.iter().for_each(|lane| link.queues.get(*lane).close());
        }
    }

    pub(crate) fn has_links(&self) -> bool {
        !self.lock().links.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        // A panic cannot have left the plain data inside half changed in a way that matters.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn close(connection: &quinn::Connection, code: CloseCode, reason: &str) {
    connection.close(code.wire(), reason.as_bytes());
}
