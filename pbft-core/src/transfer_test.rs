//! Transfers between archives, donors honest and not.

use alloc::vec;

use super::*;
use crate::archive::Archive;
use crate::message::Checkpoint;
use crate::state::Frozen;
use crate::testing::*;
use crate::wire;

const TARGET: u64 = 8;

fn frozen(sequence: u64, sessions: &mut Pages, application: &mut Pages) -> Frozen {
    Frozen {
        sequence: Sequence(sequence),
        sessions: sessions.take_changes(),
        application: application.take_changes(),
    }
}

fn page(number: usize, round: u8) -> Bytes {
    Bytes::from([&number.to_le_bytes()[..], &[round; 56]].concat())
}

/// A donor's archive with `count` pages after slot 8, the proof, and the pages for going on.
fn donor(world: &World, count: usize) -> (Archive, StableProof, Pages) {
    let (mut sessions, mut application) = (Pages::new(), Pages::new());
    sessions.write(0, Bytes::from_static(b"head")).unwrap();
    for number in 0..count {
        application.write(number, page(number, 1)).unwrap();
    }
    let mut archive = Archive::new(Arc::clone(&world.cluster));
    let digest = archive.apply(frozen(TARGET, &mut sessions, &mut application));
    archive.keep();
    archive.stable(Sequence(TARGET), Instant(0));
    (archive, world.stable(TARGET, digest), application)
}

struct Course {
    transfer: Transfer,
    now: Instant,
    blamed: Vec<(u32, PartFault)>,
    asks: usize,
    done: Option<Box<Snapshot>>,
}

impl Course {
    fn new(world: &World, proof: StableProof, held: Snapshot) -> Self {
        let cluster = Arc::clone(&world.cluster);
        let transfer = Transfer::new(cluster, ReplicaId(3), proof, held);
        Course { transfer, now: Instant(1), blamed: vec![], asks: 0, done: None }
    }

    /// Runs until the end or `rounds` asks; `answer` plays the donors.
    fn run(&mut self, rounds: usize, mut answer: impl FnMut(ReplicaId, &Ask) -> Option<Part>) {
        let mut queue = Vec::new();
        self.transfer.wake(self.now, &mut queue);
        for _ in 0..rounds {
            let mut out = Vec::new();
            if queue.is_empty() {
                // Nothing under way: time passes to the next deadline.
                let Some(due) = self.transfer.deadline() else { return };
                self.now = self.now.max(due);
                self.transfer.wake(self.now, &mut out);
            } else {
                match queue.remove(0) {
                    TransferAction::Ask { to, ask } => {
                        self.asks += 1;
                        if let Some(part) = answer(to, &ask) {
                            // As it crosses the wire.
                            let part = wire::decode(&wire::encode(&part)).unwrap();
                            self.transfer.on_part(self.now, to, part, &mut out);
                        }
                    }
                    TransferAction::Blame { donor, fault } => self.blamed.push((donor.0, fault)),
                    TransferAction::Done(snapshot) => {
                        self.done = Some(snapshot);
                        return;
                    }
                }
            }
            queue.extend(out);
        }
    }
}

fn digest_of(world: &World, course: &Course) -> Option<Digest> {
    course.done.as_ref().map(|snapshot| snapshot.digest(&world.cluster))
}

#[test]
fn a_state_of_many_pages_arrives_whole() {
    let world = World::new(4);
    for count in [0, 1, 2, 255, 256, 257, 3_000] {
        let (mut archive, proof, _) = donor(&world, count);
        let mut course = Course::new(&world, proof.clone(), Snapshot::default());
        course.run(10_000, |_, ask| Some(archive.answer(Instant(1), ask)));
        assert_eq!(digest_of(&world, &course), Some(proof.checkpoint.digest), "{count} pages");
        assert_eq!(course.blamed, vec![]);
    }
}

#[test]
fn pages_already_held_are_skipped() {
    let world = World::new(4);
    let (archive, _, mut application) = donor(&world, 3_000);
    let held = archive.current().clone();
    for number in [7, 8, 2_999, 3_100] {
        application.write(number, page(number, 2)).unwrap();
    }
    application.truncate(3_050);
    let mut full = Archive::new(Arc::clone(&world.cluster));
    let mut all = Pages::new();
    for (number, bytes) in application.iter().enumerate() {
        all.write(number, bytes.clone()).unwrap();
    }
    let mut sessions = Pages::new();
    sessions.write(0, Bytes::from_static(b"head")).unwrap();
    let digest = full.apply(frozen(TARGET + 8, &mut sessions, &mut all));
    full.keep();
    full.stable(Sequence(TARGET + 8), Instant(0));
    let mut course = Course::new(&world, world.stable(TARGET + 8, digest), held);
    course.run(10_000, |_, ask| Some(full.answer(Instant(1), ask)));
    assert_eq!(digest_of(&world, &course), Some(digest));
    assert_eq!(course.transfer.progress().fetched, 3, "7, 8 and 2,999; the rest is held or empty");
}

