//! The simulated network: what becomes of a message on its way.

use bytes::Bytes;

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
    /// Partitions made.
    pub partitions: u64,
    /// Replicas stopped.
    pub crashes: u64,
}

impl Faults {
    /// Adds up another run's.
    pub fn add(&mut self, other: &Faults) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.corrupted += other.corrupted;
        self.slowed += other.slowed;
        self.partitioned += other.partitioned;
        self.partitions += other.partitions;
        self.crashes += other.crashes;
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
    /// Bit i set: replica i is on the far side. Clients are on both.
    split: u128,
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
            split: 0,
            faults: Faults::default(),
        }
    }

    /// Ends all faults.
    pub(crate) fn heal(&mut self) {
        (self.slow, self.loss, self.duplication, self.corruption, self.split) = (0, 0, 0, 0, 0);
    }

    /// Divides the replicas in two, or ends the division.
    pub(crate) fn partition(&mut self, replicas: usize, random: &mut Random) {
        if self.split != 0 {
            self.split = 0;
            return;
        }
        self.faults.partitions += 1;
        let n = u64::try_from(replicas).unwrap_or(1);
        // One alone as often as any split.
        self.split = if random.chance(500) {
            1 << random.below(n)
        } else {
            u128::from(random.below(1 << n))
        };
    }

    pub(crate) fn is_cut(&self, from: Place, to: Place) -> bool {
        let side = |place| match place {
            Place::Replica(id) => Some(self.split >> id.0 & 1),
            Place::Client(_) => None,
        };
        matches!((side(from), side(to)), (Some(one), Some(other)) if one != other)
    }

    /// Decides what becomes of a frame: no delivery, one, or two.
    pub(crate) fn carry(
        &mut self,
        from: Place,
        to: Place,
        frame: &Bytes,
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
        // Replies are unsigned: their channel is authenticated, so a flipped bit never gets through.
        let guarded = matches!((from, to), (Place::Replica(_), Place::Client(_)));
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
