//! Twins (Bano et al., OPODIS 2021), enumerated exhaustively for four replicas.
//!
//! A *twin* is a replica that exists twice: two correct copies with one key, which know nothing of each
//! other. Cut off from each other they equivocate, forget and contradict themselves in every way that a
//! correct program can, without any traitor having to be written. A scenario is a list of rounds, each a
//! partition of the instances; the tree of all scenarios of a depth is walked, and what must hold is
//! checked at every node.
//!
//! ```text
//!   round 1   requests arrive, one at the twin and some, the other at its copy and the rest;
//!             messages go on for so many delays ("hops")
//!   round 2.. what was under way arrives where the new partition lets it, and all that follows;
//!             statuses and repair; time-outs; messages go on for so many hops
//!   leaf      some leaves are joined again: then both requests must be executed
//! ```
//!
//! A view takes four hops from its time-out to the Commits (ViewChange, NewView with PrePrepare, Prepare,
//! Commit), and the first view as many from its requests. So the number of hops says between which two of
//! them the partition changes: with three, slots are prepared in one partition and committed in the next.
//!
//! Nothing is encoded or really signed, nothing is random and no clock is read: a scenario costs a few tens
//! of microseconds and comes out the same each time.

use std::fmt;
use std::str::FromStr;

use pbft_core::limits::ConfigError;
use pbft_core::types::{ReplicaId, View};

mod partition;
mod world;

pub use partition::Partition;
use world::{Setting, Tools, World};

/// Message delays in a round after its time-outs, unless told otherwise: Commits are under way then.
pub const HOPS: usize = 3;
/// How a scenario says that every replica exists once.
const NO_TWIN: &str = "none";
/// How often the caller hears of progress, in scenarios.
const PROGRESS_EVERY: u64 = 256;

/// Which scenarios are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enumeration {
    /// The replicas that exist twice: at most one, for what the protocol promises to withstand. With none,
    /// there are only partitions.
    pub twins: Vec<ReplicaId>,
    /// How many rounds a scenario has.
    pub depth: usize,
    /// Into how many sides the instances may fall: 2 or 3.
    pub sides: usize,
    /// Message delays in a round after its time-outs.
    pub hops: usize,
    /// One leaf in so many is joined again and must then finish; 0 for none.
    pub heal_every: u64,
    /// Stop after so many scenarios.
    pub max: Option<u64>,
}

/// A list of rounds. It prints as what [`Scenario::from_str`] reads: twins, hops, and the sides of every
/// round, as `0:3:013-2a,012a-3`, where `a` is the copy of replica 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The replicas that exist twice.
    pub twins: Vec<ReplicaId>,
    /// Message delays in a round after its time-outs.
    pub hops: usize,
    /// The partition of each round.
    pub rounds: Vec<Partition>,
}

/// Something that must not happen, and where it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rounds up to there.
    pub scenario: Scenario,
    /// What is broken.
    pub text: String,
}

/// What an enumeration came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Leaves reached.
    pub scenarios: u64,
    /// Rounds run; scenarios share the rounds they begin with.
    pub nodes: u64,
    /// The highest view of a correct replica.
    pub views_reached: View,
    /// Leaves at which all correct replicas had executed both requests.
    pub committed_both: u64,
    /// Leaves that were joined again, and finished.
    pub healed: u64,
    /// The most time-outs that took.
    pub healing_timeouts: u64,
    /// The first thing that must not happen, at which the enumeration ended.
    pub violation: Option<Violation>,
    /// Simulated time of all rounds run.
    pub simulated_micros: u64,
}

impl Outcome {
    /// Adds the outcome of another part. The violation that was there first stays.
    pub fn add(&mut self, other: Outcome) {
        self.scenarios += other.scenarios;
        self.nodes += other.nodes;
        self.views_reached = self.views_reached.max(other.views_reached);
        self.committed_both += other.committed_both;
        self.healed += other.healed;
        self.healing_timeouts = self.healing_timeouts.max(other.healing_timeouts);
        self.violation = self.violation.take().or(other.violation);
        self.simulated_micros += other.simulated_micros;
    }
}

impl Enumeration {
    /// All partitions a round may have, in order.
    ///
    /// # Errors
    /// Settings that make no enumeration.
    pub fn partitions(&self) -> Result<Vec<Partition>, ConfigError> {
        self.check()?;
        let setting = Setting::new(&self.twins)?;
        Ok(Partition::all(setting.instances.len(), self.sides))
    }

