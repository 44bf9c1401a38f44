//! A database in one file, opened so that damage is found and named.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use redb::{Builder, Database, Durability, WriteTransaction};

use super::error::{Operation, StorageError};
use super::medium::{Backend, Guard, Medium, Overlay};

/// Where redb's file header keeps which of its two commit slots is the current one, and the slots' numbers.
/// Pinned by a test against the files that redb writes.
mod header {
    pub(super) const BYTES: usize = 320;
    pub(super) const FLAGS: usize = 9;
    pub(super) const SECOND_IS_CURRENT: u8 = 1;
    pub(super) const NUMBERS: [usize; 2] = [64 + 104, 64 + 128 + 104];
}

/// A database on a medium that stays open and locked while databases on it come and go.
#[derive(Debug)]
pub(super) struct StoreFile {
    guard: Arc<Guard>,
    cache_bytes: usize,
    /// `None` after a failure, until it is opened again.
    database: Option<Database>,
}

/// Work on a transaction, and how it can fail.
pub(super) type Outcome<T> = Result<T, redb::Error>;

impl StoreFile {
    /// Makes a database on an empty medium and commits what `fill` puts into it.
    pub(super) fn create(
        path: &Path,
        medium: Arc<dyn Medium>,
        fill: impl FnOnce(&WriteTransaction) -> Outcome<()>,
    ) -> Result<(), StorageError> {
        let guard = Guard::new(path.to_owned(), medium);
        let database = start(&guard, 1 << 20).map_err(|error| explain(&guard, &error))?;
        commit(&database, fill).map_err(|error| explain(&guard, &error))?;
        // The database is closed, and then everything is durable.
        drop(database);
        guard.take_failure().map_or(Ok(()), Err)
    }

    /// Opens a database that is there, checks all of it and has `load` read it.
    ///
    /// On a thread of its own, because the library may panic on damage it does not expect: whatever goes wrong
    /// is one named outcome (PITFALLS H4, H9). The check runs at every start, also after a clean end: opened
    /// plainly, a damaged file can give wrong contents.
    pub(super) fn open<T: Send>(
        path: &Path,
        medium: Arc<dyn Medium>,
        cache_bytes: usize,
        load: impl FnOnce(&Database) -> Result<T, StorageError> + Send,
    ) -> Result<(StoreFile, T), StorageError> {
        let guard = Guard::new(path.to_owned(), medium);
        let (database, loaded) = guarded(path, || {
            let database = check(&guard, cache_bytes)?;
            let loaded = load(&database)?;
            Ok((database, loaded))
        })?;
        Ok((StoreFile { guard, cache_bytes, database: Some(database) }, loaded))
    }

    pub(super) fn path(&self) -> &Path {
        self.guard.path()
    }

    pub(super) fn guard(&self) -> &Arc<Guard> {
        &self.guard
    }

    /// Commits `work` so that it survives everything but the disk. If this fails nothing of it counts, although
    /// all of it may be there: what is written again must be written to the same places.
    pub(super) fn write<T>(
        &mut self,
        work: impl FnOnce(&WriteTransaction) -> Outcome<T>,
    ) -> Result<T, StorageError> {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.attempt(work)));
        let outcome = outcome.unwrap_or_else(|_| {
            let (path, operation) = (self.path().to_owned(), Operation::Database);
            Err(StorageError::Failed { path, operation, message: "it panicked".to_owned() })
        });
        if outcome.is_err() {
            // It says nothing more after a failure; one that can be mended begins with another.
            let database = self.database.take();
            let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
        }
        outcome
    }

    fn attempt<T>(
        &mut self,
        work: impl FnOnce(&WriteTransaction) -> Outcome<T>,
    ) -> Result<T, StorageError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => {
                let _ = self.guard.take_failure();
                start(&self.guard, self.cache_bytes).map_err(|it| explain(&self.guard, &it))?
            }
        };
        let database = self.database.insert(database);
        commit(database, work).map_err(|error| explain(&self.guard, &error))
    }
}

/// Runs `work` on a thread of its own and makes a panic there a damaged store.
fn guarded<T: Send>(
    path: &Path,
    work: impl FnOnce() -> Result<T, StorageError> + Send,
) -> Result<T, StorageError> {
    let panicked = |_| Err(StorageError::damaged(path, "the database panicked while it was read"));
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("store-check".to_owned());
        match thread.spawn_scoped(scope, work) {
            Ok(thread) => thread.join().unwrap_or_else(panicked),
            Err(error) => Err(StorageError::failed(path, Operation::Open, &error)),
        }
    })
}

