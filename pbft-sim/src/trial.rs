//! An application of your own, under faults and traitors, in a few lines of its own tests.
//!
//! ```
//! use pbft_sim::ledger::{Ledger, Seen};
//! use pbft_sim::trial::Trial;
//!
//! let outcome = Trial::new(|| Box::new(Ledger::new(Seen::default())), |random, _| vec![b'a'; usize::from(random.chance(500))])
//!     .traitor(0, "equivocating_primary")
//!     .seeds(0..3)
//!     .run()?;
//! assert_eq!(outcome.runs, 3);
//! # Ok::<(), pbft_sim::trial::Failed>(())
//! ```

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use pbft_core::application::Application;
use pbft_core::types::{ClientId, ReplicaId};

use crate::checker::Goals;
use crate::network::Faults;
use crate::options::Options;
use crate::random::Random;
use crate::simulation::{CheckState, Report, Simulation, Verdict};
use crate::traitor::Spec;
use crate::workload::Workload;

/// A cluster of an application, to be run under many seeds.
#[derive(Clone)]
pub struct Trial {
    workload: Workload,
    replicas: usize,
    requests: u64,
    traitors: Vec<(u32, String)>,
    seeds: Range<u64>,
    faults: bool,
    check: Option<Arc<CheckState>>,
}

/// What all runs came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// How many there were.
    pub runs: u64,
    /// Requests that ended committed, over all of them.
    pub committed: u64,
    /// Runs in which a correct replica convicted somebody.
    pub convicted: u64,
    /// What was done to messages and replicas.
    pub faults: Faults,
    /// What was seen.
    pub goals: Goals,
}

/// The first run that did not end as it should.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Its seed: `.seeds(SEED..SEED + 1)` plays it again.
    pub seed: u64,
    /// What was wrong.
    pub what: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failed { seed, what } = self;
        write!(formatter, "seed {seed}: {what}; play it again with .seeds({seed}..{})", seed + 1)
    }
}

impl std::error::Error for Failed {}

impl Trial {
    /// Four replicas of the application that `make` makes, whose clients ask what `ask` says.
    pub fn new(
        make: impl Fn() -> Box<dyn Application> + Send + Sync + 'static,
        ask: impl Fn(&mut Random, ClientId) -> Vec<u8> + Send + Sync + 'static,
    ) -> Trial {
        Trial {
            workload: Workload::new(make, ask),
            replicas: 4,
            requests: 100,
            traitors: Vec::new(),
            seeds: 0..20,
            faults: true,
            check: None,
        }
    }

    /// n.
    #[must_use]
    pub fn replicas(self, replicas: usize) -> Trial {
        Trial { replicas, ..self }
    }

    /// How many requests in a run, over all clients.
    #[must_use]
    pub fn requests(self, requests: u64) -> Trial {
        Trial { requests, ..self }
    }

    /// Makes a replica a traitor: a name of [`crate::traitor::names`] and settings, as
    /// `"slow_primary,delay_ms=500"`. More than f is allowed, to see what happens.
    #[must_use]
    pub fn traitor(mut self, replica: u32, spec: &str) -> Trial {
        self.traitors.push((replica, spec.to_owned()));
        self
    }

    /// Which seeds.
    #[must_use]
    pub fn seeds(self, seeds: Range<u64>) -> Trial {
        Trial { seeds, ..self }
    }

    /// Whether messages are lost, links cut and replicas restarted; on unless turned off.
    #[must_use]
    pub fn faults(self, faults: bool) -> Trial {
        Trial { faults, ..self }
    }

    /// At the end of each run, looks at the application of every correct replica that is up, and at how many
    /// requests were committed.
    #[must_use]
    pub fn check_state(
        self,
        check: impl Fn(&dyn Application, u64) -> Result<(), String> + Send + Sync + 'static,
    ) -> Trial {
        Trial { check: Some(Arc::new(check)), ..self }
    }

    fn options(&self, seed: u64) -> Result<Options, Failed> {
        let mut traitors = Vec::new();
        for (replica, words) in &self.traitors {
            let spec: Spec = words
                .parse()
                .map_err(|error| Failed { seed, what: format!("traitor {words}: {error}") })?;
            traitors.push((ReplicaId(*replica), spec));
        }
        let mut options = if self.faults {
            Options::for_traitors(seed, self.replicas, traitors)
        } else {
            Options::fault_free(seed, self.replicas).with_traitors(traitors)
        };
        let clients = u64::try_from(options.clients).unwrap_or(1).max(1);
        options.requests_per_client = self.requests.div_ceil(clients);
        // An application's operations need not differ, so each request has one (INV5 counts them).
        options.operations_max = 1;
        Ok(options)
    }

    /// Runs one seed.
    ///
    /// # Errors
    /// A property was violated, something was not done in time, or the trial itself makes no cluster.
    pub fn run_seed(&self, seed: u64) -> Result<Report, Failed> {
        let failed = |what| Failed { seed, what };
        let simulation = Simulation::of(self.options(seed)?, self.workload.clone());
        let mut simulation = simulation.map_err(|error| failed(error.to_string()))?;
        if let Some(check) = &self.check {
            simulation = simulation.with_state_check(Arc::clone(check));
        }
        let report = simulation.run();
        match &report.verdict {
            Verdict::Pass => Ok(report),
            other => Err(failed(other.to_string())),
        }
    }

    /// Runs all seeds, until one fails.
    ///
    /// # Errors
    /// As [`Trial::run_seed`].
    pub fn run(&self) -> Result<Outcome, Failed> {
        let mut outcome = Outcome::default();
        for seed in self.seeds.clone() {
            let report = self.run_seed(seed)?;
            outcome.runs += 1;
            outcome.committed += report.committed;
            outcome.convicted += u64::from(report.evidence > 0);
            outcome.faults.add(&report.faults);
            outcome.goals.add(&report.goals);
        }
        Ok(outcome)
    }
}
