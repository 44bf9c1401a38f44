//! A replica's host in the simulation: the same objects as the real node, with effects instead of I/O.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use pbft_core::cluster::Cluster;
use pbft_core::crypto::{Author, Signer, Verifier};
use pbft_core::hook::Hook;
use pbft_core::limits::{ConfigError, Limits};
use pbft_core::message::{Batch, ClientMessage, Message, ReplicaMessage, Reply, Statement};
use pbft_core::replica::{Action, Input, Outbox, Record, Replica, To, Verdict};
use pbft_core::signed::{Cache, Forgery, sign_message, verify};
use pbft_core::state::ReplicatedState;
use pbft_core::types::{
    ClientId, Digest, Instant, ReplicaId, RequestNumber, Sequence, Time, View, WallTime, WriteId,
};
use pbft_core::wire;

use crate::checker::Observation;
use crate::keys::Keys;
use crate::ledger::{Ledger, Seen, drain};
use crate::options::{Options, SECONDS};
use crate::random::Random;
use crate::simulation::{Event, Place};

/// What a node or client wants done.
#[derive(Debug)]
pub(crate) enum Effect {
    Send { to: Place, frame: Bytes },
    Later { delay: u64, event: Event },
    Observe(Observation<'static>),
}

enum Command {
    Execute { sequence: Sequence, batch: Option<Arc<Batch>>, view: View },
    Snapshot { sequence: Sequence },
    Answer { client: ClientId, number: RequestNumber, digest: Digest, view: View },
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
    seen: Seen,
    executor: VecDeque<Command>,
    hook: Option<Box<dyn Hook>>,
    random: Random,
    skew: u64,
    started: bool,
    crashed: bool,
    alarm: Option<Instant>,
}

impl Node {
    pub(crate) fn new(
        id: ReplicaId,
        keys: &Keys,
        options: &Options,
        random: &mut Random,
    ) -> Result<Self, ConfigError> {
        let limits =
            Limits { slots_in_flight_max: options.slots_in_flight_max, ..Limits::default() };
        let seen = Seen::default();
        let cluster = Arc::clone(&keys.cluster);
        let ledger = Box::new(Ledger::new(Arc::clone(&seen)));
        Ok(Node {
            id,
            signer: keys.signer(Author::Replica(id)),
            verifier: Arc::clone(&keys.verifier),
            cache: Cache::default(),
            replica: Replica::new(id, Arc::clone(&cluster), limits)?,
            state: ReplicatedState::new(Arc::clone(&cluster), ledger),
            cluster,
            seen,
            executor: VecDeque::new(),
            hook: None,
            random: Random::new(options.seed ^ u64::from(id.0).wrapping_mul(0x9e37_79b9)),
            skew: random.below(2 * SECONDS),
            started: false,
            crashed: false,
            alarm: None,
        })
    }

    pub(crate) fn set_hook(&mut self, hook: Box<dyn Hook>) {
        self.hook = Some(hook);
    }

    pub(crate) fn is_traitor(&self) -> bool {
        self.hook.is_some()
    }

    pub(crate) fn is_crashed(&self) -> bool {
        self.crashed
    }

    pub(crate) fn crash(&mut self) {
        self.crashed = true;
    }

    pub(crate) fn executed(&self) -> Sequence {
        self.state.last_applied()
    }

    pub(crate) fn replica(&self) -> &Replica {
        &self.replica
    }

    fn time(&self, now: u64) -> Time {
        Time { instant: Instant(now), wall: WallTime(EPOCH + now + self.skew) }
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
        let Some(message) = message.filter(|message| self.replica.wants(message).is_ok()) else {
            return;
        };
        let scrutiny = self.replica.scrutiny(&message);
        match verify(&self.cluster, &*self.verifier, &mut self.cache, message, scrutiny) {
            Ok(verified) => self.drive(now, Input::Deliver(verified), fx),
            Err(Forgery::NewView { view, .. }) => self.drive(now, Input::VoidNewView(view), fx),
            Err(_) => {}
        }
    }

    pub(crate) fn on_durable(&mut self, now: u64, up_to: u64, fx: &mut Vec<Effect>) {
        self.drive(now, Input::Durable(WriteId(up_to)), fx);
    }

    pub(crate) fn on_wake(&mut self, now: u64, fx: &mut Vec<Effect>) {
        if !self.started {
            self.started = true;
            self.drive(now, Input::Start, fx);
        } else if self.replica.deadline().is_some_and(|due| due.0 <= now) {
            self.alarm = None;
            self.drive(now, Input::Wake, fx);
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
                applied.replies.into_iter().for_each(|reply| send_reply(reply, fx));
                let consumed = applied.consumed;
                self.drive(now, Input::Executed { sequence, consumed }, fx);
            }
            Command::Snapshot { sequence } => {
                if let Ok(digest) = self.state.digest() {
                    self.drive(now, Input::Snapshotted { sequence, digest }, fx);
                }
            }
            Command::Answer { client, number, digest, view } => {
                if let Some(reply) = self.state.kept_reply(client, number, digest, view) {
                    send_reply(reply, fx);
                }
            }
        }
        if !self.executor.is_empty() {
            self.schedule_executor(fx);
        }
    }