/// PITFALLS G1: metadata is believed on the proof alone.
#[test]
fn g1_heads_that_do_not_hash_to_the_proof_are_refused_and_their_donor_left() {
    let world = World::new(4);
    let (mut archive, proof, _) = donor(&world, 300);
    let mut course = Course::new(&world, proof.clone(), Snapshot::default());
    course.run(10_000, |from, ask| {
        let mut part = archive.answer(Instant(1), ask);
        if from == ReplicaId(0)
            && let PartOf::Head { application, .. } = &mut part.what
        {
            application.count += 1;
        }
        Some(part)
    });
    assert_eq!(course.blamed, vec![(0, PartFault::Head)]);
    assert_eq!(digest_of(&world, &course), Some(proof.checkpoint.digest));
}

/// PITFALLS G2: a target is set by a proof and by nothing a donor says.
#[test]
fn g2_a_donor_that_speaks_of_a_higher_checkpoint_moves_nothing() {
    let world = World::new(4);
    let (mut archive, proof, _) = donor(&world, 300);
    let mut course = Course::new(&world, proof.clone(), Snapshot::default());
    course.run(10_000, |from, ask| {
        let mut part = archive.answer(Instant(1), ask);
        if from == ReplicaId(0) {
            part.sequence = Sequence(1 << 40);
        }
        Some(part)
    });
    assert_eq!(course.transfer.target(), Sequence(TARGET));
    assert_eq!(digest_of(&world, &course), Some(proof.checkpoint.digest));
}

fn nodes(part: &mut PartOf, lie: impl FnOnce(&mut Vec<Digest>)) {
    if let PartOf::Nodes { digests, .. } = part {
        lie(digests);
    }
}

fn pages(part: &mut PartOf, least: usize, lie: impl FnOnce(&mut Vec<(u32, Bytes)>)) {
    match part {
        PartOf::Pages { pages, .. } if pages.len() >= least => lie(pages),
        _ => {}
    }
}

/// PITFALLS G3: wrong nodes, wrong pages, wrong order, too much: found on arrival.
#[test]
fn g3_every_wrong_part_is_found_on_arrival_and_its_donor_left() {
    let world = World::new(4);
    type Lie = fn(&mut PartOf);
    let lies: [(Lie, PartFault); 6] = [
        (|part| nodes(part, |digests| digests[1].0[0] ^= 1), PartFault::Nodes),
        (|part| nodes(part, |digests| digests.truncate(1)), PartFault::Nodes),
        (|part| nodes(part, |digests| digests.swap(0, 1)), PartFault::Nodes),
        (|part| pages(part, 1, |list| list[0].1 = Bytes::from_static(b"?")), PartFault::Page),
        (|part| pages(part, 3, |list| list.swap(1, 2)), PartFault::Unasked),
        (|part| pages(part, 2, |list| list[1].0 += 1_000), PartFault::Unasked),
    ];
    for (lie, fault) in lies {
        let (mut archive, proof, _) = donor(&world, 300);
        let mut course = Course::new(&world, proof.clone(), Snapshot::default());
        course.run(10_000, |from, ask| {
            let mut part = archive.answer(Instant(1), ask);
            if from == ReplicaId(1) {
                lie(&mut part.what);
            }
            Some(part)
        });
        assert_eq!(course.blamed, vec![(1, fault)]);
        assert_eq!(digest_of(&world, &course), Some(proof.checkpoint.digest), "{fault:?}");
    }
}

#[test]
fn g3_a_silent_donor_is_replaced_at_its_deadline_and_an_endless_one_gains_nothing() {
    let world = World::new(4);
    let (mut archive, proof, _) = donor(&world, 1_000);
    let mut course = Course::new(&world, proof.clone(), Snapshot::default());
    let silent = |from: ReplicaId| from == ReplicaId(0);
    course.run(10_000, |from, ask| (!silent(from)).then(|| archive.answer(Instant(1), ask)));
    assert_eq!(digest_of(&world, &course), Some(proof.checkpoint.digest));
    // Parts nobody asked for are dropped before they are looked at.
    let mut course = Course::new(&world, proof.clone(), Snapshot::default());
    let mut out = Vec::new();
    course.transfer.wake(course.now, &mut out);
    for number in 0..10_000 {
        let pages = vec![(number, Bytes::from_static(b"junk"))];
        let what = PartOf::Pages { tree: TreeName::Application, pages };
        let part = Part { sequence: Sequence(TARGET), what };
        course.transfer.on_part(course.now, ReplicaId(0), part, &mut out);
    }
    assert!(course.transfer.fetched.is_empty() && course.transfer.wanted.is_empty());
}

