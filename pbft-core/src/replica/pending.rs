//! Requests waiting to be ordered, in order of arrival.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::limits::{Constants, Limits};
use crate::message::Request;
use crate::replica::io::Reason;
use crate::types::{ClientId, Instant, RequestNumber};

type Key = (ClientId, RequestNumber);

#[derive(Clone, Debug)]
struct Waiting {
    request: Request,
    /// Whether it is in a proposal of ours already.
    proposed: bool,
    relayed_at: Option<Instant>,
}

/// Verified requests that are not executed yet: one per client and number, bounded per client and in all
/// (PITFALLS K5).
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending {
    waiting: BTreeMap<Key, Waiting>,
    /// Order of arrival of those not proposed; a key may outlive its request.
    queue: VecDeque<Key>,
    bytes: usize,
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
        let client = request.client();
        let of_client = (client, RequestNumber(0))..=(client, RequestNumber(u64::MAX));
        // A client has at most W numbers unresolved, and up to W more that f + 1 others have executed and
        // answered and this replica has not.
        let window = usize::try_from(2 * constants.client_window).unwrap_or(usize::MAX);
        let full = self.waiting.len() >= limits.pending_requests_max
            || self.bytes.saturating_add(request.wire_bytes()) > limits.pending_bytes_max
            || self.waiting.range(of_client).take(window).count() >= window;
        if full { Err(Reason::Busy) } else { Ok(()) }
    }

    /// Takes a request in, behind the others. The caller has asked [`Pending::admits`].
    pub(crate) fn push(&mut self, request: Request) {
        self.bytes = self.bytes.saturating_add(request.wire_bytes());
        self.queue.push_back(key(&request));
        let waiting = Waiting { request, proposed: false, relayed_at: None };
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
        while let Some(next) = self.queue.front() {
            match self.waiting.get_mut(next) {
                Some(waiting) if !waiting.proposed => {
                    if waiting.request.wire_bytes() > room_bytes {
                        return None;
                    }
                    waiting.proposed = true;
                    let request = waiting.request.clone();
                    self.queue.pop_front();
                    return Some(request);
                }
                _ => {
                    self.queue.pop_front();
                }
            }
        }
        None
    }

    /// A number was consumed, or the request's slot was executed: it waits no more.
    pub(crate) fn remove(&mut self, client: ClientId, number: RequestNumber) {
        if let Some(waiting) = self.waiting.remove(&(client, number)) {
            self.bytes = self.bytes.saturating_sub(waiting.request.wire_bytes());
            if !waiting.proposed {
                // Keys of requests that others proposed would pile up in a backup's queue.
                self.queue.retain(|key| *key != (client, number));
            }
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

    /// How many requests wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

fn key(request: &Request) -> Key {
    (request.client(), request.number())
}
