use alloc::vec;

use bytes::Bytes;

use super::*;
use crate::message::Outcome;
use crate::testing::World;

const START: Instant = Instant(1_000_000);
const LATER: Instant = Instant(60_000_000);

fn client(world: &World) -> Client {
    let limits = ClientLimits::default();
    Client::new(ClientId(0), Arc::clone(&world.cluster), limits, RequestNumber(10)).unwrap()
}

fn submit(client: &mut Client, out: &mut Vec<ClientAction>) -> RequestBody {
    let operations = Operations::new([b"op"]).unwrap();
    client.submit(START, operations, LATER, out).unwrap();
    match out.pop() {
        Some(ClientAction::Send { request, .. }) => request.body().clone(),
        other => panic!("{other:?}"),
    }
}

fn answer(body: &RequestBody, result: &'static str, view: u64) -> Reply {
    let outcomes = [Outcome::Done(Bytes::from(result))].into_iter().collect();
    Reply {
        client: body.client,
        number: body.number,
        digest: body.digest(),
        answer: Answer::Executed(outcomes),
        view: View(view),
    }
}

fn reply(client: &mut Client, from: u32, reply: Reply) -> Vec<ClientAction> {
    let mut out = Vec::new();
    client.step(START, ClientInput::Reply { from: ReplicaId(from), reply }, &mut out);
    out
}

fn committed(out: &[ClientAction]) -> bool {
    matches!(out, [ClientAction::Done { outcome: ClientOutcome::Committed(_), .. }])
}

#[test]
fn b11_a_result_is_believed_on_f_plus_1_equal_answers_of_distinct_replicas() {
    let world = World::new(4);
    let (mut client, mut out) = (client(&world), Vec::new());
    let body = submit(&mut client, &mut out);
    assert!(reply(&mut client, 0, answer(&body, "lie", 0)).is_empty());
    assert!(reply(&mut client, 1, answer(&body, "true", 0)).is_empty());
    assert!(reply(&mut client, 1, answer(&body, "true", 0)).is_empty(), "the same replica again");
    assert!(reply(&mut client, 9, answer(&body, "true", 0)).is_empty(), "no member");
    let mut other = answer(&body, "true", 0);
    other.digest = Digest([1; 32]);
    assert!(reply(&mut client, 2, other).is_empty(), "an answer to something else");
    assert!(
        committed(&reply(&mut client, 3, answer(&body, "true", 7))),
        "the view is not compared"
    );
    assert!(reply(&mut client, 2, answer(&body, "true", 0)).is_empty(), "ended once");
}

#[test]
fn m7_four_different_answers_decide_nothing() {
    let world = World::new(4);
    let (mut client, mut out) = (client(&world), Vec::new());
    let body = submit(&mut client, &mut out);
    for (from, text) in [(0, "a"), (1, "b"), (2, "c"), (3, "d")] {
        assert!(reply(&mut client, from, answer(&body, text, 0)).is_empty());
    }
}

#[test]
fn b8_first_the_primary_then_everyone_at_doubling_intervals_until_the_deadline() {
    let world = World::new(4);
    let (mut client, mut out) = (client(&world), Vec::new());
    let operations = Operations::new([b"op"]).unwrap();
    client.submit(START, operations, LATER, &mut out).unwrap();
    assert!(matches!(out[..], [ClientAction::Send { to: To::One(ReplicaId(0)), .. }]));
    let mut gaps = vec![];
    let mut last = START;
    loop {
        out.clear();
        let due = client.deadline().unwrap();
        client.step(due, ClientInput::Wake, &mut out);
        match out[..] {
            [ClientAction::Send { to: To::All, .. }] => gaps.push(due.since(last).as_millis()),
            [ClientAction::Done { outcome: ClientOutcome::Unknown, .. }] => break,
            ref other => panic!("{other:?}"),
        }
        last = due;
    }
    assert_eq!(gaps[..6], [300, 600, 1200, 2400, 4800, 5000]);
    assert_eq!(client.deadline(), None);
}

#[test]
fn b12_a_view_is_adopted_on_f_plus_1_reports() {
    let world = World::new(4);
    let (mut client, mut out) = (client(&world), Vec::new());
    let body = submit(&mut client, &mut out);
    reply(&mut client, 1, answer(&body, "a", u64::MAX));
    assert_eq!(client.view(), View(0), "one liar moves nobody");
    reply(&mut client, 2, answer(&body, "b", 3));
    assert_eq!(client.view(), View(3));
}

