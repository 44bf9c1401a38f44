//! Keeps a connection to one node: dials, waits longer after each failure, dials again.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::{ClientConfig, Endpoint};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use crate::close::explain;
use crate::connection::{self, Ended};
use crate::limits::Port;
use crate::shared::Shared;
use crate::{NetLimits, Node};

/// TLS insists on a name; the far end is recognised by its key, and the name is never sent.
const SERVER_NAME: &str = "pbft";

/// Whom to dial, and how.
pub(crate) struct Target {
    pub(crate) node: Node,
    pub(crate) port: Port,
    pub(crate) address: SocketAddr,
    /// Pins the node's key.
    pub(crate) config: ClientConfig,
}

/// Keeps a connection to `target` until the network closes.
pub(crate) async fn keep_connected(shared: Arc<Shared>, endpoint: Endpoint, target: Target) {
    let target = Arc::new(target);
    let mut backoff = Backoff::new(&shared.limits);
    while !shared.is_closing() {
        if let Some(until) = shared.registry.penalized_until(target.node) {
            tokio::select! {
                () = sleep_until(until.into()) => continue,
                () = shared.closing() => return,
            }
        }
        // A task of its own, so that a panic ends this attempt and not the dialling.
        let mut attempt = JoinSet::new();
        attempt.spawn(dial(shared.clone(), endpoint.clone(), target.clone()));
        let result = attempt.join_next().await.unwrap_or(Ok(FAILED));
        let ended = *result.as_ref().unwrap_or(&FAILED);
        shared.count_panic(&result);
        if !ended.up {
            shared.counters.dials_failed.bump();
        } else if !ended.refused {
            backoff.reset();
        }
        tokio::select! {
            () = sleep(backoff.next()) => {}
            () = shared.closing() => return,
        }
    }
}

/// Nobody there, or nobody we know.
const FAILED: Ended = Ended { up: false, refused: false };

async fn dial(shared: Arc<Shared>, endpoint: Endpoint, target: Arc<Target>) -> Ended {
    let complain = |reason: &str| {
        if shared.registry.may_log(target.node, reason) {
            let (own, node, address) = (shared.own, target.node, target.address);
            tracing::warn!(target: "pbft::net", %own, %node, %address, reason, "cannot connect");
        }
        FAILED
    };
    shared.counters.dials_started.bump();
    let connecting = match endpoint.connect_with(target.config.clone(), target.address, SERVER_NAME)
    {
        Ok(connecting) => connecting,
        Err(error) => return complain(&error.to_string()),
    };
    let connected = tokio::select! {
        connected = timeout(shared.limits.handshake_deadline, connecting) => connected,
        () = shared.closing() => return FAILED,
    };
    match connected {
        Ok(Ok(connection)) => {
            connection::run(&shared, connection, target.node, target.port, ()).await
        }
        Ok(Err(error)) => complain(&explain(&error)),
        Err(_) => complain("no answer before the deadline"),
    }
}

/// Pauses between dials: they double, and vary so that restarted nodes do not dial in step.
#[derive(Debug)]
struct Backoff {
    min: Duration,
    max: Duration,
    current: Duration,
    random: u64,
}

impl Backoff {
    fn new(limits: &NetLimits) -> Self {
        let mut hasher = RandomState::new().build_hasher();
        // A hasher's keys are random, which is all the randomness jitter needs.
        hasher.write_u128(Instant::now().elapsed().as_nanos());
        let (min, max) = (limits.reconnect_min, limits.reconnect_max);
        Self { min, max, current: min, random: hasher.finish() | 1 }
    }

    fn reset(&mut self) {
        self.current = self.min;
    }

    /// The next pause: between the current step and half as much again, and never above `max`.
    fn next(&mut self) -> Duration {
        // xorshift64: good enough to spread dials.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let share = u32::try_from(self.random % 1000).unwrap_or(0);
        let pause = self.current + self.current / 2000 * share;
        self.current = self.current.saturating_mul(2).min(self.max);
        pause.min(self.max)
    }
}

#[cfg(test)]
#[path = "dial_test.rs"]
mod tests;
