use alloc::vec;

use super::*;
use crate::generals::testing::{message, setting};

/// Plays vector agreement; general 1 says `lie(path, receiver, honest)`.
fn play(
    choice: Choice,
    values: &[i128],
    lie: impl Fn(&Message<i128>, General) -> i128,
) -> (Vec<Vec<i128>>, usize, usize) {
    let setting = setting(4, 1);
    let mut members: Vec<Member<i128>> = setting
        .generals()
        .zip(values)
        .map(|(id, value)| Member::new(setting, id, *value, choice, 0).unwrap())
        .collect();
    let (mut packets, mut sent) = (0, 0);
    for _ in 1..=setting.rounds() {
        let mut post = vec![];
        for member in &members {
            post.extend(
                member.outgoing().into_iter().map(|(to, packet)| (member.id(), to, packet)),
            );
        }
        for (sender, receiver, packet) in post {
            packets += 1;
            for mut message in packet {
                sent += 1;
                if sender == General(1) {
                    message.value = lie(&message, receiver);
                }
                members[usize::from(receiver.0) - 1].receive(sender, message).unwrap();
            }
        }
        members.iter_mut().for_each(Member::end_round);
    }
    let vectors = members.iter().skip(1).map(|it| it.decision().unwrap()).collect();
    (vectors, packets, sent)
}

#[test]
fn b4_the_matrix_of_the_lecture() {
    // What 1 tells 2, 3 and 4 of its own value; what it relays is true.
    let told = |message: &Message<i128>, receiver: General| match (message.path.len(), receiver.0) {
        (1, 2) => 12,
        (1, 3) => 11,
        (1, 4) => 13,
        _ => message.value,
    };
    let values = [0, 21, 31, 41];
    let (vectors, packets, sent) = play(Choice::Majority, &values, told);
    assert!(vectors.iter().all(|vector| *vector == [0, 21, 31, 41]), "{vectors:?}");
    assert_eq!((packets, sent), (24, 36));
    let (vectors, ..) = play(Choice::Median, &values, told);
    assert!(vectors.iter().all(|vector| *vector == [12, 21, 31, 41]), "{vectors:?}");
}

#[test]
fn b4_relayed_lies_change_no_loyal_entry() {
    let told = |message: &Message<i128>, receiver: General| match message.path.len() {
        1 => message.value,
        _ => 900 + i128::from(receiver.0),
    };
    for choice in [Choice::Majority, Choice::Median] {
        let (vectors, ..) = play(choice, &[11, 21, 31, 41], told);
        assert!(vectors.iter().all(|vector| *vector == [11, 21, 31, 41]), "{vectors:?}");
    }
}

#[test]
fn messages_that_cannot_be_are_refused_and_spoil_no_others() {
    let mut two = Member::new(setting(4, 1), General(2), 21_i128, Choice::Majority, 0).unwrap();
    assert_eq!(two.receive(General(1), message(&[2], 5)), Err(Refusal::ThroughReceiver));
    assert_eq!(two.receive(General(9), message(&[9], 5)), Err(Refusal::UnknownGeneral(9)));
    assert_eq!(two.receive(General(3), message(&[1], 5)), Err(Refusal::NotTheSender(3, 1)));
    assert_eq!(two.receive(General(1), message(&[1], 11)), Ok(()));
    assert_eq!(two.decision(), None);
    two.end_round();
    two.end_round();
    assert_eq!(two.decision(), Some(vec![0, 21, 0, 0]));
}
