#![allow(clippy::unwrap_used)]

use super::*;

fn search(n: u64, m: u64, commander: u8, traitors: &[u8]) -> Search {
    Search {
        setting: Setting::new(n, m, General(commander)).unwrap(),
        traitors: traitors.iter().copied().map(General).collect(),
        orders: vec![0, 1],
        alphabet: vec![0, 1],
        choice: Choice::Majority,
        default: 0,
        samples: 100_000,
        seed: 7,
    }
}

#[test]
fn b2_four_generals_stand_every_strategy_of_every_traitor() {
    for commander in 1..=4 {
        for traitor in 1..=4 {
            let report = search(4, 1, commander, &[traitor]).run().unwrap();
            assert!(
                report.found.is_none() && report.exhaustive,
                "{commander} {traitor}: {report:?}"
            );
            assert_eq!(report.tried, 8, "2^3 of a commander, 2^2 and two orders of a lieutenant");
            // More values, and values that nobody was ordered, change nothing; nor does the median.
            let wide = Search { alphabet: vec![0, 1, 2, 3], ..search(4, 1, commander, &[traitor]) };
            for choice in [Choice::Majority, Choice::Median] {
                let report = Search { choice, ..wide.clone() }.run().unwrap();
                assert!(report.found.is_none() && report.exhaustive, "{report:?}");
            }
        }
    }
}

#[test]
fn b2_three_generals_fall_to_one_lie() {
    let report = search(3, 1, 1, &[3]).run().unwrap();
    let found = report.found.unwrap();
    assert!(report.exhaustive);
    assert_eq!(report.tried, 4);
    let lies: Vec<_> = found.lies.entries().map(|(key, value)| (key, *value)).collect();
    assert_eq!((found.order, lies), (1, vec![("1>3>2".to_owned(), Some(0))]));
    assert_eq!(found.outcome.decisions, BTreeMap::from([(General(2), 0)]));
    assert!(found.outcome.ic2.is_err());
}

#[test]
fn b2_six_generals_fall_to_two_traitors_and_the_lies_are_few() {
    let report = search(6, 2, 1, &[5, 6]).run().unwrap();
    let found = report.found.unwrap();
    assert!(!report.exhaustive && report.tried < 1_000, "{}", report.tried);
    assert!(!found.outcome.holds());
    // None of them can be left out.
    let lies = found.lies.0.len();
    assert!(lies <= 8, "{lies}");
    for key in found.lies.0.keys() {
        let mut fewer = found.lies.clone();
        fewer.0.remove(key);
        assert!(search(6, 2, 1, &[5, 6]).play(found.order, &fewer).unwrap().holds());
    }
}

#[test]
fn b3_two_traitors_of_five_and_of_four_are_too_many() {
    let report = search(5, 2, 1, &[4, 5]).run().unwrap();
    assert!(report.exhaustive && report.found.is_some(), "{report:?}");
    let report = search(4, 1, 1, &[1, 4]).run().unwrap();
    assert!(report.exhaustive && report.found.is_some(), "{report:?}");
}

#[test]
fn b3_seven_generals_stand_100_000_strategies_of_two_traitors() {
    // All of them in the build that CI tests; a debug build is twenty times slower.
    let samples = if cfg!(debug_assertions) { 400 } else { 20_000 };
    let placements: [(u8, &[u8]); 5] =
        [(1, &[6, 7]), (1, &[1, 7]), (1, &[2, 3]), (4, &[4, 1]), (7, &[1, 2])];
    let mut tried = 0;
    for (commander, traitors) in placements {
        let report = Search { samples, ..search(7, 2, commander, traitors) }.run().unwrap();
        assert!(report.found.is_none() && !report.exhaustive, "{traitors:?}: {report:?}");
        tried += report.tried;
    }
    assert_eq!(tried, 5 * samples);
}

#[test]
fn the_same_seed_searches_the_same() {
    let lies = |seed| {
        let report = Search { seed, samples: 300, ..search(6, 2, 1, &[5, 6]) }.run().unwrap();
        (report.tried, report.found.unwrap().lies)
    };
    assert_eq!(lies(3), lies(3));
}

#[test]
fn m6_a_search_in_too_large_a_setting_is_refused() {
    assert!(matches!(search(20, 6, 1, &[2]).run(), Err(SettingError::TooManyMessages { .. })));
}
