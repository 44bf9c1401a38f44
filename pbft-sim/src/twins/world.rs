//! The instances of a scenario, what is under way between them, and what must hold of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use pbft_core::cluster::{Cluster, ClusterConfig};
use pbft_core::crypto::{Author, Signer, Verifier};
use pbft_core::limits::{ConfigError, Constants, Limits};
use pbft_core::message::{Batch, Message, Operations, RequestBody, Statement};
use pbft_core::replica::{Action, Input, Outbox, Replica, To};
use pbft_core::signed::{Cache, Scrutiny, Verified, sign_message, verify};
use pbft_core::types::{
    ClientId, Digest, Instant, PublicKey, ReplicaId, RequestNumber, Sequence, Signature, Time,
    View, WallTime,
};

use super::partition::Partition;
use crate::traitor::is_own_word;

/// How many replicas the cluster has.
pub(super) const REPLICAS: u32 = 4;
/// How many requests there are, each of a client of its own.
const REQUESTS: u32 = 2;
/// A step of the time. A replica takes a gap of half a time-out for a stop of its own and waits anew, so a
/// time-out takes three of them.
const STEP: Duration = Duration::from_millis(400);
/// How many steps a time-out takes.
const STEPS: u32 = 3;
/// After so many message delays without a pause the replicas are talking for ever.
const HOPS_MAX: usize = 64;
/// Within so many time-outs after everything is joined, both requests must be executed. One primary may be
/// the twin, and those who were apart have to find one view first.
const HEALING_TIMEOUTS: u64 = 8;

/// One signature fits everything: what is tried here is the order of messages, not their authors.
struct Stamp;

impl Signer for Stamp {
    fn sign(&self, _: &[u8]) -> Signature {
        Signature([7; 64])
    }
}

impl Verifier for Stamp {
    fn verify(&self, _: Author, _: &[u8], _: &Signature) -> bool {
        true
    }
}

/// What is the same in all scenarios of an enumeration.
pub(super) struct Setting {
    cluster: Arc<Cluster>,
    limits: Limits,
    twins: Vec<ReplicaId>,
    /// Whose copy each instance is: one for each replica, then a second for each twin.
    pub(super) instances: Vec<ReplicaId>,
    /// The instances that are no twins.
    correct: Vec<usize>,
    requests: Vec<Arc<Verified>>,
}

impl Setting {
    pub(super) fn new(twins: &[ReplicaId]) -> Result<Self, ConfigError> {
        // Every key is used once and none for its mathematics.
        let key =
            |kind: u8, id: u32| PublicKey([kind.wrapping_add(u8::try_from(id).unwrap_or(0)); 32]);
        let cluster = Arc::new(Cluster::new(ClusterConfig {
            name: "twins".to_owned(),
            members: (0..REPLICAS).map(|id| key(1, id)).collect(),
            clients: (0..REQUESTS).map(|id| key(64, id)).collect(),
            // Far more slots than two requests take: no scenario comes to a checkpoint.
            constants: Constants { checkpoint_interval: 32, window: 64, ..Constants::default() },
            development: false,
        })?);
        let timeout = STEP * STEPS;
        let limits = Limits {
            status_interval: STEP,
            view_timeout: timeout,
            // All time-outs stay equal, so that every round ends with one.
            view_timeout_max: timeout,
            ..Limits::default()
        };
        for (index, twin) in twins.iter().enumerate() {
            if !cluster.contains(*twin) || twins.iter().take(index).any(|other| other == twin) {
                let remedy = "take different replicas from 0 to 3";
                return Err(ConfigError::new("twins", twin, remedy));
            }
        }
        let instances = super::instances(twins);
        let ids = instances.iter().enumerate();
        let correct = ids.filter(|(_, id)| !twins.contains(id)).map(|(index, _)| index).collect();
        let requests = (0..REQUESTS).map(|client| Self::request(&cluster, ClientId(client)));
        let requests = requests.collect::<Result<_, _>>()?;
        Ok(Setting { cluster, limits, twins: twins.to_vec(), instances, correct, requests })
    }

    fn request(cluster: &Cluster, client: ClientId) -> Result<Arc<Verified>, ConfigError> {
        let refuse = |why: &dyn std::fmt::Display| ConfigError::new("request", client, why);
        let operations = Operations::new([client.0.to_le_bytes()]);
        let operations = operations.ok_or_else(|| refuse(&"one operation is packed"))?;
        let request = RequestBody { client, number: RequestNumber(1), operations };
        let message = Message::Request(request.sign(cluster, &Stamp));
        verify(cluster, &Stamp, &mut Cache::default(), message, Scrutiny::Whole)
            .map(Arc::new)
            .map_err(|forgery| refuse(&forgery))
    }

