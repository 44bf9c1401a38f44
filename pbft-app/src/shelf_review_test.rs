//! What a review tried on the shelf: checkpoints, reports, transfers, full disks and restarts in any order.

use std::collections::BTreeMap;

use pbft_core::archive::Snapshot;
use pbft_core::transfer::{Ask, What};

use super::*;
use crate::storage::FIRST_VERSION;
use crate::testing::Random;

/// The checkpoint interval.
const INTERVAL: u64 = 4;

/// What the slots do to the pages: always the same, as long as the history is.
fn execute(pages: &mut Pages, slot: u64, history: u64) {
    let mut random = Random((slot * 31 + history * 7001 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let few = [1, 1, 3, 30][random.index(4)];
    for _ in 0..random.below(few + 1) {
        let length = [0, 30, 3000, 20_000][random.index(4)];
        let byte = u8::try_from(random.below(250)).unwrap();
        let number = random.index(50);
        pages.write(number, Bytes::from(vec![byte; length])).unwrap();
    }
    if random.below(8) == 0 {
        pages.truncate(random.index(50));
    }
}

struct Life {
    rig: Rig,
    random: Random,
    executed: u64,
    history: u64,
    stable: u64,
    full: bool,
    /// Whether a transferred state waits for space.
    installing: bool,
    reported: BTreeMap<u64, Digest>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let medium = Arc::new(Faulty::new());
        let file = Arc::clone(&medium) as Arc<dyn Medium>;
        Snapshots::create(Path::new("snapshots.redb"), file).unwrap();
        let random = Random(seed * 0x9e37_79b9);
        Life::on(medium, random, (0, 0), BTreeMap::new())
    }

    /// As `resume` does it.
    fn on(
        medium: Arc<Faulty>,
        random: Random,
        (stable, history): (u64, u64),
        reported: BTreeMap<u64, Digest>,
    ) -> Self {
        let cluster = cluster();
        let (mut snapshots, loaded) = open(&medium, &cluster);
        snapshots.reclaim_all();
        let mut archive = Archive::new(Arc::clone(&cluster));
        loaded.into_iter().for_each(|snapshot| archive.install(snapshot));
        archive.stable(Sequence(stable), Instant(0));
        let mut changed = Changed::default();
        let (pages, base, executed) = match archive.latest_stable().cloned() {
            Some(latest) => {
                archive.resume(latest.clone());
                (latest.application.to_pages(), Some(latest.sequence), latest.sequence.0)
            }
            None => {
                let mut pages = Pages::new();
                for slot in 1000..1010 {
                    execute(&mut pages, slot, 0);
                }
                archive.resume(Snapshot::default());
                let (sessions, application) = (Pages::new().take_changes(), pages.take_changes());
                changed.note(&sessions, &application);
                archive.apply(Frozen { sequence: Sequence(0), sessions, application });
                let base = snapshots.prepare(archive.current(), &changed).unwrap().then(|| {
                    changed = Changed::default();
                    FIRST_VERSION
                });
                (pages, base, 0)
            }
        };
        let shelf = Shelf::new(ReplicaId(0), Some(snapshots), base, changed);
        let rig = Rig { medium, cluster, archive, shelf, pages };
        let (full, installing) = (false, false);
        Life { rig, random, executed, history, stable, full, installing, reported }
    }

    fn frozen(&mut self) -> Frozen {
        Frozen {
            sequence: Sequence(self.executed),
            sessions: Pages::new().take_changes(),
            application: self.rig.pages.take_changes(),
        }
    }

    fn slot(&mut self) {
        self.executed += 1;
        execute(&mut self.rig.pages, self.executed, self.history);
        let checkpoint = self.executed.is_multiple_of(INTERVAL);
        if !checkpoint && self.random.below(4) > 0 {
            return;
        }
        let mut frozen = self.frozen();
        self.rig.shelf.note(&frozen.sessions, &frozen.application);
        if self.random.below(2) == 0 {
            let application = frozen.application.split_front(3);
            let (sequence, sessions) = (frozen.sequence, frozen.sessions.clone());
            self.rig.archive.apply(Frozen { sequence, sessions, application });
        }
        let digest = self.rig.archive.apply(frozen);
        if checkpoint {
            self.rig.archive.keep();
            let sequence = Sequence(self.executed);
            let report = Event::Input(Input::Snapshotted { sequence, digest });
            self.rig.shelf.checkpoint(&self.rig.archive, digest, report);
        }
    }

    /// The state of another replica, which executed something else from `h` on.
    fn install(&mut self) {
        let sequence = (self.stable / INTERVAL + 1 + self.random.below(4)) * INTERVAL;
        let history = 1 + self.random.below(1000);
        let mut donor = self.rig.archive.current().clone();
        let mut pages = donor.application.to_pages();
        for slot in 1..=self.random.below(4) {
            execute(&mut pages, sequence + slot, history);
        }
        let (sessions, application) = (Pages::new().take_changes(), pages.take_changes());
        donor.apply(Frozen { sequence: Sequence(sequence), sessions, application });
        let digest = donor.digest(&self.rig.cluster);
        self.rig.archive.install(donor.clone());
        let consumed = Vec::new();
        let report = Event::Input(Input::Restored { sequence: donor.sequence, digest, consumed });
        self.rig.shelf.install(donor, digest, report);
        self.rig.pages = pages;
        (self.executed, self.history, self.stable) = (sequence, history, sequence);
        self.installing = true;
        self.rig.archive.stable(Sequence(sequence), Instant(0));
    }

    fn work(&mut self) {
        for report in self.rig.shelf.work(&self.rig.archive).unwrap() {
            match report {
                Event::Input(Input::Snapshotted { sequence, digest }) => {
                    self.reported.insert(sequence.0, digest);
                }
                Event::Input(Input::Restored { sequence, digest, .. }) => {
                    let _ = self.reported.split_off(&sequence.0);
                    self.reported.insert(sequence.0, digest);
                    self.installing = false;
                }
                _ => panic!("another report"),
            }
        }
    }

    fn check(&self, what: &str) {
        let stored = self.rig.stored();
        for (slot, digest) in self.rig.kept() {
            if self.reported.get(&slot) == Some(&digest) {
                assert!(stored.contains(&(slot, digest)), "{what}: {slot} of {stored:?}");
            }
        }
    }
}

fn lives(seeds: std::ops::Range<u64>) {
    let mut restarts = 0;
    for seed in seeds {
        let mut life = Life::new(seed);
        for step in 0..150 {
            for _ in 0..life.random.below(6) {
                life.slot();
                if life.random.below(3) == 0 {
                    life.work();
                }
            }
            match life.random.below(14) {
                0..4 => {
                    let last = life.executed / INTERVAL * INTERVAL;
                    life.stable = life.stable.max(last.saturating_sub(life.random.below(3) * 4));
                    life.rig.archive.stable(Sequence(life.stable), Instant(step * 1_000_000));
                }
                4 => {
                    let newest = life.rig.archive.latest_stable().map(|it| it.sequence);
                    if let Some(sequence) = newest {
                        let ask = Ask { sequence, what: What::Head };
                        life.rig.archive.answer(Instant(step * 1_000_000), &ask);
                    }
                }
                5 => {
                    life.rig.medium.set_room(Some(life.random.index(60_000)));
                    life.full = true;
                }
                6 if !life.installing => life.install(),
                7 if !life.installing && !life.full && life.rig.shelf.waiting.is_empty() => {
                    restarts += 1;
                    let cut = life.rig.medium.after_power_cut(step);
                    let medium = Arc::new(Faulty::with(&cut));
                    let Life { random, stable, history, reported, .. } = life;
                    life = Life::on(medium, random, (stable, history), reported);
                }
                _ if life.full && life.random.below(3) == 0 => {
                    life.rig.medium.set_room(None);
                    life.rig.shelf.retry = Some(Clock::now());
                    life.full = false;
                }
                _ => {}
            }
            life.work();
            life.check(&format!("seed {seed} step {step}"));
        }
    }
    assert!(restarts > 10);
}

#[test]
fn h1_what_was_reported_and_is_kept_is_on_the_disk_whatever_happens() {
    lives(1..20);
}

#[test]
#[ignore = "many more: cargo test --release -p pbft-app h1_many -- --ignored"]
fn h1_many_what_was_reported_and_is_kept_is_on_the_disk_whatever_happens() {
    lives(20..600);
}

#[test]
fn h1_a_snapshot_goes_once_the_proof_of_a_later_one_is_durable() {
    let mut rig = Rig::new();
    for sequence in [4, 8, 12, 16] {
        rig.checkpoint(sequence);
        assert_eq!(rig.reported(), vec![sequence]);
        rig.archive.stable(Sequence(sequence), Instant(0));
        if sequence == 4 {
            rig.shelf.proven(Sequence(4));
        }
    }
    // All are stable, and a start would know that of the first.
    let slots = |rig: &Rig| rig.stored().into_iter().map(|it| it.0).collect::<Vec<_>>();
    assert_eq!(slots(&rig), [4, 8, 12, 16]);
    rig.checkpoint(20);
    rig.reported();
    assert_eq!(slots(&rig), [4, 12, 16, 20]);
    let again = Rig::on(Arc::new(Faulty::with(&rig.medium.after_power_cut(0))), 4);
    assert_eq!(again.archive.latest_stable().map(|it| it.sequence), Some(Sequence(4)));
    rig.shelf.proven(Sequence(16));
    rig.checkpoint(24);
    rig.reported();
    assert_eq!(slots(&rig), [12, 16, 20, 24]);
}

/// A full disk left one out; after a restart its slots are executed again.
#[test]
fn h1_one_that_is_missing_takes_no_later_one_away() {
    let mut rig = Rig::new();
    rig.checkpoint(4);
    assert_eq!(rig.reported(), vec![4]);
    rig.medium.set_room(Some(10));
    for sequence in [8, 12, 16, 20, 24] {
        rig.checkpoint(sequence);
        assert_eq!(rig.reported(), vec![]);
    }
    rig.medium.set_room(None);
    rig.shelf.retry = Some(Clock::now());
    assert_eq!(rig.reported(), vec![8, 12, 16, 24]);
    let expected = rig.stored();
    let mut again = Rig::on(Arc::new(Faulty::with(&rig.medium.bytes())), 16);
    again.checkpoint(20);
    assert_eq!(again.reported(), vec![], "nothing is said of it, as before");
    assert_eq!(again.stored(), expected);
    again.checkpoint(24);
    assert_eq!(again.reported(), vec![24]);
    // If the second execution comes out otherwise, what was stored of the first goes.
    let mut other = Rig::on(Arc::new(Faulty::with(&rig.medium.bytes())), 16);
    other.checkpoint(20);
    other.report(21);
    other.checkpoint(24);
    assert_eq!(other.reported(), vec![24]);
    assert_eq!(other.stored().last(), other.kept().last());
}
