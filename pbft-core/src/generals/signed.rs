//! SM(m): signed messages. What a loyal general said cannot be changed on the way, so that liars can only
//! lie about their own orders, and everyone finds out.
//!
//! Round 1: the commander signs its order and sends it to every lieutenant. Whoever hears a value it did not
//! know, under a chain that counts, adds it to its set V; with fewer than m + 1 signatures it adds its own and
//! sends it to everyone who has not signed. After round m + 1 it decides by a function of V
//! ([`SetChoice`], PITFALLS M4).
//!
//! Why all loyal sets are equal: a value heard before round m + 1 is passed on to everyone; one heard in round
//! m + 1 has m + 1 signers, one of whom is loyal and passed it on before. One round less and that fails.
//! n plays no part, but with fewer than m + 2 generals there are no two loyal ones to agree.

use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::chain::{Chain, Fault, Occasion};
use super::{General, SetChoice, SettingError, Value};
use crate::crypto::{Signer, Verifier};

/// The most values that a lieutenant takes from a commander who signs ever new ones. Above it, it decides the default.
///
/// Loyal lieutenants still agree: each passes on the first `VALUES_MAX` + 1 values it hears, so if one of them has
/// more than `VALUES_MAX`, by the argument above all of them have.
pub const VALUES_MAX: usize = 1024;

/// What became of a message that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Its value is new: it will be in V, and is passed on if there is a round left.
    New,
    /// Its value is known: nothing is to be done, and its signatures were not looked at.
    Known,
}

/// Why a message is not taken. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    /// The last round is over.
    #[error("all rounds are over")]
    Over,
    /// It came from nobody who takes part, or from the receiver itself.
    #[error("a message from {0}, who cannot have sent it")]
    UnknownSender(u8),
    /// The chain does not count.
    #[error(transparent)]
    Chain(#[from] Fault),
    /// More than [`VALUES_MAX`] values are known: the decision cannot change any more.
    #[error("more than {VALUES_MAX} values")]
    TooManyValues,
}

/// The loyal commander: one order, signed once, to everyone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commander<V> {
    occasion: Occasion,
    value: V,
}

impl<V: Value> Commander<V> {
    /// The commander on this occasion, whose order is `value`.
    pub fn new(occasion: Occasion, value: V) -> Self {
        Commander { occasion, value }
    }

    /// What it sends in round 1, by receiver. The key stays with the caller.
    pub fn outgoing(&self, signer: &dyn Signer) -> Vec<(General, Chain<V>)> {
        let setting = self.occasion.setting;
        let chain = Chain::unsigned(self.value.clone());
        let chain = chain.signed(&self.occasion, setting.commander(), signer);
        setting.lieutenants().map(|receiver| (receiver, chain.clone())).collect()
    }
}

/// A loyal lieutenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lieutenant<V> {
    occasion: Occasion,
    id: General,
    choice: SetChoice,
    default: V,
    /// The round that is open, from 1; m + 2 when all are over.
    round: u8,
    /// V. At most `VALUES_MAX` + 1.
    values: BTreeSet<V>,
    /// Values new in the open round, each with the chain that is to be passed on: the lowest sender's, and of
    /// several of his the lowest. So nothing depends on the order of arrival inside a round.
    fresh: BTreeMap<V, (General, Chain<V>)>,
    /// What was new in the round before.
    relayed: Vec<Chain<V>>,
}

impl<V: Value> Lieutenant<V> {
    /// Lieutenant `id`. `default` must be the same for all.
    ///
    /// # Errors
    /// `id` is no lieutenant.
    pub fn new(
        occasion: Occasion,
        id: General,
        choice: SetChoice,
        default: V,
    ) -> Result<Self, SettingError> {
        occasion.setting.check_lieutenant(id)?;
        let (values, fresh, relayed) = (BTreeSet::new(), BTreeMap::new(), Vec::new());
        Ok(Lieutenant { occasion, id, choice, default, round: 1, values, fresh, relayed })
    }

    /// Which general it is.
    pub fn id(&self) -> General {
        self.id
    }

    /// V, ascending: the values of all rounds that are over.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &V> {
        self.values.iter()
    }

    /// What it sends in the open round, by receiver: each value that was new in the round before, with its own
    /// signature after the others. The key stays with the caller.
    pub fn outgoing(&self, signer: &dyn Signer) -> Vec<(General, Chain<V>)> {
        let mut messages = Vec::new();
        for chain in &self.relayed {
            let chain = chain.clone().signed(&self.occasion, self.id, signer);
            let signers: BTreeSet<General> = chain.signers().collect();
            let receivers = self.occasion.setting.lieutenants();
            let receivers = receivers.filter(|receiver| !signers.contains(receiver));
            messages.extend(receivers.map(|receiver| (receiver, chain.clone())));
        }
        messages
    }

    /// Takes a chain that `sender` sends in the open round. Who sends it matters little: its signatures speak.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn receive(
        &mut self,
        sender: General,
        chain: Chain<V>,
        verifier: &dyn Verifier,
    ) -> Result<Heard, Refusal> {
        let heard = self.judge(sender, &chain, verifier)?;
        if heard == Heard::New {
            match self.fresh.entry(chain.value.clone()) {
                Entry::Vacant(place) => {
                    place.insert((sender, chain));
                }
                Entry::Occupied(mut kept) => {
                    let (lowest, held) = kept.get();
                    if (sender, &chain) < (*lowest, held) {
                        kept.insert((sender, chain));
                    }
                }
            }
        }
        Ok(heard)
    }

    fn judge(
        &self,
        sender: General,
        chain: &Chain<V>,
        verifier: &dyn Verifier,
    ) -> Result<Heard, Refusal> {
        if self.round > self.occasion.setting.rounds() {
            return Err(Refusal::Over);
        }
        if !self.occasion.setting.has(sender) || sender == self.id {
            return Err(Refusal::UnknownSender(sender.0));
        }
        chain.check_form(&self.occasion, self.round, self.id)?;
        if self.values.contains(&chain.value) {
            return Ok(Heard::Known);
        }
        let known = self.values.len().saturating_add(self.fresh.len());
        if known > VALUES_MAX && !self.fresh.contains_key(&chain.value) {
            return Err(Refusal::TooManyValues);
        }
        chain.check_signatures(&self.occasion, verifier)?;
        Ok(Heard::New)
    }

    /// Ends the open round: what was new in it is in V, and is passed on in the next, if there is one.
    pub fn end_round(&mut self) {
        let rounds = self.occasion.setting.rounds();
        let fresh = core::mem::take(&mut self.fresh);
        self.values.extend(fresh.keys().cloned());
        self.relayed.clear();
        if self.round < rounds {
            self.relayed.extend(fresh.into_values().map(|(_, chain)| chain));
        }
        self.round = self.round.saturating_add(1).min(rounds + 1);
    }

    /// What it decides; `None` before the last round is over.
    pub fn decision(&self) -> Option<V> {
        if self.round <= self.occasion.setting.rounds() {
            return None;
        }
        if self.values.len() > VALUES_MAX {
            return Some(self.default.clone());
        }
        Some(self.choice.of(self.values.iter(), &self.default))
    }
}

#[cfg(test)]
#[path = "signed_test.rs"]
mod tests;
