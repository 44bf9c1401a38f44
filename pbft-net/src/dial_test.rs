use super::*;

#[test]
fn pauses_double_with_jitter_up_to_the_maximum_and_start_again() {
    let limits = NetLimits::default();
    let mut backoff = Backoff::new(&limits);
    let mut step = limits.reconnect_min;
    for _ in 0..12 {
        let pause = backoff.next();
        assert!(pause >= step && pause <= (step * 3 / 2).min(limits.reconnect_max), "{pause:?}");
        step = (step * 2).min(limits.reconnect_max);
    }
    backoff.reset();
    assert!(backoff.next() < limits.reconnect_min * 2);
}
