//! Looks for lies that break IC1 or IC2 in OM(m), and makes what it finds small.
//!
//! A strategy is a value for each message of a traitor to a loyal lieutenant, by path and receiver, out of a
//! few values. What traitors say to each other needs no lies: it matters only through what they say to loyal
//! ones. Silence needs none either: it is heard as the default. Where the strategies are few, all are played;
//! else the named ones, then random ones from a seed.

use std::collections::BTreeMap;

use pbft_core::generals::{Choice, General, Path, Setting, SettingError};

use super::Traitors;
use super::oral::{self, Case, Outcome};
use super::strategy::{Named, Strategy, Table};
use crate::random::Random;

/// The most strategies that are played one by one.
pub const EXHAUSTIVE_MAX: u64 = 1 << 17;
/// The most oral messages that a search plays. Fewer strategies are sampled where each takes many.
pub const WORK_MAX: u64 = 40_000_000;
/// After the first violation, so many more strategies are tried for a smaller one.
const AFTERTHOUGHTS: u64 = 500;

/// What is searched.
#[derive(Clone, Debug)]
pub struct Search {
    /// How many, how many rounds, who commands.
    pub setting: Setting,
    /// Who lies.
    pub traitors: Traitors,
    /// The orders that a loyal commander is tried with. A traitor in command needs only one.
    pub orders: Vec<i128>,
    /// What traitors may say.
    pub alphabet: Vec<i128>,
    /// The vote.
    pub choice: Choice,
    /// What stands for silence and ties.
    pub default: i128,
    /// How many strategies to sample where there are too many for all.
    pub samples: u64,
    /// Where chance comes from.
    pub seed: u64,
}

/// A strategy that breaks a condition.
#[derive(Clone, Debug)]
pub struct Found {
    /// The order given.
    pub order: i128,
    /// The lies: no entry can be left out (unless runs are so long that the search stopped trying).
    pub lies: Table<i128>,
    /// How the run with them ends.
    pub outcome: Outcome<i128>,
}

/// What a search came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The violation with the fewest lies, if any.
    pub found: Option<Found>,
    /// Whether all strategies over the alphabet were played.
    pub exhaustive: bool,
    /// How many were.
    pub tried: u64,
}

/// The messages of traitors to loyal lieutenants: where there is a choice.
pub fn slots(setting: &Setting, traitors: &Traitors) -> Vec<(Path, General)> {
    let mut slots = Vec::new();
    let mut paths: Vec<Path> = Path::of(setting.commander()).into_iter().collect();
    for _ in 1..=setting.rounds() {
        for path in paths.iter().filter(|path| traitors.contains(&path.sender())) {
            let receivers = path.receivers(setting).filter(|it| !traitors.contains(it));
            slots.extend(receivers.map(|receiver| (*path, receiver)));
        }
        let next = |path: &Path| setting.generals().filter_map(|it| path.then(it).ok()).collect();
        paths = paths.iter().flat_map(|path| -> Vec<Path> { next(path) }).collect();
    }
    slots
}

impl Search {
    /// Searches.
    ///
    /// # Errors
    /// One run alone takes more messages than the bound.
    pub fn run(&self) -> Result<Report, SettingError> {
        self.setting.check_oral_size(1)?;
        let slots = slots(&self.setting, &self.traitors);
        let mut hunt = Hunt { search: self, slots, tried: 0, plays: 0, best: None };
        let is_traitor = self.traitors.contains(&self.setting.commander());
        let orders = self.orders.iter().copied().take(if is_traitor { 1 } else { usize::MAX });
        let orders: Vec<i128> = orders.collect();
        let exhaustive = hunt.count().is_some_and(|count| count <= EXHAUSTIVE_MAX);
        match exhaustive {
            true => hunt.all(&orders)?,
            false => hunt.sample(&orders)?,
        }
        let Hunt { tried, best, .. } = hunt;
        Ok(Report { found: best, exhaustive, tried })
    }

    fn case(&self, order: i128) -> Case<i128> {
        let Search { setting, choice, default, .. } = *self;
        Case { setting, traitors: self.traitors.clone(), order, choice, default }
    }

    fn play(
        &self,
        order: i128,
        strategy: &dyn Strategy<i128>,
    ) -> Result<Outcome<i128>, SettingError> {
        oral::run(&self.case(order), strategy, &mut |_| {})
    }

    /// The lies in `strategy` that a loyal lieutenant hears.
    fn lies(
        &self,
        order: i128,
        strategy: &dyn Strategy<i128>,
    ) -> Result<Table<i128>, SettingError> {
        let mut lies = BTreeMap::new();
        oral::run(&self.case(order), strategy, &mut |saying| {
            if saying.is_lie() && !self.traitors.contains(&saying.receiver) {
                lies.insert((saying.path, saying.receiver), saying.said);
            }
        })?;
        Ok(Table(lies))
    }
}

