//! Every place at which a replica can stop, one after the other (PITFALLS 2.1).
//!
//! A short run is counted through once: each record appended, each message sent that something follows from, each
//! commit and each snapshot that becomes durable is a point. Then it is run again for every point: that replica, or
//! all at once, crashes just before it or just after it, with what was on its way to the disk durable or not; it
//! comes back, and the run must end well under all checkers.

use std::collections::BTreeMap;
use std::fmt;

use pbft_core::limits::{ConfigError, Constants};
use pbft_core::types::ReplicaId;

use crate::options::{MILLIS, Options, SECONDS};
use crate::simulation::{Report, Simulation, Verdict};

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A record is appended.
    Append,
    /// A message is sent.
    Send,
    /// A commit becomes durable.
    Commit,
    /// A snapshot becomes durable.
    Snapshot,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Append, Kind::Send, Kind::Commit, Kind::Snapshot];
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Kind::Append => "record appended",
            Kind::Send => "message sent",
            Kind::Commit => "commit durable",
            Kind::Snapshot => "snapshot durable",
        })
    }
}

/// One crash: where, and of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashPoint {
    /// Whose point.
    pub replica: ReplicaId,
    /// Which of its points, from 0.
    pub index: u64,
    /// Just after it instead of just before it.
    pub after: bool,
    /// All replicas at once.
    pub all: bool,
    /// What was on its way to a disk turns out to be durable.
    pub survives: bool,
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CrashPoint { replica, index, after, all, survives } = self;
        let when = if *after { "after" } else { "before" };
        let who = if *all { "all" } else { "one" };
        let fate = if *survives { "survives" } else { "lost" };
        write!(formatter, "{}:{index}:{when}:{who}:{fate}", replica.0)
    }
}

impl std::str::FromStr for CrashPoint {
    type Err = String;

    /// As it is shown: `2:47:before:all:lost`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no point: write it as 2:47:before:all:lost");
        let words: Vec<&str> = text.split(':').collect();
        let [replica, index, when, who, fate] = words.as_slice() else { return Err(wrong()) };
        let either = |word: &str, yes: &str, no: &str| match word {
            _ if word == yes => Ok(true),
            _ if word == no => Ok(false),
            _ => Err(wrong()),
        };
        Ok(CrashPoint {
            replica: ReplicaId(replica.parse().map_err(|_| wrong())?),
            index: index.parse().map_err(|_| wrong())?,
            after: either(when, "after", "before")?,
            all: either(who, "all", "one")?,
            survives: either(fate, "survives", "lost")?,
        })
    }
}

/// Counts points, and says when the one is reached at which the crash is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Points {
    reached: BTreeMap<ReplicaId, Vec<Kind>>,
    pub(crate) crash: Option<CrashPoint>,
    /// What happened there, and whether anything was on its way to a disk.
    pub(crate) sprung: Option<(Kind, bool)>,
}

impl Points {
    /// A point is reached; whether the crash is here, and whether only after it.
    pub(crate) fn reach(&mut self, replica: ReplicaId, kind: Kind) -> Option<bool> {
        let reached = self.reached.entry(replica).or_default();
        let index = u64::try_from(reached.len()).unwrap_or(u64::MAX);
        reached.push(kind);
        let crash = self.crash.filter(|crash| {
            self.sprung.is_none() && crash.replica == replica && crash.index == index
        })?;
        Some(crash.after)
    }
}

/// The run that is counted through: eight requests over several checkpoints, the primary cut off in between.
pub fn options(seed: u64) -> Options {
    let constants = Constants {
        checkpoint_interval: 2,
        window: 4,
        client_window: 16,
        batch_requests_max: 1,
        ..Constants::default()
    };
    Options {
        clients: 1,
        requests_per_client: 8,
        operations_max: 1,
        in_flight_max: 2,
        slots_in_flight_max: 2,
        delay: (200, 2 * MILLIS),
        outage: Some(0),
        outage_at: 12 * MILLIS,
        heal_at: 3 * SECONDS,
        constants,
        ..Options::fault_free(seed, 4)
    }
}

/// The points of a run in which nobody crashes, by replica.
///
/// # Errors
/// Options that make no cluster.
pub fn count(options: &Options) -> Result<(Report, BTreeMap<ReplicaId, Vec<Kind>>), ConfigError> {
    let simulation = Simulation::new(options.clone())?.with_points(Points::default());
    let (report, points) = simulation.run_through();
    Ok((report, points.reached))
}

/// What came of one crash.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How the run ended.
    pub report: Report,
    /// What happened at the point; `None` if the run ended before it.
    pub kind: Option<Kind>,
    /// Whether anything was on its way to a disk that crashed.
    pub under_way: bool,
}

impl Outcome {
    /// Whether the crash was there and everything ended well.
    pub fn survived(&self) -> bool {
        self.kind.is_some() && self.report.verdict == Verdict::Pass
    }
}

/// Runs one crash.
///
/// # Errors
/// Options that make no cluster.
pub fn run(options: &Options, crash: CrashPoint) -> Result<Outcome, ConfigError> {
    let points = Points { crash: Some(crash), ..Points::default() };
    let (report, points) = Simulation::new(options.clone())?.with_points(points).run_through();
    let (kind, under_way) = points.sprung.map_or((None, false), |(kind, way)| (Some(kind), way));
    Ok(Outcome { report, kind, under_way })
}

/// Runs a crash with what was on its way to the disk lost, and if there was anything, with it durable too.
///
/// # Errors
/// Options that make no cluster.
pub fn run_both(
    options: &Options,
    crash: CrashPoint,
) -> Result<Vec<(CrashPoint, Outcome)>, ConfigError> {
    let lost = CrashPoint { survives: false, ..crash };
    let survives = CrashPoint { survives: true, ..crash };
    let mut outcomes = vec![(lost, run(options, lost)?)];
    if outcomes.iter().any(|(_, outcome)| outcome.under_way) {
        outcomes.push((survives, run(options, survives)?));
    }
    Ok(outcomes)
}

/// Every crash there is at the points of a run, but those that differ only in what was under way, which
/// [`run`] tells.
pub fn crashes(points: &BTreeMap<ReplicaId, Vec<Kind>>) -> Vec<CrashPoint> {
    let mut crashes = Vec::new();
    for (replica, kinds) in points {
        for (index, _) in (0_u64..).zip(kinds) {
            for (after, all) in [(false, false), (true, false), (false, true), (true, true)] {
                let replica = *replica;
                crashes.push(CrashPoint { replica, index, after, all, survives: false });
            }
        }
    }
    crashes
}
