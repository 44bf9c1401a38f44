#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::generals::strategy::{NAMES, Named, Table, parse_key};

fn case(n: u64, m: u64, traitors: &[u8]) -> Case<i128> {
    let setting = Setting::new(n, m, General(1)).unwrap();
    let traitors = traitors.iter().copied().map(General).collect();
    Case { setting, traitors, order: 1, choice: Choice::Majority, default: 0 }
}

fn play(case: &Case<i128>, name: &str) -> Outcome<i128> {
    run(case, &name.parse::<Named>().unwrap(), &mut |_| {}).unwrap()
}

fn decisions(outcome: &Outcome<i128>) -> Vec<i128> {
    outcome.decisions.values().copied().collect()
}

#[test]
fn b1_improper_forwarding_and_different_messages_are_two_traitors() {
    // A lieutenant who relays wrongly, a commander who says two things: four generals stand both, one at a time.
    let forwards = run(&case(4, 1, &[3]), &lies(&["1>3>2", "1>3>4"], 0), &mut |_| {}).unwrap();
    assert_eq!((decisions(&forwards), forwards.holds()), (vec![1, 1], true));
    let tells = run(&case(4, 1, &[1]), &lies(&["1>3"], 0), &mut |_| {}).unwrap();
    assert_eq!((decisions(&tells), tells.holds()), (vec![1, 1, 1], true));
    let both = run(&case(4, 1, &[1, 3]), &lies(&["1>4", "1>3>2"], 0), &mut |_| {}).unwrap();
    assert!(both.ic1.is_ok() || both.ic2.is_ok());
}

fn lies(keys: &[&str], value: i128) -> Table<i128> {
    Table(keys.iter().map(|key| (parse_key(key).unwrap(), Some(value))).collect())
}

#[test]
fn b2_the_violations_of_the_lecture() {
    let three = play(&case(3, 1, &[3]), "flip");
    assert_eq!((decisions(&three), three.ic1.is_ok(), three.ic2.is_ok()), (vec![0], true, false));
    let six = play(&case(6, 2, &[5, 6]), "flip");
    assert_eq!((decisions(&six), six.ic1.is_ok(), six.ic2.is_ok()), (vec![0, 0, 0], true, false));
}

#[test]
fn b3_no_named_strategy_breaks_seven_generals_with_two_traitors() {
    let names: Vec<String> = NAMES.iter().map(|(name, _)| name.replace(":S", ":7")).collect();
    for one in 1..=7 {
        for other in one + 1..=7 {
            for (name, order) in names.iter().zip([0, 1].iter().cycle()) {
                let case = Case { order: *order, ..case(7, 2, &[one, other]) };
                let outcome = play(&case, name);
                assert!(outcome.holds(), "{one} and {other} by {name}: {outcome:?}");
                let counts = super::checker::counts(&case.setting, &outcome.sent, name == "silent");
                assert!(counts, "INV23: {:?}", outcome.sent);
            }
        }
    }
}

#[test]
fn sent_counts_what_is_really_sent() {
    assert_eq!(play(&case(4, 1, &[]), "silent").sent, [3, 6]);
    assert_eq!(play(&case(4, 1, &[3]), "silent").sent, [3, 4]);
    // A silent commander's order is passed on as the default by everyone.
    let silent = play(&case(4, 1, &[1]), "silent");
    assert_eq!((silent.sent.clone(), decisions(&silent)), (vec![0, 6], vec![0, 0, 0]));
    assert_eq!(play(&case(7, 2, &[1, 2]), "hash:1").sent, [6, 30, 120]);
    assert_eq!(play(&case(10, 3, &[1, 2, 3]), "parity").sent.iter().sum::<u64>(), 3_609);
}

#[test]
fn lies_are_told_from_the_truth_where_they_are_said() {
    let mut heard = Vec::new();
    run(&case(4, 1, &[3]), &"split".parse::<Named>().unwrap(), &mut |saying: &Saying<i128>| {
        heard.push((format!("{}>{}", saying.path, saying.receiver), saying.said, saying.is_lie()));
    })
    .unwrap();
    let at =
        |key: &str| heard.iter().find(|(it, ..)| it == key).map(|(_, said, lie)| (*said, *lie));
    assert_eq!(heard.len(), 9);
    assert_eq!(at("1>3>2"), Some((Some(0), true)));
    assert_eq!(at("1>3>4"), Some((Some(0), true)));
    assert_eq!(at("1>2>4"), Some((Some(1), false)));
    assert_eq!(heard[0].0, "1>2");
}

#[test]
fn any_general_may_command_and_any_number_be_traitors() {
    for commander in 1..=4 {
        let setting = Setting::new(4, 1, General(commander)).unwrap();
        let outcome = play(&Case { setting, order: 7, ..case(4, 1, &[]) }, "flip");
        assert_eq!(decisions(&outcome), [7, 7, 7]);
        assert!(!outcome.decisions.contains_key(&General(commander)));
    }
    let all = play(&case(4, 2, &[1, 2, 3, 4]), "flip");
    assert!(all.decisions.is_empty() && all.holds());
}

#[test]
fn b7_the_median_obeys_a_loyal_commander_and_is_common_otherwise() {
    let median =
        |traitors: &[u8]| Case { choice: Choice::Median, order: 20, ..case(7, 2, traitors) };
    for name in ["pair", "garbage", "silent", "flip"] {
        assert_eq!(decisions(&play(&median(&[3, 6]), name)), [20; 4], "{name}");
        let common = decisions(&play(&median(&[1, 6]), name));
        assert!(common.iter().all(|value| *value == common[0]), "{name}: {common:?}");
    }
}
