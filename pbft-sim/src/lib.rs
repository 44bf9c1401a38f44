//! A seeded, single-threaded simulator: the very same replica, client and state as in production, with a
//! network, executors and clocks that follow from a seed.
//!
//! ```
//! use pbft_sim::{Options, Simulation, Verdict};
//!
//! let report = Simulation::new(Options::from_seed(7))?.run();
//! assert_eq!(report.verdict, Verdict::Pass);
//! # Ok::<(), pbft_core::limits::ConfigError>(())
//! ```
//!
//! A run has a safety phase, in which messages are lost, delayed, repeated, damaged and cut off and
//! replicas stop, and, after everything but the stopped ones has healed, a liveness phase with a bound.
//! Checkers judge it from outside ([`checker`]). The same seed gives the same run, to the byte.
//!
//! A replica becomes a traitor by a [`pbft_core::hook::Hook`] between it and the world, which can say
//! whatever its own key can sign: one of the named behaviours of [`traitor`], or one of your own
//! ([`Simulation::with_traitor`]).
//!
//! Apart from all that stand the Byzantine generals with their traitors: [`generals`].

mod caller;
pub mod checker;
mod course;
pub mod crash_points;
pub mod determinism;
mod disk;
pub mod generals;
pub mod keys;
pub mod ledger;
mod machine;
mod network;
mod node;
mod options;
pub mod progress;
pub mod random;
pub mod scenario;
mod simulation;
pub mod traitor;
pub mod trial;
pub mod twins;
mod workload;

pub use checker::{Goals, Violation};
pub use disk::{DiskFaults, Power};
pub use network::Faults;
pub use options::{MILLIS, Options, SECONDS};
pub use simulation::{Place, Report, Simulation, Verdict};
pub use traitor::{Kit, Spec, Traitor};
pub use trial::Trial;
pub use workload::Workload;
