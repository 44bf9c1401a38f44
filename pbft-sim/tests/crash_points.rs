//! A replica, and all of them, crashed at the points of a short run: here every ninth, all of them by
//! `cargo run --release -p pbft-sim --bin crash-points`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use pbft_sim::Verdict;
use pbft_sim::crash_points::{self, CrashPoint, Kind};

#[test]
fn the_run_that_is_counted_through_has_checkpoints_a_view_change_and_every_kind_of_point() {
    let (report, points) = crash_points::count(&crash_points::options(1)).unwrap();
    assert_eq!(report.verdict, Verdict::Pass);
    assert_eq!(report.committed, 8);
    assert!(report.goals.views_entered >= 3 && report.goals.stable >= 8);
    for kind in Kind::ALL {
        assert!(points.values().all(|kinds| kinds.contains(&kind)), "{kind}");
    }
}

#[test]
fn a_crash_at_any_ninth_point_of_one_replica_or_of_all_is_survived() {
    let options = crash_points::options(1);
    let (_, points) = crash_points::count(&options).unwrap();
    let mut both = 0;
    for point in crash_points::crashes(&points).chunks(4).step_by(9).flatten() {
        let outcomes = crash_points::run_both(&options, *point).unwrap();
        both += usize::from(outcomes.len() > 1);
        for (point, outcome) in outcomes {
            let verdict = &outcome.report.verdict;
            assert!(outcome.survived(), "{point}, {:?}: {verdict}", outcome.kind);
            assert_eq!(outcome.report.committed, 8, "{point}");
        }
    }
    assert!(both > 0, "nothing was ever under way");
}

#[test]
fn a_point_is_read_as_it_is_shown_and_gives_the_same_run() {
    let options = crash_points::options(1);
    let point: CrashPoint = "2:20:after:all:survives".parse().unwrap();
    assert_eq!(point.to_string(), "2:20:after:all:survives");
    let [one, other] = [0, 1].map(|_| crash_points::run(&options, point).unwrap().report);
    assert_eq!(one, other);
    let without = crash_points::count(&options).unwrap().0;
    assert!(one.trace != without.trace);
    for wrong in ["", "2:20", "2:20:later:all:lost", "2:x:after:all:lost", "2:1:after:one:lost:x"] {
        assert!(wrong.parse::<CrashPoint>().is_err(), "{wrong}");
    }
}
