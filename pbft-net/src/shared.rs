//! What all tasks of one network share.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::counters::Counters;
use crate::inbox::Inbox;
use crate::registry::Registry;
use crate::{Identity, NetLimits, Node};

/// Everything but the tasks and endpoints themselves, which hold this and not the other way round.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) own: Node,
    pub(crate) identity: Identity,
    pub(crate) limits: NetLimits,
    pub(crate) counters: Counters,
    pub(crate) inbox: Inbox,
    pub(crate) registry: Registry,
    closing: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new(
        own: Node,
        identity: Identity,
        limits: NetLimits,
        others: impl Iterator<Item = Node>,
    ) -> Self {
        Self {
            own,
            identity,
            registry: Registry::new(others),
            limits,
            counters: Counters::default(),
            inbox: Inbox::default(),
            closing: watch::Sender::new(false),
        }
    }

    /// From now on nothing new begins.
    pub(crate) fn start_closing(&self) {
        self.closing.send_replace(true);
    }

    pub(crate) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Ends when the network begins to close.
    pub(crate) async fn closing(&self) {
        // Fails only if the sender is gone, and `self` holds it.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }
}

/// Lets a log line through only so often, so that nobody can fill a disk with our complaints about
/// them (PITFALLS K6). The counters miss nothing.
#[derive(Debug, Default)]
pub(crate) struct LogGate(Mutex<Option<(Instant, String)>>);

/// Even two different lines of one gate are this far apart.
const LOG_PAUSE: Duration = Duration::from_secs(1);
/// The same line is not repeated for this long.
const LOG_REPEAT: Duration = Duration::from_secs(60);

impl LogGate {
    /// Whether `line` may be logged now. If so, it counts as logged.
    pub(crate) fn opens_for(&self, line: &str) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, text)) = &*last {
            let pause = if text == line { LOG_REPEAT } else { LOG_PAUSE };
            if at.elapsed() < pause {
                return false;
            }
        }
        *last = Some((Instant::now(), line.to_owned()));
        true
    }
}
