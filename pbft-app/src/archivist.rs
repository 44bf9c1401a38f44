//! Snapshots on a thread of their own: hashing for checkpoints, serving others, and fetching a state when this
//! replica is behind. Neither ordering nor execution waits for any of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant as Clock};

use bytes::Bytes;
use pbft_core::archive::{Archive, Snapshot};
use pbft_core::certificate::StableProof;
use pbft_core::cluster::Cluster;
use pbft_core::message::Message;
use pbft_core::replica::Input;
use pbft_core::state::Frozen;
use pbft_core::transfer::{Ask, Part, PartFault, Transfer, TransferAction};
use pbft_core::types::{ClientId, Digest, Instant, ReplicaId, RequestNumber, Sequence};
use pbft_core::wire;
use tokio::sync::mpsc as async_mpsc;

use crate::error::NodeError;
use crate::executor::{Command, Event};
use crate::shelf::Shelf;

/// What the archivist is asked to do, in order.
pub(crate) enum Task {
    /// Take in what changed, keep the snapshot, and report its digest as a checkpoint's.
    Checkpoint(Frozen),
    /// Take in what changed and report the digest for a client's status query.
    Report { client: ClientId, frozen: Frozen },
    /// The executor has installed this state, whose sessions hold these numbers consumed.
    Installed { snapshot: Box<Snapshot>, digest: Digest, consumed: Vec<(ClientId, RequestNumber)> },
    /// A checkpoint is stable: older snapshots may go.
    Stable(Sequence),
    /// The proof of a stable checkpoint is durable.
    Proven(Sequence),
    /// The state of a stable checkpoint is wanted.
    Restore(StableProof),
    /// A peer asks for a part of a snapshot.
    Serve { peer: ReplicaId, ask: Ask },
    /// A donor sent a part.
    Take { donor: ReplicaId, part: Part },
    /// Go back to the latest stable snapshot, as after a restart, and say whether there is one.
    #[cfg(feature = "fault-injection")]
    GoBack { stable: Sequence, answer: Sender<bool> },
    /// End the thread, whoever else holds a handle.
    Stop,
}

/// Pages hashed at a stretch.
const PORTION_PAGES: usize = 128;

/// Asks and parts that may wait here; more are dropped, and asked for again.
const WAITING_MAX: usize = 256;

/// Handle of the thread. It ends when all handles are dropped.
#[derive(Clone)]
pub(crate) struct Archivist {
    tasks: Sender<Task>,
    waiting: Arc<AtomicUsize>,
}

impl Archivist {
    /// Starts the thread of replica `id`; its transferred states go to `executor`.
    pub(crate) fn start(
        id: ReplicaId,
        cluster: Arc<Cluster>,
        archive: Archive,
        shelf: Shelf,
        executor: Sender<Command>,
        events: async_mpsc::UnboundedSender<Event>,
    ) -> Result<(Archivist, thread::JoinHandle<()>), NodeError> {
        let (tasks, incoming) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let worker = Worker {
            id,
            archive,
            shelf,
            cluster,
            transfer: None,
            installing: false,
            started: Clock::now(),
            executor: Some(executor),
            events,
            waiting: Arc::clone(&waiting),
        };
        let thread = thread::Builder::new()
            .name(format!("archive-{id}"))
            .spawn(move || worker.run(&incoming))
            .map_err(NodeError::Start)?;
        Ok((Archivist { tasks, waiting }, thread))
    }

