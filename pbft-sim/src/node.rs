//! A replica's host in the simulation: the same objects as the real node, with effects instead of I/O.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use pbft_core::application::Application;
use pbft_core::archive::{Archive, Snapshot};
use pbft_core::cluster::Cluster;
use pbft_core::crypto::{Author, Signer, Verifier};
use pbft_core::hook::{Deed, Hook, Scene};
use pbft_core::limits::{ConfigError, Limits};
use pbft_core::message::{Batch, ClientMessage, Message, ReplicaMessage, Reply, Statement};
use pbft_core::replica::{Action, Input, Outbox, Record, Replica, To, Verdict};
use pbft_core::signed::{Cache, Forgery, sign_message, verify, void};
use pbft_core::state::ReplicatedState;
use pbft_core::transfer::{Transfer, TransferAction};
use pbft_core::types::{
    ClientId, Digest, Instant, ReplicaId, RequestNumber, Sequence, Time, View, WallTime, WriteId,
};
use pbft_core::wire;

use crate::checker::Observation;
use crate::disk::{Disk, Write};
use crate::keys::Keys;
use crate::ledger::{Seen, Upset, drain};
use crate::machine::SkewedClock;
use crate::options::{Options, SECONDS};
use crate::random::Random;
use crate::simulation::{Event, Place};
use crate::workload::Workload;

mod storage;

/// What a node or client wants done.
#[derive(Debug)]
pub(crate) enum Effect {
    /// `guarded`: it is unsigned and its channel authenticates it, so a flipped bit never gets through.
    /// `promise`: something follows from its having been said, as from all but hints and questions.
    Send {
        to: Place,
        frame: Bytes,
        guarded: bool,
        promise: bool,
    },
    Later {
        delay: u64,
        event: Event,
    },
    Observe(Observation<'static>),
    /// To the disk, in its place among what is sent: a crash may come before it or after it.
    Persist {
        id: WriteId,
        record: Record,
        life: u32,
    },
    /// The process ends at once.
    Fails,
}

enum Command {
    Execute { sequence: Sequence, batch: Option<Arc<Batch>>, view: View },
    Snapshot { sequence: Sequence },
    Answer { client: ClientId, number: RequestNumber, digest: Digest, view: View },
    Restore(Box<Snapshot>),
}

/// 2026-01-01, in microseconds: where simulated wall clocks start.
const EPOCH: u64 = 1_767_225_600 * SECONDS;

/// One replica and everything around it.
pub(crate) struct Node {
    id: ReplicaId,
    cluster: Arc<Cluster>,
    signer: Arc<dyn Signer>,
    verifier: Arc<dyn Verifier>,
    cache: Cache,
    replica: Replica,
    state: ReplicatedState,
    workload: Workload,
    seen: Seen,
    upset: Upset,
    executor: VecDeque<Command>,
    archive: Archive,
    transfer: Option<Transfer>,
    transfer_alarm: Option<Instant>,
    /// A transferred state is on its way to the executor: no other transfer is begun before it is there.
    installing: bool,
    disk: Disk,
    hook: Option<Box<dyn Hook>>,
    hook_alarm: Option<Instant>,
    random: Random,
    clock: SkewedClock,
    limits: Limits,
    /// Executor and disk take this many times as long.
    slowness: u64,
    execution: u64,
    started: bool,
    crashed: bool,
    /// Which life it is in: what was under way at a crash never arrives.
    life: u32,
    alarm: Option<Instant>,
}

impl Node {
    pub(crate) fn new(
        id: ReplicaId,
        keys: &Keys,
        options: &Options,
        workload: &Workload,
        random: &mut Random,
    ) -> Result<Self, ConfigError> {
        let limits = options.limits();
        let seen = Seen::default();
        let cluster = Arc::clone(&keys.cluster);
        let upset = Upset::default();
        let application = workload.make(Arc::clone(&seen), Arc::clone(&upset));
        Ok(Node {
            id,
            signer: keys.signer(Author::Replica(id)),
            verifier: Arc::clone(&keys.verifier),
            cache: Cache::default(),
            replica: Replica::new(id, Arc::clone(&cluster), limits.clone())?,
            state: ReplicatedState::new(Arc::clone(&cluster), application),
            workload: workload.clone(),
            archive: Archive::new(Arc::clone(&cluster)),
            transfer: None,
            transfer_alarm: None,
            installing: false,
            disk: Disk::default(),
            cluster,
            seen,
            upset,
            executor: VecDeque::new(),
            hook: None,
            hook_alarm: None,
            random: Random::new(options.seed ^ u64::from(id.0).wrapping_mul(0x9e37_79b9)),
            clock: SkewedClock { ahead: random.below(2 * SECONDS), rate: 1000, since: 0, shown: 0 },
            limits,
            slowness: options.slowness,
            execution: options.execution,
            started: false,
            crashed: false,
            life: 0,
            alarm: None,
        })
    }