    /// How many scenarios there are, whatever `max` says.
    ///
    /// # Errors
    /// As [`Enumeration::partitions`].
    pub fn scenarios(&self) -> Result<u64, ConfigError> {
        let width = u64::try_from(self.partitions()?.len()).unwrap_or(u64::MAX);
        let depth = u32::try_from(self.depth).unwrap_or(u32::MAX);
        let remedy = "take so few rounds that the scenarios can be counted";
        width.checked_pow(depth).ok_or_else(|| ConfigError::new("depth", self.depth, remedy))
    }

    /// Runs all scenarios, up to the first violation.
    ///
    /// # Errors
    /// As [`Enumeration::partitions`].
    pub fn run(&self, progress: impl FnMut(u64)) -> Result<Outcome, ConfigError> {
        self.walk(None, progress)
    }

    /// Runs the scenarios whose first round is the `first`-th of [`Enumeration::partitions`], so that threads
    /// can share the work. `progress` hears how many were done since it was last called.
    ///
    /// # Errors
    /// As [`Enumeration::partitions`].
    pub fn run_first(
        &self,
        first: usize,
        progress: impl FnMut(u64),
    ) -> Result<Outcome, ConfigError> {
        self.walk(Some(first), progress)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.depth == 0 {
            return Err(ConfigError::new("depth", self.depth, "take at least one round"));
        }
        if !(2..=3).contains(&self.sides) {
            return Err(ConfigError::new("sides", self.sides, "take 2 or 3"));
        }
        Ok(())
    }

    fn walk(
        &self,
        first: Option<usize>,
        progress: impl FnMut(u64),
    ) -> Result<Outcome, ConfigError> {
        let per_first = self.scenarios()? / u64::try_from(self.partitions()?.len()).unwrap_or(1);
        let setting = Setting::new(&self.twins)?;
        let mut tools = Tools::new(&setting);
        let root = World::new(&mut tools)?;
        let skipped = u64::try_from(first.unwrap_or(0)).unwrap_or(u64::MAX);
        let mut walker = Walker {
            enumeration: self,
            partitions: self.partitions()?,
            first,
            next_leaf: per_first.saturating_mul(skipped),
            tools,
            path: Vec::new(),
            outcome: Outcome::default(),
            progress,
        };
        walker.descend(&root);
        let Walker { mut outcome, tools, mut progress, .. } = walker;
        outcome.simulated_micros = tools.simulated_micros;
        progress(outcome.scenarios % PROGRESS_EVERY);
        Ok(outcome)
    }
}

struct Walker<'a, P> {
    enumeration: &'a Enumeration,
    partitions: Vec<Partition>,
    /// The only first round, if there is but one.
    first: Option<usize>,
    /// The place of the next leaf among all leaves of the enumeration.
    next_leaf: u64,
    tools: Tools<'a>,
    path: Vec<usize>,
    outcome: Outcome,
    progress: P,
}

impl<P: FnMut(u64)> Walker<'_, P> {
    fn descend(&mut self, parent: &World) {
        let depth = self.path.len();
        for index in 0..self.partitions.len() {
            if depth == 0 && self.first.is_some_and(|first| first != index) {
                continue;
            }
            if self.is_over() {
                return;
            }
            self.path.push(index);
            if let Err(text) = self.visit(parent.clone(), index) {
                let rounds = self.path.iter().filter_map(|index| self.partitions.get(*index));
                let scenario = Scenario {
                    twins: self.enumeration.twins.clone(),
                    hops: self.enumeration.hops,
                    rounds: rounds.cloned().collect(),
                };
                self.outcome.violation = Some(Violation { scenario, text });
            }
            self.path.pop();
        }
    }

    fn is_over(&self) -> bool {
        let full = self.enumeration.max.is_some_and(|max| self.outcome.scenarios >= max);
        full || self.outcome.violation.is_some()
    }

    fn visit(&mut self, mut world: World, index: usize) -> Result<(), String> {
        let Some(partition) = self.partitions.get(index) else { return Ok(()) };
        let (setting, hops) = (self.tools.setting, self.enumeration.hops);
        match self.path.len() {
            1 => world.open(&mut self.tools, partition, hops)?,
            _ => world.round(&mut self.tools, partition, hops)?,
        }
        world.check(setting)?;
        self.outcome.nodes += 1;
        self.outcome.views_reached = self.outcome.views_reached.max(world.deepest_view(setting));
        if self.path.len() < self.enumeration.depth {
            self.descend(&world);
            return Ok(());
        }
        self.outcome.scenarios += 1;
        self.outcome.committed_both += u64::from(world.is_done(setting));
        if is_healed(self.next_leaf, self.enumeration.heal_every) {
            let timeouts = world.heal(&mut self.tools)?;
            self.outcome.healed += 1;
            self.outcome.healing_timeouts = self.outcome.healing_timeouts.max(timeouts);
        }
        self.next_leaf += 1;
        if self.outcome.scenarios.is_multiple_of(PROGRESS_EVERY) {
            (self.progress)(PROGRESS_EVERY);
        }
        Ok(())
    }
}

