//! The thread that writes a journal: takes everything that waits, makes it durable at once, and says so.
//!
//! ```text
//!   host ── Append, Append, Discard ──▶ writer ── one commit ──▶ disk
//!   host ◀─────── Durable(last) ─────────┘
//! ```
//!
//! The host never waits for a disk. What waits here is bounded: the core makes no certificates while 4L writes are on
//! their way, and a proof, ViewChange or NewView that waits for a full disk gives way to the next of its kind.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant as Clock};

use pbft_core::replica::Record;
use pbft_core::types::{ReplicaId, Sequence, WriteId};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::medium::Guard;
use super::{Committed, FULL_RETRY, Journal, Storage, StorageError};
use crate::error::NodeError;
use crate::executor::Event;

/// What the journal's disk has done since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageMetrics {
    /// Commits: each makes everything durable that waited for it.
    pub commits: u64,
    /// Records written by them.
    pub records: u64,
    /// Bytes of those records.
    pub bytes: u64,
    /// Times the journal's file was synced; two for each commit, and what opening it took.
    pub syncs: u64,
    /// Microseconds that all commits took together.
    pub commit_micros: u64,
    /// Microseconds that the longest took.
    pub commit_micros_max: u64,
    /// The disk is full: nothing more becomes durable, so nothing more is voted on, until there is space again.
    pub full: bool,
}

enum Order {
    Append { run: u64, id: WriteId, record: Record },
    Discard(Sequence),
}

/// Handle of the thread. It writes what waits and ends when this is dropped.
pub(crate) struct Writer {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    guard: Arc<Guard>,
}

impl Writer {
    pub(crate) fn start(
        id: ReplicaId,
        journal: Journal,
        events: UnboundedSender<Event>,
        metrics: watch::Sender<StorageMetrics>,
    ) -> Result<Writer, NodeError> {
        let (orders, incoming) = channel();
        let guard = Arc::clone(journal.guard());
        let worker = Worker { id, journal, events, metrics, run: 0, retry: None };
        let thread = Builder::new()
            .name(format!("journal-{id}"))
            .spawn(move || worker.run(&incoming))
            .map_err(NodeError::Start)?;
        Ok(Writer { orders: Some(orders), thread: Some(thread), guard })
    }

    /// Has `record` written. `run` comes back with what is durable.
    pub(crate) fn append(&self, run: u64, id: WriteId, record: Record) {
        self.give(Order::Append { run, id, record });
    }

    pub(crate) fn discard(&self, below: Sequence) {
        self.give(Order::Discard(below));
    }

    /// From now on nothing is written, as if the process were killed.
    pub(crate) fn abandon(&self) {
        self.guard.abandon();
    }

    fn give(&self, order: Order) {
        // A thread that is gone has said why.
        if let Some(orders) = &self.orders {
            let _ = orders.send(order);
        }
    }
}

impl Drop for Writer {
    /// Waits until the file is closed: whoever stops a node can open its store.
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    id: ReplicaId,
    journal: Journal,
    events: UnboundedSender<Event>,
    metrics: watch::Sender<StorageMetrics>,
    run: u64,
    /// The disk is full: when to try again.
    retry: Option<Clock>,
}

impl Worker {
    fn run(mut self, incoming: &Receiver<Order>) {
        loop {
            let pause =
                self.retry.map_or(Duration::MAX, |due| due.saturating_duration_since(Clock::now()));
            match incoming.recv_timeout(pause) {
                Ok(order) => self.take(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Everything that came meanwhile goes into the same commit.
            while let Ok(order) = incoming.try_recv() {
                self.take(order);
            }
            if self.retry.is_some_and(|due| Clock::now() < due) {
                continue;
            }
            if let Err(error) = self.commit() {
                let _ = self.events.send(Event::Failed(NodeError::Storage(error)));
                return;
            }
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Append { run, id, record } => {
                self.run = run;
                self.journal.append(id, record);
            }
            Order::Discard(below) => self.journal.discard(below),
        }
    }

    fn commit(&mut self) -> Result<(), StorageError> {
        let began = Clock::now();
        let committed = match self.journal.commit() {
            Ok(Committed { records: 0, .. }) => return Ok(()),
            Ok(committed) => committed,
            Err(error @ StorageError::Full { .. }) => {
                self.note_full(Some(&error));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let Committed { last, records, bytes } = committed;
        tracing::debug!(replica = %self.id, %last, records, bytes, micros, "journal commit");
        let syncs = self.journal.guard().syncs();
        // Before it is told: who reads the counters after a reply finds its commit in them.
        self.metrics.send_modify(|metrics| {
            metrics.commits += 1;
            metrics.records += u64::try_from(records).unwrap_or(0);
            metrics.bytes += u64::try_from(bytes).unwrap_or(0);
            metrics.syncs = syncs;
            metrics.commit_micros += micros;
            metrics.commit_micros_max = metrics.commit_micros_max.max(micros);
        });
        self.note_full(None);
        let _ = self.events.send(Event::Durable { run: self.run, id: last });
        Ok(())
    }

    /// Says once that the disk is full, and once that it is not any more.
    fn note_full(&mut self, error: Option<&StorageError>) {
        let full = error.is_some();
        let was_full = self.retry.is_some();
        self.retry = full.then(|| Clock::now() + FULL_RETRY);
        if full == was_full {
            return;
        }
        self.metrics.send_modify(|metrics| metrics.full = full);
        match error {
            Some(error) => {
                tracing::warn!(replica = %self.id, %error, "the disk is full: this replica votes on nothing more until there is space");
            }
            None => {
                tracing::info!(replica = %self.id, "there is space on the disk again: voting goes on");
            }
        }
    }
}

#[cfg(test)]
#[path = "writer_test.rs"]
mod tests;
