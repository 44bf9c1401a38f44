use pbft_core::cluster::ClusterConfig;
use pbft_core::limits::Constants;
use pbft_core::pages::Pages;
use pbft_core::types::PublicKey;

use super::super::faulty::Faulty;
use super::*;
use crate::testing::Random;

fn cluster() -> Cluster {
    let config = ClusterConfig {
        name: "test".to_owned(),
        members: vec![PublicKey([1; 32])],
        clients: vec![PublicKey([2; 32])],
        constants: Constants::default(),
        development: true,
    };
    Cluster::new(config).unwrap()
}

fn path() -> &'static Path {
    Path::new("snapshots.redb")
}

/// Opens it so that everything is worth being reclaimed.
fn open(medium: &Arc<Faulty>) -> Result<(Snapshots, Loaded), StorageError> {
    let medium = Arc::clone(medium) as Arc<dyn Medium>;
    let (mut snapshots, loaded) = Snapshots::open(path(), medium, &cluster())?;
    snapshots.reclaim_all();
    Ok((snapshots, loaded))
}

fn empty() -> Arc<Faulty> {
    let medium = Arc::new(Faulty::new());
    Snapshots::create(path(), Arc::clone(&medium) as Arc<dyn Medium>).unwrap();
    medium
}

/// A state that changes: pages written, emptied, cut off and added.
struct State {
    pages: [Pages; 2],
    snapshot: Snapshot,
    changed: Changed,
}

impl State {
    fn new() -> Self {
        State {
            pages: [Pages::new(), Pages::new()],
            snapshot: Snapshot::default(),
            changed: Changed::default(),
        }
    }

    fn change(&mut self, random: &mut Random) {
        for pages in &mut self.pages {
            for _ in 0..random.index(4) {
                let number = random.index(20);
                let length = random.index(3) * 40;
                let byte = u8::try_from(random.index(250)).unwrap();
                pages.write(number, Bytes::from(vec![byte; length])).unwrap();
            }
            if random.index(5) == 0 {
                pages.truncate(random.index(20));
            }
        }
    }

    /// Takes the changes in, as for a checkpoint or a report.
    fn freeze(&mut self, sequence: u64) {
        let [sessions, application] = self.pages.each_mut().map(Pages::take_changes);
        self.changed.note(&sessions, &application);
        self.snapshot.sequence = Sequence(sequence);
        self.snapshot.sessions.apply(sessions);
        self.snapshot.application.apply(application);
    }
}

fn digests(snapshots: &[Snapshot]) -> Vec<(Sequence, Digest)> {
    let cluster = cluster();
    snapshots.iter().map(|it| (it.sequence, it.digest(&cluster))).collect()
}

/// What the versions take that the kept snapshots need, counted page by page: of each page those that differ.
fn needed(kept: &[Snapshot]) -> u64 {
    let mut needed = 0;
    for (tree, name) in (0..).zip(TREES) {
        for number in 0..64 {
            let mut before = Bytes::new();
            for snapshot in kept {
                let page = snapshot.tree(name).page(number);
                if page != before {
                    needed += Entry::of(tree, number, &page).cost_bytes();
                }
                before = page;
            }
        }
    }
    needed
}

#[test]
fn kept_snapshots_come_back_as_they_were_and_nothing_else_stays() {
    let cluster = cluster();
    for seed in 1..16 {
        let mut random = Random(seed * 0x9e37_79b9);
        let medium = empty();
        let (mut snapshots, _) = open(&medium).unwrap();
        let mut state = State::new();
        let mut kept: Vec<Snapshot> = Vec::new();
        for step in 1..40 {
            state.change(&mut random);
            if random.index(3) == 0 {
                // A report between two checkpoints: what it takes in belongs to the next one too.
                state.freeze(step * 10 - 5);
                state.change(&mut random);
            }
            state.freeze(step * 10);
            while kept.len() > 1 + random.index(3) {
                kept.remove(random.index(kept.len()));
            }
            kept.push(state.snapshot.clone());
            let wanted = kept.iter().map(|it| it.sequence).collect();
            let digest = state.snapshot.digest(&cluster);
            let changed = std::mem::take(&mut state.changed);
            snapshots.add(&state.snapshot, digest, &changed, &wanted).unwrap();
            if random.index(6) == 0 {
                // Back to an earlier one, as after a transfer, and on from there.
                let back = random.index(kept.len());
                kept.truncate(back + 1);
                snapshots.rewind(Some(kept[back].sequence)).unwrap();
                state.snapshot = kept[back].clone();
                state.pages = TREES.map(|tree| kept[back].tree(tree).to_pages());
            }
            if random.index(4) == 0 {
                drop(snapshots);
                let (opened, loaded) = open(&medium).unwrap();
                snapshots = opened;
                assert_eq!(digests(&loaded), digests(&kept), "seed {seed} step {step}");
            }
            // A page written again with the same bytes is a version of its own; so not less.
            let (stored, live) = snapshots.sizes().unwrap();
            assert!(stored >= needed(&kept), "seed {seed} step {step}");
            assert!(live >= needed(&kept[kept.len() - 1..]), "seed {seed} step {step}");
        }
        // Once only one is left, little more than its own pages is.
        let own = needed(std::slice::from_ref(&state.snapshot));
        for step in 100..150 {
            state.pages[0].write(0, Bytes::from(vec![step; 40])).unwrap();
            state.freeze(u64::from(step) * 10);
            let only = [state.snapshot.sequence].into();
            let changed = std::mem::take(&mut state.changed);
            let digest = state.snapshot.digest(&cluster);
            snapshots.add(&state.snapshot, digest, &changed, &only).unwrap();
        }
        let (stored, live) = snapshots.sizes().unwrap();
        assert!(stored <= 2 * live + 600, "seed {seed}: others are reclaimed, {stored} for {live}");
        assert!(live <= own + 200, "seed {seed}: what is empty is forgotten, {live} for {own}");
        drop(snapshots);
        let (_, loaded) = open(&medium).unwrap();
        assert_eq!(digests(&loaded), digests(&[state.snapshot]), "seed {seed}");
    }
}

