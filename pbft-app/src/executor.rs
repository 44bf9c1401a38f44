//! The owner of the replicated state, on a thread of its own: a slow `execute` delays replies, never
//! votes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use bytes::Bytes;
use pbft_core::archive::{Archive, Snapshot};
use pbft_core::cluster::Cluster;
use pbft_core::message::{Batch, ReplicaMessage, Reply};
use pbft_core::replica::Input;
use pbft_core::state::ReplicatedState;
use pbft_core::types::{ClientId, Digest, ReplicaId, RequestNumber, Sequence, View, WriteId};
use pbft_core::wire;
use tokio::sync::mpsc as async_mpsc;

use crate::archivist::{Archivist, Task};
use crate::error::NodeError;
use crate::shelf::Shelf;

/// What the executor is asked to do, in order.
pub(crate) enum Command {
    Execute {
        sequence: Sequence,
        batch: Option<Arc<Batch>>,
        view: View,
    },
    Snapshot,
    Answer {
        client: ClientId,
        number: RequestNumber,
        digest: Digest,
        view: View,
    },
    /// Replace the state by a transferred one.
    Restore(Box<Snapshot>),
    /// Take the digest for a status report to this client.
    Report {
        client: ClientId,
    },
    /// End the thread: the archivist holds a sender too, so the channel does not end by itself.
    Stop,
}

/// What it reports.
pub(crate) enum Event {
    /// For the replica.
    Input(Input),
    /// A slot was applied: the numbers it consumed, and the answers to its requests, encoded.
    Executed {
        sequence: Sequence,
        consumed: Vec<(ClientId, RequestNumber)>,
        replies: Vec<(ClientId, Bytes)>,
    },
    /// A kept answer for a client, encoded.
    Reply { client: ClientId, frame: Bytes },
    /// For a status report.
    Digest { client: ClientId, executed: Sequence, digest: Digest },
    /// A frame of a state transfer, for a peer.
    Transfer { peer: ReplicaId, frame: Bytes },
    /// This donor gave out a wrong part of a snapshot.
    Blamed(ReplicaId),
    /// Every write of this run of the replica up to this one is durable.
    Durable { run: u64, id: WriteId },
    /// The state or its storage cannot go on.
    Failed(NodeError),
}

impl Command {
    /// Whether a client can ask for it as often as it likes.
    fn is_a_favour(&self) -> bool {
        matches!(self, Command::Answer { .. } | Command::Report { .. })
    }
}

/// Answers and reports waiting behind a slow `execute`; more are dropped, and clients ask again.
const FAVOURS_MAX: usize = 1024;

/// Handle of the executor's thread and of the archivist's. Both end when this is dropped.
pub(crate) struct Executor {
    commands: mpsc::Sender<Command>,
    archivist: Archivist,
    archive: Option<thread::JoinHandle<()>>,
    favours: Arc<AtomicUsize>,
}

impl Executor {
    /// Starts the thread. Its queues are bounded: no more slots are given to it than the window holds, and
    /// what clients can ask for has a bound of its own.
    pub(crate) fn start(
        id: ReplicaId,
        cluster: &Arc<Cluster>,
        state: ReplicatedState,
        archive: Archive,
        shelf: Shelf,
        events: async_mpsc::UnboundedSender<Event>,
    ) -> Result<Executor, NodeError> {
        let (commands, incoming) = mpsc::channel();
        let favours = Arc::new(AtomicUsize::new(0));
        let done = Arc::clone(&favours);
        let (to_executor, to_archivist) = (commands.clone(), events.clone());
        let (archivist, archive) =
            Archivist::start(id, Arc::clone(cluster), archive, shelf, to_executor, to_archivist)?;
        let owner =
            Owner { state, cluster: Arc::clone(cluster), events, archivist: archivist.clone() };
        thread::Builder::new()
            .name(format!("execute-{id}"))
            .spawn(move || run(owner, &incoming, &done))
            .map_err(NodeError::Start)?;
        Ok(Executor { commands, archivist, archive: Some(archive), favours })
    }

    /// The thread that keeps snapshots.
    pub(crate) fn archivist(&self) -> &Archivist {
        &self.archivist
    }

    /// Gives the next command. A thread that is gone has reported why.
    pub(crate) fn give(&self, command: Command) {
        if command.is_a_favour() && self.favours.fetch_add(1, Ordering::Relaxed) >= FAVOURS_MAX {
            self.favours.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let _ = self.commands.send(command);
    }
}

impl Drop for Executor {
    /// Waits until the snapshots' file is closed: whoever stops a node can open its store. The application may
    /// be at work for long, and is not waited for.
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Stop);
        self.archivist.give(Task::Stop);
        if let Some(archive) = self.archive.take() {
            let _ = archive.join();
        }
    }
}

struct Owner {
    state: ReplicatedState,
    cluster: Arc<Cluster>,
    events: async_mpsc::UnboundedSender<Event>,
    archivist: Archivist,
}

fn run(mut owner: Owner, incoming: &mpsc::Receiver<Command>, favours: &AtomicUsize) {
    while let Ok(command) = incoming.recv() {
        if matches!(command, Command::Stop) {
            return;
        }
        if command.is_a_favour() {
            favours.fetch_sub(1, Ordering::Relaxed);
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| owner.obey(command)));
        let failure = match outcome {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error,
            Err(panic) => NodeError::ApplicationPanicked {
                slot: owner.state.last_applied().0,
                message: panic_message(&*panic),
            },
        };
        let _ = owner.events.send(Event::Failed(failure));
        return;
    }
}

impl Owner {
    // A receiver that is gone means that the node is stopping; the loop ends with its sender.
    fn tell(&self, event: Event) {
        drop(self.events.send(event));
    }

    fn obey(&mut self, command: Command) -> Result<(), NodeError> {
        match command {
            Command::Execute { sequence, batch, view } => {
                let applied = self.state.apply(sequence, batch.as_deref(), view)?;
                let replies = applied.replies.into_iter().map(encode).collect();
                self.tell(Event::Executed { sequence, consumed: applied.consumed, replies });
            }
            // Only what changed is collected here; it is hashed elsewhere, and execution goes on.
            Command::Snapshot => {
                let frozen = self.state.freeze()?;
                self.archivist.give(Task::Checkpoint(frozen));
            }
            Command::Restore(snapshot) => {
                let consumed = self.state.restore(&snapshot)?;
                let digest = snapshot.digest(&self.cluster);
                self.archivist.give(Task::Installed { snapshot, digest, consumed });
            }
            Command::Answer { client, number, digest, view } => {
                if let Some(reply) = self.state.kept_reply(client, number, digest, view) {
                    let (client, frame) = encode(reply);
                    self.tell(Event::Reply { client, frame });
                }
            }
            Command::Report { client } => {
                let frozen = self.state.freeze()?;
                self.archivist.give(Task::Report { client, frozen });
            }
            Command::Stop => {}
        }
        Ok(())
    }
}

fn encode(reply: Reply) -> (ClientId, Bytes) {
    (reply.client, wire::encode(&ReplicaMessage::Reply(reply)))
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
#[path = "executor_test.rs"]
mod tests;
