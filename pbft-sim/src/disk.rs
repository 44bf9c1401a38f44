//! The disk of a simulated replica: what lies on it, what is on its way to it, and what a crash leaves.
//!
//! Records and commits, not bytes: how bytes are laid out and read back is tried where that is written. A
//! commit takes in everything appended so far and is durable whole or, after a crash, perhaps not at all; one
//! commit is under way at a time, as one writer makes it. A snapshot is written beside it and is there once it
//! is written whole. What fails is said in [`DiskFaults`].

use std::collections::BTreeMap;

use pbft_core::archive::Snapshot;
use pbft_core::replica::Record;
use pbft_core::types::{Sequence, WriteId};

use crate::random::Random;
use crate::traitor::prune;

mod faults;

pub use faults::{DiskFaults, Power};

/// Stable snapshots kept, as the archive keeps them.
const STABLE_KEPT: usize = 2;

/// What a reader finds.
#[derive(Clone, Default)]
pub(crate) struct Contents {
    /// In the order in which it was written.
    pub(crate) journal: Vec<Record>,
    pub(crate) snapshots: BTreeMap<Sequence, Snapshot>,
    /// The journal before this one is gone: nothing in this one tells what was promised then.
    pub(crate) lost: bool,
}

impl Contents {
    fn write(&mut self, change: Change) {
        match change {
            Change::Append(_, record) => {
                let stable = matches!(record, Record::Stable(_));
                self.journal.push(record);
                if stable {
                    self.thin_out();
                }
            }
            Change::Cut(below) => prune(&mut self.journal, below),
        }
    }

    /// The highest stable checkpoint that a record of its own proves.
    fn stable(&self) -> Sequence {
        let proven = self.journal.iter().rev().find_map(|record| match record {
            Record::Stable(proof) => Some(proof.sequence()),
            _ => None,
        });
        proven.unwrap_or_default()
    }

    /// Of the snapshots that are stable the two latest stay.
    fn thin_out(&mut self) {
        let stable = self.stable();
        let old = self.snapshots.range(..=stable).rev().skip(STABLE_KEPT).map(|(at, _)| *at);
        if let Some(newest) = old.max() {
            self.snapshots = self.snapshots.split_off(&newest.next());
        }
    }

    fn keep(&mut self, write: Write) {
        if write.instead {
            let _ = self.snapshots.split_off(&write.snapshot.sequence);
        }
        self.snapshots.insert(write.snapshot.sequence, write.snapshot);
        self.thin_out();
    }
}

enum Change {
    Append(WriteId, Record),
    /// Rides along with the next commit: nobody waits for it.
    Cut(Sequence),
}

/// A snapshot to be written.
pub(crate) struct Write {
    pub(crate) snapshot: Snapshot,
    /// It came from others and takes the place of the own state and of whatever came after it.
    pub(crate) instead: bool,
}

/// How a commit ended.
pub(crate) enum Finished {
    /// These records are durable.
    Done { up_to: WriteId, records: Vec<Record> },
    /// The disk said that it failed. Whether it did nobody knows.
    Failed,
    /// There is no room: nothing happens until there is.
    Held,
}

/// What is wrong with what lies on a disk, to be found when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// Somewhere in the journal: what was promised is not known any more.
    Journal,
    /// In the snapshots: the state comes from others.
    Snapshots,
    /// Nothing is there at all.
    Empty,
    /// Everything is as it was some time ago, and looks whole.
    Backup,
}

/// One replica's disk.
#[derive(Default)]
pub(crate) struct Disk {
    contents: Contents,
    /// Of this life, in order.
    appended: Vec<Change>,
    /// How many of them the commit under way takes in; none if none is.
    under_way: usize,
    writing: std::collections::VecDeque<Write>,
    /// So many times as slow as it should be; 0 is as it should be.
    slow: u64,
    fails: bool,
    full: bool,
    /// What really lies there, while it says more.
    beneath: Option<Contents>,
    backup: Option<Contents>,
    damage: Option<Damage>,
    /// The snapshots were damaged, and none has been written since.
    stateless: bool,
    /// Once it has given out less than it had promised.
    pub(crate) older: bool,
    /// How its host deliberately goes wrong, to see that this is found.
    #[cfg(test)]
    pub(crate) lapse: Option<Lapse>,
}

/// What a host may get wrong about its disk.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lapse {
    /// It reports as durable what is only appended.
    ReportsEarly,
    /// It reports a snapshot before it is written.
    SnapshotsEarly,
    /// It forgets, when it starts, in which views it was.
    ForgetsViews,
    /// It forgets, when it starts, what was prepared.
    ForgetsPrepared,
    /// It reads its journal from the end.
    ReadsBackwards,
}

impl Disk {
    pub(crate) fn contents(&self) -> &Contents {
        &self.contents
    }

    /// For a traitor, who keeps what it likes.
    pub(crate) fn overwrite(&mut self, journal: Vec<Record>) {
        self.contents.journal = journal;
        self.appended.clear();
        self.under_way = 0;
        self.writing.clear();
    }

    pub(crate) fn append(&mut self, id: WriteId, record: Record) {
        self.appended.push(Change::Append(id, record));
    }

    pub(crate) fn cut(&mut self, below: Sequence) {
        self.appended.push(Change::Cut(below));
    }

    /// Begins a commit of everything appended, unless one is under way, there is nothing, or no room.
    pub(crate) fn begin(&mut self) -> bool {
        let waits = self.appended.iter().any(|change| matches!(change, Change::Append(..)));
        if self.full || self.under_way > 0 || !waits {
            return false;
        }
        self.under_way = self.appended.len();
        true
    }

