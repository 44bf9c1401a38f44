//! One run of vector agreement, traitors included.

use std::collections::BTreeMap;

use pbft_core::generals::oral::Message;
use pbft_core::generals::vector::Member;
use pbft_core::generals::{Choice, General, Setting, SettingError, Value};

use super::Traitors;
use super::oral::{Saying, speak};
use super::strategy::Strategy;

/// What is agreed on, by whom.
#[derive(Clone, Debug)]
pub struct Case<V> {
    /// How many and how many rounds; its commander plays no part.
    pub setting: Setting,
    /// Who lies.
    pub traitors: Traitors,
    /// Private values, general 1's first. A traitor's is what it would say if it were loyal.
    pub values: Vec<V>,
    /// The vote.
    pub choice: Choice,
    /// What stands for silence and ties.
    pub default: V,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome<V> {
    /// The loyal generals' vectors.
    pub vectors: BTreeMap<General, Vec<V>>,
    /// Values of each round, silence not counted.
    pub sent: Vec<u64>,
    /// Packets of each round: what one general says to another at once, if anything.
    pub packets: Vec<u64>,
    /// The loyal generals, with all that they were told.
    pub members: BTreeMap<General, Member<V>>,
    /// Whether all vectors are equal.
    pub agree: bool,
    /// Whether every loyal general's entry is its private value in all vectors.
    pub truthful: bool,
}

/// Plays `case`; `observe` hears everything that is said.
///
/// # Errors
/// More messages than the bound.
pub fn run<V: Value>(
    case: &Case<V>,
    strategy: &dyn Strategy<V>,
    observe: &mut dyn FnMut(&Saying<V>),
) -> Result<Outcome<V>, SettingError> {
    let Case { setting, traitors, values, choice, default } = case;
    let mut members = BTreeMap::new();
    for (id, value) in setting.generals().zip(values) {
        let member = Member::new(*setting, id, value.clone(), *choice, default.clone())?;
        members.insert(id, member);
    }
    let (mut sent, mut packets) = (Vec::new(), Vec::new());
    for _ in 1..=setting.rounds() {
        let post: Vec<_> = members.values().flat_map(Member::outgoing).collect();
        let (mut values_sent, mut packets_sent) = (0, 0);
        for (receiver, packet) in post {
            let mut spoken = false;
            for message in packet {
                let saying = speak(traitors, strategy, receiver, message);
                observe(&saying);
                let Some(value) = saying.said else { continue };
                (values_sent, spoken) = (values_sent + 1, true);
                if let Some(member) = members.get_mut(&receiver) {
                    let message = Message { path: saying.path, value };
                    let taken = member.receive(saying.path.sender(), message);
                    debug_assert_eq!(taken, Ok(()), "the post carries only what fits");
                }
            }
            packets_sent += u64::from(spoken);
        }
        sent.push(values_sent);
        packets.push(packets_sent);
        members.values_mut().for_each(Member::end_round);
    }
    members.retain(|id, _| !traitors.contains(id));
    let decided = |(id, it): (&General, &Member<V>)| Some((*id, it.decision()?));
    let vectors: BTreeMap<General, Vec<V>> = members.iter().filter_map(decided).collect();
    let agree = vectors.values().zip(vectors.values().skip(1)).all(|(one, next)| one == next);
    let is_true = |vector: &Vec<V>| {
        let entries = setting.generals().zip(vector.iter().zip(values));
        entries.filter(|(id, _)| !traitors.contains(id)).all(|(_, (held, value))| held == value)
    };
    let truthful = vectors.values().all(is_true);
    Ok(Outcome { vectors, sent, packets, members, agree, truthful })
}

#[cfg(test)]
#[path = "vector_test.rs"]
mod tests;
