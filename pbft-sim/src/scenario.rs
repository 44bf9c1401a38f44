//! Schedules as text: commands and what comes of them, readable like a play.
//!
//! A scenario is a file of lines. Lines that start with `> ` are commands; what follows each is what the
//! replicas then did. [`play`] carries the commands out and writes the transcript anew, so that a file is
//! right if it comes out as it was. Nothing happens by itself: messages wait on their links until they are
//! delivered, timers until time passes. Disks and executors are immediate.
//!
//! | command | what it does |
//! |---|---|
//! | `cluster 4` | so many replicas, K = 4, L = 8, batches of one request; the first command |
//! | `cluster 4 short-history` | the same, and nobody keeps executed slots below h for others |
//! | `request 1 r0 r2` | the client's request of that number arrives at these replicas |
//! | `deliver` | everything on its way arrives, and what it causes, until nothing is left |
//! | `deliver r1 r2 commit` | only what is on its way from r1 to r2, only of that kind; `*` for any |
//! | `drop r0 r3 pre-prepare` | the same is lost instead |
//! | `cut r0 *` | from now on what r0 sends to others is lost; `cut * r0`: what it is sent |
//! | `mend` | links are whole again |
//! | `stop r0`, `start r0` | a crash, and a restart from what was durable |
//! | `upset r0` | a bit flips in its memory: its next operation comes out wrong |
//! | `wait 1000` | so many milliseconds pass, timers fire, nothing arrives |
//! | `run 1000` | so many milliseconds pass, timers fire, everything arrives |
//! | `show` | where everyone stands |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use pbft_core::crypto::Author;
use pbft_core::message::{
    Batch, ClientMessage, Message, Operations, RequestBody, Statement, ViewChange,
};
use pbft_core::types::{ClientId, Digest, ReplicaId, RequestNumber};
use pbft_core::wire;

use crate::checker::Observation;
use crate::keys::Keys;
use crate::node::{Effect, Node};
use crate::options::{MILLIS, Options};
use crate::random::Random;
use crate::simulation::{Event, Place};
use crate::workload::Workload;

/// How a command could not be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: String,
}

impl std::fmt::Display for ScenarioError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "line {}: {}", self.line, self.fault)
    }
}

impl std::error::Error for ScenarioError {}

/// Plays a scenario: comments and commands of `script` stay, everything else is written anew.
///
/// # Errors
/// The first line that is no command of the table above.
pub fn play(script: &str) -> Result<String, ScenarioError> {
    let mut stage: Option<Stage> = None;
    let mut transcript = String::new();
    for (index, line) in script.lines().enumerate() {
        if line.starts_with('#') || line.is_empty() {
            let _ = writeln!(transcript, "{line}");
            continue;
        }
        let Some(command) = line.strip_prefix("> ") else { continue };
        let fault = |fault: String| ScenarioError { line: index + 1, fault };
        let _ = writeln!(transcript, "{line}");
        let mut words = command.split_whitespace();
        match (words.next(), &mut stage) {
            (Some("cluster"), None) => {
                let n = words.next().and_then(|n| n.parse().ok());
                let short = words.next() == Some("short-history");
                stage = Some(Stage::new(n.unwrap_or(4), short).map_err(fault)?);
            }
            (Some(command), Some(stage)) => {
                stage.obey(command, &words.collect::<Vec<_>>()).map_err(fault)?;
                for said in stage.lines.drain(..) {
                    let _ = writeln!(transcript, "  {said}");
                }
            }
            _ => return Err(fault("begin with `cluster N`".to_owned())),
        }
    }
    Ok(transcript)
}

/// A message on its way.
struct Wire {
    from: Place,
    to: Place,
    frame: Bytes,
}

struct Stage {
    keys: Keys,
    nodes: Vec<Node>,
    wires: Vec<Wire>,
    timers: BTreeMap<(u64, u64), Event>,
    tickets: u64,
    now: u64,
    cut: BTreeSet<(ReplicaId, ReplicaId)>,
    /// What batches are called in the transcript.
    names: BTreeMap<Digest, String>,
    lines: Vec<String>,
}

