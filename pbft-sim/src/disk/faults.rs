//! What can be wrong with a disk, and with the power.

use std::fmt;

use crate::random::Random;

/// Which faults the disks of a run have. Those marked + leave a store that holds less than was promised: they
/// strike at most f replicas at a time, traitors and replicas gone for good included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// A sync takes 10 to 1000 times as long, for a while.
    pub slow_sync: bool,
    /// A sync reports an error, once: the process ends and reads at its next start what the disk really has.
    pub failing_sync: bool,
    /// + Syncs are reported done and are not; the next crash takes all of that away, and nothing shows it.
    pub lost_sync: bool,
    /// + A commit torn by a crash is found as damage.
    pub torn: bool,
    /// + A bit flips at rest, in the journal or in the snapshots; found at the next start.
    pub rot: bool,
    /// + A write went to the wrong place, in the journal or in the snapshots; found at the next start.
    pub misdirected: bool,
    /// No room: nothing becomes durable, for a while.
    pub full: bool,
    /// + The store of some time ago is put back.
    pub backup: bool,
    /// + An empty disk in place of the old one.
    pub empty: bool,
}

impl DiskFaults {
    /// All of them.
    pub const ALL: DiskFaults = DiskFaults {
        slow_sync: true,
        failing_sync: true,
        lost_sync: true,
        torn: true,
        rot: true,
        misdirected: true,
        full: true,
        backup: true,
        empty: true,
    };

    /// Each with its own chance.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let mut faults = DiskFaults::default();
        for (_, on) in faults.classes() {
            *on = random.chance(400);
        }
        faults
    }

    /// Whether any is on.
    pub fn any(mut self) -> bool {
        self.classes().iter().any(|(_, on)| **on)
    }

    fn classes(&mut self) -> [(&'static str, &mut bool); 9] {
        [
            ("slow syncs", &mut self.slow_sync),
            ("failing syncs", &mut self.failing_sync),
            ("lost syncs", &mut self.lost_sync),
            ("torn commits", &mut self.torn),
            ("rot", &mut self.rot),
            ("misdirected writes", &mut self.misdirected),
            ("full", &mut self.full),
            ("old backups", &mut self.backup),
            ("empty", &mut self.empty),
        ]
    }
}

impl fmt::Display for DiskFaults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(formatter, &mut self.clone().classes())
    }
}

/// What happens to the power of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Power {
    /// All replicas lose power at once, now and then, and come back in any order.
    pub losses: bool,
    /// A replica is started twenty times in a row and lives a few milliseconds each time.
    pub loops: bool,
    /// One replica after the other is stopped and started again.
    pub rolling: bool,
    /// When everything is done all lose power once more, and everything must still be there (INV9).
    pub at_end: bool,
}

impl Power {
    /// All of them.
    pub const ALL: Power = Power { losses: true, loops: true, rolling: true, at_end: true };

    pub(crate) fn draw(random: &mut Random) -> Self {
        Power {
            losses: random.chance(300),
            loops: random.chance(200),
            rolling: random.chance(200),
            at_end: random.chance(300),
        }
    }

    /// Whether anything happens before the end.
    pub(crate) fn has_events(self) -> bool {
        self.losses || self.loops || self.rolling
    }
}

impl fmt::Display for Power {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Power { mut losses, mut loops, mut rolling, mut at_end } = *self;
        list(
            formatter,
            &mut [
                ("lost", &mut losses),
                ("crash loops", &mut loops),
                ("rolling restarts", &mut rolling),
                ("lost at the end", &mut at_end),
            ],
        )
    }
}

fn list(
    formatter: &mut fmt::Formatter<'_>,
    classes: &mut [(&'static str, &mut bool)],
) -> fmt::Result {
    let on = classes.iter().filter(|(_, on)| **on).map(|(name, _)| *name);
    let on: Vec<&str> = on.collect();
    if on.is_empty() {
        return formatter.write_str("no faults");
    }
    formatter.write_str(&on.join(" + "))
}
