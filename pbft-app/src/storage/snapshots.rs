//! Snapshots on a disk: the pages of the kept ones, each page once for all snapshots that share it.
//!
//! A page is stored under the checkpoint that wrote it, its *version*, and belongs to every snapshot from that one
//! on until another version of it. A checkpoint writes what changed as a few large values at the end of the file's one
//! tree of pages, so its cost follows what changed and not what there is; [`super::ledger`] says what becomes of older
//! ones. In a file of its own: writing pages never holds up the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use pbft_core::archive::{Snapshot, state_digest};
use pbft_core::cluster::Cluster;
use pbft_core::limits::ConfigError;
use pbft_core::pages::PageChanges;
use pbft_core::tree::{PageTree, TreeHead};
use pbft_core::types::{Digest, Sequence};
use pbft_core::wire;
use redb::{
    Database, ReadableDatabase, ReadableTable, Table, TableDefinition, TableHandle,
    WriteTransaction,
};

use super::bundle::{self, Entry};
use super::changed::{Changed, TREES};
use super::error::StorageError;
use super::file::{Outcome, StoreFile};
use super::ledger::{Ledger, Plan};
use super::medium::{Guard, Medium, Overlay};

/// Bundles of pages in the order in which they were written, see [`super::bundle`].
const BUNDLES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("bundles");
/// Both heads and the digest of each snapshot.
const SNAPSHOTS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("snapshots");

/// No tree has more.
const PAGES_MAX: u32 = 1 << 24;
/// The version of what is stored before the first checkpoint.
pub(crate) const FIRST_VERSION: Sequence = Sequence(1);
/// So many bytes of it are stored at a time.
const PORTION_BYTES: u64 = 16 << 20;
/// Memory for pages of the file: what is written is not read again before the next start.
const CACHE_BYTES: usize = 8 << 20;
/// A journal on the same disk, for which everyone waits, waits behind no more than this of a checkpoint's.
const SYNCED_BYTES: u64 = 512 << 10;

/// What is stored about a snapshot.
type About = (TreeHead, TreeHead, Digest);

/// A snapshot that was found on the disk, whole and with the digest it is to have.
pub(crate) type Loaded = Vec<Snapshot>;

/// The snapshots of a replica on a disk, open and locked for as long as this lives.
#[derive(Debug)]
pub(crate) struct Snapshots {
    file: StoreFile,
    /// How many pages each tree has in each stored snapshot, and its digest.
    stored: BTreeMap<Sequence, ([usize; 2], Digest)>,
    ledger: Ledger,
    /// How many pages of each tree were stored before the first checkpoint.
    prepared: [usize; 2],
}