    pub(crate) fn set_hook(&mut self, hook: Box<dyn Hook>) {
        self.hook = Some(hook);
    }

    /// Whether nobody answers for what it does: a traitor, or who has forgotten and does not know.
    pub(crate) fn is_traitor(&self) -> bool {
        self.hook.is_some() || self.disk.older
    }

    pub(crate) fn is_crashed(&self) -> bool {
        self.crashed
    }

    /// Power is gone. `survives`: whether what was on its way to the disk turns out to be there; by chance if
    /// it does not matter.
    pub(crate) fn crash(&mut self, survives: Option<bool>) {
        self.crashed = true;
        self.life += 1;
        self.disk.crash(survives, &mut self.random);
    }

    /// A bit flips in its memory: the next operation comes out wrong.
    pub(crate) fn upset(&self) {
        self.upset.store(true, Ordering::Relaxed);
    }

    pub(crate) fn life(&self) -> u32 {
        self.life
    }

    /// Executor and disk take `times` as long from now on.
    pub(crate) fn slow_down(&mut self, times: u64) {
        self.slowness = times;
    }

    /// The monotonic clock runs at `rate` per mille from now on.
    pub(crate) fn set_rate(&mut self, now: u64, rate: u64) {
        self.clock.set_rate(now, rate);
        self.alarm = None;
    }

    /// The wall clock jumps.
    pub(crate) fn set_wall(&mut self, ahead: u64) {
        self.clock.ahead = ahead;
    }

    pub(crate) fn on_connected(&mut self, now: u64, peer: ReplicaId, fx: &mut Vec<Effect>) {
        if self.started {
            self.drive(now, Some(peer), Input::Connected(peer), fx);
        }
    }

    /// The transfer's alarm.
    pub(crate) fn on_transfer(&mut self, now: u64, fx: &mut Vec<Effect>) {
        self.transfer_alarm = None;
        let instant = self.clock.instant(now);
        let mut actions = Vec::new();
        if let Some(transfer) = &mut self.transfer {
            transfer.wake(instant, &mut actions);
        }
        self.perform_transfer(now, actions, fx);
    }

    fn perform_transfer(&mut self, now: u64, actions: Vec<TransferAction>, fx: &mut Vec<Effect>) {
        for action in actions {
            match action {
                TransferAction::Ask { to, ask } => {
                    let frame = wire::encode(&Message::Ask(ask));
                    let to = Place::Replica(to);
                    fx.push(Effect::Send { to, frame, guarded: true, promise: false });
                }
                TransferAction::Blame { donor, .. } => {
                    let replica = self.id;
                    fx.push(Effect::Observe(Observation::Blamed { replica, donor }));
                }
                TransferAction::Done(snapshot) => {
                    self.transfer = None;
                    self.installing = true;
                    self.give(Command::Restore(snapshot), fx);
                }
            }
        }
        let due = self.transfer.as_ref().and_then(Transfer::deadline);
        if let Some(due) = due
            && self.transfer_alarm.is_none_or(|alarm| alarm > due)
        {
            self.transfer_alarm = Some(due);
            let delay = self.clock.until(now, due);
            let event = Event::Transfer { replica: self.id, life: self.life };
            fx.push(Effect::Later { delay, event });
        }
    }

    pub(crate) fn executed(&self) -> Sequence {
        self.state.last_applied()
    }

    pub(crate) fn application(&self) -> &dyn Application {
        self.state.application()
    }

    pub(crate) fn replica(&self) -> &Replica {
        &self.replica
    }

    fn time(&self, now: u64) -> Time {
        Time { instant: self.clock.instant(now), wall: WallTime(EPOCH + now + self.clock.ahead) }
    }