impl Stage {
    fn new(n: usize, short_history: bool) -> Result<Self, String> {
        let mut options = Options::fault_free(1, n);
        if short_history {
            options.history_slots_max = 1;
        }
        options.constants.checkpoint_interval = 4;
        options.constants.window = 8;
        options.constants.batch_requests_max = 1;
        options.slots_in_flight_max = 8;
        let keys = Keys::new(&options).map_err(|error| error.to_string())?;
        let mut random = Random::new(1);
        let mut nodes = Vec::new();
        for id in keys.cluster.replicas() {
            let node = Node::new(id, &keys, &options, &Workload::default(), &mut random);
            nodes.push(node.map_err(|error| error.to_string())?);
        }
        let names = BTreeMap::from([(Digest::NULL, "null".to_owned())]);
        let mut stage = Stage {
            keys,
            nodes,
            wires: Vec::new(),
            timers: BTreeMap::new(),
            tickets: 0,
            now: 1_000_000,
            cut: BTreeSet::new(),
            names,
            lines: Vec::new(),
        };
        for id in stage.ids() {
            stage.with(id, |node, now, fx| node.on_wake(now, fx));
        }
        stage.wires.clear();
        Ok(stage)
    }

    fn ids(&self) -> Vec<ReplicaId> {
        self.keys.cluster.replicas().collect()
    }

    fn obey(&mut self, command: &str, words: &[&str]) -> Result<(), String> {
        match (command, words) {
            ("request", [number, replicas @ ..]) => self.request(number, replicas)?,
            ("deliver", []) => self.deliver_all(),
            ("deliver", [from, to, kind @ ..]) => {
                for wire in self.take(from, to, kind.first())? {
                    self.arrive(wire);
                }
            }
            ("drop", [from, to, kind @ ..]) => {
                self.take(from, to, kind.first())?;
            }
            ("cut", [from, to]) => {
                let (from, to) = (self.some(from)?, self.some(to)?);
                for one in from {
                    self.cut.extend(to.iter().filter(|other| **other != one).map(|to| (one, *to)));
                }
            }
            ("mend", []) => self.cut.clear(),
            ("stop", [id]) => {
                let id = one(id)?;
                self.node(id)?.crash(Some(false));
                let place = Place::Replica(id);
                self.wires.retain(|wire| wire.from != place && wire.to != place);
            }
            ("start", [id]) => {
                let id = one(id)?;
                self.node(id)?;
                self.with(id, |node, now, fx| node.restart(now, fx));
            }
            ("upset", [id]) => self.node(one(id)?)?.upset(),
            ("wait", [millis]) => self.pass(number(millis)?, false),
            ("run", [millis]) => self.pass(number(millis)?, true),
            ("show", []) => self.show(),
            _ => return Err(format!("no such command: {command} {}", words.join(" "))),
        }
        Ok(())
    }

    fn node(&mut self, id: ReplicaId) -> Result<&mut Node, String> {
        let at = usize::try_from(id.0).ok();
        at.and_then(|at| self.nodes.get_mut(at)).ok_or_else(|| format!("no replica {id}"))
    }

    fn some(&self, word: &str) -> Result<Vec<ReplicaId>, String> {
        if word == "*" { Ok(self.ids()) } else { one(word).map(|id| vec![id]) }
    }

    fn request(&mut self, word: &str, replicas: &[&str]) -> Result<(), String> {
        let number = RequestNumber(number(word)?);
        let operations = Operations::new([word]).ok_or("no operation")?;
        let body = RequestBody { client: ClientId(0), number, operations };
        let signer = self.keys.signer(Author::Client(ClientId(0)));
        let request = body.sign(&self.keys.cluster, &*signer);
        let frame = wire::encode(&ClientMessage::Request(request));
        for id in replicas {
            let to = Place::Replica(one(id)?);
            let from = Place::Client(ClientId(0));
            self.arrive(Wire { from, to, frame: frame.clone() });
        }
        Ok(())
    }

    /// Takes what is on its way between these, of this kind, off the links.
    fn take(&mut self, from: &str, to: &str, kind: Option<&&str>) -> Result<Vec<Wire>, String> {
        let (from, to) = (self.some(from)?, self.some(to)?);
        let within = |place: &Place, some: &[ReplicaId]| match place {
            Place::Replica(id) => some.contains(id),
            Place::Client(_) => false,
        };
        let wires = std::mem::take(&mut self.wires);
        let (taken, left) = wires.into_iter().partition(|wire: &Wire| {
            let of_kind = kind.is_none_or(|kind| kind_of(&wire.frame) == *kind);
            within(&wire.from, &from) && within(&wire.to, &to) && of_kind
        });
        self.wires = left;
        Ok(taken)
    }

