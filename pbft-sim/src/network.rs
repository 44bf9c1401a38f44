//! The simulated network: what becomes of a message on its way.

use bytes::Bytes;
use pbft_core::types::ReplicaId;

use crate::options::Options;
use crate::random::Random;
use crate::simulation::Place;

/// What was done to messages, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Lost by chance.
    pub lost: u64,
    /// Delivered a second time.
    pub duplicated: u64,
    /// Delivered with a flipped bit.
    pub corrupted: u64,
    /// Delivered ten times later than others.
    pub slowed: u64,
    /// Dropped at a partition.
    pub partitioned: u64,
    /// Partitions made, of any kind.
    pub partitions: u64,
    /// Of those, one-way ones: A hears B and B does not hear A.
    pub asymmetric: u64,
    /// Of those, ones that kept coming and going.
    pub flapping: u64,
    /// Of those, ones around the primary.
    pub isolated_primaries: u64,
    /// Links whose messages under way vanished.
    pub reconnects: u64,
    /// Replicas stopped for good.
    pub crashes: u64,
    /// Replicas stopped and started again from their store.
    pub restarts: u64,
    /// Replicas frozen for a while.
    pub pauses: u64,
    /// Replicas whose executor and disk became slow for a while.
    pub slowdowns: u64,
    /// Changes of a clock's rate, and jumps of wall clocks.
    pub skews: u64,
    /// Disks that became slow for a while.
    pub slow_disks: u64,
    /// Syncs that failed, and the process with them.
    pub failed_syncs: u64,
    /// Disks that began to keep nothing and say that they do.
    pub lying_disks: u64,
    /// Stores that a crash left older than what was promised, unnoticed.
    pub older_stores: u64,
    /// Commits torn by a crash and found as damage.
    pub torn: u64,
    /// Journals that rotted or were written over.
    pub rotten_journals: u64,
    /// The same of snapshots.
    pub rotten_snapshots: u64,
    /// Disks without room for a while.
    pub full_disks: u64,
    /// Old stores put back.
    pub backups: u64,
    /// Empty disks in place of the old ones.
    pub empty_disks: u64,
    /// Losses of power of all replicas at once.
    pub power_losses: u64,
    /// Series of twenty restarts.
    pub crash_loops: u64,
    /// Series of restarts of all replicas in turn.
    pub rolling_restarts: u64,
    /// Bits flipped in the state of a replica. Only where asked for.
    pub upsets: u64,
}

impl Faults {
    /// Adds up another run's.
    pub fn add(&mut self, other: &Faults) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.corrupted += other.corrupted;
        self.slowed += other.slowed;
        self.partitioned += other.partitioned;
        self.upsets += other.upsets;
        for ((_, mine), (_, theirs)) in self.counters().into_iter().zip(other.clone().counters()) {
            *mine += *theirs;
        }
    }

    /// Those that are drawn one at a time, by name.
    pub fn counters(&mut self) -> [(&'static str, &mut u64); 23] {
        [
            ("partitions", &mut self.partitions),
            ("asymmetric", &mut self.asymmetric),
            ("flapping", &mut self.flapping),
            ("isolated primaries", &mut self.isolated_primaries),
            ("reconnects", &mut self.reconnects),
            ("crashes", &mut self.crashes),
            ("restarts", &mut self.restarts),
            ("pauses", &mut self.pauses),
            ("slowdowns", &mut self.slowdowns),
            ("clock changes", &mut self.skews),
            ("slow disks", &mut self.slow_disks),
            ("failed syncs", &mut self.failed_syncs),
            ("disks that lost syncs", &mut self.lying_disks),
            ("stores older than said", &mut self.older_stores),
            ("torn commits", &mut self.torn),
            ("rotten journals", &mut self.rotten_journals),
            ("rotten snapshots", &mut self.rotten_snapshots),
            ("full disks", &mut self.full_disks),
            ("old backups", &mut self.backups),
            ("empty disks", &mut self.empty_disks),
            ("losses of power", &mut self.power_losses),
            ("crash loops", &mut self.crash_loops),
            ("rolling restarts", &mut self.rolling_restarts),
        ]
    }
}

/// Links and their faults.
#[derive(Debug)]
pub(crate) struct Network {
    delay: (u64, u64),
    slow: u64,
    loss: u64,
    duplication: u64,
    corruption: u64,
    /// From each replica: bit i set means that replica i does not hear it. Clients hear and reach all.
    cut: Vec<u128>,
    /// While flapping: the cut that comes and goes.
    flapping: Option<Vec<u128>>,
    pub(crate) faults: Faults,
}

/// A delivery: after how long, and what.
pub(crate) type Delivery = (u64, Bytes);

impl Network {
    pub(crate) fn new(options: &Options) -> Self {
        Network {
            delay: options.delay,
            slow: options.slow,
            loss: options.loss,
            duplication: options.duplication,
            corruption: options.corruption,
            cut: vec![0; options.replicas],
            flapping: None,
            faults: Faults::default(),
        }
    }

