use alloc::vec;

use proptest::prelude::*;

use super::*;
use crate::generals::testing::{Cheap, Keys};

fn lieutenant(keys: &Keys, id: u8) -> Lieutenant<i128> {
    Lieutenant::new(keys.occasion, General(id), SetChoice::Single, 0).unwrap()
}

fn chain(keys: &Keys, value: i128, signers: &[u8]) -> Chain<i128> {
    signers.iter().fold(Chain::unsigned(value), |chain, id| {
        chain.signed(&keys.occasion, General(*id), keys.signer(*id))
    })
}

fn values(lieutenant: &Lieutenant<i128>) -> Vec<i128> {
    lieutenant.values().copied().collect()
}

/// Delivers what both lieutenants send each other, and ends the round.
fn exchange(keys: &Keys, two: &mut Lieutenant<i128>, three: &mut Lieutenant<i128>) -> usize {
    let (of_two, of_three) = (two.outgoing(keys.signer(2)), three.outgoing(keys.signer(3)));
    let sent = of_two.len() + of_three.len();
    for (receiver, chain) in of_two {
        assert_eq!(receiver, General(3));
        three.receive(General(2), chain, &keys.verifier).unwrap();
    }
    for (receiver, chain) in of_three {
        assert_eq!(receiver, General(2));
        two.receive(General(3), chain, &keys.verifier).unwrap();
    }
    two.end_round();
    three.end_round();
    sent
}

#[test]
fn b6_three_generals_obey_a_loyal_commander_and_find_out_a_lying_one() {
    let keys = Keys::new(3, 1);
    for (of_two, of_three, decision, known) in [(1, 1, 1, vec![1]), (1, 0, 0, vec![0, 1])] {
        let (mut two, mut three) = (lieutenant(&keys, 2), lieutenant(&keys, 3));
        two.receive(General(1), chain(&keys, of_two, &[1]), &keys.verifier).unwrap();
        three.receive(General(1), chain(&keys, of_three, &[1]), &keys.verifier).unwrap();
        assert_eq!(exchange(&keys, &mut two, &mut three), 0);
        assert_eq!((two.decision(), three.decision()), (None, None));
        assert_eq!(exchange(&keys, &mut two, &mut three), 2);
        assert_eq!((two.decision(), three.decision()), (Some(decision), Some(decision)));
        assert_eq!((values(&two), values(&three)), (known.clone(), known));
    }
}

#[test]
fn the_commander_signs_once_and_tells_everyone() {
    let keys = Keys::new(4, 1);
    let sent = Commander::new(keys.occasion, 5_i128).outgoing(keys.signer(1));
    let receivers: Vec<General> = sent.iter().map(|(receiver, _)| *receiver).collect();
    assert_eq!(receivers, [2, 3, 4].map(General));
    assert!(sent.iter().all(|(_, it)| *it == chain(&keys, 5, &[1])));
}

#[test]
fn m3_a_value_held_back_to_the_last_round_is_heard_by_nobody() {
    // 1 and 4 are traitors. 2 hears 1 from the commander; 4 shows it another order too late.
    let keys = Keys::new(4, 1);
    let mut two = lieutenant(&keys, 2);
    two.receive(General(1), chain(&keys, 1, &[1]), &keys.verifier).unwrap();
    two.end_round();
    let refused = two.receive(General(4), chain(&keys, 0, &[1]), &keys.verifier);
    assert_eq!(refused, Err(Refusal::Chain(Fault::WrongLength { length: 1, round: 2 })));
    two.end_round();
    assert_eq!((values(&two), two.decision()), (vec![1], Some(1)));
}

#[test]
fn m4_the_set_and_what_is_relayed_do_not_depend_on_the_order_of_arrival() {
    let keys = Keys::new(6, 2);
    let arrivals = [
        (General(5), chain(&keys, 8, &[1, 5])),
        (General(3), chain(&keys, 8, &[1, 3])),
        (General(4), chain(&keys, 8, &[1, 4])),
        (General(3), chain(&keys, 9, &[1, 3])),
        (General(3), chain(&keys, 8, &[1, 4])),
    ];
    let mut outcomes = vec![];
    for turn in 0..arrivals.len() {
        let mut two = lieutenant(&keys, 2);
        two.end_round();
        for (sender, chain) in arrivals.iter().cycle().skip(turn).take(arrivals.len()) {
            assert_eq!(two.receive(*sender, chain.clone(), &keys.verifier), Ok(Heard::New));
        }
        two.end_round();
        outcomes.push(two);
    }
    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]));
    let relayed = outcomes[0].outgoing(keys.signer(2));
    let ways: Vec<(u8, i128, Vec<u8>)> = relayed
        .iter()
        .map(|(to, chain)| (to.0, chain.value, chain.signers().map(|it| it.0).collect()))
        .collect();
    let way = |to, value| (to, value, vec![1, 3, 2]);
    assert_eq!(ways, [way(4, 8), way(5, 8), way(6, 8), way(4, 9), way(5, 9), way(6, 9)]);
}

