use super::*;
use crate::testing::*;
use crate::transfer::TreeName;

fn head(sequence: u64) -> Ask {
    Ask { sequence: Sequence(sequence), what: What::Head }
}

fn at(seconds: u64) -> Instant {
    Instant(seconds * 1_000_000)
}

fn filled(slots: u64) -> Archive {
    let world = World::new(4);
    let mut state = state(&world);
    let mut archive = Archive::new(Arc::clone(&world.cluster));
    for slot in 1..=slots {
        state.apply(Sequence(slot), None, crate::types::View(0)).unwrap();
        archive.apply(state.freeze().unwrap());
        archive.keep();
    }
    archive
}

#[test]
fn the_two_latest_stable_snapshots_are_served_and_no_others() {
    let mut archive = filled(6);
    archive.stable(Sequence(4), at(0));
    let served: Vec<u64> =
        (1..=6).filter(|slot| archive.answer(at(0), &head(*slot)).what != PartOf::Gone).collect();
    assert_eq!(served, [3, 4], "5 and 6 are not stable: nobody can have a proof");
}

/// PITFALLS G4: a snapshot that somebody is fetching stays, within bounds.
#[test]
fn g4_a_snapshot_being_fetched_stays_while_it_is_asked_for() {
    let mut archive = filled(12);
    archive.stable(Sequence(4), at(0));
    assert_ne!(archive.answer(at(0), &head(4)).what, PartOf::Gone);
    archive.stable(Sequence(8), at(9));
    assert_ne!(archive.answer(at(9), &head(4)).what, PartOf::Gone, "asked for nine seconds ago");
    archive.stable(Sequence(12), at(30));
    assert_eq!(archive.answer(at(30), &head(4)).what, PartOf::Gone, "nobody asked for a while");
    // For ever is too long, however often it is asked for.
    let mut archive = filled(12);
    archive.stable(Sequence(4), at(0));
    for second in 0..700 {
        archive.answer(at(second), &head(4));
        archive.stable(Sequence(8), at(second));
    }
    assert_eq!(archive.answer(at(701), &head(4)).what, PartOf::Gone);
}

#[test]
fn g4_no_more_snapshots_are_pinned_than_the_bound() {
    let mut archive = filled(60);
    for slot in 1..=60 {
        archive.stable(Sequence(slot), at(1));
        archive.answer(at(1), &head(slot));
    }
    assert!(archive.kept() <= 2 * STABLE_KEPT + PINNED_MAX, "{}", archive.kept());
}

#[test]
fn absurd_asks_get_small_answers() {
    let mut archive = filled(4);
    archive.stable(Sequence(4), at(0));
    for (height, index) in [(0, 0), (255, 0), (24, u32::MAX), (8, 1 << 30), (0, u32::MAX)] {
        let what = What::Nodes { tree: TreeName::Sessions, height, index };
        let part = archive.answer(at(0), &Ask { sequence: Sequence(4), what });
        assert!(crate::wire::encode(&part).len() < 10_000);
    }
    let what = What::Pages { tree: TreeName::Application, numbers: alloc::vec![u32::MAX; 128] };
    let part = archive.answer(at(0), &Ask { sequence: Sequence(4), what });
    assert!(crate::wire::encode(&part).len() < 10_000);
}

/// After a restart the later snapshots stay, and serve as soon as they are proven.
#[test]
fn g4_what_a_checkpoint_said_is_kept_over_a_restart_and_installed_without_fetching() {
    let world = World::new(4);
    let mut archive = filled(6);
    archive.stable(Sequence(4), at(0));
    let last = archive.latest_stable().cloned().unwrap();
    assert_eq!(last.sequence, Sequence(4));
    archive.resume(last);
    assert_eq!(archive.current().sequence, Sequence(4));
    let digest = archive.kept.get(&Sequence(6)).unwrap().digest(&world.cluster);
    assert!(archive.proven(&world.stable(6, digest)).is_some());
    assert!(archive.proven(&world.stable(6, Digest([1; 32]))).is_none(), "not what is proven");
    archive.stable(Sequence(6), at(0));
    assert_ne!(archive.answer(at(0), &head(6)).what, PartOf::Gone);
}
