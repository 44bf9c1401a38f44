//! In which pages a state differs from what is stored of it.

use std::borrow::Cow;
use std::collections::BTreeSet;

use pbft_core::archive::Snapshot;
use pbft_core::pages::PageChanges;
use pbft_core::transfer::TreeName;

pub(super) const TREES: [TreeName; 2] = [TreeName::Sessions, TreeName::Application];

/// Pages that differ from the newest stored snapshot, by tree.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changed(pub(super) [BTreeSet<usize>; 2]);

impl Changed {
    /// Takes note of what changed, whoever asked for it.
    pub(crate) fn note(&mut self, sessions: &PageChanges, application: &PageChanges) {
        for (set, changes) in self.0.iter_mut().zip([sessions, application]) {
            set.extend(changes.pages.iter().map(|(number, _)| *number));
        }
    }

    pub(super) fn has(&self, tree: u8, number: usize) -> bool {
        self.0.get(usize::from(tree)).is_some_and(|changed| changed.contains(&number))
    }

    /// These and the pages of a state that had more than it has: they are empty from here on.
    pub(super) fn and_cut_off(&self, count: [usize; 2], had: [usize; 2]) -> Cow<'_, Self> {
        let mut all = Cow::Borrowed(self);
        for (tree, (count, had)) in count.into_iter().zip(had).enumerate() {
            if had > count
                && let Some(changed) = all.to_mut().0.get_mut(tree)
            {
                changed.extend(count..had);
            }
        }
        all
    }

    /// Takes in what changed before.
    pub(crate) fn absorb(&mut self, earlier: Changed) {
        for (set, earlier) in self.0.iter_mut().zip(earlier.0) {
            set.extend(earlier);
        }
    }

    /// Where two states differ: by their hashes, without looking at the pages.
    pub(crate) fn between(held: &Snapshot, other: &Snapshot) -> Self {
        let different = |tree: TreeName| {
            let (held, other) = (held.tree(tree), other.tree(tree));
            let pages = 0..other.count();
            pages.filter(|number| held.node(0, *number) != other.node(0, *number)).collect()
        };
        Changed(TREES.map(different))
    }
}
