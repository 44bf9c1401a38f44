use super::*;

#[test]
fn one_address_cannot_take_every_slot_and_a_dropped_slot_is_free_again() {
    let slots = Slots { taken: Arc::default(), max: 3, per_address_max: 2 };
    let [a, b] = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])];
    let held = (slots.take(a).unwrap(), slots.take(a).unwrap());
    assert!(slots.take(a).is_none());
    let other = slots.take(b).unwrap();
    assert!(slots.take(b).is_none());
    drop((held, other));
    assert!(slots.lock().by_address.is_empty() && slots.lock().total == 0);
}