fn check(guard: &Arc<Guard>, cache_bytes: usize) -> Result<Database, StorageError> {
    let path = guard.path();
    let length = guard.medium().len().map_err(|error| StorageError::damaged(path, error))?;
    // An empty file would be taken for a new one.
    if length < header::BYTES as u64 {
        return Err(StorageError::damaged(path, "it is cut off"));
    }
    roll_forward(guard, cache_bytes)?;
    whole(guard, cache_bytes)
}

/// A commit ends with one byte that makes its slot the current one. After a crash just before that byte is
/// written the other slot holds a whole commit that nobody waited for; after that byte has rotted it holds one
/// that was waited for. The two look alike, so such a commit is taken in if all of it is there.
fn roll_forward(guard: &Arc<Guard>, cache_bytes: usize) -> Result<(), StorageError> {
    let (path, medium) = (guard.path(), guard.medium());
    let unreadable = |error: std::io::Error| StorageError::damaged(path, error);
    let mut bytes = [0; header::BYTES];
    medium.read(0, &mut bytes).map_err(unreadable)?;
    let number = |at: usize| {
        let bytes = bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        u64::from_le_bytes(bytes.unwrap_or_default())
    };
    let [first, second] = header::NUMBERS.map(number);
    let flags = bytes.get(header::FLAGS).copied().unwrap_or(0);
    let second_is_current = flags & header::SECOND_IS_CURRENT != 0;
    let newer_waits = if second_is_current { first > second } else { second > first };
    if !newer_waits {
        return Ok(());
    }
    // The numbers mean something only if the current slot is intact: a rotten number looks older, too.
    let as_it_is = Overlay::new(Arc::clone(medium)).map_err(unreadable)?;
    let as_it_is = Guard::new(path.to_owned(), Arc::new(as_it_is));
    let intact = catch_unwind(AssertUnwindSafe(|| whole(&as_it_is, cache_bytes).is_ok()));
    if !intact.unwrap_or(false) {
        return Ok(());
    }
    let turned = [flags ^ header::SECOND_IS_CURRENT];
    let overlay = Overlay::new(Arc::clone(medium)).map_err(unreadable)?;
    overlay.write(header::FLAGS as u64, &turned).map_err(unreadable)?;
    let trial = Guard::new(path.to_owned(), Arc::new(overlay));
    let holds = catch_unwind(AssertUnwindSafe(|| whole(&trial, cache_bytes).is_ok()));
    if holds.unwrap_or(false) {
        let failed =
            |operation| move |error: std::io::Error| StorageError::failed(path, operation, &error);
        medium.write(header::FLAGS as u64, &turned).map_err(failed(Operation::Write))?;
        medium.sync().map_err(failed(Operation::Sync))?;
    }
    Ok(())
}

/// Opens the database and finds all of it intact.
fn whole(guard: &Arc<Guard>, cache_bytes: usize) -> Result<Database, StorageError> {
    let doubt = |error: redb::DatabaseError| match explain(guard, &error) {
        // A file that cannot be read is as good as one that reads wrong.
        StorageError::Failed {
            path,
            operation: Operation::Read | Operation::Database,
            message,
        } => StorageError::Damaged { path, what: message },
        other => other,
    };
    let mut database = start(guard, cache_bytes).map_err(doubt)?;
    match database.check_integrity().map_err(doubt)? {
        true => Ok(database),
        false => Err(StorageError::damaged(guard.path(), "the integrity check failed")),
    }
}

fn start(guard: &Arc<Guard>, cache_bytes: usize) -> Result<Database, redb::DatabaseError> {
    Builder::new().set_cache_size(cache_bytes).create_with_backend(Backend(Arc::clone(guard)))
}

/// Two phases, because what is stored comes from clients: redb's checksums alone would have to be believed when
/// it chooses between two commits after a crash, and they are not collision resistant.
fn commit<T>(
    database: &Database,
    work: impl FnOnce(&WriteTransaction) -> Outcome<T>,
) -> Outcome<T> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    transaction.set_durability(Durability::Immediate)?;
    let value = work(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

fn explain<E: std::fmt::Display>(guard: &Guard, error: &E) -> StorageError {
    guard.take_failure().unwrap_or_else(|| StorageError::Failed {
        path: PathBuf::from(guard.path()),
        operation: Operation::Database,
        message: error.to_string(),
    })
}

#[cfg(test)]
#[path = "file_test.rs"]
mod tests;