    fn deliver_all(&mut self) {
        // Bounded: a scenario that never comes to rest is a defect to be seen, not waited for.
        for _ in 0..100_000 {
            if self.wires.is_empty() {
                return;
            }
            let wire = self.wires.remove(0);
            self.arrive(wire);
        }
        self.lines.push("... it never comes to rest".to_owned());
    }

    fn arrive(&mut self, wire: Wire) {
        let Wire { from, to: Place::Replica(to), frame } = wire else { return };
        self.with(to, |node, now, fx| {
            if !node.is_crashed() {
                node.on_frame(now, from, &frame, fx);
            }
        });
    }

    fn pass(&mut self, millis: u64, deliver: bool) {
        let end = self.now + millis * MILLIS;
        if deliver {
            self.deliver_all();
        }
        while let Some(((at, ticket), _)) = self.timers.first_key_value() {
            let (at, ticket) = (*at, *ticket);
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            if let Some(event) = self.timers.remove(&(at, ticket)) {
                self.fire(event);
            }
            if deliver {
                self.deliver_all();
            }
        }
        self.now = end;
    }

    fn fire(&mut self, event: Event) {
        let live = |node: &Node, life: u32| !node.is_crashed() && node.life() == life;
        match event {
            Event::Wake { place: Place::Replica(id) } => self.with(id, |node, now, fx| {
                if !node.is_crashed() {
                    node.on_wake(now, fx);
                }
            }),
            Event::Durable { replica, life } => self.with(replica, |node, now, fx| {
                if live(node, life)
                    && let Some(up_to) = node.on_commit(fx)
                {
                    node.on_durable(now, up_to, fx);
                }
            }),
            Event::Written { replica, life } => self.with(replica, |node, now, fx| {
                if live(node, life)
                    && let Some(write) = node.on_written(fx)
                {
                    node.on_kept(now, &write, fx);
                }
            }),
            Event::Executor { replica, life } => self.with(replica, |node, now, fx| {
                if live(node, life) {
                    node.on_executor(now, fx);
                }
            }),
            Event::Transfer { replica, life } => self.with(replica, |node, now, fx| {
                if live(node, life) {
                    node.on_transfer(now, fx);
                }
            }),
            _ => {}
        }
    }

    fn with(&mut self, id: ReplicaId, act: impl FnOnce(&mut Node, u64, &mut Vec<Effect>)) {
        let now = self.now;
        let mut effects = Vec::new();
        if let Ok(node) = self.node(id) {
            act(node, now, &mut effects);
        }
        self.carry_out(id, effects);
    }

    fn carry_out(&mut self, id: ReplicaId, effects: Vec<Effect>) {
        // What is said is shown before its copies are sent.
        for effect in &effects {
            if let Effect::Send { frame, .. } = effect
                && let Ok(Message::Proposal { batch, .. }) = wire::decode::<Message>(frame)
            {
                self.names.entry(batch.digest()).or_insert_with(|| name_of(&batch));
            }
        }
        for effect in effects {
            match effect {
                Effect::Send { to, frame, .. } => self.send(id, to, frame),
                Effect::Later { delay, event } => match event {
                    Event::Durable { .. } | Event::Written { .. } | Event::Executor { .. } => {
                        self.fire(event);
                    }
                    event => {
                        self.tickets += 1;
                        self.timers.insert((self.now + delay, self.tickets), event);
                    }
                },
                Effect::Observe(observation) => self.note(&observation),
                Effect::Persist { id: write, record, life } => {
                    let mut begun = Vec::new();
                    if let Ok(node) = self.node(id) {
                        node.append(write, record, life, &mut begun);
                    }
                    self.carry_out(id, begun);
                }
                Effect::Fails => {}
            }
        }
    }

    fn send(&mut self, from: ReplicaId, to: Place, frame: Bytes) {
        let cut = matches!(to, Place::Replica(to) if self.cut.contains(&(from, to)));
        if !cut && matches!(to, Place::Replica(_)) {
            self.wires.push(Wire { from: Place::Replica(from), to, frame });
        }
    }

    fn name(&self, digest: &Digest) -> String {
        self.names.get(digest).cloned().unwrap_or_else(|| digest.short())
    }

    fn certificates(&self, change: &ViewChange) -> String {
        let list = change.prepared.iter().map(|it| {
            let vote = it.vote;
            format!("{}={}@v{}", vote.sequence, self.name(&vote.digest), vote.view)
        });
        let list: Vec<String> = list.collect();
        if list.is_empty() { "nothing prepared".to_owned() } else { list.join(" ") }
    }