/// Whether the leaf at this place is joined again. The place is scrambled first: every 64th leaf as they come
/// would always have the same partition in its last round.
fn is_healed(leaf: u64, every: u64) -> bool {
    let scrambled = leaf.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    scrambled.checked_rem(every) == Some(0)
}

impl Scenario {
    /// Runs the scenario, joins all at its end, and says after every round how everybody is.
    ///
    /// # Errors
    /// Twins that are none.
    pub fn replay(&self, mut say: impl FnMut(&str)) -> Result<Outcome, ConfigError> {
        let setting = Setting::new(&self.twins)?;
        let mut tools = Tools::new(&setting);
        let mut world = World::new(&mut tools)?;
        let mut outcome = Outcome::default();
        let broken = self.play(&mut tools, &mut world, &mut outcome, &mut say);
        if let Err((rounds, text)) = broken {
            let rounds = self.rounds.iter().take(rounds).cloned().collect();
            let scenario = Scenario { rounds, ..self.clone() };
            outcome.violation = Some(Violation { scenario, text });
        }
        outcome.simulated_micros = tools.simulated_micros;
        Ok(outcome)
    }

    /// An error is what is broken, and after how many rounds.
    fn play(
        &self,
        tools: &mut Tools<'_>,
        world: &mut World,
        outcome: &mut Outcome,
        say: &mut impl FnMut(&str),
    ) -> Result<(), (usize, String)> {
        let setting = tools.setting;
        for (index, partition) in self.rounds.iter().enumerate() {
            let done = match index {
                0 => world.open(tools, partition, self.hops),
                _ => world.round(tools, partition, self.hops),
            };
            let shown = partition.show(&setting.instances);
            say(&format!("round {} {shown}: {}", index + 1, world.describe(setting)));
            done.and_then(|()| world.check(setting)).map_err(|text| (index + 1, text))?;
            outcome.nodes += 1;
            outcome.views_reached = outcome.views_reached.max(world.deepest_view(setting));
        }
        outcome.scenarios = 1;
        outcome.committed_both = u64::from(world.is_done(setting));
        let healed = world.heal(tools);
        say(&format!("joined: {}", world.describe(setting)));
        outcome.healing_timeouts = healed.map_err(|text| (self.rounds.len(), text))?;
        outcome.healed = 1;
        Ok(())
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instances = instances(&self.twins);
        let rounds: Vec<String> = self.rounds.iter().map(|round| round.show(&instances)).collect();
        write!(formatter, "{}:{}:{}", show_twins(&self.twins), self.hops, rounds.join(","))
    }
}

impl FromStr for Scenario {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let refuse = || {
            let remedy = "write twins, hops and rounds like 0:3:013-2a,012a-3";
            ConfigError::new("scenario", text, remedy)
        };
        let mut parts = text.split(':');
        let (Some(twins), Some(hops), Some(rounds), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refuse());
        };
        let twins = read_twins(twins)?;
        let hops = hops.parse().map_err(|_| refuse())?;
        // Also checks the twins.
        let instances = Setting::new(&twins)?.instances;
        let rounds = rounds.split(',').map(|round| Partition::read(round, &instances));
        Ok(Scenario { rounds: rounds.collect::<Result<_, _>>()?, twins, hops })
    }
}

/// The twins of a scenario as they are written: `0`, several as `0+1`, or `none`.
pub fn show_twins(twins: &[ReplicaId]) -> String {
    let twins: Vec<String> = twins.iter().map(|twin| twin.0.to_string()).collect();
    if twins.is_empty() { NO_TWIN.to_owned() } else { twins.join("+") }
}

/// Reads what [`show_twins`] wrote.
///
/// # Errors
/// A text that names no replicas.
pub fn read_twins(text: &str) -> Result<Vec<ReplicaId>, ConfigError> {
    if text == NO_TWIN {
        return Ok(Vec::new());
    }
    let refuse = |_| ConfigError::new("twins", text, "take 0 to 3, several as 0+1, or none");
    text.split('+').map(|twin| twin.parse().map(ReplicaId).map_err(refuse)).collect()
}

/// Whose copy each instance is: every replica once, then each twin once more.
fn instances(twins: &[ReplicaId]) -> Vec<ReplicaId> {
    (0..world::REPLICAS).map(ReplicaId).chain(twins.iter().copied()).collect()
}
