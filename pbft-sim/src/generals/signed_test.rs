#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use pbft_core::generals::chain::Fault;

use super::*;

fn case(n: u64, m: u64, traitors: &[u8]) -> Case<i128> {
    let setting = Setting::new(n, m, General(1)).unwrap();
    let traitors = traitors.iter().copied().map(General).collect();
    Case { setting, traitors, order: 1, choice: SetChoice::Single, default: 0 }
}

fn line(sender: u8, receiver: u8, value: i128, chain: &[u8]) -> Line<i128> {
    let chain = chain.iter().copied().map(General).collect();
    Line { sender: General(sender), receiver: General(receiver), value, chain }
}

fn script(lines: &[(u8, Line<i128>)]) -> Script<i128> {
    let mut script = Script::default();
    for (round, line) in lines {
        script.0.entry(*round).or_insert_with(Vec::new).push(line.clone());
    }
    script
}

fn play(case: &Case<i128>, lines: &[(u8, Line<i128>)]) -> Result<Outcome<i128>, RunError> {
    run(case, &script(lines), &Keys::ed25519(case.setting.n()))
}

fn decided(outcome: &Outcome<i128>) -> Vec<i128> {
    outcome.decisions.values().copied().collect()
}

#[test]
fn b6_without_traitors_every_value_is_relayed_once() {
    let three = play(&case(3, 1, &[]), &[]).unwrap();
    assert_eq!((three.sent.clone(), decided(&three)), (vec![2, 2], vec![1, 1]));
    let seven = play(&case(7, 2, &[]), &[]).unwrap();
    assert_eq!((seven.sent.clone(), decided(&seven)), (vec![6, 30, 0], vec![1; 6]));
    assert_eq!((seven.dropped, seven.ic1.is_ok(), seven.ic2.is_ok()), (0, true, true));
    let none = play(&case(4, 0, &[]), &[]).unwrap();
    assert_eq!((none.sent.clone(), decided(&none)), (vec![3], vec![1; 3]));
}

#[test]
fn b6_a_commander_who_tells_two_orders_is_found_out_by_three_generals() {
    let lines = [(1, line(1, 2, 1, &[1])), (1, line(1, 3, 0, &[1]))];
    let outcome = play(&case(3, 1, &[1]), &lines).unwrap();
    assert_eq!((outcome.sent.clone(), decided(&outcome)), (vec![2, 2], vec![0, 0]));
    assert!(outcome.values.values().all(|values| *values == [0, 1]));
    let median = Case { choice: SetChoice::Median, default: 9, ..case(3, 1, &[1]) };
    assert_eq!(decided(&play(&median, &lines).unwrap()), [0, 0]);
}

#[test]
fn b6_two_traitors_split_sm_1_and_not_sm_2() {
    // 1 orders; 4 shows 3 another order of his in the last round of SM(1), when 3 can tell nobody.
    let lines = [(1, line(1, 2, 1, &[1])), (1, line(1, 3, 1, &[1])), (2, line(4, 3, 0, &[1, 4]))];
    let one = play(&case(4, 1, &[1, 4]), &lines).unwrap();
    assert_eq!((decided(&one), one.ic1.is_err()), (vec![1, 0], true));
    let two = play(&case(4, 2, &[1, 4]), &lines).unwrap();
    assert_eq!((decided(&two), two.ic1.is_ok()), (vec![0, 0], true));
}