#[test]
fn what_a_checkpoint_writes_follows_what_changed_and_the_file_stays_bounded() {
    let cluster = cluster();
    let (medium, mut random, mut state) = (empty(), Random(11), State::new());
    let (mut snapshots, _) = open(&medium).unwrap();
    let pages = 2000_usize;
    for number in 0..pages {
        state.pages[1].write(number, Bytes::from(vec![1; 1000])).unwrap();
    }
    state.freeze(0);
    let changed = std::mem::take(&mut state.changed);
    assert!(snapshots.prepare(&state.snapshot, &changed).unwrap());
    // Some pages change all the time and most never do.
    let mut most = 0;
    for step in 1..200_u64 {
        for _ in 0..40 {
            let number = random.index(100) * 20;
            let bytes = step.to_le_bytes().repeat(125);
            state.pages[1].write(number, Bytes::from(bytes)).unwrap();
        }
        state.freeze(step * 10);
        let before = medium.written();
        let changed = std::mem::take(&mut state.changed);
        let kept = [step * 10, step * 10 - 10].map(Sequence).into();
        let digest = state.snapshot.digest(&cluster);
        snapshots.add(&state.snapshot, digest, &changed, &kept).unwrap();
        most = most.max(medium.written() - before);
        let (stored, live) = snapshots.sizes().unwrap();
        assert!(stored <= 3 * live, "{stored} for {live}");
    }
    assert!(most < 400_000, "at most 40 of 2000 pages changed, {most} bytes were written");
    drop(snapshots);
    let (_, loaded) = open(&medium).unwrap();
    assert_eq!(loaded.len(), 2);
    assert_eq!(digests(&loaded)[1], (state.snapshot.sequence, state.snapshot.digest(&cluster)));
}

#[test]
fn what_was_stored_before_the_first_checkpoint_is_forgotten_for_another_state() {
    let cluster = cluster();
    let (medium, mut own, mut other) = (empty(), State::new(), State::new());
    let (mut snapshots, _) = open(&medium).unwrap();
    for number in 0..10 {
        own.pages[1].write(number, Bytes::from(vec![1; 100])).unwrap();
    }
    own.freeze(0);
    assert!(snapshots.prepare(&own.snapshot, &own.changed).unwrap());
    // Started again with another state: nothing of the first is there any more, nor of the second.
    for length in [0, 50] {
        drop(snapshots);
        let (opened, loaded) = open(&medium).unwrap();
        (snapshots, other) = (opened, State::new());
        assert!(loaded.is_empty());
        other.pages[1].write(3, Bytes::from(vec![2; length])).unwrap();
        other.freeze(0);
        assert!(snapshots.prepare(&other.snapshot, &other.changed).unwrap());
    }
    snapshots.rewind(None).unwrap();
    own.freeze(10);
    let kept = [Sequence(10)].into();
    let digest = own.snapshot.digest(&cluster);
    let all = Changed::between(&Snapshot::default(), &own.snapshot);
    snapshots.add(&own.snapshot, digest, &all, &kept).unwrap();
    assert!(!snapshots.prepare(&other.snapshot, &other.changed).unwrap(), "there is a snapshot");
    drop(snapshots);
    assert_eq!(digests(&open(&medium).unwrap().1), digests(&[own.snapshot]));
}

#[test]
fn a_transferred_state_is_stored_by_what_differs() {
    let cluster = cluster();
    let (medium, mut random) = (empty(), Random(5));
    let (mut snapshots, _) = open(&medium).unwrap();
    let (mut own, mut other) = (State::new(), State::new());
    own.change(&mut random);
    own.freeze(10);
    let all = Changed::between(&Snapshot::default(), &own.snapshot);
    let kept = [Sequence(10), Sequence(30)].into();
    snapshots.add(&own.snapshot, own.snapshot.digest(&cluster), &all, &kept).unwrap();
    for _ in 0..10 {
        other.change(&mut random);
    }
    other.freeze(30);
    let changed = Changed::between(&own.snapshot, &other.snapshot);
    snapshots.add(&other.snapshot, other.snapshot.digest(&cluster), &changed, &kept).unwrap();
    drop(snapshots);
    let (_, loaded) = open(&medium).unwrap();
    assert_eq!(digests(&loaded), digests(&[own.snapshot, other.snapshot]));
}

