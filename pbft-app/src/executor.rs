//! The owner of the replicated state, on a thread of its own: a slow `execute` delays replies, never
//! votes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use bytes::Bytes;
use pbft_core::message::{Batch, ReplicaMessage};
use pbft_core::replica::Input;
use pbft_core::state::ReplicatedState;
use pbft_core::types::{ClientId, Digest, RequestNumber, Sequence, View};
use pbft_core::wire;
use tokio::sync::mpsc as async_mpsc;

use crate::error::NodeError;

/// What the executor is asked to do, in order.
pub(crate) enum Command {
    Execute {
        sequence: Sequence,
        batch: Option<Arc<Batch>>,
        view: View,
    },
    Snapshot {
        sequence: Sequence,
    },
    Answer {
        client: ClientId,
        number: RequestNumber,
        digest: Digest,
        view: View,
    },
    /// Take the digest for a status report to this client.
    Report {
        client: ClientId,
    },
}

/// What it reports.
pub(crate) enum Event {
    /// For the replica.
    Input(Input),
    /// For a client, encoded.
    Reply { client: ClientId, frame: Bytes },
    /// For a status report.
    Digest { client: ClientId, executed: Sequence, digest: Digest },
    /// The state cannot go on.
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

/// Handle of the executor's thread. It ends when this is dropped.
pub(crate) struct Executor {
    commands: mpsc::Sender<Command>,
    favours: Arc<AtomicUsize>,
}

impl Executor {
    /// Starts the thread. Its queues are bounded: no more slots are given to it than the window holds, and
    /// what clients can ask for has a bound of its own.
    pub(crate) fn start(
        name: String,
        state: ReplicatedState,
    ) -> Result<(Executor, async_mpsc::UnboundedReceiver<Event>), NodeError> {
        let (commands, incoming) = mpsc::channel();
        let (events, outgoing) = async_mpsc::unbounded_channel();
        let favours = Arc::new(AtomicUsize::new(0));
        let done = Arc::clone(&favours);
        thread::Builder::new()
            .name(name)
            .spawn(move || run(state, &incoming, &events, &done))
            .map_err(NodeError::Start)?;
        Ok((Executor { commands, favours }, outgoing))
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

fn run(
    mut state: ReplicatedState,
    incoming: &mpsc::Receiver<Command>,
    events: &async_mpsc::UnboundedSender<Event>,
    favours: &AtomicUsize,
) {
    while let Ok(command) = incoming.recv() {
        if command.is_a_favour() {
            favours.fetch_sub(1, Ordering::Relaxed);
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| obey(&mut state, command, events)));
        let failure = match outcome {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error,
            Err(panic) => NodeError::ApplicationPanicked {
                slot: state.last_applied().0,
                message: panic_message(&*panic),
            },
        };
        let _ = events.send(Event::Failed(failure));
        return;
    }
}

fn obey(
    state: &mut ReplicatedState,
    command: Command,
    events: &async_mpsc::UnboundedSender<Event>,
) -> Result<(), NodeError> {
    // A receiver that is gone means that the node is stopping; the loop ends with its sender.
    let tell = |event| drop(events.send(event));
    match command {
        Command::Execute { sequence, batch, view } => {
            let applied = state.apply(sequence, batch.as_deref(), view)?;
            for reply in applied.replies {
                let client = reply.client;
                let frame = wire::encode(&ReplicaMessage::Reply(reply));
                tell(Event::Reply { client, frame });
            }
            tell(Event::Input(Input::Executed { sequence, consumed: applied.consumed }));
        }
        Command::Snapshot { sequence } => {
            let digest = state.digest()?;
            tell(Event::Input(Input::Snapshotted { sequence, digest }));
        }
        Command::Answer { client, number, digest, view } => {
            if let Some(reply) = state.kept_reply(client, number, digest, view) {
                let frame = wire::encode(&ReplicaMessage::Reply(reply));
                tell(Event::Reply { client, frame });
            }
        }
        Command::Report { client } => {
            let digest = state.digest()?;
            tell(Event::Digest { client, executed: state.last_applied(), digest });
        }
    }
    Ok(())
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
#[path = "executor_test.rs"]
mod tests;
