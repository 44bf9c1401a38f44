//! Snapshots on a disk: the pages of the kept ones, each page once for all snapshots that share it.
//!
//! A page is stored under the checkpoint that wrote it, its *version*, and belongs to every snapshot from that one
//! on until another version of it. So a checkpoint writes what changed and nothing else, and a snapshot that
//! goes takes with it exactly the versions that no other needs. In a file of its own: writing pages never
//! holds up the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use pbft_core::archive::{Snapshot, state_digest};
use pbft_core::cluster::Cluster;
use pbft_core::pages::PageChanges;
use pbft_core::transfer::TreeName;
use pbft_core::tree::{PageTree, TreeHead};
use pbft_core::types::{Digest, Sequence};
use pbft_core::wire;
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::error::StorageError;
use super::file::{Outcome, StoreFile};
use super::medium::{Guard, Medium, Overlay};

/// Tree, page number, version.
type PageKey = (u8, u32, u64);
/// Version, tree, page number.
type WrittenKey = (u64, u8, u32);

/// The bytes of each version of each page; none for a page that became empty or was cut off.
const PAGES: TableDefinition<'static, PageKey, &[u8]> = TableDefinition::new("pages");
/// One entry for each version of each page: the version before it that is still there, or [`NONE`].
const WRITTEN: TableDefinition<'static, WrittenKey, u64> = TableDefinition::new("written");
/// Both heads and the digest of each snapshot.
const SNAPSHOTS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("snapshots");

const NONE: u64 = u64::MAX;
/// No tree has more.
const PAGES_MAX: u32 = 1 << 24;
const TREES: [TreeName; 2] = [TreeName::Sessions, TreeName::Application];
/// Memory for pages of the file.
const CACHE_BYTES: usize = 32 << 20;

/// What is stored about a snapshot.
type About = (TreeHead, TreeHead, Digest);

/// Pages that differ from the newest stored snapshot, by tree.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changed([BTreeSet<usize>; 2]);