    fn note(&mut self, observation: &Observation<'_>) {
        let line = match observation {
            Observation::Said { replica, statement: Statement::ViewChange(change) } => format!(
                "{replica:?} votes for view {}: h {}, {}",
                change.view,
                change.stable_sequence(),
                self.certificates(change)
            ),
            Observation::Said { replica, statement: Statement::NewView(new_view) } => {
                let senders = new_view.changes.iter().map(|change| format!("{:?}", change.sender));
                let senders: Vec<String> = senders.collect();
                format!("{replica:?} starts view {} with {}", new_view.view, senders.join(" "))
            }
            Observation::Said { replica, statement: Statement::PrePrepare(vote) }
                if vote.view.0 > 0 =>
            {
                format!("{replica:?} proposes {}={}", vote.sequence, self.name(&vote.digest))
            }
            Observation::Said { replica, statement: Statement::Checkpoint(checkpoint) } => {
                format!("{replica:?} takes checkpoint {}", checkpoint.sequence)
            }
            Observation::ViewEntered { replica, event } => format!(
                "{replica:?} enters view {}: h {}, up to {}, {} null; {}",
                event.view, event.min, event.max, event.nulls, event.cause
            ),
            Observation::Executed { replica, sequence, batch } => {
                format!("{replica:?} executes {sequence}={}", name_of(batch))
            }
            Observation::Relayed { replica, to, message } => match &**message {
                Message::Body { sequence, batch } => {
                    format!("{replica:?} sends the body {sequence}={} to {to:?}", name_of(batch))
                }
                Message::Committed { certificate, .. } => {
                    format!(
                        "{replica:?} sends the decision {} to {to:?}",
                        certificate.vote.sequence
                    )
                }
                _ => return,
            },
            Observation::Diverged { replica, sequence } => {
                format!("{replica:?} finds its own state wrong after {sequence}")
            }
            Observation::Restoring { replica } => format!("{replica:?} wants the state"),
            Observation::Restored { replica, sequence } => {
                format!("{replica:?} has the state after {sequence}")
            }
            Observation::Accused { replica, evidence } => {
                format!("{replica:?} accuses {:?}", evidence.subject().replica)
            }
            Observation::Halted { replica, halt } => format!("{replica:?} halts: {halt}"),
            _ => return,
        };
        self.lines.push(line);
    }

    fn show(&mut self) {
        for node in &self.nodes {
            let id = node.replica().id();
            if node.is_crashed() {
                self.lines.push(format!("{id:?} is down"));
                continue;
            }
            let it = node.replica().summary();
            let between = it.voted_view > it.view;
            let view = if between {
                format!("between views {} and {}", it.view, it.voted_view)
            } else {
                format!("in view {}", it.view)
            };
            let (stable, executed, waits) = (it.stable, it.executed, it.pending);
            let timeout = it.timeout.as_millis();
            self.lines.push(format!(
                "{id:?} is {view}: h {stable}, executed {executed}, {waits} waiting, time-out {timeout} ms"
            ));
        }
    }
}

fn one(word: &str) -> Result<ReplicaId, String> {
    let id = word.strip_prefix('r').and_then(|id| id.parse().ok());
    id.map(ReplicaId).ok_or_else(|| format!("`{word}` is no replica: write r0, r1, ..."))
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("`{word}` is no number"))
}

fn name_of(batch: &Arc<Batch>) -> String {
    let numbers = batch.requests().iter().map(|request| format!("#{}", request.number()));
    let numbers: Vec<String> = numbers.collect();
    if numbers.is_empty() { "null".to_owned() } else { numbers.join("+") }
}

/// What a frame is called in commands.
fn kind_of(frame: &Bytes) -> &'static str {
    match wire::decode::<Message>(frame) {
        Ok(Message::Statement(signed)) => signed.statement.kind().name(),
        Ok(Message::Proposal { .. }) => "pre-prepare",
        Ok(Message::Request(_)) => "request",
        Ok(Message::Committed { .. }) => "decision",
        Ok(Message::Stable(_)) => "stable",
        Ok(Message::Body { .. }) => "body",
        Ok(Message::Ask(_)) => "ask",
        Ok(Message::Part(_)) => "part",
        Ok(Message::Evidence(_)) => "evidence",
        Err(_) => "",
    }
}