    /// Whom each request is sent to first: one the twins and a half of the others, the other the twins'
    /// copies and the other half. So two copies that lead a view apart propose different batches.
    fn first_receivers(&self, request: usize) -> Vec<usize> {
        let half = self.correct.len() / 2;
        let (copies, correct): (Vec<usize>, &[usize]) = match request {
            0 => {
                let firsts = self.twins.iter().filter_map(|twin| usize::try_from(twin.0).ok());
                (firsts.collect(), self.correct.get(..half).unwrap_or_default())
            }
            _ => {
                let replicas = self.instances.len() - self.twins.len();
                let seconds = replicas..self.instances.len();
                (seconds.collect(), self.correct.get(half..).unwrap_or_default())
            }
        };
        copies.into_iter().chain(correct.iter().copied()).collect()
    }
}

/// A replica and what stands for its application.
#[derive(Clone)]
struct Instance {
    id: ReplicaId,
    replica: Replica,
    executed: Vec<(Sequence, Digest)>,
    consumed: Vec<(ClientId, RequestNumber)>,
}

impl Instance {
    /// Applies a slot and says which numbers it consumed.
    fn execute(
        &mut self,
        sequence: Sequence,
        batch: Option<&Batch>,
    ) -> Vec<(ClientId, RequestNumber)> {
        self.executed.push((sequence, batch.map_or(Digest::NULL, Batch::digest)));
        let before = self.consumed.len();
        for request in batch.map_or(&[][..], Batch::requests) {
            let name = (request.client(), request.number());
            if !self.consumed.contains(&name) {
                self.consumed.push(name);
            }
        }
        self.consumed.get(before..).unwrap_or_default().to_vec()
    }

    /// Whether it takes what is sent to `to` by an instance of `from`.
    fn is_among(&self, to: To, from: ReplicaId) -> bool {
        self.id != from && (to == To::All || to == To::One(self.id))
    }
}

/// Between whom a message is under way.
#[derive(Clone, Copy)]
enum Way {
    /// From a client, whom no partition stops, to one instance.
    FromClient(usize),
    /// From one instance to those of others on its side.
    FromInstance(usize, To),
}

#[derive(Clone)]
struct Flight {
    way: Way,
    message: Arc<Verified>,
}

/// How long messages are exchanged.
#[derive(Clone, Copy)]
enum Exchange {
    UntilQuiet,
    Hops(usize),
}

/// What a worker reuses from one node of the tree to the next.
pub(super) struct Tools<'a> {
    pub(super) setting: &'a Setting,
    cache: Cache,
    inputs: VecDeque<Input>,
    out: Outbox,
    /// The simulated time that has passed in everything done with these tools.
    pub(super) simulated_micros: u64,
}

impl<'a> Tools<'a> {
    pub(super) fn new(setting: &'a Setting) -> Self {
        // Looking a signature up costs more than accepting it.
        let cache = Cache::new(1);
        let (inputs, out) = Default::default();
        Tools { setting, cache, inputs, out, simulated_micros: 0 }
    }
}

/// The state at one node of the tree of rounds.
#[derive(Clone)]
pub(super) struct World {
    instances: Vec<Instance>,
    flights: Vec<Flight>,
    now: Duration,
}

/// What is broken, in words.
pub(super) type Broken = String;

impl World {
    /// Everybody has started and the requests are under way.
    pub(super) fn new(tools: &mut Tools<'_>) -> Result<Self, ConfigError> {
        let setting = tools.setting;
        let instance = |id: &ReplicaId| {
            let cluster = Arc::clone(&setting.cluster);
            let replica = Replica::new(*id, cluster, setting.limits.clone())?;
            Ok(Instance { id: *id, replica, executed: Vec::new(), consumed: Vec::new() })
        };
        let instances = setting.instances.iter().map(instance).collect::<Result<Vec<_>, _>>()?;
        let mut world = World { instances, flights: Vec::new(), now: Duration::ZERO };
        for index in 0..world.instances.len() {
            let started = world.drive(tools, index, Input::Start);
            started.map_err(|broken| ConfigError::new("start", index, broken))?;
        }
        // The first statuses say that nobody holds anything.
        world.flights.clear();
        for (index, request) in setting.requests.iter().enumerate() {
            for receiver in setting.first_receivers(index) {
                world.send(Way::FromClient(receiver), Arc::clone(request));
            }
        }
        Ok(world)
    }

    /// The first round: what is under way arrives, for `hops` message delays.
    pub(super) fn open(
        &mut self,
        tools: &mut Tools<'_>,
        partition: &Partition,
        hops: usize,
    ) -> Result<(), Broken> {
        self.exchange(tools, Some(partition), Exchange::Hops(hops))
    }

