use super::*;

#[test]
fn penalties_double_up_to_the_maximum_and_start_again_after_good_behaviour() {
    let limits = NetLimits::default();
    let start = Instant::now();
    let mut penalty = Penalty::after(None, start, &limits);
    assert_eq!(penalty.length, limits.penalty_min);
    let mut lengths = Vec::new();
    for _ in 0..7 {
        penalty = Penalty::after(Some(penalty), penalty.until, &limits);
        lengths.push(penalty.length.as_secs());
    }
    assert_eq!(lengths, [2, 4, 8, 16, 32, 60, 60]);
    let later = penalty.until + limits.penalty_max;
    assert_eq!(Penalty::after(Some(penalty), later, &limits).length, limits.penalty_min);
}