#[test]
fn a_client_never_runs_a_window_ahead_of_its_oldest_unresolved_request() {
    let world = World::new(4);
    let (mut client, mut out) = (client(&world), Vec::new());
    let bodies: Vec<RequestBody> = (0..8).map(|_| submit(&mut client, &mut out)).collect();
    let operations = || Operations::new([b"op"]).unwrap();
    let refused = client.submit(START, operations(), LATER, &mut out);
    assert_eq!(refused, Err(SubmitError::WindowFull(8)));
    // A later one that ends does not help; the oldest does.
    for body in [&bodies[7], &bodies[0]] {
        assert!(client.submit(START, operations(), LATER, &mut out).is_err());
        for from in [1, 2] {
            reply(&mut client, from, answer(body, "done", 0));
        }
    }
    assert!(client.submit(START, operations(), LATER, &mut out).is_ok());
}

#[test]
fn stale_is_unknown_and_a_used_number_is_a_refusal() {
    let world = World::new(4);
    for (told, expected) in [
        (Answer::Stale, ClientOutcome::Unknown),
        (Answer::NumberUsed, ClientOutcome::Refused(RequestRefusal::NumberUsed)),
    ] {
        let (mut client, mut out) = (client(&world), Vec::new());
        let body = submit(&mut client, &mut out);
        let told = Reply { answer: told, ..answer(&body, "", 0) };
        reply(&mut client, 0, told.clone());
        let out = reply(&mut client, 1, told);
        assert_eq!(out, vec![ClientAction::Done { number: body.number, outcome: expected }]);
    }
}

#[test]
fn requests_beyond_a_bound_are_refused_before_anything_is_sent() {
    let world = World::new(4);
    let (mut client, mut out) = (client(&world), Vec::new());
    let many = Operations::new(vec![b""; 1025]).unwrap();
    let long = Operations::new([vec![0; (64 << 10) + 1]]).unwrap();
    let heavy = Operations::new(vec![vec![0; 64 << 10]; 40]).unwrap();
    for operations in [many, long, heavy] {
        assert!(client.submit(START, operations, LATER, &mut out).is_err());
    }
    assert_eq!((out.len(), client.next_number()), (0, RequestNumber(10)));
}

/// Submits that many KiB and says after how many milliseconds they would be sent again.
fn wait_of(client: &mut Client, kib: usize, out: &mut Vec<ClientAction>) -> u128 {
    let operations = vec![vec![7; 16 << 10]; kib / 16];
    client.submit(START, Operations::new(operations).unwrap(), LATER, out).unwrap();
    client.in_flight.last_key_value().unwrap().1.resend_at.since(START).as_millis()
}

/// PITFALLS F1: else a loaded cluster is asked everything four times more; but how long requests take, which a slow
/// primary decides, changes nothing.
#[test]
fn f1_a_request_is_sent_again_later_the_more_of_its_client_is_before_it_and_for_nothing_else() {
    let world = World::new(4);
    let (mut client, mut out) = (client(&world), Vec::new());
    let waits = [16, 16, 1024, 1024].map(|kib| wait_of(&mut client, kib, &mut out));
    assert_eq!(waits, [303, 307, 557, 807]);
    let bodies: Vec<RequestBody> = client.requests().map(|it| it.body().clone()).collect();
    out.clear();
    let mut at = START;
    for body in bodies {
        at = at.after(Duration::from_secs(7));
        for from in [0, 1] {
            let reply = answer(&body, "done", 0);
            client.step(at, ClientInput::Reply { from: ReplicaId(from), reply }, &mut out);
        }
    }
    assert_eq!((out.len(), client.unresolved()), (4, 0));
    submit(&mut client, &mut out);
    let own = Duration::from_micros(1);
    assert_eq!(client.deadline(), Some(START.after(Duration::from_millis(300) + own)));
    client.limits.resend_interval_max = Duration::from_millis(500);
    let waits = [512, 512, 512].map(|kib| wait_of(&mut client, kib, &mut out));
    assert_eq!(waits, [425, 500, 500], "the longest interval");
}