    /// Ends all faults.
    pub(crate) fn heal(&mut self) {
        (self.slow, self.loss, self.duplication, self.corruption) = (0, 0, 0, 0);
        self.mend();
    }

    /// Ends every partition.
    pub(crate) fn mend(&mut self) {
        self.cut.iter_mut().for_each(|row| *row = 0);
        self.flapping = None;
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.flapping.is_none() && self.cut.iter().all(|row| *row == 0)
    }

    pub(crate) fn is_flapping(&self) -> bool {
        self.flapping.is_some()
    }

    /// The flapping partition comes, or goes.
    pub(crate) fn flap(&mut self) {
        if let Some(cut) = &mut self.flapping {
            std::mem::swap(cut, &mut self.cut);
        }
    }

    /// Cuts links off: any split, one replica alone, one direction of random links, a ring, two halves
    /// with a bridge, or the primary, inbound, outbound or both.
    pub(crate) fn partition(&mut self, primary: u32, random: &mut Random) {
        self.mend();
        self.faults.partitions += 1;
        let n = u64::try_from(self.cut.len()).unwrap_or(1);
        let all: u128 = (1 << n) - 1;
        let side = u128::from(random.below(1 << n));
        match random.below(6) {
            0 => self.split(side),
            1 => self.split(1 << random.below(n)),
            2 => {
                self.faults.asymmetric += 1;
                for row in &mut self.cut {
                    *row = u128::from(random.below(1 << n)) & u128::from(random.below(1 << n));
                }
            }
            3 => {
                for (at, row) in (0_u64..).zip(&mut self.cut) {
                    let neighbours = (1 << ((at + 1) % n)) | (1 << ((at + n - 1) % n)) | (1 << at);
                    *row = all & !neighbours;
                }
            }
            4 => {
                self.split(side);
                let bridge = random.below(n);
                for row in &mut self.cut {
                    *row &= !(1 << bridge);
                }
                if let Some(row) = usize::try_from(bridge).ok().and_then(|at| self.cut.get_mut(at))
                {
                    *row = 0;
                }
            }
            _ => {
                self.faults.isolated_primaries += 1;
                let (inbound, outbound) =
                    random.pick(&[(true, true), (true, false), (false, true)], (true, true));
                let bit = 1_u128 << primary;
                for (at, row) in (0_u32..).zip(&mut self.cut) {
                    if at == primary && outbound {
                        *row = all & !bit;
                    } else if at != primary && inbound {
                        *row |= bit;
                    }
                }
            }
        }
        if random.chance(200) {
            self.faults.flapping += 1;
            self.flapping = Some(vec![0; self.cut.len()]);
        }
    }

    /// Cuts one replica off from all others.
    pub(crate) fn isolate(&mut self, replica: ReplicaId) {
        self.split(1_u128.checked_shl(replica.0).unwrap_or(0));
    }

    fn split(&mut self, side: u128) {
        let all: u128 = (1 << self.cut.len()) - 1;
        for (at, row) in self.cut.iter_mut().enumerate() {
            *row = if side >> at & 1 == 1 { all & !side } else { side };
        }
    }

    pub(crate) fn is_cut(&self, from: Place, to: Place) -> bool {
        let (Place::Replica(from), Place::Replica(to)) = (from, to) else { return false };
        let row = usize::try_from(from.0).ok().and_then(|at| self.cut.get(at));
        row.is_some_and(|row| row >> to.0 & 1 == 1)
    }

    /// Decides what becomes of a frame: no delivery, one, or two.
    pub(crate) fn carry(
        &mut self,
        from: Place,
        to: Place,
        frame: &Bytes,
        guarded: bool,
        random: &mut Random,
    ) -> Vec<Delivery> {
        if self.is_cut(from, to) {
            self.faults.partitioned += 1;
            return Vec::new();
        }
        if random.chance(self.loss) {
            self.faults.lost += 1;
            return Vec::new();
        }
        let mut deliveries = vec![(self.delay(random), frame.clone())];
        if random.chance(self.duplication) {
            self.faults.duplicated += 1;
            // Late enough to cross into another time of the run.
            let later = self.delay(random).saturating_mul(random.between(1, 50));
            deliveries.push((later, frame.clone()));
        }
        if !guarded && random.chance(self.corruption) {
            self.faults.corrupted += 1;
            for (_, frame) in &mut deliveries {
                *frame = flipped(frame, random);
            }
        }
        deliveries
    }

    fn delay(&mut self, random: &mut Random) -> u64 {
        let delay = random.between(self.delay.0, self.delay.1);
        if random.chance(self.slow) {
            self.faults.slowed += 1;
            return delay.saturating_mul(10);
        }
        delay
    }
}

fn flipped(frame: &Bytes, random: &mut Random) -> Bytes {
    let mut bytes = frame.to_vec();
    let at = random.below(u64::try_from(bytes.len()).unwrap_or(0));
    if let Some(byte) = usize::try_from(at).ok().and_then(|at| bytes.get_mut(at)) {
        *byte ^= 1 << random.below(8);
    }
    Bytes::from(bytes)
}