#[test]
fn m3_late_and_ill_formed_chains_are_dropped_and_counted() {
    let lines = [
        (2, line(4, 2, 1, &[1])),
        (2, line(4, 2, 1, &[4])),
        (2, line(4, 2, 1, &[4, 4])),
        (2, line(4, 3, 5, &[4, 4])),
        (2, line(4, 3, 1, &[1, 4])),
        (2, line(4, 1, 5, &[4])),
    ];
    let outcome = play(&case(4, 1, &[4]), &lines).unwrap();
    assert_eq!((outcome.dropped, decided(&outcome)), (4, vec![1, 1]));
    // Commander 3, the relays of 2 and 3 to the two others, and all that 4 says, to whomever.
    assert_eq!(outcome.sent, [3, 4 + 6]);
    let faults: Vec<Refusal> =
        outcome.deliveries.iter().filter_map(|it| it.verdict?.err()).collect();
    assert!(faults.contains(&Refusal::Chain(Fault::WrongLength { length: 1, round: 2 })));
    assert!(faults.contains(&Refusal::Chain(Fault::NotTheCommander(4))));
}

#[test]
fn what_traitors_cannot_sign_is_refused() {
    let why =
        |traitors: &[u8], m, lines: &[(u8, Line<i128>)]| match play(&case(4, m, traitors), lines) {
            Err(RunError::Script(error)) => error.why,
            other => panic!("{other:?}"),
        };
    let unsigned = |signer, after| Impossible::Unsigned { signer: General(signer), after };
    // The loyal commander never signed 0; 3 never passed anything on in round 1; nobody has heard anything
    // before round 1; 2's signature is under another chain.
    assert_eq!(why(&[4], 1, &[(2, line(4, 2, 0, &[1, 4]))]), unsigned(1, 0));
    assert_eq!(why(&[4], 1, &[(2, line(4, 2, 1, &[1, 3]))]), unsigned(3, 1));
    assert_eq!(why(&[4], 1, &[(1, line(4, 2, 1, &[1]))]), unsigned(1, 0));
    assert_eq!(why(&[4], 2, &[(3, line(4, 2, 1, &[1, 4, 3]))]), unsigned(3, 2));
    assert_eq!(why(&[1], 1, &[(1, line(2, 3, 1, &[1]))]), Impossible::NotATraitor(General(2)));
    assert_eq!(why(&[1], 1, &[(1, line(9, 3, 1, &[1]))]), Impossible::NotATraitor(General(9)));
    assert_eq!(why(&[1], 1, &[(1, line(1, 9, 1, &[1]))]), Impossible::NoReceiver(General(9)));
    assert_eq!(why(&[1], 1, &[(1, line(1, 1, 1, &[1]))]), Impossible::NoReceiver(General(1)));
    assert_eq!(why(&[1], 1, &[(1, line(1, 2, 1, &[5]))]), Impossible::NobodysKey(General(5)));
    let long = vec![1; 100];
    assert_eq!(why(&[1], 1, &[(1, line(1, 2, 1, &long))]), Impossible::TooLong(100));
}

#[test]
fn traitors_share_keys_and_build_on_what_loyal_generals_sent() {
    // 1, 4 and 5 conspire. 1 tells 2 alone; 2 passes it on to all who have not signed, 4 and 5 among them,
    // who make a chain of it that counts in round 3.
    let lines = [(1, line(1, 2, 1, &[1])), (3, line(5, 3, 1, &[1, 2, 4]))];
    let outcome = play(&case(5, 3, &[1, 4, 5]), &lines).unwrap();
    assert_eq!((outcome.dropped, decided(&outcome)), (0, vec![1, 1]));
    // A message to a fellow traitor teaches all of them, and the commander's key signs at any time.
    let lines = [(1, line(4, 2, 6, &[1])), (2, line(5, 3, 6, &[1, 4]))];
    let outcome = play(&case(5, 3, &[1, 4, 5]), &lines).unwrap();
    assert_eq!((outcome.dropped, decided(&outcome)), (0, vec![6, 6]));
}

