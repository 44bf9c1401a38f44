//! One run: a queue of events in simulated time, one thread, no clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use pbft_core::application::Application;
use pbft_core::crypto::Author;
use pbft_core::hook::Hook;
use pbft_core::limits::ConfigError;
use pbft_core::replica::Record;
use pbft_core::types::{ClientId, Digest, ReplicaId, Sequence, WriteId};
use sha2::{Digest as _, Sha256};

use crate::caller::Caller;
use crate::checker::starvation::Starvation;
use crate::checker::{Checkers, Goals, Observation, Violation, accountability};
use crate::crash_points::{Kind, Points};
use crate::keys::Keys;
use crate::ledger::{Seen, Upset};
use crate::network::{Faults, Network};
use crate::node::{Effect, Node};
use crate::options::{MILLIS, Options};
use crate::random::Random;
use crate::traitor::{Controller, Kit, Traitor};
use crate::workload::Workload;

/// Who is at an end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A member.
    Replica(ReplicaId),
    /// A client.
    Client(ClientId),
}

/// What happens next.
#[derive(Debug)]
pub(crate) enum Event {
    Frame { from: Place, to: Place, frame: Bytes },
    Durable { replica: ReplicaId, life: u32 },
    Written { replica: ReplicaId, life: u32 },
    Room { replica: ReplicaId },
    Fails { replica: ReplicaId },
    PutBack { replica: ReplicaId },
    Loop { replica: ReplicaId, left: u32 },
    Roll { replica: ReplicaId },
    Executor { replica: ReplicaId, life: u32 },
    Transfer { replica: ReplicaId, life: u32 },
    Hook { replica: ReplicaId, life: u32 },
    Wake { place: Place },
    Submit { client: ClientId },
    Crash { replica: ReplicaId },
    Restart { replica: ReplicaId },
    Resume { replica: ReplicaId },
    Outage { replica: ReplicaId },
    Fault,
    Flap,
    Heal,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Safe, and everything was done in time.
    Pass,
    /// Safe, but something was not done in time.
    NoProgress(String),
    /// A property does not hold.
    Violated(Violation),
}

impl Verdict {
    /// The property that does not hold, without what was seen.
    pub fn property(&self) -> &'static str {
        match self {
            Verdict::Pass => "none",
            Verdict::NoProgress(what) if what.starts_with("INV14") => "INV14 liveness",
            Verdict::NoProgress(_) => "INV14 and INV20, everything done in time",
            Verdict::Violated(violation) => violation.property,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Pass => formatter.write_str("pass"),
            Verdict::NoProgress(what) => write!(formatter, "no progress: {what}"),
            Verdict::Violated(violation) => write!(formatter, "{violation}"),
        }
    }
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How it ended.
    pub verdict: Verdict,
    /// SHA-256 over everything that happened, in order (INV24).
    pub trace: Digest,
    /// Events processed.
    pub events: u64,
    /// Simulated microseconds.
    pub time: u64,
    /// The highest slot executed.
    pub slots: Sequence,
    /// Requests that ended committed.
    pub committed: u64,
    /// Pieces of evidence kept by correct replicas.
    pub evidence: u64,
    /// After a fork that more than f traitors made: whom the kept statements convict (INV13).
    pub convicted: BTreeSet<ReplicaId>,
    /// What was done to messages and replicas.
    pub faults: Faults,
    /// How long it took after the last fault, in microseconds, until a waiting request was executed.
    pub first_progress: Option<u64>,
    /// How long until everything was done and everyone had executed it.
    pub recovered: Option<u64>,
    /// What was seen.
    pub goals: Goals,
}

/// Properties whose violation means that two quorums in contradiction exist.
const FORKS: [&str; 5] = [
    "INV1 agreement",
    "INV2 commit stability",
    "INV6 total order",
    "one certificate for a slot in a view",
    "one decision for a slot",
];