impl Changed {
    /// Takes note of what changed, whoever asked for it.
    pub(crate) fn note(&mut self, sessions: &PageChanges, application: &PageChanges) {
        for (set, changes) in self.0.iter_mut().zip([sessions, application]) {
            set.extend(changes.pages.iter().map(|(number, _)| *number));
        }
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

/// A snapshot that was found on the disk, whole and with the digest it is to have.
pub(crate) type Loaded = Vec<Snapshot>;

/// The snapshots of a replica on a disk, open and locked for as long as this lives.
#[derive(Debug)]
pub(crate) struct Snapshots {
    file: StoreFile,
    /// How many pages each tree has in each stored snapshot, and its digest.
    stored: BTreeMap<Sequence, ([usize; 2], Digest)>,
}

impl Snapshots {
    /// Makes an empty file.
    pub(crate) fn create(path: &Path, medium: Arc<dyn Medium>) -> Result<(), StorageError> {
        StoreFile::create(path, medium, |transaction| {
            transaction.open_table(PAGES)?;
            transaction.open_table(WRITTEN)?;
            transaction.open_table(SNAPSHOTS)?;
            Ok(())
        })
    }

    /// Opens a file, checks all of it, and returns its snapshots, oldest first, each hashed and compared with
    /// the digest it is to have.
    pub(crate) fn open(
        path: &Path,
        medium: Arc<dyn Medium>,
        cluster: &Cluster,
    ) -> Result<(Snapshots, Loaded), StorageError> {
        let (file, loaded) =
            StoreFile::open(path, medium, CACHE_BYTES, |database| load(path, database, cluster))?;
        let about = |it: &Snapshot| (it.sequence, (counts(it), it.digest(cluster)));
        let stored = loaded.iter().map(about).collect();
        Ok((Snapshots { file, stored }, loaded))
    }

    /// Reads all snapshots and changes nothing: what opening would repair is repaired in memory.
    pub(crate) fn read(
        path: &Path,
        medium: Arc<dyn Medium>,
        cluster: &Cluster,
    ) -> Result<Loaded, StorageError> {
        let overlay = Overlay::new(medium).map_err(|error| StorageError::damaged(path, error))?;
        Ok(Snapshots::open(path, Arc::new(overlay), cluster)?.1)
    }

    pub(crate) fn guard(&self) -> &Arc<Guard> {
        self.file.guard()
    }

    /// Which snapshots are stored.
    pub(crate) fn sequences(&self) -> impl DoubleEndedIterator<Item = Sequence> + '_ {
        self.stored.keys().copied()
    }

    /// The digest of the stored snapshot of a slot.
    pub(crate) fn digest(&self, sequence: Sequence) -> Option<Digest> {
        self.stored.get(&sequence).map(|(_, digest)| *digest)
    }

    /// Stores a snapshot that differs from the newest stored one in `changed`, and drops those that are not in
    /// `kept`, with the versions that nothing else needs. Durable when it returns.
    pub(crate) fn add(
        &mut self,
        snapshot: &Snapshot,
        digest: Digest,
        changed: &Changed,
        kept: &BTreeSet<Sequence>,
    ) -> Result<(), StorageError> {
        let sequence = snapshot.sequence;
        let before = self.stored.range(..sequence).next_back().map(|(_, (counts, _))| *counts);
        let mut stored: BTreeSet<Sequence> = self.sequences().collect();
        let gone = stored.iter().copied().filter(|it| !kept.contains(it) && *it != sequence);
        let gone: Vec<Sequence> = gone.collect();
        stored.insert(sequence);
        self.file.write(|transaction| {
            let mut tables = Tables::open(transaction)?;
            for ((tree, name), changed) in (0..).zip(TREES).zip(&changed.0) {
                let pages = snapshot.tree(name);
                let had =
                    before.map_or(0, |counts| counts.get(usize::from(tree)).copied().unwrap_or(0));
                let kept = changed.iter().copied().filter(|number| *number < pages.count());
                // What was cut off is empty from here on.
                for number in kept.chain(pages.count()..had) {
                    tables.write(tree, number, sequence, &pages.page(number))?;
                }
            }
            let about: About = (snapshot.sessions.head(), snapshot.application.head(), digest);
            tables.snapshots.insert(sequence.0, wire::encode_stored(&about).as_slice())?;
            for gone in &gone {
                tables.drop_snapshot(*gone, &stored)?;
                stored.remove(gone);
            }
            Ok(())
        })?;
        self.stored.insert(sequence, (counts(snapshot), digest));
        self.stored.retain(|sequence, _| stored.contains(sequence));
        Ok(())
    }

    /// Drops every snapshot above `last`, as if it had never been.
    pub(crate) fn rewind(&mut self, last: Option<Sequence>) -> Result<(), StorageError> {
        let first_gone = last.map_or(Sequence(0), Sequence::next);
        if self.stored.range(first_gone..).next().is_none() {
            return Ok(());
        }
        self.file.write(|transaction| Tables::open(transaction)?.rewind(first_gone))?;
        let _ = self.stored.split_off(&first_gone);
        Ok(())
    }

    /// Versions of pages that are stored, for tests of what is reclaimed.
    #[cfg(test)]
    pub(crate) fn versions(&mut self) -> Result<usize, StorageError> {
        self.file.write(|transaction| {
            let tables = Tables::open(transaction)?;
            let mut versions = 0;
            for entry in tables.pages.iter()? {
                entry?;
                versions += 1;
            }
            let mut entries = 0;
            for entry in tables.written.iter()? {
                entry?;
                entries += 1;
            }
            assert_eq!(versions, entries, "one entry for each version");
            Ok(versions)
        })
    }
}

fn counts(snapshot: &Snapshot) -> [usize; 2] {
    TREES.map(|tree| snapshot.tree(tree).count())
}

struct Tables<'t> {
    pages: Table<'t, PageKey, &'static [u8]>,
    written: Table<'t, WrittenKey, u64>,
    snapshots: Table<'t, u64, &'static [u8]>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Outcome<Self> {
        Ok(Tables {
            pages: transaction.open_table(PAGES)?,
            written: transaction.open_table(WRITTEN)?,
            snapshots: transaction.open_table(SNAPSHOTS)?,
        })
    }

    /// The newest version of a page.
    fn newest(&self, tree: u8, number: u32) -> Outcome<Option<u64>> {
        let newest = self.pages.range((tree, number, 0)..=(tree, number, u64::MAX))?.next_back();
        Ok(newest.transpose()?.map(|(key, _)| key.value().2))
    }

    fn is_empty(&self, tree: u8, number: u32, version: u64) -> Outcome<bool> {
        Ok(self.pages.get((tree, number, version))?.is_some_and(|page| page.value().is_empty()))
    }

    fn write(&mut self, tree: u8, number: usize, version: Sequence, page: &[u8]) -> Outcome<()> {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let before = self.newest(tree, number)?;
        match before {
            // Written again after a failure that left it there.
            Some(before) if before == version.0 => {
                self.pages.insert((tree, number, version.0), page)?;
                return Ok(());
            }
            // An absent page is an empty one.
            None if page.is_empty() => return Ok(()),
            Some(before) if page.is_empty() && self.is_empty(tree, number, before)? => {
                return Ok(());
            }
            _ => {}
        }
        self.pages.insert((tree, number, version.0), page)?;
        self.written.insert((version.0, tree, number), before.unwrap_or(NONE))?;
        Ok(())
    }