impl Snapshots {
    /// Makes an empty file.
    pub(crate) fn create(path: &Path, medium: Arc<dyn Medium>) -> Result<(), StorageError> {
        StoreFile::create(path, medium, |transaction| {
            transaction.open_table(BUNDLES)?;
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
        let (file, (loaded, ledger)) =
            StoreFile::open(path, medium, CACHE_BYTES, |database| load(path, database, cluster))?;
        let about = |it: &Snapshot| (it.sequence, (counts(it), it.digest(cluster)));
        let stored = loaded.iter().map(about).collect();
        Ok((Snapshots { file, stored, ledger, prepared: [0, 0] }, loaded))
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

    /// Stores the state before the first checkpoint, if no snapshot is stored yet: the first one then costs what
    /// changed like any other. Whether it did. It is no snapshot, and forgotten if the replica starts again before there
    /// is one.
    pub(crate) fn prepare(
        &mut self,
        snapshot: &Snapshot,
        changed: &Changed,
    ) -> Result<bool, StorageError> {
        if !self.stored.is_empty() {
            return Ok(false);
        }
        self.prepared = counts(snapshot);
        let mut portion = Vec::new();
        let mut bytes = 0_u64;
        for entry in self.ledger.plan(snapshot, changed).entries {
            bytes = bytes.saturating_add(entry.cost_bytes());
            portion.push(entry);
            if bytes >= PORTION_BYTES {
                self.put(snapshot, FIRST_VERSION, std::mem::take(&mut portion))?;
                bytes = 0;
            }
        }
        self.put(snapshot, FIRST_VERSION, portion)?;
        Ok(true)
    }

    fn put(
        &mut self,
        snapshot: &Snapshot,
        version: Sequence,
        entries: Vec<Entry>,
    ) -> Result<(), StorageError> {
        let (next, bundles) = (self.ledger.next(), bundle::split(entries));
        self.file.write(|transaction| {
            Tables::open(transaction)?.append(snapshot, version, next, &bundles)
        })?;
        for (place, entries) in (next..).zip(bundles) {
            self.ledger.add(place, version, entries);
        }
        Ok(())
    }

    /// Stores a snapshot that differs from the newest stored one in `changed`, and drops those that are not in
    /// `kept`, with what nothing else needs. Durable when it returns.
    pub(crate) fn add(
        &mut self,
        snapshot: &Snapshot,
        digest: Digest,
        changed: &Changed,
        kept: &BTreeSet<Sequence>,
    ) -> Result<(), StorageError> {
        let sequence = snapshot.sequence;
        let before = self.stored.range(..sequence).next_back();
        let had = before.map_or(self.prepared, |(_, (counts, _))| *counts);
        let changed = changed.and_cut_off(counts(snapshot), had);
        let mut stored: BTreeSet<Sequence> = self.sequences().collect();
        let last = stored.last().copied();
        stored.retain(|it| kept.contains(it));
        stored.insert(sequence);
        let gone: Vec<Sequence> = self.sequences().filter(|it| !stored.contains(it)).collect();
        let Plan { entries, emptied } = self.ledger.plan(snapshot, &changed);
        let unneeded = self.ledger.unneeded(&stored);
        let (next, bundles) = (self.ledger.next(), bundle::split(entries));
        self.file.guard().sync_in_portions(SYNCED_BYTES);
        self.file.write(|transaction| {
            let mut tables = Tables::open(transaction)?;
            // One whose writing failed may be there all the same.
            tables.drop_since(last.map_or(Sequence(0), Sequence::next))?;
            tables.append(snapshot, sequence, next, &bundles)?;
            let about: About = (snapshot.sessions.head(), snapshot.application.head(), digest);
            tables.snapshots.insert(sequence.0, wire::encode_stored(&about).as_slice())?;
            for gone in &gone {
                tables.snapshots.remove(gone.0)?;
            }
            for place in &unneeded {
                tables.bundles.remove(place)?;
            }
            Ok(())
        })?;
        for (place, entries) in (next..).zip(bundles) {
            self.ledger.add(place, sequence, entries);
        }
        self.ledger.empty(emptied);
        self.ledger.remove(&unneeded);
        self.stored.insert(sequence, (counts(snapshot), digest));
        self.stored.retain(|sequence, _| stored.contains(sequence));
        Ok(())
    }

    /// Drops every snapshot above `last`, as if it had never been.
    pub(crate) fn rewind(&mut self, last: Option<Sequence>) -> Result<(), StorageError> {
        let first_gone = last.map_or(Sequence(0), Sequence::next);
        let place = self.ledger.first_since(first_gone);
        if place.is_none() && self.stored.range(first_gone..).next().is_none() {
            return Ok(());
        }
        let place = place.unwrap_or(self.ledger.next());
        self.file.write(|transaction| {
            let mut tables = Tables::open(transaction)?;
            tables.drop_since(first_gone)?;
            tables.cut(place)
        })?;
        let _ = self.stored.split_off(&first_gone);
        self.ledger.rewind(place);
        if last.is_none() {
            self.prepared = [0, 0];
        }
        Ok(())
    }

    /// From now on everything is worth being reclaimed, for tests.
    #[cfg(test)]
    pub(crate) fn reclaim_all(&mut self) {
        self.ledger.slack_bytes = 0;
    }

    /// Bytes in all bundles, and of those the needed ones, for tests of what is reclaimed.
    #[cfg(test)]
    pub(crate) fn sizes(&mut self) -> Result<(u64, u64), StorageError> {
        let stored = self.file.write(|transaction| {
            let mut stored = 0;
            for entry in Tables::open(transaction)?.bundles.iter()? {
                let (_, value) = entry?;
                let (_, entries) = bundle::decode(value.value()).unwrap();
                stored += entries.iter().map(|(entry, _)| entry.cost_bytes()).sum::<u64>();
            }
            Ok(stored)
        })?;
        assert_eq!(stored, self.ledger.sizes().0, "the ledger knows what is in the file");
        Ok(self.ledger.sizes())
    }
}

fn counts(snapshot: &Snapshot) -> [usize; 2] {
    TREES.map(|tree| snapshot.tree(tree).count())
}

struct Tables<'t> {
    bundles: Table<'t, u64, &'static [u8]>,
    snapshots: Table<'t, u64, &'static [u8]>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Outcome<Self> {
        Ok(Tables {
            bundles: transaction.open_table(BUNDLES)?,
            snapshots: transaction.open_table(SNAPSHOTS)?,
        })
    }

    /// Writes bundles of the snapshot's pages from `place` on, in the place of whatever is there.
    fn append(
        &mut self,
        snapshot: &Snapshot,
        version: Sequence,
        place: u64,
        bundles: &[Vec<Entry>],
    ) -> Outcome<()> {
        self.cut(place)?;
        for (place, entries) in (place..).zip(bundles) {
            let page = |entry: &Entry| {
                let tree = TREES.get(usize::from(entry.tree));
                tree.map(|tree| snapshot.tree(*tree).page(entry.page())).unwrap_or_default()
            };
            let mut value = self.bundles.insert_reserve(place, bundle::value_bytes(entries))?;
            bundle::encode(version, entries, page, value.as_mut());
            drop(value);
            // All replicas of a cluster do this at the same slot, and the threads that order must not wait for it.
            std::thread::yield_now();
        }
        Ok(())
    }

    fn cut(&mut self, place: u64) -> Outcome<()> {
        Ok(self.bundles.retain_in(place.., |_, _| false)?)
    }

    fn drop_since(&mut self, first_gone: Sequence) -> Outcome<()> {
        Ok(self.snapshots.retain_in(first_gone.0.., |_, _| false)?)
    }
}

/// Reads every snapshot and finds that each has the digest it was stored with.
fn load(
    path: &Path,
    database: &Database,
    cluster: &Cluster,
) -> Result<(Loaded, Ledger), StorageError> {
    let wrong = |what: String| StorageError::damaged(path, what);
    let failed = |error: redb::Error| StorageError::damaged(path, error);
    if is_of_an_earlier_version(database).map_err(failed)? {
        let remedy = "an earlier version wrote it: make a new cluster, or start that version";
        let error = ConfigError::new("snapshots", "pages one by one", remedy);
        return Err(StorageError::Foreign { path: path.to_owned(), error });
    }
    let mut stored = read_snapshots(database).map_err(failed)?;
    let (mut ledger, mut odd) = (Ledger::default(), None);
    read_bundles(database, |place, value| {
        let Some((version, pages)) = bundle::decode(value) else {
            odd.get_or_insert(place);
            return;
        };
        // It belongs to the first snapshot that is not older; the newest of several versions stays.
        let Some((_, (_, changes))) = stored.range_mut(version..).next() else { return };
        for (entry, page) in &pages {
            if let Some(changes) = changes.get_mut(usize::from(entry.tree)) {
                changes.insert(entry.page(), Bytes::copy_from_slice(page));
            }
        }
        ledger.add(place, version, pages.into_iter().map(|(entry, _)| entry).collect());
    })
    .map_err(failed)?;
    if let Some(place) = odd {
        return Err(wrong(format!("bundle {place} is none")));
    }
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
    Ok((loaded, ledger))
}

fn apply(tree: &mut PageTree, head: &TreeHead, pages: BTreeMap<usize, Bytes>) {
    let count = usize::try_from(head.count).unwrap_or(usize::MAX);
    let pages = pages.into_iter().filter(|(number, _)| *number < count).collect();
    tree.apply(PageChanges { count, total_bytes: head.total_bytes, pages });
}

/// For each snapshot what is stored about it, and the pages in which it differs from the one before.
type Stored = BTreeMap<Sequence, (Vec<u8>, [BTreeMap<usize, Bytes>; 2])>;

/// Whether its pages are in a table of their own, each by itself: nothing is wrong with such a file, so it must not be
/// set aside on all replicas at once as a damaged one.
fn is_of_an_earlier_version(database: &Database) -> Outcome<bool> {
    Ok(database.begin_read()?.list_tables()?.any(|table| table.name() == "pages"))
}

fn read_snapshots(database: &Database) -> Outcome<Stored> {
    let mut stored = Stored::new();
    for entry in database.begin_read()?.open_table(SNAPSHOTS)?.iter()? {
        let (sequence, about) = entry?;
        stored.insert(Sequence(sequence.value()), (about.value().to_vec(), Default::default()));
    }
    Ok(stored)
}

fn read_bundles(database: &Database, mut take: impl FnMut(u64, &[u8])) -> Outcome<()> {
    for entry in database.begin_read()?.open_table(BUNDLES)?.iter()? {
        let (place, value) = entry?;
        take(place.value(), value.value());
    }
    Ok(())
}

#[cfg(test)]
#[path = "snapshots_test.rs"]
mod tests;