fn stored() -> (Arc<Faulty>, Vec<(Sequence, Digest)>) {
    let cluster = cluster();
    let (medium, mut random, mut state) = (empty(), Random(9), State::new());
    let (mut snapshots, _) = open(&medium).unwrap();
    for step in 1..4 {
        state.change(&mut random);
        state.freeze(step * 10);
        let changed = std::mem::take(&mut state.changed);
        let kept = [10, 20, 30].map(Sequence).into();
        let digest = state.snapshot.digest(&cluster);
        snapshots.add(&state.snapshot, digest, &changed, &kept).unwrap();
    }
    drop(snapshots);
    let loaded = open(&medium).unwrap().1;
    (medium, digests(&loaded))
}

fn flip(every: usize) {
    let (medium, expected) = stored();
    let bytes = medium.bytes();
    let used: Vec<usize> = (0..bytes.len()).filter(|at| *at < 320 || bytes[*at] != 0).collect();
    let mut damaged = 0;
    for at in used.into_iter().step_by(every) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        match open(&Arc::new(Faulty::with(&flipped))) {
            // An older state is none that anybody would miss: the newer is fetched again.
            Ok((_, loaded)) => assert!(expected.starts_with(&digests(&loaded)), "byte {at}"),
            Err(StorageError::Damaged { .. }) => damaged += 1,
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
    assert!(damaged > 20, "{damaged}");
}

#[test]
fn h4_a_flipped_bit_gives_no_wrong_page() {
    flip(31);
}

#[test]
#[ignore = "every byte: cargo test --release -p pbft-app h4_every -- --ignored"]
fn h4_every_flipped_byte_gives_no_wrong_page() {
    flip(1);
}

#[test]
fn h4_every_length_gives_no_wrong_page() {
    let (medium, expected) = stored();
    let bytes = medium.bytes();
    for length in (0..bytes.len()).step_by(1999).chain([1, 319, 320, 321, 4096, 8192]) {
        match open(&Arc::new(Faulty::with(&bytes[..length]))) {
            Ok((_, loaded)) => assert_eq!(digests(&loaded), expected, "length {length}"),
            Err(StorageError::Damaged { .. }) => {}
            Err(error) => panic!("length {length}: {error}"),
        }
    }
}

#[test]
fn h7_a_checkpoint_that_finds_no_room_is_written_later() {
    let cluster = cluster();
    let (medium, mut random, mut state) = (empty(), Random(3), State::new());
    let (mut snapshots, _) = open(&medium).unwrap();
    let mut was_full = 0;
    for step in 1..60 {
        state.change(&mut random);
        state.freeze(step * 10);
        let changed = std::mem::take(&mut state.changed);
        let kept = [step * 10, step * 10 - 10].map(Sequence).into();
        let digest = state.snapshot.digest(&cluster);
        medium.set_room(Some(random.index(40_000)));
        match snapshots.add(&state.snapshot, digest, &changed, &kept) {
            Ok(()) => {}
            Err(StorageError::Full { .. }) => {
                was_full += 1;
                medium.set_room(None);
                snapshots.add(&state.snapshot, digest, &changed, &kept).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
        medium.set_room(None);
    }
    assert!(was_full > 5, "{was_full}");
    drop(snapshots);
    let (_, loaded) = open(&medium).unwrap();
    assert_eq!(loaded.len(), 2);
    assert_eq!(digests(&loaded)[1], (state.snapshot.sequence, state.snapshot.digest(&cluster)));
}

#[test]
fn a_file_of_an_earlier_version_is_refused_and_not_taken_for_a_damaged_one() {
    let medium = Arc::new(Faulty::new());
    let table: TableDefinition<'static, u64, u64> = TableDefinition::new("pages");
    StoreFile::create(path(), Arc::clone(&medium) as Arc<dyn Medium>, |transaction| {
        transaction.open_table(table)?;
        Ok(())
    })
    .unwrap();
    let opened = open(&medium);
    assert!(matches!(opened, Err(StorageError::Foreign { .. })), "{opened:?}");
}

#[test]
fn a_large_checkpoint_is_synced_in_portions() {
    let (medium, mut state) = (empty(), State::new());
    let (mut snapshots, _) = open(&medium).unwrap();
    for number in 0..2000 {
        state.pages[1].write(number, Bytes::from(vec![1; 1000])).unwrap();
    }
    state.freeze(10);
    let before = snapshots.guard().syncs();
    let digest = state.snapshot.digest(&cluster());
    snapshots.add(&state.snapshot, digest, &state.changed, &[Sequence(10)].into()).unwrap();
    assert!(snapshots.guard().syncs() - before >= 2 + 3, "2 MB");
}

#[path = "snapshots_review_test.rs"]
mod review;
