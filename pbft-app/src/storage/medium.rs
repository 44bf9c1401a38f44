//! The file below a store: what is asked of it, which of it failed, and whose it is.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::error::{Operation, StorageError};

/// A file as a store needs it. What is written is durable once [`Medium::sync`] has returned, and before that
/// may be there in part, in any order.
pub trait Medium: fmt::Debug + Send + Sync + 'static {
    /// Its length in bytes.
    ///
    /// # Errors
    /// What the system said.
    fn len(&self) -> io::Result<u64>;

    /// Whether nothing is in it.
    ///
    /// # Errors
    /// As [`Medium::len`].
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|length| length == 0)
    }

    /// Fills `out` from `offset` on.
    ///
    /// # Errors
    /// It is shorter, or what the system said.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// What the system said; a part may have been written.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts it off, or lengthens it with zeroes.
    ///
    /// # Errors
    /// What the system said.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// Makes everything durable that was written. Never called again after it failed: a second try can succeed
    /// without the data (PITFALLS H2).
    ///
    /// # Errors
    /// What the system said.
    fn sync(&self) -> io::Result<()>;
}

/// A file, locked against every other process and handle for as long as this lives (PITFALLS H10).
#[derive(Debug)]
pub struct FileMedium {
    file: File,
}

impl FileMedium {
    /// Opens a file that is there, to read and write it.
    ///
    /// # Errors
    /// It is not there, is in use, or what the system said.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        FileMedium::locked(path, OpenOptions::new().read(true).write(true))
    }

    /// Opens a file that is there, to read it and nothing else: everything that writes fails.
    ///
    /// # Errors
    /// As [`FileMedium::open`].
    pub fn open_to_read(path: &Path) -> Result<Self, StorageError> {
        FileMedium::locked(path, OpenOptions::new().read(true))
    }

    /// Makes a file that is not there yet.
    ///
    /// # Errors
    /// It is there, or what the system said.
    pub fn create(path: &Path) -> Result<Self, StorageError> {
        FileMedium::locked(path, OpenOptions::new().read(true).write(true).create_new(true))
    }

    fn locked(path: &Path, options: &OpenOptions) -> Result<Self, StorageError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => StorageError::Missing { path: path.to_owned() },
            _ => StorageError::failed(path, Operation::Open, &source),
        };
        let file = options.open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(FileMedium { file }),
            Err(TryLockError::WouldBlock) => Err(StorageError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

impl Medium for FileMedium {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// A medium below a database: remembers what failed first, because the database only says that something did,
/// and what is to be done depends on it. Lives across the databases that are opened on it in turn.
#[derive(Debug)]
pub(crate) struct Guard {
    path: PathBuf,
    medium: Arc<dyn Medium>,
    failure: Mutex<Option<(Operation, io::ErrorKind, String)>>,
    abandoned: AtomicBool,
    syncs: AtomicU64,
    /// Written since the last sync.
    unsynced_bytes: AtomicU64,
    /// So much is not left to one sync: others on the same disk wait behind it.
    portion_bytes: AtomicU64,
}

impl Guard {
    pub(super) fn new(path: PathBuf, medium: Arc<dyn Medium>) -> Arc<Self> {
        Arc::new(Guard {
            path,
            medium,
            failure: Mutex::new(None),
            abandoned: AtomicBool::new(false),
            syncs: AtomicU64::new(0),
            unsynced_bytes: AtomicU64::new(0),
            portion_bytes: AtomicU64::new(u64::MAX),
        })
    }

    /// From now on the medium is synced whenever so much was written, and not only when it is asked to be.
    pub(super) fn sync_in_portions(&self, portion_bytes: u64) {
        self.portion_bytes.store(portion_bytes, Ordering::Relaxed);
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn medium(&self) -> &Arc<dyn Medium> {
        &self.medium
    }

    /// How often the medium was synced.
    pub(super) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// From now on nothing reaches the medium: as if the process were killed.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// What failed first since the last call, if anything did.
    pub(super) fn take_failure(&self) -> Option<StorageError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (operation, kind, message) = failure?;
        let path = self.path.clone();
        let full = matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        Some(match operation {
            // Only here is it known that nothing else is wrong: what a failed sync left behind nobody knows,
            // whatever its reason.
            Operation::Write | Operation::SetLength if full => StorageError::Full { path },
            operation => StorageError::Failed { path, operation, message },
        })
    }

    fn note<T>(
        &self,
        operation: Operation,
        work: impl FnOnce(&dyn Medium) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.is_abandoned() {
            return Err(io::Error::other("abandoned"));
        }
        let outcome = work(&*self.medium);
        if let Err(error) = &outcome {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert_with(|| (operation, error.kind(), error.to_string()));
        }
        outcome
    }
}

/// What the database is given.
#[derive(Clone, Debug)]
pub(super) struct Backend(pub(super) Arc<Guard>);

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.note(Operation::Read, |medium| medium.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.note(Operation::Read, |medium| medium.read(offset, out))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.note(Operation::SetLength, |medium| medium.set_len(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.syncs.fetch_add(1, Ordering::Relaxed);
        self.0.unsynced_bytes.store(0, Ordering::Relaxed);
        self.0.note(Operation::Sync, |medium| medium.sync())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.note(Operation::Write, |medium| medium.write(offset, bytes))?;
        let written = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let before = self.0.unsynced_bytes.fetch_add(written, Ordering::Relaxed);
        if before.saturating_add(written) < self.0.portion_bytes.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.sync_data()
    }
}

/// Bytes kept together in an overlay.
const BLOCK: usize = 4096;

/// A medium that reads another and keeps what is written to itself: a store can be opened on it, repaired and
/// checked, and the file below stays as it is.
#[derive(Debug)]
pub(super) struct Overlay {
    below: Arc<dyn Medium>,
    state: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    length: u64,
    /// Up to here the medium below still shows through.
    below: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    pub(super) fn new(below: Arc<dyn Medium>) -> io::Result<Self> {
        let length = below.len()?;
        let state = Mutex::new(Written { length, below: length, blocks: BTreeMap::new() });
        Ok(Overlay { below, state })
    }

    /// The block as it is now.
    fn block(&self, written: &Written, index: u64) -> io::Result<Vec<u8>> {
        if let Some(block) = written.blocks.get(&index) {
            return Ok(block.clone());
        }
        let mut block = vec![0; BLOCK];
        let start = index.saturating_mul(BLOCK as u64);
        let there = usize::try_from(written.below.saturating_sub(start)).unwrap_or(BLOCK);
        if let Some(part) = block.get_mut(..there.min(BLOCK))
            && !part.is_empty()
        {
            self.below.read(start, part)?;
        }
        Ok(block)
    }
}

/// The blocks that a range touches: index, where in the block, how many bytes.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut at = offset;
    let mut left = length;
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let index = at / BLOCK as u64;
        let inside = usize::try_from(at % BLOCK as u64).unwrap_or(0);
        let count = left.min(BLOCK - inside);
        at += count as u64;
        left -= count;
        Some((index, inside, count))
    })
}

