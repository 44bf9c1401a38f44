//! What traitors send in signed messages, line by line: `{"1": [[sender, receiver, value, [chain]], ...], "2": ...}`.
//!
//! Traitors conspire. They sign with any traitor's key, and each knows all that any of them has heard. What
//! they cannot do is make a signature of a loyal general: where one stands in a chain, the loyal general must
//! have made it, under this value and these signatures before it, and a traitor must have heard it, both in an
//! earlier round. Rounds are lockstep: everyone sends before anyone hears, so nothing heard in a round is
//! passed on in the same. A script that wants more is refused as a whole, before anything is said about
//! what it would come to.
//!
//! Everything else is allowed, however useless: late and early chains, repeated signers, chains that the
//! commander did not start, chains that another traitor than their last signer sends. Loyal generals drop
//! what does not count.

use std::collections::BTreeMap;
use std::fmt;

use pbft_core::generals::{GENERALS_MAX, General, Setting};

use super::Traitors;

/// One message of a traitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<V> {
    /// The traitor who sends it.
    pub sender: General,
    /// To whom.
    pub receiver: General,
    /// The value.
    pub value: V,
    /// Whose signatures are under it, in order.
    pub chain: Vec<General>,
}

/// What traitors send in each round; in the others they are silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script<V>(pub BTreeMap<u8, Vec<Line<V>>>);

impl<V> Default for Script<V> {
    fn default() -> Self {
        Script(BTreeMap::new())
    }
}

/// Why a script cannot be played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    /// The round, from 1.
    pub round: u8,
    /// The line in it, from 1.
    pub line: usize,
    /// What is wrong.
    pub why: Impossible,
}

/// What traitors cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impossible {
    /// The sender is loyal, or nobody: only traitors follow a script.
    NotATraitor(General),
    /// The receiver is no other general.
    NoReceiver(General),
    /// A signer is none of the generals: nobody has the key.
    NobodysKey(General),
    /// More signatures than there can be generals.
    TooLong(usize),
    /// The signature of a loyal general that it has not made by then, or that no traitor has heard.
    Unsigned {
        /// The loyal general.
        signer: General,
        /// How many signatures stand before it.
        after: usize,
    },
}

impl std::error::Error for ScriptError {}

impl fmt::Display for ScriptError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "script, round {}, line {}: ", self.round, self.line)?;
        match self.why {
            Impossible::NotATraitor(id) => {
                write!(formatter, "general {id} is no traitor; scripts say what traitors send")
            }
            Impossible::NoReceiver(id) => write!(formatter, "{id} is not another general"),
            Impossible::NobodysKey(id) => write!(formatter, "{id} is no general and signs nothing"),
            Impossible::TooLong(length) => write!(formatter, "a chain of {length} signatures"),
            Impossible::Unsigned { signer, after } => write!(
                formatter,
                "no traitor can have the signature of loyal general {signer} (number {} of the \
                 chain) under this value and these signatures before round {}",
                after + 1,
                self.round
            ),
        }
    }
}

impl<V> Line<V> {
    /// Checks sender, receiver and length; whose signatures can be had shows only in the run.
    pub(super) fn check(&self, setting: &Setting, traitors: &Traitors) -> Result<(), Impossible> {
        if !setting.has(self.sender) || !traitors.contains(&self.sender) {
            return Err(Impossible::NotATraitor(self.sender));
        }
        if !setting.has(self.receiver) || self.receiver == self.sender {
            return Err(Impossible::NoReceiver(self.receiver));
        }
        if self.chain.len() > usize::from(GENERALS_MAX) {
            return Err(Impossible::TooLong(self.chain.len()));
        }
        match self.chain.iter().find(|signer| !setting.has(**signer)) {
            Some(nobody) => Err(Impossible::NobodysKey(*nobody)),
            None => Ok(()),
        }
    }
}
