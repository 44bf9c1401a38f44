//! Requests waiting to be ordered, in order of arrival.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::limits::{Constants, Limits};
use crate::message::Request;
use crate::replica::io::Reason;
use crate::types::{ClientId, Instant, RequestNumber};

type Key = (ClientId, RequestNumber);

/// Order of arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket(u64);

#[derive(Clone, Debug)]
struct Waiting {
    request: Request,
    ticket: Ticket,
    relayed_at: Option<Instant>,
}

/// Verified requests that are not executed yet: one per client and number, bounded per client and in all
/// (PITFALLS K5). Those in a proposal of ours stay until they are executed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending {
    waiting: BTreeMap<Key, Waiting>,
    /// All of them in order of arrival: the first is the one the timer runs for (PITFALLS E4).
    order: BTreeMap<Ticket, Key>,
    /// Those that are in no proposal of ours.
    unproposed: BTreeSet<Ticket>,
    unproposed_bytes: usize,
    last: Ticket,
    bytes: usize,
    /// How many wait of each client of which any does.
    of_client: BTreeMap<ClientId, u64>,
}

impl Pending {
    /// Whether a request may be taken in, without taking it.
    pub(crate) fn admits(
        &self,
        request: &Request,
        limits: &Limits,
        constants: &Constants,
    ) -> Result<(), Reason> {
        if let Some(held) = self.waiting.get(&key(request)) {
            let same = held.request.digest() == request.digest();
            return Err(if same { Reason::Duplicate } else { Reason::NumberPending });
        }
        // A client has at most W numbers unresolved, and up to W more that f + 1 others have executed and
        // answered and this replica has not.
        let of_client = self.of_client.get(&request.client()).copied().unwrap_or(0);
        let full = self.waiting.len() >= limits.pending_requests_max
            || self.bytes.saturating_add(request.wire_bytes()) > limits.pending_bytes_max
            || of_client >= 2 * constants.client_window;
        if full { Err(Reason::Busy) } else { Ok(()) }
    }

    /// Takes a request in, behind the others. The caller has asked [`Pending::admits`].
    pub(crate) fn push(&mut self, request: Request) {
        self.bytes = self.bytes.saturating_add(request.wire_bytes());
        *self.of_client.entry(request.client()).or_default() += 1;
        self.last = Ticket(self.last.0.saturating_add(1));
        self.order.insert(self.last, key(&request));
        self.unproposed.insert(self.last);
        self.unproposed_bytes = self.unproposed_bytes.saturating_add(request.wire_bytes());
        let waiting = Waiting { request, ticket: self.last, relayed_at: None };
        self.waiting.insert(key(&waiting.request), waiting);
    }

    /// Whether a request should be relayed now: the first time, and again when its client asks again
    /// after `delay` (PITFALLS F5). Notes the time if so.
    pub(crate) fn relay_due(
        &mut self,
        request: &Request,
        now: Instant,
        delay: core::time::Duration,
    ) -> bool {
        let Some(waiting) = self.waiting.get_mut(&key(request)) else {
            return false;
        };
        let due = waiting.relayed_at.is_none_or(|at| now.since(at) >= delay);
        if due {
            waiting.relayed_at = Some(now);
        }
        due
    }

    /// The next request to propose, marked as proposed, if it fits `room_bytes`.
    pub(crate) fn pop(&mut self, room_bytes: usize) -> Option<Request> {
        let ticket = self.unproposed.first()?;
        let waiting = self.order.get(ticket).and_then(|key| self.waiting.get(key))?;
        if waiting.request.wire_bytes() > room_bytes {
            return None;
        }
        let (request, ticket) = (waiting.request.clone(), *ticket);
        self.propose(ticket, request.wire_bytes());
        Some(request)
    }

    /// Another view begins: what was proposed in the old one waits again. The oldest `most` are returned,
    /// for passing on to the new primary.
    pub(crate) fn requeue(&mut self, now: Instant, most: usize) -> Vec<Request> {
        self.unproposed = self.order.keys().copied().collect();
        self.unproposed_bytes = self.bytes;
        let mut oldest = Vec::new();
        for key in self.order.values().take(most) {
            if let Some(waiting) = self.waiting.get_mut(key) {
                waiting.relayed_at = Some(now);
                oldest.push(waiting.request.clone());
            }
        }
        oldest
    }

    /// A request is in a batch that the view carries over: it is not proposed once more.
    pub(crate) fn mark_proposed(&mut self, client: ClientId, number: RequestNumber) {
        if let Some(waiting) = self.waiting.get(&(client, number)) {
            self.propose(waiting.ticket, waiting.request.wire_bytes());
        }
    }

    fn propose(&mut self, ticket: Ticket, bytes: usize) {
        if self.unproposed.remove(&ticket) {
            self.unproposed_bytes = self.unproposed_bytes.saturating_sub(bytes);
        }
    }

    /// A number was consumed, or the request's slot was executed: it waits no more.
    pub(crate) fn remove(&mut self, client: ClientId, number: RequestNumber) {
        if let Some(waiting) = self.waiting.remove(&(client, number)) {
            self.bytes = self.bytes.saturating_sub(waiting.request.wire_bytes());
            if let Some(count) = self.of_client.get_mut(&client) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.of_client.remove(&client);
                }
            }
            self.order.remove(&waiting.ticket);
            self.propose(waiting.ticket, waiting.request.wire_bytes());
        }
    }

    /// Drops the client's requests whose numbers have become stale: they would change nothing any more,
    /// and must not keep its place.
    pub(crate) fn remove_stale(&mut self, client: ClientId, top: RequestNumber, window: u64) {
        let last = RequestNumber(top.0.saturating_sub(window));
        let stale = (client, RequestNumber(0))..=(client, last);
        let stale: Vec<Key> = self.waiting.range(stale).map(|(key, _)| *key).collect();
        stale.into_iter().for_each(|(client, number)| self.remove(client, number));
    }

    /// The request that has waited longest.
    pub(crate) fn head(&self) -> Option<Key> {
        self.order.first_key_value().map(|(_, key)| *key)
    }

    /// The request that has waited longest, if it was not relayed within `delay`. Notes the time.
    pub(crate) fn head_to_relay(
        &mut self,
        now: Instant,
        delay: core::time::Duration,
    ) -> Option<Request> {
        let key = self.head()?;
        let request = self.waiting.get(&key)?.request.clone();
        self.relay_due(&request, now, delay).then_some(request)
    }

    /// Whether a slot costs less than waiting. It costs the same for one request as for hundreds, so while others are
    /// under way a further one is worth it for a full batch, or for at least as many requests as they carry: a few at a
    /// time never wait for long, and under load few slots carry many.
    pub(crate) fn are_worth_a_slot(&self, requests_max: usize, bytes_max: usize) -> bool {
        let under_way = self.waiting.len().saturating_sub(self.unproposed.len());
        let full = self.unproposed.len() >= requests_max || self.unproposed_bytes >= bytes_max;
        full || self.unproposed.len() >= under_way
    }

    /// Bytes of the requests that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many requests wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

fn key(request: &Request) -> Key {
    (request.client(), request.number())
}

#[cfg(test)]
#[path = "pending_test.rs"]
mod tests;
