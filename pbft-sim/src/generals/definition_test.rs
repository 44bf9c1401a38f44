//! OM(m) once more, straight from the recursive definition and with nothing of the round-based code but its
//! types: a commander sends, every lieutenant commands OM(m - 1) among the others, and votes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use pbft_core::generals::{Choice, General, Path, Setting};

use super::Traitors;
use super::oral::{self, Case};
use super::strategy::{Named, Strategy, Table};
use super::vector;
use crate::random::Random;

struct Definition<'a> {
    traitors: &'a Traitors,
    strategy: &'a dyn Strategy<i128>,
    choice: Choice,
    default: i128,
}

impl Definition<'_> {
    /// What each of `lieutenants` takes OM(m) of the last on `path`, who knows `value`, to come to.
    fn om(&self, m: u64, path: &[u8], value: i128, lieutenants: &[u8]) -> BTreeMap<u8, i128> {
        let commander = General(path[path.len() - 1]);
        let way = Path::new(path.iter().copied().map(General)).unwrap();
        let mut told = BTreeMap::new();
        for lieutenant in lieutenants {
            let said = match self.traitors.contains(&commander) {
                true => self.strategy.say(&way, General(*lieutenant), &value),
                false => Some(value),
            };
            told.insert(*lieutenant, said.unwrap_or(self.default));
        }
        if m == 0 {
            return told;
        }
        let mut votes: BTreeMap<u8, Vec<i128>> =
            told.iter().map(|(lieutenant, value)| (*lieutenant, vec![*value])).collect();
        for next in lieutenants {
            let longer = [path, &[*next]].concat();
            let others: Vec<u8> = lieutenants.iter().copied().filter(|it| it != next).collect();
            for (lieutenant, outcome) in self.om(m - 1, &longer, told[next], &others) {
                votes.get_mut(&lieutenant).unwrap().push(outcome);
            }
        }
        votes.into_iter().map(|(lieutenant, values)| (lieutenant, self.vote(values))).collect()
    }

    fn vote(&self, mut values: Vec<i128>) -> i128 {
        values.sort_unstable();
        match self.choice {
            Choice::Median => values[(values.len() - 1) / 2],
            Choice::Majority => {
                let is_most =
                    |it: &&i128| values.iter().filter(|v| v == it).count() * 2 > values.len();
                values.iter().find(is_most).copied().unwrap_or(self.default)
            }
        }
    }
}

/// A random strategy: a named one, or a table of lies, silence among them.
fn any_strategy(
    random: &mut Random,
    setting: &Setting,
    traitors: &Traitors,
) -> Box<dyn Strategy<i128>> {
    let names = ["silent", "flip", "split", "parity", "pair", "garbage", "hash:"];
    let name = random.pick(&names, "flip");
    if random.chance(500) {
        let seed = if name == "hash:" { random.below(1000).to_string() } else { String::new() };
        return Box::new(format!("{name}{seed}").parse::<Named>().unwrap());
    }
    let mut table = Table::default();
    for slot in super::search::slots(setting, traitors) {
        if random.chance(600) {
            let value = i128::from(random.below(4)) - 1;
            table.0.insert(slot, (!random.chance(200)).then_some(value));
        }
    }
    Box::new(table)
}

fn any_case(random: &mut Random, n_max: u64, m_max: u64) -> Case<i128> {
    let n = random.between(2, n_max);
    let m = random.below((n - 2).min(m_max) + 1);
    let commander = General(u8::try_from(random.between(1, n)).unwrap());
    let setting = Setting::new(n, m, commander).unwrap();
    let liars = random.below(1000);
    let traitors = setting.generals().filter(|_| random.chance(liars)).collect();
    let choice = random.pick(&[Choice::Majority, Choice::Median], Choice::Majority);
    let (order, default) = (i128::from(random.below(3)), i128::from(random.below(3)) - 1);
    Case { setting, traitors, order, choice, default }
}

#[test]
fn b3_rounds_and_recursion_agree_on_10_000_random_cases() {
    let mut random = Random::new(1982);
    let mut split = 0;
    for number in 0..10_000 {
        // Most cases are small; every twentieth has up to 8 generals.
        let case = if number % 20 == 0 {
            any_case(&mut random, 8, 2)
        } else {
            any_case(&mut random, 6, 3)
        };
        let strategy = any_strategy(&mut random, &case.setting, &case.traitors);
        let outcome = oral::run(&case, strategy.as_ref(), &mut |_| {}).unwrap();
        let Case { setting, traitors, order, choice, default } = &case;
        let definition = Definition {
            traitors,
            strategy: strategy.as_ref(),
            choice: *choice,
            default: *default,
        };
        let lieutenants: Vec<u8> = setting.lieutenants().map(|it| it.0).collect();
        let root = [setting.commander().0];
        let mut expected = definition.om(u64::from(setting.m()), &root, *order, &lieutenants);
        expected.retain(|id, _| !traitors.contains(&General(*id)));
        let decided: BTreeMap<u8, i128> =
            outcome.decisions.iter().map(|(id, value)| (id.0, *value)).collect();
        assert_eq!(decided, expected, "case {number}: {case:?}");
        split += u64::from(outcome.ic1.is_err());
    }
    // The cases are not all harmless.
    assert!(split > 200, "{split}");
}

#[test]
fn b4_a_vector_is_one_agreement_for_each_general() {
    let mut random = Random::new(1980);
    for _ in 0..300 {
        let Case { setting, traitors, choice, default, .. } = any_case(&mut random, 6, 2);
        let strategy = any_strategy(&mut random, &setting, &traitors);
        let values: Vec<i128> = setting.generals().map(|_| i128::from(random.below(5))).collect();
        let case = vector::Case { setting, traitors, values, choice, default };
        let outcome = vector::run(&case, strategy.as_ref(), &mut |_| {}).unwrap();
        for (id, vector) in &outcome.vectors {
            for (commander, (entry, order)) in
                setting.generals().zip(vector.iter().zip(&case.values))
            {
                if commander == *id {
                    assert_eq!(entry, order);
                    continue;
                }
                let setting = setting.commanded_by(commander).unwrap();
                let traitors = case.traitors.clone();
                let single = Case { setting, traitors, order: *order, choice, default };
                let single = oral::run(&single, strategy.as_ref(), &mut |_| {}).unwrap();
                assert_eq!(*entry, single.decisions[id]);
            }
        }
    }
}