/// A run in progress.
pub struct Simulation {
    pub(crate) options: Options,
    pub(crate) now: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    pub(crate) events: BTreeMap<u64, Event>,
    ticket: u64,
    pub(crate) random: Random,
    pub(crate) network: Network,
    pub(crate) nodes: Vec<Node>,
    pub(crate) callers: Vec<Caller>,
    pub(crate) checkers: Checkers,
    pub(crate) starvation: Starvation,
    keys: Keys,
    check_state: Option<Arc<CheckState>>,
    trace: Sha256,
    processed: u64,
    /// What waits for paused replicas.
    pub(crate) backlog: BTreeMap<ReplicaId, Vec<Event>>,
    pub(crate) healed: Option<Healed>,
    /// How the first recovery went; there is another after the loss of power at the end.
    recovery: Option<(Option<u64>, u64)>,
    /// The last slot that any honest replica has executed so far.
    furthest: Sequence,
    /// Everything was done and power went once more: whom that concerned, and what they had executed.
    pub(crate) reached: Option<Sequence>,
    points: Option<Points>,
}

/// What an application's author wants to hold at the end of a run.
pub(crate) type CheckState = dyn Fn(&dyn Application, u64) -> Result<(), String> + Send + Sync;

/// How things stood when all faults ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Healed {
    pub(crate) at: u64,
    pub(crate) executed: Sequence,
    /// INV14: by when a waiting request must have been executed.
    pub(crate) due: u64,
    pub(crate) waiting: bool,
    pub(crate) progress: Option<u64>,
}

impl Simulation {
    /// Sets a run up.
    ///
    /// # Errors
    /// Options that make no cluster.
    pub fn new(options: Options) -> Result<Self, ConfigError> {
        Simulation::of(options, Workload::default())
    }

    /// Sets a run of this application up.
    ///
    /// # Errors
    /// Options that make no cluster.
    pub fn of(options: Options, workload: Workload) -> Result<Self, ConfigError> {
        let keys = Keys::new(&options)?;
        let mut random = Random::new(options.seed);
        let mut nodes = Vec::new();
        for id in keys.cluster.replicas() {
            nodes.push(Node::new(id, &keys, &options, &workload, &mut random)?);
        }
        let mut callers = Vec::new();
        for id in (0_u32..).take(options.clients).map(ClientId) {
            callers.push(Caller::new(id, &keys, &options, &workload)?);
        }
        let mut simulation = Simulation {
            network: Network::new(&options),
            checkers: Checkers::new(&keys, &options),
            starvation: Starvation::default(),
            keys,
            check_state: None,
            now: 0,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            ticket: 0,
            random,
            nodes,
            callers,
            trace: Sha256::new(),
            processed: 0,
            backlog: BTreeMap::new(),
            healed: None,
            recovery: None,
            furthest: Sequence(0),
            reached: None,
            points: None,
            options,
        };
        simulation.schedule_course();
        let controller = Controller::default();
        for (replica, spec) in simulation.options.traitors.clone() {
            let keys = &simulation.keys;
            let kit = Kit {
                id: replica,
                cluster: Arc::clone(&keys.cluster),
                signer: keys.signer(Author::Replica(replica)),
                edge: keys.edge(Author::Replica(replica)),
                limits: simulation.options.limits(),
                application: {
                    let workload = workload.clone();
                    Arc::new(move || workload.make(Seen::default(), Upset::default()))
                },
                seed: simulation.options.seed,
                controller: controller.clone(),
            };
            let traitor = Traitor::new(&spec, kit)
                .map_err(|error| ConfigError::new("traitor", &spec, error.to_string()))?;
            simulation = simulation.with_traitor(replica, Box::new(traitor));
        }
        Ok(simulation)
    }

    /// Makes a replica a traitor: `hook` stands between it and the world. Checkers then do not judge it.
    #[must_use]
    pub fn with_traitor(mut self, replica: ReplicaId, hook: Box<dyn Hook>) -> Self {
        if let Some(node) = usize::try_from(replica.0).ok().and_then(|i| self.nodes.get_mut(i)) {
            node.set_hook(hook);
            self.checkers.distrust(replica);
        }
        self
    }

    /// Counts the points at which a replica can crash, or has one crash at one of them.
    #[must_use]
    pub(crate) fn with_points(mut self, points: Points) -> Self {
        self.points = Some(points);
        self
    }

