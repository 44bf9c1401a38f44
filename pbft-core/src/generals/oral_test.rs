use alloc::vec;

use proptest::prelude::*;

use super::*;
use crate::generals::testing::{lieutenant, message, path, setting};

/// Plays all rounds among loyal generals, lieutenants speaking through `lie`.
fn play(
    setting: Setting,
    order: i128,
    lie: impl Fn(&Path, General, i128) -> Option<i128>,
) -> Vec<(General, i128)> {
    let commander = Commander::new(setting, order).unwrap();
    let mut lieutenants: Vec<_> = setting
        .lieutenants()
        .map(|id| Lieutenant::new(setting, id, Choice::Majority, 0).unwrap())
        .collect();
    for round in 1..=setting.rounds() {
        let mut post = if round == 1 { commander.outgoing() } else { vec![] };
        post.extend(lieutenants.iter().flat_map(Lieutenant::outgoing));
        for (receiver, Message { path, value }) in post {
            if let Some(value) = lie(&path, receiver, value) {
                let place = lieutenants.iter_mut().find(|it| it.id() == receiver).unwrap();
                place.receive(path.sender(), Message { path, value }).unwrap();
            }
        }
        lieutenants.iter_mut().for_each(Lieutenant::end_round);
    }
    lieutenants.iter().map(|it| (it.id(), it.decision().unwrap())).collect()
}

fn flip_by(liars: &[u8]) -> impl Fn(&Path, General, i128) -> Option<i128> {
    move |path, _, value| Some(if liars.contains(&path.sender().0) { 1 - value } else { value })
}

fn loyal(decisions: &[(General, i128)], liars: &[u8]) -> Vec<i128> {
    let loyal = decisions.iter().filter(|(id, _)| !liars.contains(&id.0));
    loyal.map(|(_, value)| *value).collect()
}

#[test]
fn b2_three_generals_cannot_and_four_can() {
    assert_eq!(loyal(&play(setting(3, 1), 1, flip_by(&[3])), &[3]), [0]);
    assert_eq!(loyal(&play(setting(4, 1), 1, flip_by(&[3])), &[3]), [1, 1]);
    assert_eq!(loyal(&play(setting(6, 2), 1, flip_by(&[5, 6])), &[5, 6]), [0, 0, 0]);
    assert_eq!(loyal(&play(setting(7, 2), 1, flip_by(&[6, 7])), &[6, 7]), [1, 1, 1, 1]);
}

#[test]
fn b3_one_round_is_too_few_for_two_traitors() {
    // The commander tells 2, 3 and 4 another order than 5 and 6; 7 confirms to everyone what it heard.
    let split = |path: &Path, receiver: General, value: i128| {
        let lies = [1, 7].contains(&path.sender().0);
        Some(if lies { i128::from(receiver.0 <= 4) } else { value })
    };
    let one = loyal(&play(setting(7, 1), 1, split), &[7]);
    let two = loyal(&play(setting(7, 2), 1, split), &[7]);
    assert_eq!(one, [1, 1, 1, 0, 0]);
    assert!(two.iter().all(|value| *value == two[0]), "{two:?}");
}

#[test]
fn without_relays_everyone_obeys_what_it_was_told() {
    assert_eq!(loyal(&play(setting(3, 0), 5, |_, _, value| Some(value)), &[]), [5, 5]);
    assert_eq!(loyal(&play(setting(2, 0), 5, |_, _, _| None), &[]), [0]);
}

#[test]
fn m1_what_was_not_told_is_passed_on_as_the_default() {
    let mut two = Lieutenant::new(setting(4, 1), General(2), Choice::Majority, 9_i128).unwrap();
    assert!(two.outgoing().is_empty());
    two.end_round();
    let expected = message(&[1, 2], 9);
    assert_eq!(two.outgoing(), [(General(3), expected.clone()), (General(4), expected)]);
}

#[test]
fn m1_the_same_sender_on_two_paths_is_two_values() {
    let mut five = lieutenant(5, 2, 5);
    five.receive(General(1), message(&[1], 1)).unwrap();
    five.end_round();
    five.receive(General(2), message(&[1, 2], 1)).unwrap();
    five.receive(General(3), message(&[1, 3], 1)).unwrap();
    five.end_round();
    five.receive(General(4), message(&[1, 2, 4], 7)).unwrap();
    five.receive(General(4), message(&[1, 3, 4], 8)).unwrap();
    assert_eq!(five.tree().told(&path(&[1, 2, 4])), Some(&7));
    assert_eq!(five.tree().told(&path(&[1, 3, 4])), Some(&8));
    assert_eq!(five.tree().told_by_round(), [1, 2, 2]);
}