#[test]
fn the_lowest_senders_chain_is_relayed() {
    // 5 and 6 both show 2 the value 8 in round 2: 5's chain goes on, to 3, 4 and 6, whatever the order of lines.
    let mut lines = [(2, line(6, 2, 8, &[1, 6])), (2, line(5, 2, 8, &[1, 5]))];
    for _ in 0..2 {
        let outcome = play(&case(6, 3, &[1, 5, 6]), &lines).unwrap();
        let relays =
            outcome.deliveries.iter().filter(|it| it.round == 3 && it.sender == General(2));
        let relays: Vec<(u8, Vec<u8>)> =
            relays.map(|it| (it.receiver.0, it.signers.iter().map(|it| it.0).collect())).collect();
        let way = vec![1, 5, 2];
        assert_eq!(relays, [(3, way.clone()), (4, way.clone()), (6, way)]);
        lines.reverse();
    }
}

#[test]
fn m6_a_script_with_too_many_values_is_refused_by_number() {
    let lines: Vec<_> = (0..1100).map(|value| (1, line(1, 2, value, &[1]))).collect();
    let refused = run(&case(99, 97, &[1]), &script(&lines), &Keys::keyed(99)).unwrap_err();
    assert!(
        matches!(refused, RunError::Setting(SettingError::TooManyMessages { .. })),
        "{refused}"
    );
}

/// All scripts over two values in which every chain has the length of its round: how many there are, how
/// many the traitors can play, and how many of those break a condition.
fn exhaust(case: &Case<i128>) -> (u32, u32, u32) {
    let setting = case.setting;
    let mut options = Vec::new();
    let mut chains: Vec<Vec<u8>> = vec![vec![1]];
    let loyal = |id: &General| !case.traitors.contains(id);
    for round in 1..=setting.rounds() {
        for chain in &chains {
            for receiver in setting.lieutenants().filter(loyal) {
                // A traitor's message is news only if a traitor signs it last.
                let last = General(*chain.last().unwrap());
                if !chain.contains(&receiver.0) && case.traitors.contains(&last) {
                    options.extend(
                        [0, 1].map(|value| (round, line(last.0, receiver.0, value, chain))),
                    );
                }
            }
        }
        let longer = |chain: &Vec<u8>| -> Vec<Vec<u8>> {
            let others = setting.generals().filter(|id| !chain.contains(&id.0));
            others.map(|id| [&chain[..], &[id.0]].concat()).collect()
        };
        chains = chains.iter().flat_map(longer).collect();
    }
    assert!(options.len() <= 14, "{} options", options.len());
    let keys = Keys::keyed(setting.n());
    let (mut played, mut broken) = (0, 0);
    let all = 1_u32 << options.len();
    for subset in 0..all {
        let chosen = options.iter().enumerate().filter(|(index, _)| subset >> index & 1 == 1);
        let lines: Vec<_> = chosen.map(|(_, option)| option.clone()).collect();
        if let Ok(outcome) = run(case, &script(&lines), &keys) {
            played += 1;
            broken += u32::from(outcome.ic1.is_err() || outcome.ic2.is_err());
        }
    }
    (all, played, broken)
}

#[test]
fn b6_every_script_of_small_cases_m_plus_1_rounds_hold() {
    for choice in [SetChoice::Single, SetChoice::Median] {
        // n = m + 2 and one more, the commander a traitor or not.
        for (n, m, traitors) in [
            (3, 1, &[1][..]),
            (3, 1, &[3]),
            (4, 1, &[1]),
            (4, 1, &[2]),
            (4, 2, &[1, 4]),
            (4, 2, &[3, 4]),
        ] {
            let case = Case { choice, ..case(n, m, traitors) };
            let (all, played, broken) = exhaust(&case);
            assert_eq!(broken, 0, "{n} {m} {traitors:?}: {played} of {all}");
            assert!(played > 1, "{n} {m} {traitors:?}: {played} of {all}");
        }
    }
}

#[test]
fn b6_m_rounds_instead_of_m_plus_1_split() {
    // One traitor and one round; two and two; and no script splits when the commander is loyal.
    assert!(exhaust(&case(3, 0, &[1])).2 > 0);
    assert!(exhaust(&case(4, 1, &[1, 4])).2 > 0);
    assert_eq!(exhaust(&case(4, 1, &[3, 4])).2, 0);
}