impl Medium for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner).length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let end = offset.checked_add(out.len() as u64).filter(|end| *end <= written.length);
        if end.is_none() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut rest = out;
        for (index, inside, count) in pieces(offset, rest.len()) {
            let block = self.block(&written, index)?;
            let (part, after) = rest.split_at_mut(count);
            part.copy_from_slice(block.get(inside..inside + count).unwrap_or_default());
            rest = after;
        }
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut written = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = bytes;
        for (index, inside, count) in pieces(offset, bytes.len()) {
            let mut block = self.block(&written, index)?;
            let (part, after) = rest.split_at(count);
            if let Some(place) = block.get_mut(inside..inside + count) {
                place.copy_from_slice(part);
            }
            written.blocks.insert(index, block);
            rest = after;
        }
        written.length = written.length.max(offset.saturating_add(bytes.len() as u64));
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut written = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if length < written.length {
            // What was cut off comes back as zeroes.
            let inside = usize::try_from(length % BLOCK as u64).unwrap_or(0);
            if inside != 0 {
                let index = length / BLOCK as u64;
                let mut block = self.block(&written, index)?;
                if let Some(rest) = block.get_mut(inside..) {
                    rest.fill(0);
                }
                written.blocks.insert(index, block);
            }
            let _ = written.blocks.split_off(&length.div_ceil(BLOCK as u64));
            written.below = written.below.min(length);
        }
        written.length = length;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "medium_test.rs"]
mod tests;
