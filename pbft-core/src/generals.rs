//! The Byzantine generals (Lamport, Shostak, Pease, ACM TOPLAS 1982), in lockstep rounds: the place where
//! 3f + 1 comes from.
//!
//! One commander orders n - 1 lieutenants; some of them, and maybe the commander, are traitors. Wanted:
//!
//! - **IC1**: all loyal lieutenants obey the same order.
//! - **IC2**: if the commander is loyal, every loyal lieutenant obeys the order he gave.
//!
//! IC2 implies IC1 when the commander is loyal (SEEDS B1: BA1 and BA2 with primary and backups are the same).
//!
//! # The two algorithms
//!
//! | | [`oral`]: OM(m) | [`signed`]: SM(m) |
//! |---|---|---|
//! | a traitor may | say anything to anyone, or nothing | the same, but not forge a signature |
//! | holds for | n >= 3m + 1 ([`Setting::is_oral_bound_kept`]) | any n; of interest from n >= m + 2 (SEEDS S4) |
//! | rounds | m + 1 | m + 1 |
//! | messages | (n-1) + (n-1)(n-2) + ..., m + 1 terms: order n^(m+1) (SEEDS S3) | at most (n-1)(n-2) + n - 1 for each value signed |
//! | decides by | [`Choice`] at every node of the relay [`tree`] | [`SetChoice`] over the set of values heard |
//!
//! OM(m) with lieutenants 2, 3, 4 and m = 1, seen by 2, who was told 1:
//!
//! ```text
//!   1 says 1 ---------------- my own direct value       1
//!     +-- 3: "1 said 1" ----- outcome of OM(0) of 3     1     1 is more than half of three: decide 1
//!     +-- 4: "1 said 0" ----- outcome of OM(0) of 4     0
//! ```
//!
//! The vote is over n - 1 values: the own direct value and, for each *other* lieutenant, the outcome of
//! OM(m - 1) with him as commander (SEEDS S1, S2). Values are kept by the whole path they went through:
//! the same sender says different things along different paths (PITFALLS M1).
//!
//! [`vector`] runs one OM(m) for every general as commander, all at once, and gives everyone the same vector
//! of n values (interactive consistency).
//!
//! # How to drive it
//!
//! A general is a state machine without clock, randomness, network or key. The caller owns the rounds:
//! collect `outgoing` of everyone, deliver with `receive`, call `end_round` on everyone, m + 1 times; then
//! `decision`. A message that does not come until the end of its round counts as absent (SEEDS S26), and an absent
//! value as the default.
//!
//! ```
//! use pbft_core::generals::{Choice, General, Setting, oral};
//!
//! let setting = Setting::new(4, 1, General(1))?;
//! let commander = oral::Commander::new(setting, 1_i128)?;
//! let mut lieutenants: Vec<_> = setting
//!     .lieutenants()
//!     .map(|id| oral::Lieutenant::new(setting, id, Choice::Majority, 0_i128))
//!     .collect::<Result<_, _>>()?;
//! for round in 1..=setting.rounds() {
//!     let mut post = if round == 1 { commander.outgoing() } else { Vec::new() };
//!     post.extend(lieutenants.iter().flat_map(|it| it.outgoing()));
//!     for lieutenant in &mut lieutenants {
//!         let me = lieutenant.id();
//!         for (_, message) in post.iter().filter(|(receiver, _)| *receiver == me) {
//!             lieutenant.receive(message.path.sender(), message.clone())?;
//!         }
//!         lieutenant.end_round();
//!     }
//! }
//! assert!(lieutenants.iter().all(|it| it.decision() == Some(1)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Traitors are no part of this module: a liar is a loyal general and a function on what it says
//! (`pbft_sim::generals`), as everywhere in this project.
//!
//! # What decisions may be
//!
//! With two values the decision is always some loyal general's. With more it may be the default, or a
//! traitor's value: n = 4 and three lieutenants who were told three different things decide the default
//! (SEEDS S5).
//!
//! # Not built
//!
//! The lecture's list of extended agreement (SEEDS B7): Boolean and real values, oral and signed messages are
//! here. Not here: asynchronous agreement, agreement over a graph where not everyone hears everyone,
//! randomised agreement, hierarchical agreement. What the generals have to do with PBFT, which gives up
//! lockstep rounds for quorums, is in `docs/generals.md`.

use alloc::vec::Vec;
use core::fmt;

pub mod chain;
mod choice;
pub mod oral;
mod path;
mod setting;
pub mod signed;
pub mod tree;
pub mod vector;

pub use choice::{Choice, SetChoice};
pub use path::{Path, PathError};
pub use setting::{GENERALS_MAX, MESSAGES_MAX, Setting, SettingError};

/// A general, by number: `1..=n`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct General(pub u8);

impl fmt::Debug for General {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "general {}", self.0)
    }
}

impl fmt::Display for General {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// What generals agree on. Ordered, so that choices depend on the values and never on their arrival.
pub trait Value: Clone + Ord + fmt::Debug {
    /// Appends the bytes that stand for it in a signature: different values, different bytes.
    fn encode(&self, bytes: &mut Vec<u8>);
}

impl Value for i128 {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.to_le_bytes());
    }
}

impl Value for u64 {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.to_le_bytes());
    }
}

impl Value for bool {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(*self));
    }
}

impl Value for Vec<u8> {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self);
    }
}

impl Value for bytes::Bytes {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self);
    }
}

#[cfg(test)]
mod testing;