    /// At the end, `check` looks at the application of every correct replica that is up, and at how many
    /// requests were committed.
    #[must_use]
    pub(crate) fn with_state_check(mut self, check: Arc<CheckState>) -> Self {
        self.check_state = Some(check);
        self
    }

    fn schedule_course(&mut self) {
        for index in 0..self.options.replicas {
            let replica = ReplicaId(u32::try_from(index).unwrap_or(0));
            self.schedule(0, Event::Wake { place: Place::Replica(replica) });
        }
        for index in 0..self.options.clients {
            let client = ClientId(u32::try_from(index).unwrap_or(0));
            let at = self.random.below(5 * MILLIS);
            self.schedule(at, Event::Submit { client });
        }
        for (replica, at) in self.options.crashes.clone() {
            self.schedule(at, Event::Crash { replica: ReplicaId(replica) });
        }
        if let Some(replica) = self.options.outage {
            self.schedule(self.options.outage_at, Event::Outage { replica: ReplicaId(replica) });
        }
        if self.options.has_events() {
            let at = self.random.between(10, 1000) * MILLIS;
            self.schedule(at, Event::Fault);
        }
        self.schedule(self.options.heal_at, Event::Heal);
    }

    pub(crate) fn schedule(&mut self, delay: u64, event: Event) {
        self.ticket += 1;
        self.queue.push(Reverse((self.now.saturating_add(delay), self.ticket)));
        self.events.insert(self.ticket, event);
    }

    /// Runs to the end.
    pub fn run(self) -> Report {
        self.run_through().0
    }

    /// Runs to the end and says which points were reached, if they were counted.
    pub(crate) fn run_through(mut self) -> (Report, Points) {
        let end = self.options.heal_at.saturating_add(self.options.liveness_bound);
        let verdict = loop {
            if let Some(violation) = self.checkers.violation() {
                break Verdict::Violated(violation.clone());
            }
            if self.is_done() {
                if self.options.power.at_end && self.reached.is_none() {
                    self.lose_power_at_the_end();
                    continue;
                }
                break self.finish();
            }
            let Some(Reverse((at, ticket))) = self.queue.pop() else {
                break Verdict::NoProgress("nothing is left to happen".to_owned());
            };
            self.now = at;
            let end = if self.reached.is_some() { end + self.options.liveness_bound } else { end };
            if at > end {
                break self.give_up();
            }
            if let Some(event) = self.events.remove(&ticket) {
                self.note(&event);
                self.process(event);
                if let Some(late) = self.watch_progress() {
                    break late;
                }
            }
        };
        let (verdict, convicted) = self.hold_to_account(verdict);
        self.note_recovery();
        let executed = self.nodes.iter().map(Node::executed).max();
        let report = Report {
            verdict,
            trace: Digest(self.trace.finalize().into()),
            events: self.processed,
            time: self.now,
            slots: executed.unwrap_or_default(),
            committed: self.callers.iter().map(|caller| caller.committed).sum(),
            evidence: self.checkers.evidence(),
            convicted,
            faults: self.network.faults,
            first_progress: self.recovery.and_then(|(progress, _)| progress),
            recovered: self.recovery.map(|(_, recovered)| recovered),
            goals: self.checkers.goals(),
        };
        (report, self.points.unwrap_or_default())
    }

    pub(crate) fn note_recovery(&mut self) {
        let now = self.now;
        let recovery = self
            .healed
            .map(|healed| (healed.progress.map(|progress| progress - healed.at), now - healed.at));
        self.recovery = self.recovery.or(recovery);
    }

    /// With more than f traitors agreement may break; then whoever broke it must be known.
    fn hold_to_account(&self, verdict: Verdict) -> (Verdict, BTreeSet<ReplicaId>) {
        let traitors = self.checkers.traitors();
        let forked = |it: &Violation| FORKS.contains(&it.property);
        if traitors.len() < self.keys.cluster.join()
            || !matches!(&verdict, Verdict::Violated(violation) if forked(violation))
        {
            return (verdict, BTreeSet::new());
        }
        let correct = self.nodes.iter().filter(|node| !node.is_traitor());
        let kept: Vec<_> = correct.flat_map(|node| node.replica().kept_statements()).collect();
        let (convicted, wrong) = accountability::judge(&self.keys, traitors, &kept);
        (wrong.map_or(verdict, Verdict::Violated), convicted)
    }

