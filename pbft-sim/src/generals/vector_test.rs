#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::generals::strategy::Named;

fn case(n: u64, m: u64, traitors: &[u8]) -> Case<i128> {
    let setting = Setting::new(n, m, General(1)).unwrap();
    let traitors = traitors.iter().copied().map(General).collect();
    let values = setting.generals().map(|id| 10 * i128::from(id.0)).collect();
    Case { setting, traitors, values, choice: Choice::Majority, default: 0 }
}

#[test]
fn b5_exercise_7() {
    for name in ["hash:7", "pair", "garbage", "split", "flip", "parity"] {
        let strategy: Named = name.parse().unwrap();
        let outcome = run(&case(7, 2, &[1, 2]), &strategy, &mut |_| {}).unwrap();
        let three = &outcome.members[&General(3)];
        let mut received = [0; 3];
        for commander in (1..=7).map(General).filter(|it| *it != General(3)) {
            let by_round = three.tree(commander).unwrap().told_by_round();
            received.iter_mut().zip(by_round).for_each(|(sum, count)| *sum += count);
        }
        assert_eq!(received, [6, 30, 120]);
        assert!(outcome.agree && outcome.truthful, "{name}: {:?}", outcome.vectors);
        assert_eq!(outcome.vectors[&General(3)][2..], [30, 40, 50, 60, 70]);
        assert_eq!(outcome.vectors.len(), 5);
        assert_eq!((outcome.sent, outcome.packets), (vec![42, 210, 840], vec![42, 42, 42]));
    }
}

#[test]
fn six_generals_do_not_agree_about_two_traitors() {
    let strategy: Named = "flip".parse().unwrap();
    let outcome = run(&case(6, 2, &[5, 6]), &strategy, &mut |_| {}).unwrap();
    assert!(!outcome.truthful || !outcome.agree, "{:?}", outcome.vectors);
}

#[test]
fn silence_saves_packets() {
    let strategy: Named = "silent".parse().unwrap();
    let outcome = run(&case(4, 1, &[4]), &strategy, &mut |_| {}).unwrap();
    // Three speak to three each; in round 2 what 4 did not say is passed on as the default.
    assert_eq!((outcome.sent, outcome.packets), (vec![9, 18], vec![9, 9]));
    assert_eq!(outcome.vectors[&General(1)], [10, 20, 30, 0]);
}