    /// Bytes from the network, in the order of the real edge: decode, ask, verify, step.
    pub(crate) fn on_frame(&mut self, now: u64, from: Place, frame: &Bytes, fx: &mut Vec<Effect>) {
        let message = match from {
            Place::Replica(_) => wire::decode::<Message>(frame).ok(),
            Place::Client(_) => match wire::decode(frame) {
                Ok(ClientMessage::Request(request)) => Some(Message::Request(request)),
                _ => None,
            },
        };
        let message = match (message, from) {
            (Some(Message::Ask(ask)), Place::Replica(_)) => {
                let part = self.archive.answer(self.clock.instant(now), &ask);
                if let Place::Replica(to) = from {
                    self.do_all(now, vec![Deed::Hand { to, part }], fx);
                }
                return;
            }
            (Some(Message::Part(part)), Place::Replica(donor)) => {
                let instant = self.clock.instant(now);
                let mut actions = Vec::new();
                if let Some(transfer) = &mut self.transfer {
                    transfer.on_part(instant, donor, part, &mut actions);
                }
                self.perform_transfer(now, actions, fx);
                return;
            }
            (Some(message), Place::Replica(peer)) if message.is_second_hand(peer) => return,
            (message, _) => message,
        };
        let Some(message) = message.filter(|message| self.replica.wants(message).is_ok()) else {
            return;
        };
        let scrutiny = self.replica.scrutiny(&message);
        let link = match from {
            Place::Replica(peer) => Some(peer),
            Place::Client(_) => None,
        };
        let (verifier, cache) = (&*self.verifier, &mut self.cache);
        let forgery = match verify(&self.cluster, verifier, cache, message, scrutiny) {
            Ok(verified) => return self.drive(now, link, Input::Deliver(verified), fx),
            Err(forgery) => forgery,
        };
        // Decoded a second time, so that what holds is never copied.
        if let Ok(message) = wire::decode::<Message>(frame)
            && let Some(evidence) = void(&self.cluster, verifier, cache, &message)
        {
            self.drive(now, link, Input::Deliver(evidence), fx);
        }
        if let Forgery::NewView { view, .. } = forgery {
            self.drive(now, link, Input::VoidNewView(view), fx);
        }
    }

    pub(crate) fn on_wake(&mut self, now: u64, fx: &mut Vec<Effect>) {
        if !self.started {
            self.started = true;
            self.drive(now, None, Input::Start, fx);
        } else if self.replica.deadline().is_some_and(|due| due <= self.clock.instant(now)) {
            self.alarm = None;
            self.drive(now, None, Input::Wake, fx);
        }
    }

    /// The executor finishes its oldest command.
    pub(crate) fn on_executor(&mut self, now: u64, fx: &mut Vec<Effect>) {
        let Some(command) = self.executor.pop_front() else {
            return;
        };
        match command {
            Command::Execute { sequence, batch, view } => {
                let Ok(applied) = self.state.apply(sequence, batch.as_deref(), view) else {
                    return;
                };
                let replica = self.id;
                for entry in drain(&self.seen) {
                    fx.push(Effect::Observe(Observation::Operation { replica, entry }));
                }
                for reply in &applied.replies {
                    let reply = reply.clone();
                    fx.push(Effect::Observe(Observation::Replied { replica, reply }));
                }
                // The null request is shown as a batch of nothing.
                let batch = batch.unwrap_or_else(|| Arc::new(Batch::new(WallTime(0), Vec::new())));
                fx.push(Effect::Observe(Observation::Executed { replica, sequence, batch }));
                self.do_all(now, applied.replies.into_iter().map(tell).collect(), fx);
                let consumed = applied.consumed;
                self.drive(now, None, Input::Executed { sequence, consumed }, fx);
            }
            Command::Snapshot { sequence } => {
                if let Ok(frozen) = self.state.freeze() {
                    self.archive.apply(frozen);
                    self.archive.keep();
                    let snapshot = self.archive.current().clone();
                    debug_assert_eq!(snapshot.sequence, sequence);
                    self.write(now, Write { snapshot, instead: false }, fx);
                }
            }
            Command::Restore(snapshot) => {
                self.archive.install((*snapshot).clone());
                self.write(now, Write { snapshot: *snapshot, instead: true }, fx);
            }
            Command::Answer { client, number, digest, view } => {
                if let Some(reply) = self.state.kept_reply(client, number, digest, view) {
                    self.do_all(now, vec![tell(reply)], fx);
                }
            }
        }
        if !self.executor.is_empty() {
            self.schedule_executor(fx);
        }
    }

    fn schedule_executor(&mut self, fx: &mut Vec<Effect>) {
        let delay = self.random.between(5, 500) * self.slowness * self.execution;
        let event = Event::Executor { replica: self.id, life: self.life };
        fx.push(Effect::Later { delay, event });
    }

    fn give(&mut self, command: Command, fx: &mut Vec<Effect>) {
        self.executor.push_back(command);
        if self.executor.len() == 1 {
            self.schedule_executor(fx);
        }
    }

    fn drive(&mut self, now: u64, from: Option<ReplicaId>, input: Input, fx: &mut Vec<Effect>) {
        let mut inputs = VecDeque::from([(from, input)]);
        self.drive_all(now, &mut inputs, fx);
    }

