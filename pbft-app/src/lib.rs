//! Embed a Byzantine-fault-tolerant replicated service.
//!
//! An application implements [`Service`] (typed, for small state) or [`Application`] (bytes and pages). A
//! [`Node`] runs it as one replica; a [`Client`] submits operations and believes what f + 1 replicas say.
//!
//! ```no_run
//! use pbft_app::{Context, Refusal, Service};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Counter(i64);
//!
//! impl Service for Counter {
//!     type Command = i64;
//!     type Response = i64;
//!     fn execute(&mut self, _: &Context, amount: i64) -> Result<i64, Refusal> {
//!         self.0 = self.0.checked_add(amount).ok_or_else(|| Refusal::new(1, "overflow"))?;
//!         Ok(self.0)
//!     }
//! }
//! ```
//!
//! What the framework does: agreement on one order among n >= 3f + 1 replicas of which f may do anything;
//! execution exactly once; replies a client can believe; mutually authenticated QUIC; named errors for
//! what is misconfigured or malicious. What it asks of an application: determinism.

/// The README's code, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

/// The feature `fault-injection` is off unless asked for: without it nobody can put a hook into a node.
///
/// ```compile_fail
/// let start = pbft_app::Node::start_with_hook;
/// ```
#[cfg(all(doctest, not(feature = "fault-injection")))]
pub struct DefaultOff;

pub mod application;
mod archivist;
pub mod client;
pub mod config;
pub mod directory;
pub mod error;
mod executor;
mod fault_injection;
pub mod findings;
pub mod gateway;
mod header;
mod host;
pub mod inspect;
mod journal;
pub mod keys;
pub mod node;
mod shelf;
mod start;
pub mod storage;
pub mod store;
#[cfg(test)]
mod testing;

pub use application::{Application, Context, Pages, Refusal, Service, Typed};
pub use client::{Client, ClientConfig, Completed, Refused, Submit, Submitted, TypedClient};
pub use config::{Deployment, ReplicaEntry, Timeouts};
pub use directory::{ClientDirectory, Numbers, Plan, ReplicaDirectory, init};
pub use error::{ConfigurationError, NodeError};
pub use findings::Findings;
pub use gateway::{
    Gateway, GatewayConfig, GatewayDirectory, GatewayLimits, GatewayRefusal, User, UserConfig,
    UserDirectory,
};
pub use inspect::{Inspection, inspect};
pub use keys::{NodeKeys, PublicKeys, UserKey};
pub use node::{Node, NodeConfig};
pub use pbft_core as core;
pub use pbft_net::{GatewaySocket, ReplicaSockets, UserEntry, UserId};
pub use storage::{StorageError, StorageMetrics};
pub use store::{History, Store};