    /// A later round: what is under way arrives where the new partition lets it, everybody repairs what it
    /// can, and at last time is up for those who wait; `hops` message delays after that the round ends.
    pub(super) fn round(
        &mut self,
        tools: &mut Tools<'_>,
        partition: &Partition,
        hops: usize,
    ) -> Result<(), Broken> {
        self.exchange(tools, Some(partition), Exchange::UntilQuiet)?;
        self.time_out(tools, Some(partition), Exchange::Hops(hops))
    }

    /// Joins all, has the clients ask everybody again, and waits until all correct replicas have executed
    /// everything.
    pub(super) fn heal(&mut self, tools: &mut Tools<'_>) -> Result<u64, Broken> {
        for request in &tools.setting.requests {
            for index in 0..self.instances.len() {
                self.send(Way::FromClient(index), Arc::clone(request));
            }
        }
        self.exchange(tools, None, Exchange::UntilQuiet)?;
        for timeouts in 0..=HEALING_TIMEOUTS {
            self.check(tools.setting)?;
            if self.is_done(tools.setting) {
                return Ok(timeouts);
            }
            self.time_out(tools, None, Exchange::UntilQuiet)?;
        }
        Err(format!(
            "{HEALING_TIMEOUTS} time-outs after all were joined: {}",
            self.describe(tools.setting)
        ))
    }

    fn send(&mut self, way: Way, message: Arc<Verified>) {
        self.flights.push(Flight { way, message });
    }

    /// A time-out passes, in steps. Only the exchange after the last of them is `last`.
    fn time_out(
        &mut self,
        tools: &mut Tools<'_>,
        partition: Option<&Partition>,
        last: Exchange,
    ) -> Result<(), Broken> {
        for step in 1..=STEPS {
            self.now += STEP;
            tools.simulated_micros += u64::try_from(STEP.as_micros()).unwrap_or(u64::MAX);
            // Also for those with no alarm due: a replica that hears nothing at all thinks it was stopped.
            for index in 0..self.instances.len() {
                self.drive(tools, index, Input::Wake)?;
            }
            let exchange = if step == STEPS { last } else { Exchange::UntilQuiet };
            self.exchange(tools, partition, exchange)?;
        }
        Ok(())
    }

    /// Messages arrive, all that are under way at a time.
    fn exchange(
        &mut self,
        tools: &mut Tools<'_>,
        partition: Option<&Partition>,
        exchange: Exchange,
    ) -> Result<(), Broken> {
        let most = match exchange {
            Exchange::UntilQuiet => HOPS_MAX,
            Exchange::Hops(hops) => hops.min(HOPS_MAX),
        };
        for _ in 0..most {
            if self.flights.is_empty() {
                return Ok(());
            }
            self.hop(tools, partition)?;
        }
        match exchange {
            Exchange::UntilQuiet if !self.flights.is_empty() => {
                Err(format!("messages go on and on for {HOPS_MAX} message delays"))
            }
            _ => Ok(()),
        }
    }

    fn hop(&mut self, tools: &mut Tools<'_>, partition: Option<&Partition>) -> Result<(), Broken> {
        for flight in std::mem::take(&mut self.flights) {
            for index in 0..self.instances.len() {
                let Some(receiver) = self.instances.get(index) else { continue };
                let arrives = match flight.way {
                    Way::FromClient(to) => to == index,
                    Way::FromInstance(from, to) => {
                        let sender = tools.setting.instances.get(from);
                        sender.is_some_and(|sender| receiver.is_among(to, *sender))
                            && partition.is_none_or(|partition| partition.joins(from, index))
                    }
                };
                // A twin that heard of its other self would fall silent.
                let own = is_own_word(receiver.id, &flight.message);
                if arrives && !own && receiver.replica.wants(flight.message.message()).is_ok() {
                    self.drive(tools, index, Input::Deliver(Verified::clone(&flight.message)))?;
                }
            }
        }
        Ok(())
    }