    fn drive_all(
        &mut self,
        now: u64,
        inputs: &mut VecDeque<(Option<ReplicaId>, Input)>,
        fx: &mut Vec<Effect>,
    ) {
        let time = self.time(now);
        loop {
            let Some((from, input)) = inputs.pop_front() else {
                let mut out = Outbox::new();
                self.replica.propose(time, &mut out);
                if out.is_empty() {
                    break;
                }
                for action in out {
                    self.show(now, Deed::Act(action), inputs, fx);
                }
                continue;
            };
            let (mut passed, mut deeds) = (Vec::new(), Vec::new());
            match &mut self.hook {
                Some(hook) => {
                    let scene = Scene { now: time, replica: &self.replica };
                    hook.hear(scene, from, input, &mut passed, &mut deeds);
                }
                None => passed.push(input),
            }
            deeds.into_iter().for_each(|deed| self.perform(now, deed, inputs, fx));
            for input in passed {
                let mut out = Outbox::new();
                if let Verdict::Refused(misbehavior) = self.replica.step(time, input, &mut out) {
                    let replica = self.id;
                    fx.push(Effect::Observe(Observation::Refused { replica, misbehavior }));
                }
                for action in out {
                    self.show(now, Deed::Act(action), inputs, fx);
                }
            }
        }
        self.set_alarms(now, fx);
    }

    /// Does what did not come from the replica itself.
    fn do_all(&mut self, now: u64, deeds: Vec<Deed>, fx: &mut Vec<Effect>) {
        let mut inputs = VecDeque::new();
        deeds.into_iter().for_each(|deed| self.show(now, deed, &mut inputs, fx));
        self.drive_all(now, &mut inputs, fx);
    }

    /// The traitor's own alarm.
    pub(crate) fn on_hook(&mut self, now: u64, fx: &mut Vec<Effect>) {
        self.hook_alarm = None;
        let (time, mut deeds) = (self.time(now), Vec::new());
        if let Some(hook) = &mut self.hook
            && hook.deadline().is_some_and(|due| due <= time.instant)
        {
            hook.wake(Scene { now: time, replica: &self.replica }, &mut deeds);
        }
        let mut inputs = VecDeque::new();
        deeds.into_iter().for_each(|deed| self.perform(now, deed, &mut inputs, fx));
        self.drive_all(now, &mut inputs, fx);
    }

    fn set_alarms(&mut self, now: u64, fx: &mut Vec<Effect>) {
        let due = self.hook.as_ref().and_then(|hook| hook.deadline());
        if let Some(due) = due
            && self.hook_alarm.is_none_or(|alarm| alarm > due)
        {
            self.hook_alarm = Some(due);
            let delay = self.clock.until(now, due);
            let event = Event::Hook { replica: self.id, life: self.life };
            fx.push(Effect::Later { delay, event });
        }
        let deadline = self.replica.deadline();
        if let Some(due) = deadline
            && self.alarm != deadline
        {
            self.alarm = deadline;
            let event = Event::Wake { place: Place::Replica(self.id) };
            fx.push(Effect::Later { delay: self.clock.until(now, due), event });
        }
    }

    /// Shows a deed to the traitor, if there is one, and does what it leaves.
    fn show(
        &mut self,
        now: u64,
        deed: Deed,
        inputs: &mut VecDeque<(Option<ReplicaId>, Input)>,
        fx: &mut Vec<Effect>,
    ) {
        let time = self.time(now);
        let Some(hook) = &mut self.hook else { return self.perform(now, deed, inputs, fx) };
        let mut deeds = Vec::new();
        hook.act(Scene { now: time, replica: &self.replica }, deed, &mut deeds);
        deeds.into_iter().for_each(|deed| self.perform(now, deed, inputs, fx));
    }

    fn perform(
        &mut self,
        now: u64,
        deed: Deed,
        inputs: &mut VecDeque<(Option<ReplicaId>, Input)>,
        fx: &mut Vec<Effect>,
    ) {
        match deed {
            Deed::Act(action) => self.act(now, action, inputs, fx),
            Deed::Tell { client, message } => {
                let frame = wire::encode(&message);
                let to = Place::Client(client);
                fx.push(Effect::Send { to, frame, guarded: true, promise: true });
            }
            Deed::Hand { to, part } => {
                let frame = wire::encode(&Message::Part(part));
                let to = Place::Replica(to);
                fx.push(Effect::Send { to, frame, guarded: true, promise: false });
            }
            Deed::Bytes { to, frame } => {
                let to = Place::Replica(to);
                fx.push(Effect::Send { to, frame, guarded: false, promise: false });
            }
            Deed::Forget(records) => {
                inputs.clear();
                self.life += 1;
                self.hook_alarm = None;
                self.disk.overwrite(records);
                self.restart(now, fx);
            }
        }
    }

