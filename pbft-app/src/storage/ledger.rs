//! Which bundle holds what, how much of each is still needed, and which are to be emptied next.
//!
//! Bundles are added at the end and removed whole. Once what is stored comes to twice what is needed, every checkpoint
//! also writes again what is still needed of the oldest bundles, as if it had changed. So what a checkpoint writes is
//! bounded by what changed, wherever in the state that is, and nothing is read for it.

use std::collections::{BTreeMap, BTreeSet};

use pbft_core::archive::Snapshot;
use pbft_core::types::Sequence;

use super::bundle::Entry;
use super::changed::{Changed, TREES};

/// So much is not worth being reclaimed.
const SLACK_BYTES: u64 = 4 << 20;

#[derive(Debug)]
struct Bundle {
    version: Sequence,
    entries: Vec<Entry>,
    bytes: u64,
    /// Of the entries that are the newest of their pages.
    live_bytes: u64,
    /// The last version that took the place of one of its entries.
    superseded: Sequence,
    /// It says that a page is empty, and nothing newer says anything of that page. That must not be forgotten as
    /// long as an older bundle is there.
    goes_last: bool,
}

/// The newest version of a page.
#[derive(Clone, Copy, Debug, Default)]
struct Newest {
    /// Of its bundle; 0 if none says anything of the page: then it is an empty one.
    place: u64,
    bytes: u32,
}

/// What a checkpoint has to write. After it the bundles before `emptied` hold nothing that a later one needs.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) entries: Vec<Entry>,
    pub(super) emptied: u64,
}

/// All bundles of a file, by their places in it.
#[derive(Debug)]
pub(super) struct Ledger {
    bundles: BTreeMap<u64, Bundle>,
    newest: [Vec<Newest>; 2],
    /// Those that are the newest of no page any more, kept for the snapshots that need them.
    dead: BTreeSet<u64>,
    /// Below it all are dead.
    emptied: u64,
    next: u64,
    /// In the bundles from `emptied` on.
    bytes: u64,
    live_bytes: u64,
    pub(super) slack_bytes: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger {
            bundles: BTreeMap::new(),
            newest: [Vec::new(), Vec::new()],
            dead: BTreeSet::new(),
            emptied: 0,
            next: 1,
            bytes: 0,
            live_bytes: 0,
            slack_bytes: SLACK_BYTES,
        }
    }
}

impl Ledger {
    /// Where the next bundle goes. Whatever the file has from there on is left over from a failure.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The first bundle of this version or a later one.
    pub(super) fn first_since(&self, version: Sequence) -> Option<u64> {
        let since = self.bundles.iter().rev().take_while(|(_, it)| it.version >= version);
        since.last().map(|(place, _)| *place)
    }

    /// What to write of a snapshot that differs from what is stored in `changed`; pages that it has no more are empty.
    pub(super) fn plan(&self, snapshot: &Snapshot, changed: &Changed) -> Plan {
        let mut entries = Vec::new();
        for ((tree, name), changed) in (0..).zip(TREES).zip(&changed.0) {
            for number in changed {
                let page = snapshot.tree(name).page(*number);
                // An absent page is an empty one.
                if !page.is_empty() || self.newest(tree, *number).bytes > 0 {
                    entries.push(Entry::of(tree, *number, &page));
                }
            }
        }
        let new: u64 = entries.iter().map(Entry::cost_bytes).sum();
        let most = self.live_bytes.saturating_mul(2).saturating_add(self.slack_bytes);
        let (mut bytes, mut again) = (self.bytes.saturating_add(new), 0_u64);
        let mut emptied = self.emptied;
        for (place, bundle) in self.bundles.range(self.emptied..) {
            if bytes <= most || again > new {
                break;
            }
            for entry in &bundle.entries {
                let is_live = self.newest(entry.tree, entry.page()).place == *place;
                if is_live && entry.bytes > 0 && !changed.has(entry.tree, entry.page()) {
                    again = again.saturating_add(entry.cost_bytes());
                    bytes = bytes.saturating_add(entry.cost_bytes());
                    entries.push(*entry);
                }
            }
            bytes = bytes.saturating_sub(bundle.bytes);
            emptied = place.saturating_add(1);
        }
        Plan { entries, emptied }
    }

    fn newest(&self, tree: u8, number: usize) -> Newest {
        let tree = self.newest.get(usize::from(tree));
        tree.and_then(|tree| tree.get(number)).copied().unwrap_or_default()
    }

