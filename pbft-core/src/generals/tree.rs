//! The relay tree of one lieutenant: every value it was told, under the path the value went through, and
//! the votes by which they become one.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Choice, General, Path, Setting, Value};

/// What one lieutenant was told.
///
/// Invariant: every path starts with the commander, does not name the lieutenant, is at most m + 1 long and
/// holds the value that came first; what did not come is read as the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree<V> {
    setting: Setting,
    owner: General,
    choice: Choice,
    default: V,
    values: BTreeMap<Path, V>,
}

/// A node of the tree and the vote at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote<V> {
    /// The way of the value that is voted on.
    pub path: Path,
    /// What the sender of `path` told the owner; the default if nothing.
    pub direct: V,
    /// Whether it told anything.
    pub is_told: bool,
    /// For each other lieutenant that heard it: the outcome of what it says it heard. Empty in the last
    /// round, where the direct value is the outcome.
    pub others: Vec<(General, V)>,
    /// The choice among the direct value and those of the others.
    pub outcome: V,
}

impl<V: Value> Tree<V> {
    pub(super) fn new(setting: Setting, owner: General, choice: Choice, default: V) -> Self {
        Tree { setting, owner, choice, default, values: BTreeMap::new() }
    }

    /// Keeps `value` unless there is one for `path`; says whether it was kept.
    pub(super) fn keep(&mut self, path: Path, value: V) -> bool {
        let is_new = !self.values.contains_key(&path);
        if is_new {
            self.values.insert(path, value);
        }
        is_new
    }

    /// Whose tree it is.
    pub fn owner(&self) -> General {
        self.owner
    }

    /// The setting it belongs to.
    pub fn setting(&self) -> Setting {
        self.setting
    }

    /// What was told along `path`, if anything.
    pub fn told(&self, path: &Path) -> Option<&V> {
        self.values.get(path)
    }

    /// What was told along `path`, or the default.
    pub fn value(&self, path: &Path) -> &V {
        self.told(path).unwrap_or(&self.default)
    }

    /// How many values of each round there are, the first round first.
    pub fn told_by_round(&self) -> Vec<usize> {
        let mut rounds = alloc::vec![0; usize::from(self.setting.rounds())];
        for path in self.values.keys() {
            if let Some(count) = rounds.get_mut(usize::from(path.len()).saturating_sub(1)) {
                *count += 1;
            }
        }
        rounds
    }

    /// The paths of length `length` on which the owner is to be told something, ascending: the commander,
    /// then distinct others. Nobody waits for a value that went through himself.
    pub fn paths(&self, length: u8) -> Vec<Path> {
        let mut paths: Vec<Path> = Path::of(self.setting.commander()).into_iter().collect();
        for _ in 1..length {
            let longer = paths.iter().flat_map(|path| path.children(&self.setting, self.owner));
            paths = longer.collect();
        }
        paths
    }

    /// The vote at `path`, from all that was told so far: OM(m + 1 - length of the path) with its sender as
    /// commander (SEEDS S1), among n - length of the path values (SEEDS S2).
    pub fn vote(&self, path: &Path) -> Vote<V> {
        let direct = self.value(path).clone();
        let is_told = self.told(path).is_some();
        if path.len() >= self.setting.rounds() {
            let outcome = direct.clone();
            return Vote { path: *path, direct, is_told, others: Vec::new(), outcome };
        }
        let children = path.children(&self.setting, self.owner);
        let others: Vec<(General, V)> =
            children.map(|child| (child.sender(), self.outcome(&child))).collect();
        let mut values: Vec<V> = others.iter().map(|(_, value)| value.clone()).collect();
        values.push(direct.clone());
        let outcome = self.choice.of(&values, &self.default);
        Vote { path: *path, direct, is_told, others, outcome }
    }

    /// The outcome of [`Tree::vote`] at `path`.
    pub fn outcome(&self, path: &Path) -> V {
        // As deep as there are rounds: at most ten (MESSAGES_MAX).
        if path.len() >= self.setting.rounds() {
            return self.value(path).clone();
        }
        let children = path.children(&self.setting, self.owner);
        let mut values: Vec<V> = children.map(|child| self.outcome(&child)).collect();
        values.push(self.value(path).clone());
        self.choice.of(&values, &self.default)
    }

    /// The outcome at the root: the decision, once all rounds are over.
    pub(super) fn decision(&self) -> V {
        match Path::of(self.setting.commander()) {
            Ok(root) => self.outcome(&root),
            Err(_) => self.default.clone(),
        }
    }
}
