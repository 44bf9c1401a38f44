//! OM(m): oral messages. A receiver knows who speaks to it, notices when somebody is silent, and cannot
//! prove to anyone what it was told.
//!
//! Round 1: the commander tells every lieutenant its order. Round r: every lieutenant tells everyone who is
//! not on its path what it was told in round r - 1, path by path; what it was not told it passes on as the
//! default (PITFALLS M1). After round m + 1 it votes ([`super::tree`]).
//!
//! n >= 3m + 1, or nothing is promised: with three generals and one traitor, 2 hears "1" from 1 and "1 said
//! 0" from 3, whoever of 1 and 3 lies.

use alloc::vec::Vec;

use super::tree::Tree;
use super::{Choice, General, Path, Setting, SettingError, Value};

/// "The last general on `path` says that the one before it said ... `value`."
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message<V> {
    /// The way of the value, its sender last.
    pub path: Path,
    /// The value.
    pub value: V,
}

/// Why a message is not taken. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The last round is over.
    #[error("all rounds are over")]
    Over,
    /// The path is not as long as the round's number: said too early or too late.
    #[error("a path of {length} generals in round {round}")]
    WrongLength {
        /// How many generals are on the path.
        length: u8,
        /// The round it came in.
        round: u8,
    },
    /// It came from somebody else than the last one on its path.
    #[error("general {0} speaks for general {1}")]
    NotTheSender(u8, u8),
    /// The first on the path is not the commander.
    #[error("general {0} is not the commander")]
    NotTheCommander(u8),
    /// Somebody on the path is none of the generals.
    #[error("general {0} does not exist")]
    UnknownGeneral(u8),
    /// The receiver is on the path: a value that comes back proves nothing.
    #[error("the value went through its receiver")]
    ThroughReceiver,
    /// There is a value for the path; the first stays.
    #[error("a second value for the same path")]
    Repeated,
}

/// The commander: it speaks in round 1 and is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commander<V> {
    setting: Setting,
    value: V,
}

impl<V: Value> Commander<V> {
    /// The commander of `setting`, whose order is `value`.
    ///
    /// # Errors
    /// More messages than the bound.
    pub fn new(setting: Setting, value: V) -> Result<Self, SettingError> {
        setting.check_oral_size(1)?;
        Ok(Commander { setting, value })
    }

    /// What it says in round 1, by receiver.
    pub fn outgoing(&self) -> Vec<(General, Message<V>)> {
        let Ok(path) = Path::of(self.setting.commander()) else { return Vec::new() };
        let message = Message { path, value: self.value.clone() };
        self.setting.lieutenants().map(|receiver| (receiver, message.clone())).collect()
    }
}

/// A loyal lieutenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lieutenant<V> {
    /// The round that is open, from 1; m + 2 when all are over.
    round: u8,
    tree: Tree<V>,
}

impl<V: Value> Lieutenant<V> {
    /// Lieutenant `id` of `setting`. `default` stands for what is missing and for ties, and must be the same for all.
    ///
    /// # Errors
    /// `id` is no lieutenant, or there would be more messages than the bound.
    pub fn new(
        setting: Setting,
        id: General,
        choice: Choice,
        default: V,
    ) -> Result<Self, SettingError> {
        setting.check_lieutenant(id)?;
        setting.check_oral_size(1)?;
        Ok(Lieutenant { round: 1, tree: Tree::new(setting, id, choice, default) })
    }

    /// Which general it is.
    pub fn id(&self) -> General {
        self.tree.owner()
    }

    /// What it was told.
    pub fn tree(&self) -> &Tree<V> {
        &self.tree
    }

    /// What it was told, when it is needed no more.
    pub fn into_tree(self) -> Tree<V> {
        self.tree
    }

    /// What it says in the open round, by receiver: nothing in round 1, as a lieutenant, and when all are over.
    pub fn outgoing(&self) -> Vec<(General, Message<V>)> {
        let setting = self.tree.setting();
        let mut messages = Vec::new();
        if self.round < 2 || self.round > setting.rounds() {
            return messages;
        }
        for heard in self.tree.paths(self.round - 1) {
            let Ok(path) = heard.then(self.id()) else { continue };
            let message = Message { path, value: self.tree.value(&heard).clone() };
            messages.extend(path.receivers(&setting).map(|it| (it, message.clone())));
        }
        messages
    }

    /// Takes what `sender` says in the open round. That the message is really from `sender` is for the
    /// caller to know: oral messages are told face to face.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn receive(&mut self, sender: General, message: Message<V>) -> Result<(), Refusal> {
        self.judge(sender, &message.path)?;
        if self.tree.keep(message.path, message.value) { Ok(()) } else { Err(Refusal::Repeated) }
    }

    fn judge(&self, sender: General, path: &Path) -> Result<(), Refusal> {
        let setting = self.tree.setting();
        let (round, length) = (self.round, path.len());
        if round > setting.rounds() {
            return Err(Refusal::Over);
        }
        if length != round {
            return Err(Refusal::WrongLength { length, round });
        }
        if path.sender() != sender {
            return Err(Refusal::NotTheSender(sender.0, path.sender().0));
        }
        if path.commander() != setting.commander() {
            return Err(Refusal::NotTheCommander(path.commander().0));
        }
        if let Some(unknown) = path.generals().find(|general| !setting.has(*general)) {
            return Err(Refusal::UnknownGeneral(unknown.0));
        }
        if path.has(self.id()) {
            return Err(Refusal::ThroughReceiver);
        }
        Ok(())
    }

    /// Ends the open round: what has not come is missing.
    pub fn end_round(&mut self) {
        self.round = self.round.saturating_add(1).min(self.tree.setting().rounds() + 1);
    }

    /// What it decides; `None` before the last round is over.
    pub fn decision(&self) -> Option<V> {
        (self.round > self.tree.setting().rounds()).then(|| self.tree.decision())
    }
}

#[cfg(test)]
#[path = "oral_test.rs"]
mod tests;
