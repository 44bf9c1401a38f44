//! One run: slots made of operations, the circumstances they are applied under, and what it showed.

use std::any::Any;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use pbft_core::application::Application;
use pbft_core::archive::Snapshot;
use pbft_core::crypto::Author;
use pbft_core::message::{Answer, Batch, Operations, Outcome, Reply, RequestBody};
use pbft_core::state::ReplicatedState;
use pbft_core::types::{ClientId, Digest, RequestNumber, View, WallTime};

use super::Difference;
use crate::keys::Keys;
use crate::options::SECONDS;
use crate::random::Random;

/// How many clients the operations come from.
pub(super) const CLIENTS: usize = 3;
/// The most pieces of garbage held at a time.
const GARBAGE_MAX: usize = 1024;
/// The agreed time before the first slot: some day, the same in every run.
const EPOCH: u64 = 1_700_000_000 * SECONDS;

/// One slot of a run and which of the author's operations it holds.
pub(super) struct Slot {
    first: usize,
    last: usize,
    batch: Batch,
}

/// Under which circumstances a run goes. Frequencies are per mille of the slots.
pub(super) struct Conduct {
    random: Random,
    snapshots: u64,
    restores: u64,
    /// A slot after which there is a restore in any case.
    restore_after: Option<usize>,
    /// Whether threads and addresses change.
    disturbed: bool,
}

/// What a run showed of one slot.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) outcomes: Vec<Outcome>,
    /// None without a snapshot, two with a restore: one before it and one after it.
    pub(super) digests: Vec<Digest>,
    pub(super) restored: bool,
}

/// What a run showed.
#[derive(Default)]
pub(super) struct Trace {
    pub(super) slots: Vec<Shown>,
    /// Why it went no further than the last of `slots`.
    pub(super) halt: Option<Difference>,
    /// Kept so that nothing of a later run comes to lie at the same addresses.
    pub(super) replicas: Vec<Replica>,
}

/// A state and the snapshot last taken of it.
pub(super) struct Replica {
    state: ReplicatedState,
    snapshot: Snapshot,
}

/// A difference between two traces.
pub(super) struct Found {
    /// The first operation that can be the cause.
    pub(super) operation: usize,
    /// The last one that can.
    pub(super) last: usize,
    pub(super) what: Difference,
    /// How many restores had been before.
    pub(super) restores: usize,
}

/// Groups operations into requests and slots of at most `group` of each, signed by one client or another.
pub(super) fn slots(
    keys: &Keys,
    seed: u64,
    operations: &[Vec<u8>],
    group: u64,
) -> Result<Vec<Slot>, Difference> {
    let mut random = Random::new(seed);
    let mut numbers = [0_u64; CLIENTS];
    let mut time = EPOCH;
    let mut rest = operations;
    let mut slots = Vec::new();
    while !rest.is_empty() {
        let first = operations.len() - rest.len();
        let mut requests = Vec::new();
        for _ in 0..random.between(1, group) {
            let count = usize::try_from(random.between(1, group)).unwrap_or(1);
            let (these, later) = rest.split_at(count.min(rest.len()));
            let client = random.below(u64::try_from(CLIENTS).unwrap_or(1));
            let client = ClientId(u32::try_from(client).unwrap_or(0));
            let place = usize::try_from(client.0).unwrap_or(0);
            let Some(number) = numbers.get_mut(place).filter(|_| !these.is_empty()) else {
                break;
            };
            *number += 1;
            let number = RequestNumber(*number);
            let operations = Operations::new(these).ok_or_else(|| Difference::Unusable {
                reason: format!("{count} operations too long for one request"),
            })?;
            let body = RequestBody { client, number, operations };
            requests.push(body.sign(&keys.cluster, &*keys.signer(Author::Client(client))));
            rest = later;
        }
        time += random.between(1, SECONDS);
        let last = (operations.len() - rest.len()).saturating_sub(1);
        slots.push(Slot { first, last, batch: Batch::new(WallTime(time), requests) });
    }
    Ok(slots)
}

