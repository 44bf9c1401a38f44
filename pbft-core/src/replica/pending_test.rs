use super::*;
use crate::testing::World;

#[test]
fn a_slot_is_worth_a_full_batch_or_as_many_requests_as_are_under_way() {
    let world = World::new(4);
    let mut pending = Pending::default();
    for number in 1..=4 {
        pending.push(world.request(0, number));
    }
    let bytes = world.request(0, 1).wire_bytes();
    let worth = |pending: &Pending| pending.are_worth_a_slot(100, 100 * bytes);
    assert!(worth(&pending), "nothing is under way");
    pending.pop(bytes).unwrap();
    pending.pop(bytes).unwrap();
    assert!(worth(&pending), "2 wait, 2 are under way");
    assert!(pending.pop(bytes - 1).is_none());
    pending.pop(bytes).unwrap();
    assert!(!worth(&pending), "1 waits, 3 are under way");
    assert!(pending.are_worth_a_slot(1, 100 * bytes), "a batch takes no more requests");
    assert!(pending.are_worth_a_slot(100, bytes), "nor more bytes");
    assert!(!pending.are_worth_a_slot(100, bytes + 1));
    for number in 1..=2 {
        pending.remove(ClientId(0), RequestNumber(number));
    }
    assert!(worth(&pending), "1 waits, 1 is under way");
    // Twice is once.
    for _ in 0..2 {
        pending.mark_proposed(ClientId(0), RequestNumber(4));
    }
    assert!(!pending.are_worth_a_slot(1, 1) && pending.unproposed_bytes == 0);
    pending.requeue(Instant(0), 0);
    assert!(pending.are_worth_a_slot(100, 2 * bytes) && pending.unproposed.len() == 2);
    assert_eq!(pending.unproposed_bytes, 2 * bytes);
}