    /// The bundles that neither a snapshot of `stored` needs nor any later one.
    pub(super) fn unneeded(&self, stored: &BTreeSet<Sequence>) -> Vec<u64> {
        let mut unneeded = Vec::new();
        let (mut places, mut is_first) = (self.bundles.keys(), true);
        for place in &self.dead {
            let Some(bundle) = self.bundles.get(place) else { continue };
            is_first = is_first && places.next() == Some(place);
            // Those from its version on, until the last of its pages had a newer one.
            let is_needed = bundle.superseded > bundle.version
                && stored.range(bundle.version..bundle.superseded).next().is_some();
            if !is_needed && (is_first || !bundle.goes_last) {
                unneeded.push(*place);
            } else {
                is_first = false;
            }
        }
        unneeded
    }

    /// There is a bundle at `place`, after all others.
    pub(super) fn add(&mut self, place: u64, version: Sequence, entries: Vec<Entry>) {
        let bytes = entries.iter().map(Entry::cost_bytes).sum();
        for entry in &entries {
            let Some(newest) = self.newest.get_mut(usize::from(entry.tree)) else { continue };
            if newest.len() <= entry.page() {
                newest.resize(entry.page().saturating_add(1), Newest::default());
            }
            let Some(newest) = newest.get_mut(entry.page()) else { continue };
            let before = std::mem::replace(newest, Newest { place, bytes: entry.bytes });
            self.die(before.place, &Entry { bytes: before.bytes, ..*entry }, version);
        }
        let (live_bytes, superseded) = (bytes, Sequence(0));
        let bundle = Bundle { version, entries, bytes, live_bytes, superseded, goes_last: false };
        self.bundles.insert(place, bundle);
        self.bytes = self.bytes.saturating_add(bytes);
        self.live_bytes = self.live_bytes.saturating_add(bytes);
        self.next = self.next.max(place.saturating_add(1));
    }

    /// An entry of the bundle at `place` is the newest of its page no more, since `version`.
    fn die(&mut self, place: u64, entry: &Entry, version: Sequence) {
        let Some(bundle) = self.bundles.get_mut(&place) else { return };
        let cost = entry.cost_bytes();
        self.live_bytes = self.live_bytes.saturating_sub(cost);
        bundle.live_bytes = bundle.live_bytes.saturating_sub(cost);
        bundle.superseded = bundle.superseded.max(version);
        if bundle.live_bytes == 0 {
            self.dead.insert(place);
        }
    }

    /// What the bundles before `place` held has been written again, as was planned.
    pub(super) fn empty(&mut self, place: u64) {
        let mut empties = Vec::new();
        for (place, bundle) in self.bundles.range_mut(self.emptied..place) {
            self.bytes = self.bytes.saturating_sub(bundle.bytes);
            bundle.goes_last = bundle.live_bytes > 0;
            if bundle.goes_last {
                empties.extend(bundle.entries.iter().map(|entry| (*place, *entry)));
            }
        }
        // What is left of them are pages that are empty: once nothing older is there this goes without saying.
        for (place, entry) in empties {
            let newest = self.newest.get_mut(usize::from(entry.tree));
            let newest = newest.and_then(|newest| newest.get_mut(entry.page()));
            if let Some(newest) = newest.filter(|newest| newest.place == place) {
                *newest = Newest::default();
                self.die(place, &entry, Sequence(0));
            }
        }
        self.emptied = self.emptied.max(place);
    }

    /// These bundles are gone from the file.
    pub(super) fn remove(&mut self, places: &[u64]) {
        for place in places {
            let Some(bundle) = self.bundles.remove(place) else { continue };
            self.dead.remove(place);
            if *place >= self.emptied {
                self.bytes = self.bytes.saturating_sub(bundle.bytes);
            }
        }
    }

    /// Everything from `place` on is gone from the file: what was the newest before it is so again.
    pub(super) fn rewind(&mut self, place: u64) {
        let mut bundles = std::mem::take(&mut self.bundles);
        let _ = bundles.split_off(&place);
        *self = Ledger { slack_bytes: self.slack_bytes, ..Ledger::default() };
        for (place, bundle) in bundles {
            self.add(place, bundle.version, bundle.entries);
        }
    }

    /// Bytes in all bundles, and of those the needed ones: for tests of what is reclaimed.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (u64, u64) {
        (self.bundles.values().map(|it| it.bytes).sum(), self.live_bytes)
    }
}
