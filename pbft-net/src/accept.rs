//! The accept loop of one port. It never waits for a peer: each handshake is a task of its own, and
//! there are only so many of them (PITFALLS J3, J11).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::{ConnectionError, Endpoint, Incoming};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use crate::close::{ALERT_ACCESS_DENIED, explain};
use crate::connection;
use crate::limits::Port;
use crate::shared::{LogGate, Shared};
use crate::tls::Roster;

/// What one port accepts.
pub(crate) struct Acceptor {
    pub(crate) shared: Arc<Shared>,
    pub(crate) endpoint: Endpoint,
    pub(crate) port: Port,
    pub(crate) roster: Arc<Roster>,
}

impl Acceptor {
    /// Accepts until the network closes, then waits for the connections to end.
    pub(crate) async fn run(self) {
        let this = Arc::new(self);
        let slots = Slots::new(&this.shared);
        let log_gate = Arc::new(LogGate::default());
        let mut tasks = JoinSet::new();
        loop {
            let incoming = tokio::select! {
                Some(result) = tasks.join_next() => {
                    this.shared.count_panic(&result);
                    continue;
                }
                incoming = this.endpoint.accept() => incoming,
                () = this.shared.closing() => break,
            };
            let Some(incoming) = incoming else { break };
            let Some((incoming, slot)) = slots.admit(incoming, &this.shared) else {
                continue;
            };
            tasks.spawn(this.clone().handshake(incoming, slot, log_gate.clone()));
        }
        while let Some(result) = tasks.join_next().await {
            this.shared.count_panic(&result);
        }
    }

    async fn handshake(self: Arc<Self>, incoming: Incoming, slot: Slot, log_gate: Arc<LogGate>) {
        let shared = &self.shared;
        let address = incoming.remote_address();
        let deadline = shared.limits.handshake_deadline;
        let shaken = async {
            match incoming.accept() {
                Ok(connecting) => timeout(deadline, connecting).await,
                Err(error) => Ok(Err(error)),
            }
        };
        let shaken = tokio::select! {
            shaken = shaken => shaken,
            () = shared.closing() => return,
        };
        let (reason, connection) = match shaken {
            Ok(Ok(connection)) => (String::new(), Some(connection)),
            Ok(Err(error)) => {
                shared.counters.handshakes_refused.bump();
                (explain_incoming(&error), None)
            }
            Err(_) => {
                shared.counters.handshakes_timed_out.bump();
                (format!("no handshake within {deadline:?}"), None)
            }
        };
        let Some(connection) = connection else {
            if log_gate.opens_for(&reason) {
                let own = shared.own;
                tracing::warn!(target: "pbft::net", %own, %address, reason, "handshake refused");
            }
            return;
        };
        // The handshake admitted only keys of this roster, so an owner is always found.
        let Some(node) = self.roster.owner(&connection) else {
            return;
        };
        connection::run(shared, connection, node, self.port, slot).await;
    }
}

/// The words for a refusal seen from the accepting end.
fn explain_incoming(error: &ConnectionError) -> String {
    match error {
        ConnectionError::TransportError(error) if u64::from(error.code) == ALERT_ACCESS_DENIED => {
            "the caller's TLS key is not listed for this port; check the keys in cluster.toml"
                .into()
        }
        other => explain(other),
    }
}

impl Shared {
    /// A task of ours that panicked is a bug: counted and logged, and nobody else is harmed.
    pub(crate) fn count_panic<T>(&self, result: &Result<T, JoinError>) {
        if let Err(error) = result
            && error.is_panic()
        {
            self.counters.task_panics.bump();
            tracing::error!(target: "pbft::net", own = %self.own, %error, "a network task panicked");
        }
    }
}

/// Handshakes under way on one port.
#[derive(Clone)]
struct Slots {
    taken: Arc<Mutex<Taken>>,
    max: usize,
    per_address_max: usize,
}

#[derive(Default)]
struct Taken {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Slots {
    fn new(shared: &Shared) -> Self {
        Self {
            taken: Arc::default(),
            max: shared.limits.handshakes_max,
            per_address_max: shared.limits.handshakes_per_address_max,
        }
    }

    /// Decides about a first packet without waiting: go on, prove the address first, or go away.
    fn admit(&self, incoming: Incoming, shared: &Shared) -> Option<(Incoming, Slot)> {
        let address = incoming.remote_address().ip();
        let is_busy = self.lock().total >= self.max / 2;
        if is_busy && !incoming.remote_address_validated() && incoming.may_retry() {
            // Under load a source address has to be proven before it costs us a slot.
            shared.counters.handshakes_retried.bump();
            // Fails only for what `may_retry` has excluded.
            let _ = incoming.retry();
            return None;
        }
        let Some(slot) = self.take(address) else {
            shared.counters.handshakes_shed.bump();
            incoming.refuse();
            return None;
        };
        Some((incoming, slot))
    }

    fn take(&self, address: IpAddr) -> Option<Slot> {
        let mut taken = self.lock();
        let here = taken.by_address.get(&address).copied().unwrap_or(0);
        if taken.total >= self.max || here >= self.per_address_max {
            return None;
        }
        taken.total += 1;
        taken.by_address.insert(address, here + 1);
        drop(taken);
        Some(Slot { slots: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to be between first packet and accepted HELLO.
struct Slot {
    slots: Slots,
    address: IpAddr,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.lock();
        taken.total = taken.total.saturating_sub(1);
        if let Some(here) = taken.by_address.get_mut(&self.address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
#[path = "accept_test.rs"]
mod tests;