    /// Drops a snapshot and the versions that it alone needed: those not older than the snapshot before it
    /// and superseded by the one after it.
    fn drop_snapshot(&mut self, gone: Sequence, stored: &BTreeSet<Sequence>) -> Outcome<()> {
        self.snapshots.remove(gone.0)?;
        let before = stored.range(..gone).next_back().map_or(0, |sequence| sequence.0);
        let after = stored.range(gone.next()..).next().map_or(u64::MAX, |sequence| sequence.0);
        let since = gone.0.saturating_add(1);
        let mut superseded = Vec::new();
        for entry in self.written.range((since, 0, 0)..=(after, u8::MAX, u32::MAX))? {
            let (key, old) = entry?;
            let old = old.value();
            if old != NONE && old > before && old <= gone.0 {
                superseded.push((key.value(), old));
            }
        }
        for ((version, tree, number), old) in superseded {
            self.pages.remove((tree, number, old))?;
            let older = self.written.remove((old, tree, number))?.map_or(NONE, |it| it.value());
            self.written.insert((version, tree, number), older)?;
            if older == NONE {
                self.drop_leading_empty(tree, number, version)?;
            }
        }
        Ok(())
    }

    /// An empty version says that what was before it is gone. Once nothing is before it, it says nothing.
    fn drop_leading_empty(&mut self, tree: u8, number: u32, first: u64) -> Outcome<()> {
        let mut version = first;
        while self.is_empty(tree, number, version)? {
            self.pages.remove((tree, number, version))?;
            self.written.remove((version, tree, number))?;
            let next = self.pages.range((tree, number, version)..=(tree, number, u64::MAX))?.next();
            let Some(next) = next.transpose()?.map(|(key, _)| key.value().2) else { break };
            self.written.insert((next, tree, number), NONE)?;
            version = next;
        }
        Ok(())
    }

    fn rewind(&mut self, first_gone: Sequence) -> Outcome<()> {
        let mut gone = Vec::new();
        // Versions of snapshots dropped long ago lie between those kept, so by number and not by snapshot.
        for entry in self.written.range((first_gone.0, 0, 0)..)? {
            gone.push(entry?.0.value());
        }
        for (version, tree, number) in gone {
            self.written.remove((version, tree, number))?;
            self.pages.remove((tree, number, version))?;
        }
        self.snapshots.retain_in(first_gone.0.., |_, _| false)?;
        Ok(())
    }
}

/// Reads every snapshot and finds that each has the digest it was stored with.
pub(super) fn load(
    path: &Path,
    database: &Database,
    cluster: &Cluster,
) -> Result<Loaded, StorageError> {
    let wrong = |what: String| StorageError::damaged(path, what);
    let stored = read(database).map_err(|error| StorageError::damaged(path, error))?;
    let mut loaded: Loaded = Vec::new();
    let mut snapshot = Snapshot::default();
    for (sequence, (about, changes)) in stored {
        let (sessions, application, digest) =
            wire::decode_stored::<About>(&about).map_err(|error| wrong(error.to_string()))?;
        snapshot.sequence = sequence;
        if [sessions, application].iter().any(|head| head.count > PAGES_MAX) {
            return Err(wrong(format!("snapshot {sequence} has more pages than any")));
        }
        let [session_pages, application_pages] = changes;
        apply(&mut snapshot.sessions, &sessions, session_pages);
        apply(&mut snapshot.application, &application, application_pages);
        let heads = (snapshot.sessions.head(), snapshot.application.head());
        if heads != (sessions, application)
            || state_digest(cluster, sequence, &sessions, &application) != digest
        {
            return Err(wrong(format!("the pages of snapshot {sequence} have another digest")));
        }
        loaded.push(snapshot.clone());
    }
    Ok(loaded)
}

fn apply(tree: &mut PageTree, head: &TreeHead, pages: BTreeMap<usize, Bytes>) {
    let count = usize::try_from(head.count).unwrap_or(usize::MAX);
    let pages = pages.into_iter().filter(|(number, _)| *number < count).collect();
    tree.apply(PageChanges { count, total_bytes: head.total_bytes, pages });
}

/// For each snapshot what is stored about it, and the pages in which it differs from the one before.
type Stored = BTreeMap<Sequence, (Vec<u8>, [BTreeMap<usize, Bytes>; 2])>;

fn read(database: &Database) -> Outcome<Stored> {
    let transaction = database.begin_read()?;
    let mut stored = Stored::new();
    for entry in transaction.open_table(SNAPSHOTS)?.iter()? {
        let (sequence, about) = entry?;
        stored.insert(Sequence(sequence.value()), (about.value().to_vec(), Default::default()));
    }
    for entry in transaction.open_table(PAGES)?.iter()? {
        let (key, page) = entry?;
        let (tree, number, version) = key.value();
        // It belongs to the first snapshot that is not older; the newest of several versions stays.
        if let Some((_, (_, changes))) = stored.range_mut(Sequence(version)..).next()
            && let Some(pages) = changes.get_mut(usize::from(tree))
        {
            let number = usize::try_from(number).unwrap_or(usize::MAX);
            pages.insert(number, Bytes::copy_from_slice(page.value()));
        }
    }
    Ok(stored)
}

#[cfg(test)]
#[path = "snapshots_test.rs"]
mod tests;
