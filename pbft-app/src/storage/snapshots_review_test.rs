//! What a review tried on the snapshots' file: power cuts, full disks and restarts in any order.

use super::super::FIRST_VERSION;
use super::*;
use crate::testing::Random;

/// Pages of up to 60 KB: a checkpoint is several bundles and several portions.
fn change(pages: &mut [Pages; 2], random: &mut Random) {
    for pages in pages {
        for _ in 0..random.index(40) {
            let number = random.index(40);
            let length = [0, 40, 9000, 60_000][random.index(4)];
            let byte = u8::try_from(random.index(250)).unwrap();
            pages.write(number, Bytes::from(vec![byte; length])).unwrap();
        }
        if random.index(5) == 0 {
            pages.truncate(random.index(40));
        }
    }
}

/// A replica's snapshots with what they are to be, from start to start.
struct Life {
    medium: Arc<Faulty>,
    snapshots: Snapshots,
    state: State,
    base: Option<Sequence>,
    kept: Vec<Snapshot>,
}

impl Life {
    /// A start: from the newest snapshot, or from the state before slot 1.
    fn begin(medium: Arc<Faulty>, random: &mut Random) -> Result<Self, StorageError> {
        let (snapshots, kept) = open(&medium)?;
        let mut life = Life { medium, snapshots, state: State::new(), base: None, kept };
        if let Some(newest) = life.kept.last() {
            life.base = Some(newest.sequence);
            life.state.snapshot = newest.clone();
            life.state.pages = TREES.map(|tree| newest.tree(tree).to_pages());
            return Ok(life);
        }
        change(&mut life.state.pages, random);
        life.state.freeze(0);
        match life.snapshots.prepare(&life.state.snapshot, &life.state.changed) {
            Ok(prepared) => {
                assert!(prepared);
                life.state.changed = Changed::default();
                life.base = Some(FIRST_VERSION);
                Ok(life)
            }
            Err(StorageError::Full { .. }) => Ok(life),
            Err(error) => Err(error),
        }
    }

    /// A checkpoint as the shelf stores it; which are kept after it.
    fn checkpoint(&mut self, sequence: u64, random: &mut Random) -> Result<(), StorageError> {
        change(&mut self.state.pages, random);
        if random.index(3) == 0 {
            self.state.freeze(sequence - 5);
            change(&mut self.state.pages, random);
        }
        self.state.freeze(sequence);
        let mut kept = self.kept.clone();
        while kept.len() > 1 + random.index(3) {
            kept.remove(random.index(kept.len()));
        }
        kept.push(self.state.snapshot.clone());
        let wanted = kept.iter().map(|it| it.sequence).collect();
        let digest = self.state.snapshot.digest(&cluster());
        let changed = self.state.changed.clone();
        loop {
            let stored = self
                .snapshots
                .rewind(self.base)
                .and_then(|()| self.snapshots.add(&self.state.snapshot, digest, &changed, &wanted));
            match stored {
                Err(StorageError::Full { .. }) => self.medium.set_room(None),
                outcome => {
                    let before = std::mem::replace(&mut self.kept, kept);
                    if outcome.is_err() {
                        self.kept = before;
                    }
                    outcome?;
                    break;
                }
            }
        }
        self.medium.set_room(None);
        self.state.changed = Changed::default();
        self.base = Some(Sequence(sequence));
        Ok(())
    }

    /// Back to an earlier one and on from there.
    fn back(&mut self, to: usize) -> Result<(), StorageError> {
        self.snapshots.rewind(Some(self.kept[to].sequence))?;
        self.kept.truncate(to + 1);
        self.state.snapshot = self.kept[to].clone();
        self.state.pages = TREES.map(|tree| self.kept[to].tree(tree).to_pages());
        self.state.changed = Changed::default();
        self.base = Some(self.kept[to].sequence);
        Ok(())
    }
}

