//! Runs of the Byzantine generals ([`pbft_core::generals`]) with traitors among them, and what judges them.
//!
//! Traitors live here and not beside the loyal generals, for the reason that holds for replicas too: the code
//! that others embed cannot lie. A traitor of oral messages is a loyal general and a [`strategy`], a function
//! on what it says; it hears everything and knows what the truth would be. Traitors of signed messages follow
//! a [`script`] and share their keys and all they hear.
//!
//! [`oral`], [`vector`] and [`signed`] play one run each, in lockstep; [`checker`] says whether IC1 and IC2 held;
//! [`search`] looks for lies that break them.

use std::collections::BTreeSet;

use pbft_core::generals::General;

pub mod checker;
pub mod oral;
pub mod script;
pub mod search;
pub mod signed;
pub mod strategy;
pub mod vector;

/// Who is not loyal.
pub type Traitors = BTreeSet<General>;

#[cfg(test)]
#[path = "generals/definition_test.rs"]
mod definition;
