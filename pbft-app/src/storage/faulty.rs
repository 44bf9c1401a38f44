//! A disk that tears, fails, fills up and forgets, for tests.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Medium;

/// What a disk writes at once or not at all.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone, Debug, Default)]
struct State {
    durable: Vec<u8>,
    current: Vec<u8>,
    unsynced: Vec<Change>,
    /// Writes, changes of length and syncs so far.
    steps: u64,
    written: u64,
    crash_at: Option<u64>,
    /// How many more bytes there is room for; whatever is written counts.
    room: Option<usize>,
    sync_fails_at: Option<u64>,
}

/// A file in memory whose syncs mean something.
#[derive(Debug, Default)]
pub(crate) struct Faulty(Mutex<State>);

impl Faulty {
    pub(crate) fn new() -> Self {
        Faulty::default()
    }

    /// A file with these bytes, all durable.
    pub(crate) fn with(bytes: &[u8]) -> Self {
        let (durable, current) = (bytes.to_vec(), bytes.to_vec());
        Faulty(Mutex::new(State { durable, current, ..State::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a reader sees.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.state().current.clone()
    }

    pub(crate) fn steps(&self) -> u64 {
        self.state().steps
    }

    /// Bytes written so far.
    pub(crate) fn written(&self) -> u64 {
        self.state().written
    }

    /// From this step on nothing happens any more.
    pub(crate) fn crash_at(&self, step: u64) {
        self.state().crash_at = Some(step);
    }

    pub(crate) fn fail_sync_at(&self, step: u64) {
        self.state().sync_fails_at = Some(step);
    }

    pub(crate) fn set_room(&self, room: Option<usize>) {
        self.state().room = room;
    }

    /// What is on the disk after a power cut: what was synced, and of the rest any sectors.
    pub(crate) fn after_power_cut(&self, seed: u64) -> Vec<u8> {
        let state = self.state();
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut coin = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // Some cuts take nearly everything, some nearly nothing.
            random % 8 < seed % 9
        };
        let mut bytes = state.durable.clone();
        for change in &state.unsynced {
            match change {
                Change::Length(length) if coin() => bytes.resize(*length, 0),
                Change::Length(_) => {}
                Change::Write { offset, bytes: written } => {
                    let mut at = 0;
                    while at < written.len() {
                        let end = written.len().min(at + SECTOR - (offset + at) % SECTOR);
                        if coin() {
                            let needed = offset + end;
                            if bytes.len() < needed {
                                bytes.resize(needed, 0);
                            }
                            bytes[offset + at..needed].copy_from_slice(&written[at..end]);
                        }
                        at = end;
                    }
                }
            }
        }
        bytes
    }
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        if self.crash_at.is_some_and(|at| self.steps >= at) {
            return Err(io::Error::other("crashed"));
        }
        self.steps += 1;
        Ok(())
    }

    fn apply(&mut self, change: Change) {
        match &change {
            Change::Length(length) => self.current.resize(*length, 0),
            Change::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if self.current.len() < end {
                    self.current.resize(end, 0);
                }
                self.current[*offset..end].copy_from_slice(bytes);
            }
        }
        self.unsynced.push(change);
    }
}

impl Medium for Faulty {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let range = offset..offset.saturating_add(out.len());
        out.copy_from_slice(state.current.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.written += bytes.len() as u64;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let room = state.room.unwrap_or(usize::MAX);
        let fits = bytes.len().min(room);
        if let Some(room) = &mut state.room {
            *room -= fits;
        }
        state.apply(Change::Write { offset, bytes: bytes[..fits].to_vec() });
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.apply(Change::Length(usize::try_from(length).unwrap_or(usize::MAX)));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        if state.sync_fails_at.is_some_and(|at| state.steps > at) {
            // Once, and what was to be written is gone from memory: the next sync would succeed without it.
            state.sync_fails_at = None;
            state.unsynced.clear();
            return Err(io::Error::other("input/output error"));
        }
        state.durable = state.current.clone();
        state.unsynced.clear();
        Ok(())
    }
}