struct Hunt<'a> {
    search: &'a Search,
    slots: Vec<(Path, General)>,
    tried: u64,
    /// Runs made to shrink what was found, bounded over the whole search.
    plays: u64,
    best: Option<Found>,
}

impl Hunt<'_> {
    /// How many strategies there are, unless that is beyond counting.
    fn count(&self) -> Option<u64> {
        let each = u64::try_from(self.search.alphabet.len()).ok()?;
        each.checked_pow(u32::try_from(self.slots.len()).ok()?)
    }

    /// How many runs make up [`WORK_MAX`] messages.
    fn affordable(&self) -> u64 {
        let messages = self.search.setting.oral_messages().iter().sum::<u128>();
        (WORK_MAX / u64::try_from(messages).unwrap_or(u64::MAX).max(1)).max(1)
    }

    /// Plays one strategy; if it breaks something with fewer lies than the best so far, it is the best.
    fn attempt(
        &mut self,
        order: i128,
        strategy: &dyn Strategy<i128>,
    ) -> Result<bool, SettingError> {
        self.tried += 1;
        if self.search.play(order, strategy)?.holds() {
            return Ok(false);
        }
        let lies = self.search.lies(order, strategy)?;
        // Lies to fellow traitors are left out: what comes of them is said openly in the table.
        let bound = self.best.as_ref().map_or(usize::MAX, |best| best.lies.0.len());
        if lies.0.len() <= bound.saturating_mul(2) {
            let found = self.shrink(order, lies)?;
            if found.as_ref().is_some_and(|found| found.lies.0.len() < bound) {
                self.best = found;
            }
        }
        Ok(true)
    }

    /// Takes out lies, in ever smaller pieces, as long as what is left still breaks something.
    fn shrink(
        &mut self,
        order: i128,
        mut lies: Table<i128>,
    ) -> Result<Option<Found>, SettingError> {
        let mut outcome = self.search.play(order, &lies)?;
        if outcome.holds() {
            return Ok(None);
        }
        let mut piece = lies.0.len().div_ceil(2);
        while piece > 0 {
            let mut start = 0;
            let mut shrunk = false;
            while start < lies.0.len() {
                let mut fewer = lies.clone();
                let cut: Vec<_> = lies.0.keys().skip(start).take(piece).copied().collect();
                fewer.0.retain(|key, _| !cut.contains(key));
                let without = self.search.play(order, &fewer)?;
                self.plays += 1;
                if self.plays > self.affordable() {
                    return Ok(Some(Found { order, lies, outcome }));
                }
                if without.holds() {
                    start += piece;
                } else {
                    (lies, outcome, shrunk) = (fewer, without, true);
                }
            }
            // Single lies are gone through again until none can go.
            piece = if piece > 1 { piece / 2 } else { usize::from(shrunk) };
        }
        // Some entries have become true by the loss of others.
        let lies = self.search.lies(order, &lies)?;
        Ok(Some(Found { order, lies, outcome }))
    }

    fn all(&mut self, orders: &[i128]) -> Result<(), SettingError> {
        for order in orders {
            let mut digits = vec![0_usize; self.slots.len()];
            loop {
                let said = digits.iter().map(|digit| self.search.alphabet.get(*digit).copied());
                let table = Table(self.slots.iter().copied().zip(said).collect());
                self.attempt(*order, &table)?;
                // The next number in base `alphabet.len()`; past the last one all digits are 0 again.
                let last = self.search.alphabet.len().saturating_sub(1);
                match digits.iter().position(|digit| *digit < last) {
                    None => break,
                    Some(at) => {
                        digits.iter_mut().take(at).for_each(|digit| *digit = 0);
                        digits.iter_mut().skip(at).take(1).for_each(|digit| *digit += 1);
                    }
                }
            }
        }
        Ok(())
    }

    fn sample(&mut self, orders: &[i128]) -> Result<(), SettingError> {
        let mut end = self.search.samples.min(self.affordable());
        let named = ["flip", "split", "parity", "silent", "pair", "garbage"];
        for named in named.iter().filter_map(|name| name.parse::<Named>().ok()) {
            for order in orders {
                if self.tried < end && self.attempt(*order, &named)? {
                    end = end.min(self.tried + AFTERTHOUGHTS);
                }
            }
        }
        let mut random = Random::new(self.search.seed);
        while self.tried < end {
            let order = random.pick(orders, 0);
            // Some liars lie rarely, some always: a traitor who is mostly honest is the harder one to see.
            let per_mille = random.pick(&[60, 125, 250, 500, 750, 1000], 1000);
            let mut table = Table::default();
            for slot in &self.slots {
                if random.chance(per_mille) {
                    table.0.insert(*slot, Some(random.pick(&self.search.alphabet, 0)));
                }
            }
            if self.attempt(order, &table)? {
                end = end.min(self.tried + AFTERTHOUGHTS);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "search_test.rs"]
mod tests;
