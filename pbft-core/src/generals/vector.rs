//! Vector agreement (interactive consistency, Pease, Shostak, Lamport 1980): every general has a private
//! value; at the end all loyal ones hold the same vector, with the true value of every loyal general in it.
//!
//! One OM(m) for each general as commander, all at once. In round 1 everyone hears a vector, in round 2 everyone
//! passes on the vector it heard, so that each then holds a matrix (SEEDS B4), and so on: relay everything
//! that is new. What goes from one general to another in one round travels together as a packet.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::oral::{Commander, Lieutenant, Message, Refusal};
use super::tree::Tree;
use super::{Choice, General, Setting, SettingError, Value};

/// A loyal general in all n agreements: commander of its own, lieutenant in the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<V> {
    id: General,
    value: V,
    own: Commander<V>,
    round: u8,
    /// By commander.
    others: BTreeMap<General, Lieutenant<V>>,
}

/// What one general says to another in one round.
pub type Packet<V> = Vec<Message<V>>;

impl<V: Value> Member<V> {
    /// General `id` with the private value `value`. The commander named in `setting` does not matter: everyone is, once.
    ///
    /// # Errors
    /// `id` is none of the generals, or the n agreements take more messages than the bound.
    pub fn new(
        setting: Setting,
        id: General,
        value: V,
        choice: Choice,
        default: V,
    ) -> Result<Self, SettingError> {
        setting.check_oral_size(setting.n())?;
        let own = setting.commanded_by(id)?;
        let mut others = BTreeMap::new();
        for commander in own.lieutenants() {
            let setting = setting.commanded_by(commander)?;
            others.insert(commander, Lieutenant::new(setting, id, choice, default.clone())?);
        }
        let own = Commander::new(own, value.clone())?;
        Ok(Member { id, value, own, round: 1, others })
    }

    /// Which general it is.
    pub fn id(&self) -> General {
        self.id
    }

    /// What it was told in the agreement on `commander`'s value; `None` for its own.
    pub fn tree(&self, commander: General) -> Option<&Tree<V>> {
        self.others.get(&commander).map(Lieutenant::tree)
    }

    /// What it says in the open round: one packet for each receiver, ascending by receiver, messages ascending by path.
    pub fn outgoing(&self) -> Vec<(General, Packet<V>)> {
        let mut packets: BTreeMap<General, Packet<V>> = BTreeMap::new();
        let own = if self.round == 1 { self.own.outgoing() } else { Vec::new() };
        let relayed = self.others.values().flat_map(Lieutenant::outgoing);
        for (receiver, message) in own.into_iter().chain(relayed) {
            packets.entry(receiver).or_default().push(message);
        }
        packets.into_iter().collect()
    }

    /// Takes one message of a packet of `sender`. Each is judged on its own: one bad one spoils no other.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn receive(&mut self, sender: General, message: Message<V>) -> Result<(), Refusal> {
        let commander = message.path.commander();
        match self.others.get_mut(&commander) {
            Some(lieutenant) => lieutenant.receive(sender, message),
            None if commander == self.id => Err(Refusal::ThroughReceiver),
            None => Err(Refusal::UnknownGeneral(commander.0)),
        }
    }

    /// Ends the open round in all agreements.
    pub fn end_round(&mut self) {
        self.round = self.round.saturating_add(1);
        self.others.values_mut().for_each(Lieutenant::end_round);
    }

    /// The vector, its own entry the private value; `None` before the last round is over.
    pub fn decision(&self) -> Option<Vec<V>> {
        let mut vector: BTreeMap<General, V> = BTreeMap::from([(self.id, self.value.clone())]);
        for (commander, lieutenant) in &self.others {
            vector.insert(*commander, lieutenant.decision()?);
        }
        Some(vector.into_values().collect())
    }
}

#[cfg(test)]
#[path = "vector_test.rs"]
mod tests;