/// What makes runs.
pub(super) struct Runner<'a> {
    pub(super) keys: &'a Keys,
    pub(super) factory: &'a dyn Fn() -> Box<dyn Application>,
}

impl Runner<'_> {
    pub(super) fn run(&self, slots: &[Slot], mut conduct: Conduct) -> Trace {
        let mut trace = Trace::default();
        trace.halt = self.run_into(slots, &mut conduct, &mut trace).err();
        trace
    }

    fn run_into(
        &self,
        slots: &[Slot],
        conduct: &mut Conduct,
        trace: &mut Trace,
    ) -> Result<(), Difference> {
        let mut garbage = Vec::new();
        conduct.litter(&mut garbage);
        let mut active = self.fresh()?;
        let mut behind: Option<Replica> = None;
        for (index, slot) in slots.iter().enumerate() {
            conduct.litter(&mut garbage);
            trace.slots.push(Shown::default());
            let Some(shown) = trace.slots.last_mut() else { continue };
            let sequence = active.state.last_applied().next();
            let apply = || active.state.apply(sequence, Some(&slot.batch), View(0));
            let applied = conduct.guarded(apply)?.map_err(Difference::unusable)?;
            shown.outcomes = applied.replies.into_iter().flat_map(outcomes).collect();

            let restore = conduct.random.chance(conduct.restores);
            let restore = restore || conduct.restore_after == Some(index);
            let snapshot = conduct.random.chance(conduct.snapshots);
            if !restore && !snapshot && index + 1 < slots.len() {
                continue;
            }
            shown.digests.push(active.take_snapshot(self.keys, conduct)?);
            if !restore {
                continue;
            }
            // A replica that lags behind has state of its own, which `restore` must replace.
            let laggard = behind.take().filter(|_| conduct.random.chance(500));
            let mut next = laggard.map_or_else(|| self.fresh(), Ok)?;
            next.snapshot = active.snapshot.clone();
            conduct
                .guarded(|| next.state.restore(&next.snapshot))?
                .map_err(Difference::unusable)?;
            shown.restored = true;
            // Pages are a function of the state alone: those of a state just restored are those restored.
            shown.digests.push(next.take_snapshot(self.keys, conduct)?);
            behind = Some(std::mem::replace(&mut active, next));
        }
        trace.replicas = behind.into_iter().chain([active]).collect();
        Ok(())
    }

    fn fresh(&self) -> Result<Replica, Difference> {
        let cluster = Arc::clone(&self.keys.cluster);
        let state =
            catch_unwind(AssertUnwindSafe(|| ReplicatedState::new(cluster, (self.factory)())));
        Ok(Replica { state: state.map_err(panicked)?, snapshot: Snapshot::default() })
    }
}

impl Conduct {
    /// The measure of the others.
    pub(super) fn plain(seed: u64) -> Self {
        Conduct { disturbed: false, ..Conduct::disturbed(seed, 1000) }
    }

    /// Other threads and addresses, and no restore.
    pub(super) fn disturbed(seed: u64, snapshots: u64) -> Self {
        let random = Random::new(seed ^ 0x0dd5_12ed_6a2b_a6e5);
        Conduct { random, snapshots, restores: 0, restore_after: None, disturbed: true }
    }

    /// And a restore after every slot.
    pub(super) fn restoring(self) -> Self {
        Conduct { restores: 1000, ..self }
    }

    /// And a restore after one slot.
    pub(super) fn restoring_after(self, slot: usize) -> Self {
        Conduct { restore_after: Some(slot), ..self }
    }

    /// All circumstances at once, and at least one restore.
    pub(super) fn varied(seed: u64, slots: usize) -> Self {
        let mut conduct = Conduct::disturbed(seed, 0);
        let random = &mut conduct.random;
        conduct.snapshots = random.pick(&[50, 200, 500], 200);
        conduct.restores = random.pick(&[0, 50, 200], 50);
        // After the last slot nothing would be executed by what was restored.
        let place = random.below(u64::try_from(slots.saturating_sub(1)).unwrap_or(0));
        conduct.restore_after = usize::try_from(place).ok();
        conduct
    }

