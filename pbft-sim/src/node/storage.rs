//! A node and its disk: writing, starting again, and what its store then says.

use std::sync::Arc;

use pbft_core::archive::{Archive, Snapshot};
use pbft_core::replica::{Input, Record, Replica, Standing};
use pbft_core::signed::Cache;
use pbft_core::state::ReplicatedState;
use pbft_core::types::{Sequence, WriteId};

use super::{Effect, Node};
use crate::checker::Observation;
use crate::disk::{Disk, Finished, Write};
use crate::ledger::drain;
use crate::simulation::Event;

/// The most times as long that anything takes on a disk.
const SLOWEST: u64 = 1000;

impl Node {
    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    pub(crate) fn disk_mut(&mut self) -> &mut Disk {
        &mut self.disk
    }

    /// Whether its store holds less than was promised, or did and it is silent since.
    pub(crate) fn is_unsound(&self) -> bool {
        let silent = self.replica.summary().standing == Standing::NonVoting;
        self.disk.is_unsound() || self.disk.contents().lost && silent
    }

    pub(crate) fn append(&mut self, id: WriteId, record: Record, life: u32, fx: &mut Vec<Effect>) {
        if life == self.life && !self.crashed {
            self.disk.append(id, record);
            self.begin_commit(fx);
        }
    }

    /// A slow disk of a slow machine is no slower than the slowest disk: what it began before the faults ended
    /// ends soon after.
    fn disk_times(&self) -> u64 {
        (self.slowness * self.disk.times()).min(SLOWEST)
    }

    fn begin_commit(&mut self, fx: &mut Vec<Effect>) {
        if self.disk.begin() {
            let delay = self.random.between(20, 2000) * self.disk_times();
            let event = Event::Durable { replica: self.id, life: self.life };
            fx.push(Effect::Later { delay, event });
        }
    }

    /// The commit under way ends. What is durable is not known to the replica yet.
    pub(crate) fn on_commit(&mut self, fx: &mut Vec<Effect>) -> Option<WriteId> {
        let replica = self.id;
        match self.disk.finish() {
            Finished::Held => None,
            Finished::Failed => {
                fx.push(Effect::Fails);
                None
            }
            Finished::Done { up_to, records } => {
                for record in records {
                    fx.push(Effect::Observe(Observation::Synced { replica, record }));
                }
                self.begin_commit(fx);
                Some(up_to)
            }
        }
    }

    pub(crate) fn on_durable(&mut self, now: u64, up_to: WriteId, fx: &mut Vec<Effect>) {
        self.drive(now, None, Input::Durable(up_to), fx);
    }

    pub(super) fn write(&mut self, now: u64, write: Write, fx: &mut Vec<Effect>) {
        #[cfg(test)]
        if self.disk.lapse == Some(crate::disk::Lapse::SnapshotsEarly) {
            return self.on_kept(now, &write, fx);
        }
        let _ = now;
        if self.disk.write(write) {
            self.schedule_write(fx);
        }
    }

    fn schedule_write(&mut self, fx: &mut Vec<Effect>) {
        let delay = self.random.between(20, 4000) * self.disk_times();
        let event = Event::Written { replica: self.id, life: self.life };
        fx.push(Effect::Later { delay, event });
    }

    /// A snapshot is durable. The replica does not know yet.
    pub(crate) fn on_written(&mut self, fx: &mut Vec<Effect>) -> Option<Write> {
        let write = self.disk.written()?;
        let (replica, sequence) = (self.id, write.snapshot.sequence);
        fx.push(Effect::Observe(Observation::Kept { replica, sequence }));
        if self.disk.writes() {
            self.schedule_write(fx);
        }
        Some(write)
    }

    pub(crate) fn on_kept(&mut self, now: u64, write: &Write, fx: &mut Vec<Effect>) {
        if write.instead {
            return self.install(now, &write.snapshot, fx);
        }
        let (replica, sequence) = (self.id, write.snapshot.sequence);
        let digest = write.snapshot.digest(&self.cluster);
        fx.push(Effect::Observe(Observation::Snapshotted { replica, sequence, digest }));
        self.drive(now, None, Input::Snapshotted { sequence, digest }, fx);
    }

    /// There is room again: what waited goes on.
    pub(crate) fn on_room(&mut self, fx: &mut Vec<Effect>) {
        if !self.disk.is_full() {
            return;
        }
        self.disk.make_room();
        if self.crashed {
            return;
        }
        self.begin_commit(fx);
        if self.disk.writes() {
            self.schedule_write(fx);
        }
    }

    /// Starts again from what is durable: the journal, and the last stable snapshot.
    pub(crate) fn restart(&mut self, now: u64, fx: &mut Vec<Effect>) {
        let replica = self.id;
        self.crashed = false;
        self.disk.open();
        #[cfg(test)]
        self.disk.lapse_at_start();
        self.executor.clear();
        self.transfer = None;
        self.transfer_alarm = None;
        self.installing = false;
        self.alarm = None;
        self.cache = Cache::default();
        drain(&self.seen);
        let (cluster, limits) = (Arc::clone(&self.cluster), self.limits.clone());
        let journal = self.disk.contents().journal.clone();
        match Replica::recover(self.id, cluster, limits, journal) {
            Ok(replica) => self.replica = replica,
            Err(error) => {
                let error = error.to_string();
                fx.push(Effect::Observe(Observation::Lost { replica, error }));
                return;
            }
        }
        let contents = self.disk.contents();
        fx.push(Effect::Observe(Observation::Opened {
            replica,
            journal: contents.journal.clone(),
            snapshots: contents.snapshots.keys().copied().collect(),
            lost: matches!(contents.journal.as_slice(), [Record::Lost]),
        }));
        fx.push(Effect::Observe(Observation::Restarted { replica }));
        let application = self.workload.make(Arc::clone(&self.seen), Arc::clone(&self.upset));
        self.state = ReplicatedState::new(Arc::clone(&self.cluster), application);
        self.archive = Archive::new(Arc::clone(&self.cluster));
        for snapshot in contents.snapshots.values() {
            self.archive.install(snapshot.clone());
        }
        let stable = self.replica.window().stable();
        self.archive.stable(stable, self.clock.instant(now));
        match self.archive.latest_stable().cloned() {
            Some(snapshot) => {
                self.archive.resume(snapshot.clone());
                self.install(now, &snapshot, fx);
            }
            None => {
                self.archive.resume(Snapshot::default());
                let sequence = Sequence(0);
                fx.push(Effect::Observe(Observation::Restored { replica, sequence }));
            }
        }
        self.started = true;
        self.drive(now, None, Input::Start, fx);
    }

    fn install(&mut self, now: u64, snapshot: &Snapshot, fx: &mut Vec<Effect>) {
        let (replica, sequence) = (self.id, snapshot.sequence);
        self.installing = false;
        match self.state.restore(snapshot) {
            Ok(consumed) => {
                fx.push(Effect::Observe(Observation::Restored { replica, sequence }));
                let digest = snapshot.digest(&self.cluster);
                self.drive(now, None, Input::Restored { sequence, digest, consumed }, fx);
            }
            Err(error) => {
                let error = error.to_string();
                fx.push(Effect::Observe(Observation::Lost { replica, error }));
            }
        }
    }
}