    fn act(
        &mut self,
        now: u64,
        action: Action,
        inputs: &mut VecDeque<(Option<ReplicaId>, Input)>,
        fx: &mut Vec<Effect>,
    ) {
        let replica = self.id;
        match action {
            Action::Persist { id, record } => {
                if let Record::Stable(proof) = &record {
                    self.archive.stable(proof.sequence(), self.clock.instant(now));
                    let proof = proof.clone();
                    fx.push(Effect::Observe(Observation::Stable { replica, proof }));
                }
                fx.push(Effect::Persist { id, record, life: self.life });
            }
            Action::Say { to, statement, batch } => {
                let status = matches!(statement, Statement::Status(_) | Statement::Fetch(_));
                let verified =
                    sign_message(&self.cluster, &*self.signer, replica, statement, batch);
                // Shown first: a crash between two of its copies does not take back the first.
                if let Some(signed) = verified.message().signed()
                    && !status
                {
                    let statement = signed.statement.clone();
                    fx.push(Effect::Observe(Observation::Said { replica, statement }));
                }
                self.send(to, verified.message(), !status, fx);
                if !status && (to == To::All || to == To::One(replica)) {
                    inputs.push_back((None, Input::Deliver(verified)));
                }
            }
            Action::Relay { to, message } => {
                self.send(to, &message, true, fx);
                let message = Box::new(message);
                fx.push(Effect::Observe(Observation::Relayed { replica, to, message }));
            }
            Action::Execute { sequence, batch, view } => {
                self.give(Command::Execute { sequence, batch, view }, fx);
            }
            Action::Snapshot { sequence } => self.give(Command::Snapshot { sequence }, fx),
            Action::Answer { client, number, digest, view } => {
                self.give(Command::Answer { client, number, digest, view }, fx);
            }
            Action::Busy { client, number } => {
                let message = ReplicaMessage::Busy(number);
                self.perform(now, Deed::Tell { client, message }, inputs, fx);
            }
            Action::Discard { below } => {
                self.disk.cut(below);
                fx.push(Effect::Observe(Observation::Discarded { replica, below }));
            }
            Action::Restore { proof } => {
                match (&mut self.transfer, self.archive.proven(&proof)) {
                    _ if self.installing => return,
                    (Some(transfer), _) => transfer.offer(proof),
                    (None, Some(snapshot)) => {
                        let snapshot = Box::new(snapshot.clone());
                        self.installing = true;
                        self.give(Command::Restore(snapshot), fx);
                    }
                    (None, None) => {
                        let held = self.archive.current().clone();
                        let cluster = Arc::clone(&self.cluster);
                        self.transfer = Some(Transfer::new(cluster, replica, proof, held));
                    }
                }
                fx.push(Effect::Observe(Observation::Restoring { replica }));
                self.on_transfer(now, fx);
            }
            Action::Diverged { sequence, .. } => {
                fx.push(Effect::Observe(Observation::Diverged { replica, sequence }));
            }
            Action::ViewEntered(event) => {
                let event = Box::new(event);
                fx.push(Effect::Observe(Observation::ViewEntered { replica, event }));
            }
            Action::Accuse(evidence) => {
                let evidence = Box::new(evidence);
                fx.push(Effect::Observe(Observation::Accused { replica, evidence }));
            }
            Action::Reinstated { .. } => {
                fx.push(Effect::Observe(Observation::Reinstated { replica }));
            }
            Action::Impersonated(subject) => {
                fx.push(Effect::Observe(Observation::Impersonated { replica, subject }));
            }
            Action::Halt(halt) => fx.push(Effect::Observe(Observation::Halted { replica, halt })),
        }
    }

    fn send(&self, to: To, message: &Message, promise: bool, fx: &mut Vec<Effect>) {
        let frame = wire::encode(message);
        for peer in self.cluster.replicas().filter(|peer| *peer != self.id) {
            if to == To::All || to == To::One(peer) {
                if let Some(signed) = message.signed() {
                    let statement = signed.statement.clone();
                    fx.push(Effect::Observe(Observation::Sent { from: self.id, statement }));
                }
                let (to, frame) = (Place::Replica(peer), frame.clone());
                fx.push(Effect::Send { to, frame, guarded: false, promise });
            }
        }
    }
}

fn tell(reply: Reply) -> Deed {
    Deed::Tell { client: reply.client, message: ReplicaMessage::Reply(reply) }
}
