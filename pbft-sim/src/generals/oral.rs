//! One run of OM(m), traitors included.

use std::collections::BTreeMap;

use pbft_core::generals::oral::{Commander, Lieutenant, Message};
use pbft_core::generals::tree::Tree;
use pbft_core::generals::{Choice, General, Path, Setting, SettingError, Value};

use super::Traitors;
use super::checker::{self, Broken};
use super::strategy::Strategy;

/// What is agreed on, by whom.
#[derive(Clone, Debug)]
pub struct Case<V> {
    /// How many, how many rounds, who commands.
    pub setting: Setting,
    /// Who lies.
    pub traitors: Traitors,
    /// The commander's order; what a traitor in command would say if it were loyal.
    pub order: V,
    /// The vote.
    pub choice: Choice,
    /// What stands for silence and ties.
    pub default: V,
}

/// Something said, or kept silent about, that was to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saying<V> {
    /// The way of the value, the speaker last. Its length is the round.
    pub path: Path,
    /// To whom.
    pub receiver: General,
    /// What a loyal general would say.
    pub honest: V,
    /// What is said; `None` is silence.
    pub said: Option<V>,
}

impl<V: PartialEq> Saying<V> {
    /// Whether it is not what a loyal general would say.
    pub fn is_lie(&self) -> bool {
        self.said.as_ref() != Some(&self.honest)
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome<V> {
    /// What loyal lieutenants decided.
    pub decisions: BTreeMap<General, V>,
    /// Messages of each round, silence not counted.
    pub sent: Vec<u64>,
    /// What each loyal lieutenant was told.
    pub trees: BTreeMap<General, Tree<V>>,
    /// Whether IC1 held.
    pub ic1: Result<(), Broken<V>>,
    /// Whether IC2 held.
    pub ic2: Result<(), Broken<V>>,
}

impl<V> Outcome<V> {
    /// Whether both conditions held.
    pub fn holds(&self) -> bool {
        self.ic1.is_ok() && self.ic2.is_ok()
    }
}

/// Plays `case`; `observe` hears everything that is said, in the order of rounds, paths and receivers.
///
/// # Errors
/// More messages than the bound.
pub fn run<V: Value>(
    case: &Case<V>,
    strategy: &dyn Strategy<V>,
    observe: &mut dyn FnMut(&Saying<V>),
) -> Result<Outcome<V>, SettingError> {
    let Case { setting, traitors, order, choice, default } = case;
    let commander = Commander::new(*setting, order.clone())?;
    let mut lieutenants = BTreeMap::new();
    for id in setting.lieutenants() {
        lieutenants.insert(id, Lieutenant::new(*setting, id, *choice, default.clone())?);
    }
    let mut sent = Vec::new();
    for round in 1..=setting.rounds() {
        let mut post = if round == 1 { commander.outgoing() } else { Vec::new() };
        post.extend(lieutenants.values().flat_map(Lieutenant::outgoing));
        post.sort_by(|(to, one), (other_to, other)| (one.path, to).cmp(&(other.path, other_to)));
        let mut count = 0;
        for (receiver, message) in post {
            let saying = speak(traitors, strategy, receiver, message);
            observe(&saying);
            let Some(value) = saying.said else { continue };
            count += 1;
            if let Some(lieutenant) = lieutenants.get_mut(&receiver) {
                let message = Message { path: saying.path, value };
                // Strategies change what is said, never on which path or to whom.
                let taken = lieutenant.receive(saying.path.sender(), message);
                debug_assert_eq!(taken, Ok(()), "the post carries only what fits");
            }
        }
        sent.push(count);
        lieutenants.values_mut().for_each(Lieutenant::end_round);
    }
    lieutenants.retain(|id, _| !traitors.contains(id));
    let decided = |(id, it): (&General, &Lieutenant<V>)| Some((*id, it.decision()?));
    let decisions = lieutenants.iter().filter_map(decided).collect();
    let ic1 = checker::ic1(&decisions);
    let ic2 = checker::ic2(setting.commander(), order, traitors, &decisions);
    let trees = lieutenants.into_iter().map(|(id, it)| (id, it.into_tree())).collect();
    Ok(Outcome { decisions, sent, trees, ic1, ic2 })
}

/// What becomes of a loyal general's message in the mouth of its sender.
pub(super) fn speak<V: Value>(
    traitors: &Traitors,
    strategy: &dyn Strategy<V>,
    receiver: General,
    message: Message<V>,
) -> Saying<V> {
    let Message { path, value: honest } = message;
    let said = match traitors.contains(&path.sender()) {
        true => strategy.say(&path, receiver, &honest),
        false => Some(honest.clone()),
    };
    Saying { path, receiver, honest, said }
}

#[cfg(test)]
#[path = "oral_test.rs"]
mod tests;