/// Found by the simulator with round trips of four seconds: every answer came after the deadline, for ever.
#[test]
fn g6_links_slower_than_the_deadline_are_waited_for() {
    let world = World::new(4);
    let (mut archive, proof, _) = donor(&world, 300);
    let mut course = Course::new(&world, proof.clone(), Snapshot::default());
    let mut answers = alloc::collections::VecDeque::new();
    let mut out = Vec::new();
    course.transfer.wake(course.now, &mut out);
    for _ in 0..10_000 {
        for action in out.drain(..) {
            match action {
                TransferAction::Ask { to, ask } => {
                    let part = archive.answer(Instant(1), &ask);
                    answers.push_back((course.now.after(Duration::from_secs(7)), to, part));
                }
                TransferAction::Done(snapshot) => course.done = Some(snapshot),
                TransferAction::Blame { .. } => panic!("nobody lies"),
            }
        }
        if course.done.is_some() {
            break;
        }
        let alarm = course.transfer.deadline().unwrap();
        if answers.front().is_some_and(|(due, _, _)| *due <= alarm) {
            let (due, from, part) = answers.pop_front().unwrap();
            course.now = due;
            course.transfer.on_part(due, from, part, &mut out);
        } else {
            course.now = alarm;
            course.transfer.wake(alarm, &mut out);
        }
    }
    assert_eq!(digest_of(&world, &course), Some(proof.checkpoint.digest));
    assert!(course.now < Instant(200_000_000), "{:?}", course.now);
}

/// PITFALLS G4, G6: one donor that holds it is enough; when none does any more, on to the next proof, and
/// nothing fetched is lost.
#[test]
fn g4_when_no_donor_holds_it_any_more_the_later_proof_is_the_target() {
    let world = World::new(4);
    let (mut archive, proof, mut application) = donor(&world, 3_000);
    application.write(5, page(5, 2)).unwrap();
    let mut sessions = Pages::new();
    let _ = sessions.take_changes();
    let mut later = archive.clone();
    let mut changes = frozen(TARGET + 4, &mut sessions, &mut application);
    // The sessions stay as they are.
    changes.sessions = PageChanges { count: 1, total_bytes: 4, pages: vec![] };
    let digest = later.apply(changes);
    later.keep();
    later.stable(Sequence(TARGET + 4), Instant(0));
    let mut course = Course::new(&world, proof, Snapshot::default());
    course.transfer.offer(world.stable(TARGET + 4, digest));
    let mut answered = 0;
    course.run(10_000, |_, ask| {
        answered += 1;
        if ask.sequence == Sequence(TARGET) && answered < 20 {
            return Some(archive.answer(Instant(1), ask));
        }
        if ask.sequence == Sequence(TARGET) {
            return Some(Part { sequence: ask.sequence, what: PartOf::Gone });
        }
        Some(later.answer(Instant(1), ask))
    });
    assert_eq!(course.transfer.target(), Sequence(TARGET + 4));
    assert_eq!(digest_of(&world, &course), Some(digest));
    assert_eq!(course.blamed, vec![]);
    let fetched = course.transfer.progress().fetched;
    assert!(fetched <= 3_000 + 3, "pages were fetched twice: {fetched}");
}

/// PITFALLS G6: a donor that is down must not be what the transfer waits for.
#[test]
fn g6_with_one_donor_down_and_the_snapshot_gone_elsewhere_the_later_proof_is_the_target() {
    let world = World::new(4);
    let (mut archive, proof, _) = donor(&world, 10);
    let digest = proof.checkpoint.digest;
    let old = world.stable(TARGET - 4, Digest([7; 32]));
    let mut course = Course::new(&world, old, Snapshot::default());
    course.transfer.offer(proof);
    course.run(1_000, |from, ask| (from.0 != 0).then(|| archive.answer(Instant(1), ask)));
    assert_eq!(digest_of(&world, &course), Some(digest));
}

#[test]
fn g6_without_donors_it_waits_and_tries_again() {
    let world = World::new(4);
    let (mut archive, proof, _) = donor(&world, 10);
    let mut course = Course::new(&world, proof.clone(), Snapshot::default());
    let mut rounds = 0;
    course.run(10_000, |_, ask| {
        rounds += 1;
        if rounds < 30 {
            return Some(Part { sequence: ask.sequence, what: PartOf::Gone });
        }
        Some(archive.answer(Instant(1), ask))
    });
    assert_eq!(digest_of(&world, &course), Some(proof.checkpoint.digest));
}

#[test]
fn k1_what_is_known_and_not_fetched_is_bounded() {
    let world = World::new(4);
    let (mut archive, proof, _) = donor(&world, 60_000);
    let mut course = Course::new(&world, proof, Snapshot::default());
    let mut queue = Vec::new();
    course.transfer.wake(course.now, &mut queue);
    while !queue.is_empty() {
        let TransferAction::Ask { to, ask } = queue.remove(0) else { break };
        let part = archive.answer(Instant(1), &ask);
        course.transfer.on_part(course.now, to, part, &mut queue);
        let open = course.transfer.wanted.len() + course.transfer.jobs.len();
        assert!(open <= WANTED_MAX + (3 * ASKS_PER_DONOR + 1) * 256 * 2, "{open}");
    }
}

#[test]
fn a_checkpoint_is_what_the_digest_is_about() {
    let world = World::new(4);
    let (archive, proof, _) = donor(&world, 3);
    let head = archive.current();
    let other = state_digest(
        &world.cluster,
        Sequence(TARGET + 1),
        &head.sessions.head(),
        &head.application.head(),
    );
    let checkpoint = Checkpoint { sequence: Sequence(TARGET), digest: other };
    assert_ne!(proof.checkpoint, checkpoint);
}