#[test]
fn s2_the_vote_is_over_the_direct_value_and_the_others_outcomes() {
    let mut two = lieutenant(4, 1, 2);
    two.receive(General(1), message(&[1], 1)).unwrap();
    two.end_round();
    two.receive(General(3), message(&[1, 3], 1)).unwrap();
    two.receive(General(4), message(&[1, 4], 0)).unwrap();
    assert_eq!(two.decision(), None);
    two.end_round();
    let vote = two.tree().vote(&path(&[1]));
    assert_eq!((vote.direct, vote.is_told), (1, true));
    assert_eq!(vote.others, [(General(3), 1), (General(4), 0)]);
    assert_eq!((vote.outcome, two.decision()), (1, Some(1)));
}

#[test]
fn every_message_that_cannot_be_is_refused_by_name_and_changes_nothing() {
    let mut two = lieutenant(4, 1, 2);
    two.receive(General(1), message(&[1], 1)).unwrap();
    let refused = |two: &mut Lieutenant<i128>, sender, ids: &[u8]| {
        let before = two.clone();
        let refusal = two.receive(General(sender), message(ids, 1)).unwrap_err();
        assert_eq!(*two, before);
        refusal
    };
    assert_eq!(refused(&mut two, 1, &[1]), Refusal::Repeated);
    assert_eq!(refused(&mut two, 3, &[3]), Refusal::NotTheCommander(3));
    let early = Refusal::WrongLength { length: 2, round: 1 };
    assert_eq!(refused(&mut two, 3, &[1, 3]), early);
    two.end_round();
    assert_eq!(refused(&mut two, 1, &[1]), Refusal::WrongLength { length: 1, round: 2 });
    assert_eq!(refused(&mut two, 4, &[1, 3]), Refusal::NotTheSender(4, 3));
    assert_eq!(refused(&mut two, 3, &[4, 3]), Refusal::NotTheCommander(4));
    assert_eq!(refused(&mut two, 9, &[1, 9]), Refusal::UnknownGeneral(9));
    assert_eq!(refused(&mut two, 2, &[1, 2]), Refusal::ThroughReceiver);
    two.end_round();
    assert_eq!(refused(&mut two, 3, &[1, 3]), Refusal::Over);
    two.end_round();
    assert_eq!(two.decision(), Some(0));
}

#[test]
fn m6_a_general_of_too_large_a_setting_is_not_made() {
    let vast = Setting::new(20, 6, General(1)).unwrap();
    assert!(matches!(
        Lieutenant::new(vast, General(2), Choice::Majority, 0_i128),
        Err(SettingError::TooManyMessages { .. })
    ));
    assert!(Commander::new(vast, 0_i128).is_err());
    let commands = Lieutenant::new(setting(4, 1), General(1), Choice::Majority, 0_i128);
    assert_eq!(commands.unwrap_err(), SettingError::Commands(1));
}

#[test]
fn values_may_be_bytes() {
    let setting = setting(4, 1);
    let commander = Commander::new(setting, b"attack".to_vec()).unwrap();
    let mut two =
        Lieutenant::new(setting, General(2), Choice::Majority, b"retreat".to_vec()).unwrap();
    let (_, order) = commander.outgoing().remove(0);
    two.receive(General(1), order.clone()).unwrap();
    two.end_round();
    let path = path(&[1, 3]);
    two.receive(General(3), Message { path, ..order }).unwrap();
    two.end_round();
    assert_eq!(two.decision(), Some(b"attack".to_vec()));
}

proptest! {
    #[test]
    fn whatever_is_received_in_whatever_round_ends_in_a_decision(
        received in proptest::collection::vec(
            (0..4_usize, 0..8_u8, proptest::collection::vec(0..8_u8, 0..6), -2..3_i128),
            0..60,
        ),
    ) {
        let mut two = lieutenant(5, 2, 2);
        for round in 0..4 {
            for (when, sender, ids, value) in &received {
                let Ok(path) = Path::new(ids.iter().copied().map(General)) else { continue };
                if *when == round {
                    let taken = two.receive(General(*sender), Message { path, value: *value });
                    prop_assert!(taken.is_err() || two.tree().told(&path) == Some(value));
                }
            }
            two.end_round();
        }
        prop_assert!(two.decision().is_some());
        prop_assert!(two.tree().told_by_round().iter().sum::<usize>() <= 1 + 3 + 6);
    }
}