#[test]
fn nothing_is_passed_on_after_the_last_round() {
    let keys = Keys::new(3, 0);
    let mut two = lieutenant(&keys, 2);
    two.receive(General(1), chain(&keys, 1, &[1]), &keys.verifier).unwrap();
    two.end_round();
    assert!(two.outgoing(keys.signer(2)).is_empty());
    assert_eq!(two.decision(), Some(1));
    let refused = two.receive(General(1), chain(&keys, 0, &[1]), &keys.verifier);
    assert_eq!(refused, Err(Refusal::Over));
}

#[test]
fn a_known_value_is_not_passed_on_twice() {
    let keys = Keys::new(4, 2);
    let mut two = lieutenant(&keys, 2);
    two.receive(General(1), chain(&keys, 1, &[1]), &keys.verifier).unwrap();
    two.end_round();
    assert_eq!(two.outgoing(keys.signer(2)).len(), 2);
    let again = two.receive(General(3), chain(&keys, 1, &[1, 3]), &keys.verifier);
    assert_eq!(again, Ok(Heard::Known));
    two.end_round();
    assert!(two.outgoing(keys.signer(2)).is_empty());
}

#[test]
fn refusals_have_names_and_change_nothing() {
    let keys = Keys::new(4, 1);
    let mut two = lieutenant(&keys, 2);
    let before = two.clone();
    let mut forged = chain(&keys, 1, &[1]);
    forged.value = 0;
    let offers = [
        (General(1), forged, Refusal::Chain(Fault::Forged(1))),
        (General(9), chain(&keys, 1, &[1]), Refusal::UnknownSender(9)),
        (General(2), chain(&keys, 1, &[1]), Refusal::UnknownSender(2)),
        (General(3), chain(&keys, 1, &[3]), Refusal::Chain(Fault::NotTheCommander(3))),
    ];
    for (sender, chain, refusal) in offers {
        assert_eq!(two.receive(sender, chain, &keys.verifier), Err(refusal));
        assert_eq!(two, before);
    }
    assert_eq!(two.decision(), None);
    let commands = Lieutenant::new(keys.occasion, General(1), SetChoice::Single, 0_i128);
    assert_eq!(commands.unwrap_err(), SettingError::Commands(1));
}

#[test]
fn m6_a_commander_who_signs_ever_new_orders_fills_no_memory() {
    let keys = Keys::new(3, 1);
    let (mut two, mut three) = (lieutenant(&keys, 2), lieutenant(&keys, 3));
    let order = |value| Chain::unsigned(value).signed(&keys.occasion, General(1), &Cheap(1));
    let many = i128::try_from(VALUES_MAX).unwrap() + 1;
    for value in 1..=many {
        two.receive(General(1), order(value), &Cheap(2)).unwrap();
    }
    assert_eq!(two.receive(General(1), order(many + 1), &Cheap(2)), Err(Refusal::TooManyValues));
    assert_eq!(two.receive(General(1), order(1), &Cheap(2)), Ok(Heard::New));
    // 3 was told one value. From 2 it hears of so many that it decides the default, as 2 does.
    three.receive(General(1), order(1), &Cheap(3)).unwrap();
    two.end_round();
    three.end_round();
    for (_, chain) in two.outgoing(&Cheap(2)) {
        three.receive(General(2), chain, &Cheap(3)).unwrap();
    }
    two.end_round();
    three.end_round();
    assert_eq!((two.decision(), three.decision()), (Some(0), Some(0)));
    assert_eq!((values(&two).len(), values(&three).len()), (VALUES_MAX + 1, VALUES_MAX + 1));
}

proptest! {
    #[test]
    fn whatever_chain_is_received_only_the_commanders_values_count(
        received in proptest::collection::vec(
            (0..3_usize, 0..6_u8, 0..3_i128, proptest::collection::vec((0..6_u8, any::<bool>()), 0..4)),
            0..40,
        ),
    ) {
        let keys = Keys::new(4, 1);
        let mut two = lieutenant(&keys, 2);
        for round in 0..3 {
            for (when, sender, value, signers) in received.iter().filter(|it| it.0 == round) {
                let mut chain = Chain::unsigned(*value);
                for (id, is_true) in signers {
                    // Some sign for themselves, others under somebody else's name; the commander never signs 2.
                    let key = if *is_true && (*id, *value) != (1, 2) { (*id).max(1) } else { 7 };
                    chain = chain.signed(&keys.occasion, General(*id), &Cheap(key));
                }
                let heard = two.receive(General(*sender), chain, &Cheap(2));
                prop_assert!(heard != Ok(Heard::New) || signers.len() == when + 1);
            }
            two.end_round();
        }
        prop_assert!(two.decision().is_some());
        prop_assert!(two.values().all(|value| *value != 2));
    }
}