    /// Every request has ended and every live, correct replica has executed what any has.
    fn is_done(&self) -> bool {
        let mut live = self.live().map(Node::executed);
        let first = live.next();
        self.healed.is_some()
            && self.callers.iter().all(Caller::is_done)
            && first >= self.reached
            // All of them may have just started again from the same snapshot, with slots still to follow.
            && first >= Some(self.furthest)
            && live.all(|executed| Some(executed) == first)
    }

    pub(crate) fn frontier(&self) -> Sequence {
        self.live().map(Node::executed).max().unwrap_or_default()
    }

    /// INV14: what waits when the faults end is executed within the bound.
    fn watch_progress(&mut self) -> Option<Verdict> {
        if let Some((client, number, waited)) = self.starvation.late(self.now) {
            return Some(Verdict::NoProgress(format!(
                "INV14: request {number} of {client:?} waits for {} ms while others are executed",
                waited / MILLIS
            )));
        }
        let frontier = self.frontier();
        let healed = self.healed.as_mut()?;
        if !healed.waiting || healed.progress.is_some() {
            return None;
        }
        if frontier > healed.executed {
            healed.progress = Some(self.now);
        } else if self.now > healed.due && self.callers.iter().any(|caller| caller.unresolved() > 0)
        {
            let late = self.now - healed.at;
            return Some(Verdict::NoProgress(format!(
                "INV14: nothing was executed within {} ms of the last fault",
                late / MILLIS
            )));
        }
        None
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| !node.is_crashed() && !node.is_traitor())
    }

    fn finish(&mut self) -> Verdict {
        if let Some(violation) = self.checkers.at_end() {
            return Verdict::Violated(violation);
        }
        let Some(check) = &self.check_state else { return Verdict::Pass };
        let committed = self.callers.iter().map(|caller| caller.committed).sum();
        let wrong = self.live().find_map(|node| check(node.application(), committed).err());
        let violation = |detail| Violation { property: "the application's own check", detail };
        wrong.map_or(Verdict::Pass, |detail| Verdict::Violated(violation(detail)))
    }

    fn give_up(&self) -> Verdict {
        let frontier = self.frontier();
        let behind = self.live().filter(|node| node.executed() < frontier);
        let behind: Vec<_> =
            behind.map(|node| (node.replica().id(), node.replica().summary())).collect();
        let open: usize = self.callers.iter().map(Caller::open).sum();
        Verdict::NoProgress(format!(
            "{open} requests open, the furthest executed {frontier}, behind it {behind:?}"
        ))
    }

    fn note(&mut self, event: &Event) {
        self.processed += 1;
        self.trace.update(self.now.to_le_bytes());
        match event {
            Event::Frame { from, to, frame } => {
                self.trace.update(format!("{from:?}{to:?}"));
                self.trace.update(frame);
            }
            other => self.trace.update(format!("{other:?}")),
        }
    }

    pub(crate) fn process(&mut self, event: Event) {
        match event {
            event if self.is_paused(&event) => self.put_aside(event),
            Event::Frame { from, to, frame } if !self.network.is_cut(from, to) => {
                self.on_frame(from, to, &frame);
            }
            Event::Frame { .. } => {}
            Event::Durable { replica, life } => {
                self.on_disk((replica, life), Kind::Commit, Node::on_commit, Node::on_durable);
            }
            Event::Written { replica, life } => {
                let tell = |node: &mut Node, now, write, fx: &mut _| node.on_kept(now, &write, fx);
                self.on_disk((replica, life), Kind::Snapshot, Node::on_written, tell);
            }
            Event::Room { replica } => {
                self.with_crashed(replica, |node, _, fx| node.on_room(fx));
            }
            Event::Fails { replica } => self.fail(replica),
            Event::PutBack { replica } => self.put_back(replica),
            Event::Loop { replica, left } => self.crash_again(replica, left),
            Event::Roll { replica } => self.roll(replica),
            Event::Executor { replica, life } => {
                self.with_life(replica, life, |node, now, fx| node.on_executor(now, fx));
            }
            Event::Transfer { replica, life } => {
                self.with_life(replica, life, |node, now, fx| node.on_transfer(now, fx));
            }
            Event::Hook { replica, life } => {
                self.with_life(replica, life, |node, now, fx| node.on_hook(now, fx));
            }
            Event::Wake { place: Place::Replica(replica) } => {
                self.with_node(replica, |node, now, fx| node.on_wake(now, fx));
            }
            Event::Wake { place: Place::Client(client) } => {
                self.with_caller(client, |caller, now, fx| caller.on_wake(now, fx));
            }
            Event::Submit { client } => {
                self.with_caller(client, |caller, now, fx| caller.submit(now, fx));
            }
            Event::Crash { replica } => {
                if let Some(node) = self.node_mut(replica) {
                    node.crash(None);
                    self.network.faults.crashes += 1;
                    self.checkers.observe(&Observation::Stopped { replica });
                }
            }
            Event::Restart { replica } => self.restart(replica),
            Event::Resume { replica } => self.resume(replica),
            Event::Outage { replica } => self.network.isolate(replica),
            Event::Fault => self.on_fault(),
            Event::Flap => {
                self.network.flap();
                if self.network.is_flapping() {
                    let next = self.random.between(1, 100) * MILLIS;
                    self.schedule(next, Event::Flap);
                }
            }
            Event::Heal => self.heal(),
        }
    }

    fn on_frame(&mut self, from: Place, to: Place, frame: &Bytes) {
        match (from, to) {
            (_, Place::Replica(replica)) => {
                self.with_node(replica, |node, now, fx| node.on_frame(now, from, frame, fx));
            }
            (Place::Replica(replica), Place::Client(client)) => {
                self.with_caller(client, |caller, now, fx| {
                    caller.on_frame(now, replica, frame, fx);
                });
            }
            (Place::Client(_), Place::Client(_)) => {}
        }
    }

    fn with_life(
        &mut self,
        replica: ReplicaId,
        life: u32,
        act: impl FnOnce(&mut Node, u64, &mut Vec<Effect>),
    ) {
        if self.node_mut(replica).is_some_and(|node| node.life() == life) {
            self.with_node(replica, act);
        }
    }

    pub(crate) fn node_mut(&mut self, replica: ReplicaId) -> Option<&mut Node> {
        usize::try_from(replica.0).ok().and_then(|index| self.nodes.get_mut(index))
    }

    pub(crate) fn with_node(
        &mut self,
        replica: ReplicaId,
        act: impl FnOnce(&mut Node, u64, &mut Vec<Effect>),
    ) {
        if self.node_mut(replica).is_some_and(|node| !node.is_crashed()) {
            self.with_crashed(replica, act);
        }
    }

    /// The same for a replica that may be stopped: to start it again.
    pub(crate) fn with_crashed(
        &mut self,
        replica: ReplicaId,
        act: impl FnOnce(&mut Node, u64, &mut Vec<Effect>),
    ) {
        let now = self.now;
        let Some(node) = self.node_mut(replica) else { return };
        let mut effects = Vec::new();
        act(node, now, &mut effects);
        self.carry_out(Place::Replica(replica), effects);
        let node = usize::try_from(replica.0).ok().and_then(|index| self.nodes.get(index));
        if let Some(node) = node.filter(|node| !node.is_crashed()) {
            if !node.is_traitor() {
                self.furthest = self.furthest.max(node.executed());
            }
            self.checkers.observe(&Observation::Stepped { replica: node.replica() });
        }
    }

    fn with_caller(
        &mut self,
        client: ClientId,
        act: impl FnOnce(&mut Caller, u64, &mut Vec<Effect>),
    ) {
        let now = self.now;
        let index = usize::try_from(client.0).ok();
        let Some(caller) = index.and_then(|index| self.callers.get_mut(index)) else {
            return;
        };
        let mut effects = Vec::new();
        act(caller, now, &mut effects);
        self.carry_out(Place::Client(client), effects);
    }

    /// A commit ends, or a snapshot is written: the disk first, then whoever waits for it. Before and between a crash
    /// may come.
    fn on_disk<Done>(
        &mut self,
        (replica, life): (ReplicaId, u32),
        kind: Kind,
        write: fn(&mut Node, &mut Vec<Effect>) -> Option<Done>,
        tell: fn(&mut Node, u64, Done, &mut Vec<Effect>),
    ) {
        if !self.is_alive(replica, life) {
            return;
        }
        let point = self.reach(replica, kind);
        if point == Some(false) {
            return self.spring(replica, kind);
        }
        let mut done = None;
        self.with_node(replica, |node, _, fx| done = write(node, fx));
        if point == Some(true) {
            return self.spring(replica, kind);
        }
        if let Some(done) = done {
            self.with_node(replica, |node, now, fx| tell(node, now, done, fx));
        }
    }

    fn is_alive(&mut self, replica: ReplicaId, life: u32) -> bool {
        self.node_mut(replica).is_some_and(|node| !node.is_crashed() && node.life() == life)
    }

    /// Counts a point; whether the crash of this run is here: just before it, or just after.
    fn reach(&mut self, replica: ReplicaId, kind: Kind) -> Option<bool> {
        self.points.as_mut()?.reach(replica, kind)
    }

    /// The crash of this run.
    fn spring(&mut self, replica: ReplicaId, kind: Kind) {
        let Some(crash) = self.points.as_ref().and_then(|points| points.crash) else { return };
        let n = u32::try_from(self.nodes.len()).unwrap_or(0);
        let (mut under_way, mut last) = (false, 0);
        for victim in (0..n).map(ReplicaId).filter(|victim| crash.all || *victim == replica) {
            under_way |= self.node_mut(victim).is_some_and(|node| node.disk().is_busy());
            self.stop_with(victim, Some(crash.survives));
            let delay = self.random.between(0, 300) * MILLIS;
            last = delay.max(last);
            self.schedule(delay, Event::Restart { replica: victim });
        }
        if let Some(points) = &mut self.points {
            points.sprung = Some((kind, under_way));
        }
        // It is the last fault, so from its end on everything has its time.
        if self.healed.take().is_some() || self.now + last >= self.options.heal_at {
            self.schedule(last, Event::Heal);
        }
    }

    fn carry_out(&mut self, from: Place, effects: Vec<Effect>) {
        for effect in effects {
            let kind = match &effect {
                Effect::Persist { .. } => Some(Kind::Append),
                Effect::Send { promise: true, .. } => Some(Kind::Send),
                _ => None,
            };
            let point = match (kind, from) {
                (Some(kind), Place::Replica(replica)) if self.points.is_some() => {
                    self.reach(replica, kind).map(|after| (replica, kind, after))
                }
                _ => None,
            };
            if let Some((replica, kind, false)) = point {
                return self.spring(replica, kind);
            }
            match effect {
                Effect::Persist { id, record, life } => {
                    let Place::Replica(replica) = from else { continue };
                    self.append(replica, id, record, life);
                }
                Effect::Fails => {
                    if let Place::Replica(replica) = from {
                        self.network.faults.failed_syncs += 1;
                        self.fail(replica);
                        return;
                    }
                }
                Effect::Send { to, frame, guarded, .. } => {
                    let deliveries =
                        self.network.carry(from, to, &frame, guarded, &mut self.random);
                    for (delay, frame) in deliveries {
                        self.schedule(delay, Event::Frame { from, to, frame });
                    }
                }
                Effect::Later { delay, event } => self.schedule(delay, event),
                Effect::Observe(observation) => {
                    self.starvation.observe(self.now, &observation);
                    self.checkers.observe(&observation);
                }
            }
            if let Some((replica, kind, true)) = point {
                return self.spring(replica, kind);
            }
        }
    }

    fn append(&mut self, replica: ReplicaId, id: WriteId, record: Record, life: u32) {
        let mut effects = Vec::new();
        if let Some(node) = self.node_mut(replica) {
            node.append(id, record, life, &mut effects);
        }
        // A commit that begins: nothing but its end.
        for effect in effects {
            if let Effect::Later { delay, event } = effect {
                self.schedule(delay, event);
            }
        }
    }
}