    /// Allocates and frees, so that what the application allocates comes to lie elsewhere.
    fn litter(&mut self, garbage: &mut Vec<Vec<u8>>) {
        let pieces = if self.disturbed { self.random.between(1, 16) } else { 0 };
        for _ in 0..pieces {
            let length = usize::try_from(self.random.below(1024) * 2 + 1).unwrap_or(1);
            garbage.push(black_box(vec![0; length]));
            if garbage.len() > GARBAGE_MAX || length.is_multiple_of(3) {
                let victim = self.random.below(u64::try_from(garbage.len()).unwrap_or(0));
                garbage.swap_remove(usize::try_from(victim).unwrap_or(0));
            }
        }
    }

    /// Does `work`, here or on another thread, and catches its panic.
    fn guarded<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> Result<T, Difference> {
        let elsewhere = self.disturbed && self.random.chance(500);
        let done = match elsewhere {
            true => thread::scope(|scope| scope.spawn(work).join()),
            false => catch_unwind(AssertUnwindSafe(work)),
        };
        done.map_err(panicked)
    }
}

impl Replica {
    fn take_snapshot(&mut self, keys: &Keys, conduct: &mut Conduct) -> Result<Digest, Difference> {
        let frozen = conduct.guarded(|| self.state.freeze())?.map_err(Difference::unusable)?;
        self.snapshot.apply(frozen);
        Ok(self.snapshot.digest(&keys.cluster))
    }
}

impl Trace {
    /// How many snapshots were taken and how many restored from.
    pub(super) fn counts(&self) -> (usize, usize) {
        let taken = self.slots.iter().filter(|slot| !slot.digests.is_empty()).count();
        (taken, self.slots.iter().filter(|slot| slot.restored).count())
    }
}

/// The first difference of a trace from the first one, or where either of them ends too early.
pub(super) fn compare(slots: &[Slot], first: &Trace, second: &Trace) -> Option<Found> {
    let (mut restores, mut agreed) = (0, 0);
    let halts = [first, second];
    for (index, slot) in slots.iter().enumerate() {
        let at = |operation, what| Found { operation, last: slot.last, what, restores };
        let halt = |trace: &&Trace| {
            let here = trace.slots.len() <= index + 1;
            trace.halt.clone().filter(|_| here).map(|what| at(slot.first, what))
        };
        let pair = (first.slots.get(index), second.slots.get(index));
        let (Some(one), Some(other)) = pair else { return halts.iter().find_map(halt) };
        let mut outcomes = (slot.first..).zip(one.outcomes.iter().zip(&other.outcomes));
        if let Some((operation, (one, other))) = outcomes.find(|(_, (one, other))| one != other) {
            let what = Difference::Result { first: one.clone(), second: other.clone() };
            return Some(at(operation, what));
        }
        if let Some(digest) = one.digests.first() {
            if let Some(place) = other.digests.iter().position(|other| other != digest) {
                let second = other.digests.get(place).copied().unwrap_or(Digest::NULL);
                let what = Difference::State { first: *digest, second };
                // The second digest is the one after a restore.
                return Some(Found { restores: restores + place, ..at(agreed, what) });
            }
            if !other.digests.is_empty() {
                agreed = slot.last + 1;
            }
        }
        if let Some(found) = halts.iter().find_map(halt) {
            return Some(found);
        }
        restores += usize::from(other.restored);
    }
    // Without operations there is still an application to make.
    let what = halts.iter().find_map(|trace| trace.halt.clone())?;
    Some(Found { operation: 0, last: 0, what, restores })
}

fn outcomes(reply: Reply) -> Vec<Outcome> {
    match reply.answer {
        Answer::Executed(outcomes) => outcomes.iter().collect(),
        _ => Vec::new(),
    }
}

fn panicked(payload: Box<dyn Any + Send>) -> Difference {
    let words = payload.downcast_ref::<&str>().map(|words| (*words).to_owned());
    let words = words.or_else(|| payload.downcast_ref::<String>().cloned());
    Difference::Panicked { message: words.unwrap_or_else(|| "no words".to_owned()) }
}