    fn schedule_executor(&mut self, fx: &mut Vec<Effect>) {
        let delay = self.random.between(5, 500);
        fx.push(Effect::Later { delay, event: Event::Executor { replica: self.id } });
    }

    fn give(&mut self, command: Command, fx: &mut Vec<Effect>) {
        self.executor.push_back(command);
        if self.executor.len() == 1 {
            self.schedule_executor(fx);
        }
    }

    fn drive(&mut self, now: u64, input: Input, fx: &mut Vec<Effect>) {
        let time = self.time(now);
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut passed = Vec::new();
            match &mut self.hook {
                Some(hook) => hook.on_input(time, input, &mut passed),
                None => passed.push(input),
            }
            for input in passed {
                let mut out = Outbox::new();
                if let Verdict::Refused(misbehavior) = self.replica.step(time, input, &mut out) {
                    let replica = self.id;
                    fx.push(Effect::Observe(Observation::Refused { replica, misbehavior }));
                }
                self.perform_all(time, out, &mut inputs, fx);
            }
        }
        let deadline = self.replica.deadline();
        if let Some(due) = deadline
            && self.alarm != deadline
        {
            self.alarm = deadline;
            let event = Event::Wake { place: Place::Replica(self.id) };
            fx.push(Effect::Later { delay: due.0.saturating_sub(now), event });
        }
    }

    fn perform_all(
        &mut self,
        time: Time,
        out: Outbox,
        inputs: &mut VecDeque<Input>,
        fx: &mut Vec<Effect>,
    ) {
        for action in out {
            let mut passed = Vec::new();
            match &mut self.hook {
                Some(hook) => hook.on_action(time, action, &mut passed),
                None => passed.push(action),
            }
            for action in passed {
                self.perform(action, inputs, fx);
            }
        }
    }

    fn perform(&mut self, action: Action, inputs: &mut VecDeque<Input>, fx: &mut Vec<Effect>) {
        let replica = self.id;
        match action {
            Action::Persist { id, record } => {
                if let Record::Stable(proof) = record {
                    fx.push(Effect::Observe(Observation::Stable { replica, proof }));
                }
                // One disk: later writes are never durable sooner, as `Durable` is cumulative.
                let delay = self.random.between(20, 2000);
                fx.push(Effect::Later { delay, event: Event::Durable { replica, up_to: id.0 } });
            }
            Action::Say { to, statement, batch } => {
                let status = matches!(statement, Statement::Status(_) | Statement::Fetch(_));
                let verified =
                    sign_message(&self.cluster, &*self.signer, replica, statement, batch);
                self.send(to, verified.message(), fx);
                if !status && (to == To::All || to == To::One(replica)) {
                    inputs.push_back(Input::Deliver(verified));
                }
            }
            Action::Relay { to, message } => {
                self.send(to, &message, fx);
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
                let frame = wire::encode(&ReplicaMessage::Busy(number));
                fx.push(Effect::Send { to: Place::Client(client), frame });
            }
            Action::Discard { below } => {
                fx.push(Effect::Observe(Observation::Discarded { replica, below }));
            }
            Action::Restore { .. } | Action::Diverged { .. } | Action::ViewEntered(_) => {}
            Action::Accuse(evidence) => {
                let evidence = Box::new(evidence);
                fx.push(Effect::Observe(Observation::Accused { replica, evidence }));
            }
            Action::Halt(halt) => fx.push(Effect::Observe(Observation::Halted { replica, halt })),
        }
    }

    fn send(&self, to: To, message: &Message, fx: &mut Vec<Effect>) {
        let frame = wire::encode(message);
        for peer in self.cluster.replicas().filter(|peer| *peer != self.id) {
            if to == To::All || to == To::One(peer) {
                if let Message::Statement(signed) | Message::Proposal { pre_prepare: signed, .. } =
                    message
                {
                    let statement = signed.statement.clone();
                    fx.push(Effect::Observe(Observation::Sent { from: self.id, statement }));
                }
                fx.push(Effect::Send { to: Place::Replica(peer), frame: frame.clone() });
            }
        }
    }
}

fn send_reply(reply: Reply, fx: &mut Vec<Effect>) {
    let to = Place::Client(reply.client);
    fx.push(Effect::Send { to, frame: wire::encode(&ReplicaMessage::Reply(reply)) });
}
