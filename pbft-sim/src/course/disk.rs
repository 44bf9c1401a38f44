//! What goes wrong with disks while faults last.

use pbft_core::types::ReplicaId;

use crate::checker::Observation;
use crate::disk::Damage;
use crate::node::Node;
use crate::options::MILLIS;
use crate::simulation::{Event, Simulation};

/// One class of faults.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Slow,
    Failing,
    Lost,
    Torn,
    Rot,
    Full,
    Backup,
    Empty,
}

impl Simulation {
    /// Draws one fault of those the disks of this run have, and a disk.
    pub(super) fn disk_fault(&mut self) {
        let disk = &self.options.disk;
        let classes = [
            (disk.slow_sync, Fault::Slow),
            (disk.failing_sync, Fault::Failing),
            (disk.lost_sync, Fault::Lost),
            (disk.torn, Fault::Torn),
            // Found in the same way, and with the same outcome.
            (disk.rot || disk.misdirected, Fault::Rot),
            (disk.full, Fault::Full),
            (disk.backup, Fault::Backup),
            (disk.empty, Fault::Empty),
        ];
        let on = classes.into_iter().filter(|(on, _)| *on).map(|(_, fault)| fault);
        let on: Vec<Fault> = on.collect();
        let replica = self.any_replica();
        let victim = self.node_mut(replica);
        if on.is_empty() || victim.is_none_or(|node| node.is_traitor()) {
            return;
        }
        match self.random.pick(&on, Fault::Slow) {
            Fault::Slow => self.slow_disk(replica),
            Fault::Failing => {
                if let Some(node) = self.node_mut(replica) {
                    node.disk_mut().fail_next();
                }
            }
            Fault::Lost => self.lose_syncs(replica),
            Fault::Torn => {
                if self.damage(replica, Damage::Journal) {
                    self.network.faults.torn += 1;
                    // In the middle of its next commit.
                    if let Some(node) = self.node_mut(replica) {
                        node.disk_mut().fail_next();
                    }
                }
            }
            Fault::Rot => {
                let damage = self.random.pick(&[Damage::Journal, Damage::Snapshots], Damage::Empty);
                let soon = self.random.chance(700);
                if self.damage(replica, damage) {
                    match damage {
                        Damage::Journal => self.network.faults.rotten_journals += 1,
                        _ => self.network.faults.rotten_snapshots += 1,
                    }
                    // Otherwise it lies there until something else stops the replica.
                    if soon {
                        self.fail(replica);
                    }
                }
            }
            Fault::Full => self.fill(replica),
            Fault::Backup => self.back_up(replica),
            Fault::Empty => {
                if self.damage(replica, Damage::Empty) {
                    self.network.faults.empty_disks += 1;
                    self.fail(replica);
                }
            }
        }
    }

    /// Whether this replica may be one of the f that may be wrong: it is already, or fewer than f others are.
    pub(super) fn is_spare(&self, replica: ReplicaId) -> bool {
        let f = self.options.replicas.saturating_sub(1) / 3;
        let crashes = &self.options.crashes;
        let faulty = |node: &&Node| {
            let id = node.replica().id();
            let gone = crashes.iter().any(|(gone, _)| *gone == id.0);
            let wrong = node.is_traitor() || node.is_unsound() || self.checkers.is_upset(id);
            id != replica && (gone || wrong)
        };
        self.nodes.iter().filter(faulty).count() < f
    }

    fn slow_disk(&mut self, replica: ReplicaId) {
        let times = self.random.pick(&[1, 10, 100, 1000], 10);
        self.network.faults.slow_disks += 1;
        if let Some(node) = self.node_mut(replica) {
            node.disk_mut().slow_down(times);
        }
    }

    fn fill(&mut self, replica: ReplicaId) {
        self.network.faults.full_disks += 1;
        if let Some(node) = self.node_mut(replica) {
            node.disk_mut().fill();
        }
        let length = self.random.between(100, 5000) * MILLIS;
        self.schedule(length, Event::Room { replica });
    }

    /// Its store will be less than it promised, or nobody can tell.
    fn doubt(&mut self, replica: ReplicaId) {
        self.checkers.observe(&Observation::Unsound { replica });
    }

    fn lose_syncs(&mut self, replica: ReplicaId) {
        if !self.is_fit_for_damage(replica) {
            return;
        }
        self.network.faults.lying_disks += 1;
        self.doubt(replica);
        if let Some(node) = self.node_mut(replica) {
            node.disk_mut().lie();
        }
        let length = self.random.between(50, 2000) * MILLIS;
        self.schedule(length, Event::Fails { replica });
    }

    /// One after the other: whoever is still getting over a loss has nothing more to lose.
    fn is_fit_for_damage(&mut self, replica: ReplicaId) -> bool {
        self.is_spare(replica) && self.node_mut(replica).is_some_and(|node| !node.is_unsound())
    }

    fn damage(&mut self, replica: ReplicaId, damage: Damage) -> bool {
        if !self.is_fit_for_damage(replica) {
            return false;
        }
        self.doubt(replica);
        if let Some(node) = self.node_mut(replica) {
            node.disk_mut().damage(damage);
        }
        true
    }

    /// Makes a backup, to be put back some time later.
    fn back_up(&mut self, replica: ReplicaId) {
        if let Some(node) = self.node_mut(replica) {
            node.disk_mut().back_up();
        }
        let length = self.random.between(50, 3000) * MILLIS;
        self.schedule(length, Event::PutBack { replica });
    }

    pub(crate) fn put_back(&mut self, replica: ReplicaId) {
        let there = |node: &mut Node| node.disk().has_backup() && !node.is_traitor();
        if self.healed.is_none()
            && self.node_mut(replica).is_some_and(there)
            && self.damage(replica, Damage::Backup)
        {
            self.network.faults.backups += 1;
            self.fail(replica);
        }
    }

    /// A commit cut in two by the crash that comes now, which its reader finds.
    pub(super) fn maybe_tear(&mut self, replica: ReplicaId) {
        let commits = self.node_mut(replica).is_some_and(|node| node.disk().commits());
        if self.options.disk.torn
            && commits
            && self.healed.is_none()
            && self.random.chance(300)
            && self.damage(replica, Damage::Journal)
        {
            self.network.faults.torn += 1;
        }
    }

    /// The process ends, for what its disk did or so that what is on the disk is found; it starts again soon.
    pub(crate) fn fail(&mut self, replica: ReplicaId) {
        let healthy = |node: &mut Node| !node.is_crashed() && !node.is_traitor();
        if !self.node_mut(replica).is_some_and(healthy) {
            return;
        }
        self.stop(replica);
        let length = self.random.between(10, 2000) * MILLIS;
        self.schedule(length, Event::Restart { replica });
    }

    /// Reads the store before the replica starts: who has been given less than it promised, and cannot know,
    /// is not to be trusted any more.
    pub(super) fn open(&mut self, replica: ReplicaId) {
        let Some(node) = self.node_mut(replica) else { return };
        node.disk_mut().open();
        if node.is_traitor() && !self.checkers.traitors().contains(&replica) {
            self.network.faults.older_stores += 1;
            self.checkers.distrust(replica);
        }
    }
}