    /// Gives the next task.
    pub(crate) fn give(&self, task: Task) {
        if matches!(task, Task::Serve { .. } | Task::Take { .. })
            && self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX
        {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        // A thread that is gone means that the node is stopping.
        let _ = self.tasks.send(task);
    }
}

struct Worker {
    id: ReplicaId,
    cluster: Arc<Cluster>,
    archive: Archive,
    shelf: Shelf,
    transfer: Option<Transfer>,
    /// A transferred state is on its way to the executor: no other transfer is begun before it is there.
    installing: bool,
    started: Clock,
    /// `None` once the executor is gone.
    executor: Option<Sender<Command>>,
    events: async_mpsc::UnboundedSender<Event>,
    waiting: Arc<AtomicUsize>,
}

impl Worker {
    fn run(mut self, incoming: &Receiver<Task>) {
        loop {
            let received = match self.pause() {
                Some(pause) => incoming.recv_timeout(pause),
                None => incoming.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let mut actions = Vec::new();
            match received {
                Ok(Task::Stop) => return,
                Ok(task) => self.obey(task, &mut actions),
                Err(RecvTimeoutError::Timeout) => {
                    let now = self.now();
                    if let Some(transfer) = &mut self.transfer {
                        transfer.wake(now, &mut actions);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.perform(actions);
            match self.shelf.work(&self.archive) {
                Ok(reports) => reports.into_iter().for_each(|report| self.tell(report)),
                Err(error) => return self.tell(Event::Failed(error.into())),
            }
        }
    }

    fn now(&self) -> Instant {
        Instant(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn pause(&self) -> Option<Duration> {
        let transfer = self.transfer.as_ref().and_then(Transfer::deadline);
        let transfer = transfer.map(|due| due.since(self.now()));
        let shelf = self.shelf.deadline();
        let shelf = shelf.map(|due| due.saturating_duration_since(Clock::now()));
        transfer.into_iter().chain(shelf).min()
    }

    fn tell(&self, event: Event) {
        // A receiver that is gone means that the node is stopping.
        let _ = self.events.send(event);
    }

    fn obey(&mut self, task: Task, actions: &mut Vec<TransferAction>) {
        let now = self.now();
        match task {
            Task::Checkpoint(frozen) => {
                let sequence = frozen.sequence;
                let digest = self.take_in(frozen);
                self.archive.keep();
                let report = Event::Input(Input::Snapshotted { sequence, digest });
                self.shelf.checkpoint(&self.archive, digest, report);
            }
            Task::Report { client, frozen } => {
                let executed = frozen.sequence;
                let digest = self.take_in(frozen);
                self.tell(Event::Digest { client, executed, digest });
            }
            Task::Installed { snapshot, digest, consumed } => {
                self.installing = false;
                let sequence = snapshot.sequence;
                self.archive.install((*snapshot).clone());
                let report = Event::Input(Input::Restored { sequence, digest, consumed });
                self.shelf.install(*snapshot, digest, report);
            }
            Task::Stable(sequence) => self.archive.stable(sequence, now),
            Task::Proven(sequence) => self.shelf.proven(sequence),
            Task::Restore(_) if self.installing => {}
            Task::Restore(proof) => {
                if let Some(snapshot) = self.archive.proven(&proof) {
                    actions.push(TransferAction::Done(Box::new(snapshot.clone())));
                } else if let Some(transfer) = &mut self.transfer {
                    transfer.offer(proof);
                } else {
                    let held = self.archive.current().clone();
                    let cluster = Arc::clone(&self.cluster);
                    let mut transfer = Transfer::new(cluster, self.id, proof, held);
                    transfer.wake(now, actions);
                    self.transfer = Some(transfer);
                }
            }
            Task::Serve { peer, ask } => {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                let part = self.archive.answer(now, &ask);
                self.send(peer, &Message::Part(part));
            }
            Task::Take { donor, part } => {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                if let Some(transfer) = &mut self.transfer {
                    transfer.on_part(now, donor, part, actions);
                }
            }
            #[cfg(feature = "fault-injection")]
            Task::GoBack { stable, answer } => {
                let _ = answer.send(self.go_back(stable));
            }
            Task::Stop => {}
        }
    }

    /// Hashes what changed, in portions: all replicas of a cluster do it at the same slot, and where they share a
    /// machine the threads that order must not wait for it.
    fn take_in(&mut self, mut frozen: Frozen) -> Digest {
        self.shelf.note(&frozen.sessions, &frozen.application);
        while frozen.sessions.pages.len() + frozen.application.pages.len() > PORTION_PAGES {
            let sessions = frozen.sessions.split_front(PORTION_PAGES);
            let left = PORTION_PAGES.saturating_sub(sessions.pages.len());
            let application = frozen.application.split_front(left);
            self.archive.apply(Frozen { sequence: frozen.sequence, sessions, application });
            thread::yield_now();
        }
        self.archive.apply(frozen)
    }

    /// Gives the executor the latest stable snapshot, unless another is on its way there.
    #[cfg(feature = "fault-injection")]
    fn go_back(&mut self, stable: Sequence) -> bool {
        self.archive.stable(stable, self.now());
        let Some(snapshot) = self.archive.latest_stable().filter(|_| !self.installing).cloned()
        else {
            return false;
        };
        self.transfer = None;
        self.archive.resume(snapshot.clone());
        self.restore(Box::new(snapshot));
        true
    }

    fn restore(&mut self, snapshot: Box<Snapshot>) {
        self.installing = true;
        let gone = match &self.executor {
            Some(executor) => executor.send(Command::Restore(snapshot)).is_err(),
            None => true,
        };
        if gone {
            self.executor = None;
        }
    }

    fn send(&self, peer: ReplicaId, message: &Message) {
        let frame: Bytes = wire::encode(message);
        self.tell(Event::Transfer { peer, frame });
    }

    fn perform(&mut self, actions: Vec<TransferAction>) {
        for action in actions {
            match action {
                TransferAction::Ask { to, ask } => self.send(to, &Message::Ask(ask)),
                TransferAction::Blame { donor, fault } => self.blame(donor, fault),
                TransferAction::Done(snapshot) => {
                    let progress = self.transfer.take().map(|it| it.progress()).unwrap_or_default();
                    let (replica, sequence) = (self.id, snapshot.sequence);
                    tracing::info!(%replica, %sequence, ?progress, "state transferred");
                    self.restore(snapshot);
                }
            }
        }
    }

    fn blame(&self, donor: ReplicaId, fault: PartFault) {
        tracing::warn!(replica = %self.id, %donor, %fault, "a donor lied during state transfer");
        self.tell(Event::Blamed(donor));
    }
}