/// Begins on what a power cut left, with more power cuts while it begins.
fn after_cut(mut medium: Arc<Faulty>, random: &mut Random) -> Life {
    for _ in 0..random.index(3) {
        medium.crash_at(u64::try_from(random.index(30)).unwrap());
        if let Ok(life) = Life::begin(Arc::clone(&medium), random) {
            life.snapshots.guard().abandon();
        }
        let seed = u64::try_from(random.index(1000)).unwrap();
        medium = Arc::new(Faulty::with(&medium.after_power_cut(seed)));
    }
    if random.index(3) == 0 {
        medium.set_room(Some(random.index(3_000_000)));
    }
    let life = match Life::begin(Arc::clone(&medium), random) {
        Err(StorageError::Full { .. }) => {
            medium.set_room(None);
            Life::begin(medium, random).unwrap()
        }
        life => life.unwrap(),
    };
    life.medium.set_room(None);
    life
}

fn lives(seeds: std::ops::Range<u64>) {
    let (mut cuts, mut between) = (0, 0);
    for seed in seeds {
        let mut random = Random(seed * 0x9e37_79b9);
        let mut life = Life::begin(empty(), &mut random).unwrap();
        for step in 1..30 {
            let before = digests(&life.kept);
            match random.index(4) {
                0 => {
                    let first = life.medium.steps();
                    life.medium.crash_at(first + u64::try_from(random.index(40)).unwrap());
                }
                1 => life.medium.set_room(Some(random.index(2_000_000))),
                _ => {}
            }
            let back = random.index(6) == 0 && !life.kept.is_empty();
            let outcome = match back {
                true => {
                    let to = random.index(life.kept.len());
                    life.back(to)
                }
                false => life.checkpoint(step * 10, &mut random),
            };
            life.medium.set_room(None);
            let restarts = random.index(5) == 0;
            match outcome {
                Err(_) => cuts += 1,
                Ok(()) if restarts => {}
                Ok(()) => continue,
            }
            life.snapshots.guard().abandon();
            let seed_of_cut = u64::try_from(random.index(1000)).unwrap();
            let medium = Arc::new(Faulty::with(&life.medium.after_power_cut(seed_of_cut)));
            let next = after_cut(medium, &mut random);
            let found = digests(&next.kept);
            let whole = outcome.is_ok();
            between += u32::from(!whole && found != before);
            if whole {
                assert_eq!(found, digests(&life.kept), "seed {seed} step {step}");
            } else if found != before {
                let last = (life.state.snapshot.sequence, life.state.snapshot.digest(&cluster()));
                let kept: Vec<_> = found.iter().filter(|it| !before.contains(it)).collect();
                assert!(
                    kept == [&last] || (back && before.starts_with(&found)),
                    "seed {seed} step {step}: {before:?} {found:?}"
                );
            }
            drop(life);
            life = next;
        }
        if let Ok((stored, _)) = life.snapshots.sizes() {
            assert!(stored < 40_000_000, "seed {seed}: {stored}");
        }
    }
    assert!(cuts > 5 && between > 0, "{cuts} {between}");
}

#[test]
fn h5_a_power_cut_leaves_the_snapshots_of_before_or_of_after() {
    lives(1..12);
}

#[test]
#[ignore = "many more: cargo test --release -p pbft-app h5_many -- --ignored"]
fn h5_many_power_cuts_leave_the_snapshots_of_before_or_of_after() {
    lives(12..400);
}

/// A page number is a length, too: memory is taken for all below it.
#[test]
fn h4_a_page_beyond_any_state_is_damage() {
    for (tree, number) in [(1, PAGES_MAX), (2, 0)] {
        let (medium, _) = stored();
        let (mut snapshots, _) = open(&medium).unwrap();
        let entries = vec![Entry { tree, number, bytes: 0 }];
        let mut value = vec![0; bundle::value_bytes(&entries)];
        bundle::encode(Sequence(5), &entries, |_| Bytes::new(), &mut value);
        snapshots
            .file
            .write(|transaction| {
                let mut tables = Tables::open(transaction)?;
                tables.bundles.insert(0, value.as_slice())?;
                Ok(())
            })
            .unwrap();
        drop(snapshots);
        let opened = open(&medium);
        assert!(matches!(opened, Err(StorageError::Damaged { .. })), "tree {tree}");
    }
}