    /// Gives an instance an input and does what it asks for: every write is durable at once and every slot
    /// executed at once.
    fn drive(&mut self, tools: &mut Tools<'_>, index: usize, input: Input) -> Result<(), Broken> {
        let micros = u64::try_from(self.now.as_micros()).unwrap_or(u64::MAX);
        let now = Time { instant: Instant(micros), wall: WallTime(micros) };
        let Some(instance) = self.instances.get_mut(index) else { return Ok(()) };
        let Tools { setting, cache, inputs, out, .. } = tools;
        inputs.push_back(input);
        loop {
            if let Some(input) = inputs.pop_front() {
                instance.replica.step(now, input, out);
            } else {
                instance.replica.propose(now, out);
                if out.is_empty() {
                    break;
                }
            }
            for action in out.drain(..) {
                let (to, message) = match action {
                    Action::Persist { id, .. } => {
                        inputs.push_back(Input::Durable(id));
                        continue;
                    }
                    Action::Execute { sequence, batch, .. } => {
                        let consumed = instance.execute(sequence, batch.as_deref());
                        inputs.push_back(Input::Executed { sequence, consumed });
                        continue;
                    }
                    Action::Say { to, statement, batch } => {
                        let hint = matches!(statement, Statement::Status(_) | Statement::Fetch(_));
                        let cluster = &setting.cluster;
                        let said = sign_message(cluster, &Stamp, instance.id, statement, batch);
                        if !hint {
                            inputs.push_back(Input::Deliver(said.clone()));
                        }
                        (to, said)
                    }
                    Action::Relay { to, message } => {
                        let relayed =
                            verify(&setting.cluster, &Stamp, cache, message, Scrutiny::Whole);
                        let void = |forgery| {
                            format!(
                                "an instance of replica {} relayed a void message: {forgery}",
                                instance.id
                            )
                        };
                        (to, relayed.map_err(void)?)
                    }
                    // Evidence and halts are seen in the replica itself, answers concern the clients
                    // alone, and there is no checkpoint for the rest.
                    _ => continue,
                };
                let way = Way::FromInstance(index, to);
                self.flights.push(Flight { way, message: Arc::new(message) });
            }
        }
        Ok(())
    }

    // --- What must hold ---

    fn correct<'a>(&'a self, setting: &'a Setting) -> impl Iterator<Item = &'a Instance> {
        setting.correct.iter().filter_map(|index| self.instances.get(*index))
    }

    /// Whether every correct replica has executed every request.
    pub(super) fn is_done(&self, setting: &Setting) -> bool {
        self.correct(setting).all(|instance| instance.consumed.len() == setting.requests.len())
    }

    /// The highest view that a correct replica is in.
    pub(super) fn deepest_view(&self, setting: &Setting) -> View {
        self.correct(setting).map(|instance| instance.replica.view()).max().unwrap_or_default()
    }

    /// No correct replica has halted, no two of them decided or executed differently, and nobody but twins
    /// is accused.
    pub(super) fn check(&self, setting: &Setting) -> Result<(), Broken> {
        for (index, one) in self.correct(setting).enumerate() {
            if let Some(halt) = one.replica.summary().halted {
                return Err(format!("replica {} has halted: {halt}", one.id));
            }
            for other in self.correct(setting).skip(index + 1) {
                agree(one, other)?;
            }
        }
        for accuser in &self.instances {
            for evidence in accuser.replica.evidence().iter() {
                let accused = evidence.subject().replica;
                if !setting.twins.contains(&accused) {
                    let accuser = accuser.id;
                    return Err(format!(
                        "an instance of replica {accuser} accuses replica {accused}, which is correct"
                    ));
                }
            }
        }
        Ok(())
    }

    /// What every instance is doing, for people.
    pub(super) fn describe(&self, setting: &Setting) -> String {
        let one = |(index, instance): (usize, &Instance)| {
            let summary = instance.replica.summary();
            let slots = instance.executed.iter();
            let slots = slots.map(|(sequence, digest)| format!("{sequence}={}", digest.short()));
            let halted = summary.halted.map_or("", |_| " halted");
            format!(
                "{} view {} votes for {} executed [{}] {} requests{halted}",
                super::partition::name(&setting.instances, index),
                summary.view,
                summary.voted_view,
                slots.collect::<Vec<_>>().join(" "),
                instance.consumed.len(),
            )
        };
        self.instances.iter().enumerate().map(one).collect::<Vec<_>>().join("; ")
    }
}

fn agree(one: &Instance, other: &Instance) -> Result<(), Broken> {
    let differ = |what: &str, sequence: Sequence| {
        Err(format!("replicas {} and {} {what} slot {sequence} differently", one.id, other.id))
    };
    // Both lists ascend from slot 1 without a gap.
    for (executed, theirs) in one.executed.iter().zip(&other.executed) {
        if executed != theirs {
            return differ("executed", executed.0);
        }
    }
    for (sequence, slot) in one.replica.window().slots() {
        let theirs = other.replica.window().slot(sequence);
        if let (Some(decided), Some(theirs)) =
            (&slot.committed, theirs.and_then(|slot| slot.committed.as_ref()))
            && decided.vote.digest != theirs.vote.digest
        {
            return differ("decided", sequence);
        }
    }
    Ok(())
}