    /// The commit under way ends.
    pub(crate) fn finish(&mut self) -> Finished {
        if self.full {
            self.under_way = 0;
            return Finished::Held;
        }
        if self.fails {
            return Finished::Failed;
        }
        let (mut up_to, mut records) = (WriteId(0), Vec::new());
        for change in self.appended.drain(..self.under_way) {
            if let Change::Append(id, record) = &change {
                up_to = *id;
                records.push(record.clone());
            }
            self.contents.write(change);
        }
        self.under_way = 0;
        #[cfg(test)]
        if self.lapse == Some(Lapse::ReportsEarly) {
            for change in &self.appended {
                if let Change::Append(id, _) = change {
                    up_to = *id;
                }
            }
        }
        Finished::Done { up_to, records }
    }

    /// Whether a commit is under way.
    pub(crate) fn commits(&self) -> bool {
        self.under_way > 0
    }

    /// Whether anything is on its way that a crash may or may not leave there.
    pub(crate) fn is_busy(&self) -> bool {
        self.commits() || !self.writing.is_empty()
    }

    /// Has a snapshot written after those that wait; whether it is the only one.
    pub(crate) fn write(&mut self, write: Write) -> bool {
        self.writing.push_back(write);
        self.writing.len() == 1 && !self.full
    }

    /// The oldest snapshot is written whole, unless there is no room for it.
    pub(crate) fn written(&mut self) -> Option<Write> {
        if self.full {
            return None;
        }
        let Write { snapshot, instead } = self.writing.pop_front()?;
        self.contents.keep(Write { snapshot: snapshot.clone(), instead });
        self.stateless = false;
        Some(Write { snapshot, instead })
    }

    pub(crate) fn writes(&self) -> bool {
        !self.writing.is_empty() && !self.full
    }

    /// Power is gone, or the process. `survives` says whether what was under way turns out to be durable; by
    /// chance if it does not matter.
    pub(crate) fn crash(&mut self, survives: Option<bool>, random: &mut Random) {
        self.fails = false;
        if self.under_way > 0 && survives.unwrap_or_else(|| random.chance(500)) {
            let changes: Vec<_> = self.appended.drain(..self.under_way).collect();
            changes.into_iter().for_each(|change| self.contents.write(change));
        }
        if !self.writing.is_empty()
            && survives.unwrap_or_else(|| random.chance(500))
            && let Some(write) = self.writing.pop_front()
        {
            self.contents.keep(write);
        }
        self.appended.clear();
        self.under_way = 0;
        self.writing.clear();
        if let Some(beneath) = self.beneath.take() {
            self.older |= beneath.journal != self.contents.journal;
            self.contents = beneath;
        }
    }

    /// Reads the disk at a start: what is damaged is found now, and only now.
    pub(crate) fn open(&mut self) {
        match self.damage.take() {
            None => {}
            Some(Damage::Journal | Damage::Empty) => self.lose(),
            Some(Damage::Snapshots) => {
                self.contents.snapshots.clear();
                self.stateless = true;
            }
            Some(Damage::Backup) => {
                if let Some(backup) = self.backup.take() {
                    self.older |= backup.journal != self.contents.journal;
                    self.contents = backup;
                }
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn lapse_at_start(&mut self) {
        let journal = &mut self.contents.journal;
        match self.lapse {
            Some(Lapse::ForgetsViews) => {
                journal.retain(|record| !matches!(record, Record::NewView { .. }));
            }
            Some(Lapse::ForgetsPrepared) => {
                journal.retain(|record| !matches!(record, Record::Prepared { .. }));
            }
            Some(Lapse::ReadsBackwards) => journal.reverse(),
            _ => {}
        }
    }

    /// A new store in place of the lost one, which says that there was another.
    fn lose(&mut self) {
        let journal = vec![Record::Lost];
        self.contents = Contents { journal, lost: true, ..Contents::default() };
        self.backup = None;
        self.stateless = false;
    }

    // What fails.

    pub(crate) fn times(&self) -> u64 {
        self.slow.max(1)
    }

    pub(crate) fn slow_down(&mut self, times: u64) {
        self.slow = times;
    }

    pub(crate) fn fail_next(&mut self) {
        self.fails = true;
    }

    pub(crate) fn fill(&mut self) {
        self.full = true;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    pub(crate) fn make_room(&mut self) {
        self.full = false;
    }

    /// It is as fast as it should be, and what it said that it had done it does.
    pub(crate) fn heal(&mut self) {
        self.slow = 0;
        self.fails = false;
        self.beneath = None;
    }

    /// From now until the next crash it keeps nothing and says that it does.
    pub(crate) fn lie(&mut self) {
        self.beneath.get_or_insert_with(|| self.contents.clone());
    }

    pub(crate) fn back_up(&mut self) {
        self.backup = Some(self.contents.clone());
    }

    pub(crate) fn has_backup(&self) -> bool {
        self.backup.is_some()
    }

    pub(crate) fn damage(&mut self, damage: Damage) {
        self.damage.get_or_insert(damage);
    }

    /// Whether what lies there, or what is going to be read, is less than was promised: then it is one of the
    /// copies that a cluster can do without.
    pub(crate) fn is_unsound(&self) -> bool {
        self.beneath.is_some() || self.damage.is_some() || self.stateless || self.older
    }
}

#[cfg(test)]
#[path = "disk_test.rs"]
mod tests;
