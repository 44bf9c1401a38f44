use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;

use proptest::prelude::*;

use super::*;
use crate::certificate::{CommitCertificate, PreparedCertificate, Signatures, StableProof};
use crate::crypto::{Hasher, Kind};
use crate::evidence::{Evidence, Subject};
use crate::message::*;
use crate::replica::Record;
use crate::types::*;

const SIGNATURE: Signature = Signature([7; 64]);
const VOTE: Vote = Vote { view: View(3), sequence: Sequence(5), digest: Digest([9; 32]) };

fn signed(statement: Statement) -> Message {
    Message::Statement(Signed { sender: ReplicaId(2), statement, signature: SIGNATURE })
}

fn request() -> Request {
    let operations = Operations::new([&b"one"[..], &b""[..]]).unwrap();
    let body = RequestBody { client: ClientId(1), number: RequestNumber(6), operations };
    Request::new(body, SIGNATURE)
}

fn batch() -> Arc<Batch> {
    Arc::new(Batch::new(WallTime(8), vec![request(), request()]))
}

fn signatures() -> Signatures {
    Signatures::new([(ReplicaId(0), SIGNATURE), (ReplicaId(2), SIGNATURE)])
}

fn status() -> Statement {
    let set = |ids: &[u32]| ids.iter().copied().map(ReplicaId).collect();
    let held = Held {
        sequence: Sequence(5),
        pre_prepare: true,
        body: false,
        committed: true,
        prepares: set(&[0, 1]),
        commits: set(&[127]),
    };
    Statement::Status(Status {
        view: View(1),
        voted_view: View(2),
        slow_primary: false,
        stable: Sequence(4),
        executed: Sequence(4),
        checkpoints: set(&[3]),
        view_changes: vec![(ReplicaId(1), View(2))],
        slots: vec![held],
        asks: Some(WallTime(7)),
        answers: vec![(ReplicaId(3), WallTime(8))],
    })
}

fn view_change() -> ViewChange {
    let checkpoint = Checkpoint { sequence: Sequence(32), digest: Digest([1; 32]) };
    let prepared = PreparedCertificate {
        vote: Vote { sequence: Sequence(33), ..VOTE },
        pre_prepare: SIGNATURE,
        prepares: signatures(),
    };
    ViewChange {
        view: View(9),
        stable: Some(StableProof { checkpoint, signatures: signatures() }),
        prepared: vec![prepared],
    }
}

fn new_view() -> NewView {
    let change =
        |sender| SignedViewChange { sender, change: Arc::new(view_change()), signature: SIGNATURE };
    NewView { view: View(9), changes: vec![change(ReplicaId(1)), change(ReplicaId(2))] }
}

fn messages() -> [Message; 16] {
    let checkpoint = Checkpoint { sequence: Sequence(32), digest: Digest([1; 32]) };
    let certificate = CommitCertificate { vote: VOTE, commits: signatures() };
    let pre_prepare = Signed {
        sender: ReplicaId(3),
        statement: Statement::PrePrepare(VOTE),
        signature: SIGNATURE,
    };
    [
        signed(Statement::PrePrepare(VOTE)),
        signed(Statement::Prepare(VOTE)),
        signed(Statement::Commit(VOTE)),
        signed(Statement::Checkpoint(checkpoint)),
        signed(status()),
        Message::Proposal { pre_prepare, batch: batch() },
        Message::Request(request()),
        Message::Committed { certificate: certificate.clone(), batch: None },
        Message::Committed { certificate, batch: Some(batch()) },
        Message::Stable(StableProof { checkpoint, signatures: signatures() }),
        signed(Statement::ViewChange(Arc::new(view_change()))),
        signed(Statement::NewView(Arc::new(new_view()))),
        signed(Statement::Fetch(Fetch {
            bodies: vec![BodyName { sequence: Sequence(5), digest: Digest([1; 32]) }],
        })),
        Message::Body { sequence: Sequence(5), batch: batch() },
        evidence(Evidence::new(prepare(1), prepare(2))),
        evidence(Evidence::of_void(prepare(1), Some(batch()))),
    ]
}

fn prepare(byte: u8) -> Signed {
    let statement = Statement::Prepare(Vote { digest: Digest([byte; 32]), ..VOTE });
    Signed { sender: ReplicaId(2), statement, signature: SIGNATURE }
}

fn evidence(evidence: Option<Evidence>) -> Message {
    Message::Evidence(Arc::new(evidence.unwrap()))
}

fn subject(replica: u32, kind: Kind, view: u64, sequence: u64) -> Subject {
    let (view, sequence) = (View(view), Sequence(sequence));
    Subject { replica: ReplicaId(replica), kind, view, sequence }
}

fn reply(answer: Answer) -> ReplicaMessage {
    let (client, number, digest) = (ClientId(1), RequestNumber(6), Digest([2; 32]));
    ReplicaMessage::Reply(Reply { client, number, digest, answer, view: View(3) })
}

fn answers() -> [ReplicaMessage; 5] {
    let outcomes = vec![
        Outcome::Done(Bytes::from_static(b"ok")),
        Outcome::Refused(Refusal::new(4, "no")),
        Outcome::ResultTooLong,
    ];
    let report = Report {
        replica: ReplicaId(1),
        view: View(2),
        in_view_change: false,
        last_executed: Sequence(3),
        stable_checkpoint: Sequence(4),
        state_digest: Digest([5; 32]),
        view_changes: 6,
        view_change_cause: Text::new("why"),
        transferring: true,
        standing: Standing::NonVoting,
        evidence: 7,
        convictions: Convictions::new([
            subject(0, Kind::PrePrepare, 1, 2),
            subject(0, Kind::NewView, 3, 0),
        ]),
        version: [1, 2, 3],
    };
    [
        reply(Answer::Executed(outcomes.into_iter().collect())),
        reply(Answer::Stale),
        reply(Answer::NumberUsed),
        ReplicaMessage::Busy(RequestNumber(9)),
        ReplicaMessage::Report(report),
    ]
}

fn records() -> [Record; 9] {
    let change = view_change();
    let certificate = change.prepared[0].clone();
    let proof = change.stable.clone().unwrap();
    let new_view = Arc::new(new_view());
    [
        Record::Prepared { certificate: certificate.clone(), batch: None },
        Record::Prepared { certificate, batch: Some(batch()) },
        Record::Checkpoint(proof.checkpoint),
        Record::ViewChange(Arc::new(change)),
        Record::NewView { new_view: Arc::clone(&new_view), signature: None },
        Record::NewView { new_view, signature: Some(SIGNATURE) },
        Record::Stable(proof),
        Record::Lost,
        Record::Reinstated { through: View(3) },
    ]
}

#[test]
fn golden_marks_of_every_record_of_the_journal() {
    let marks: Vec<(usize, String)> =
        records().iter().map(|record| mark(&encode_stored(record))).collect();
    let marks: Vec<(usize, &str)> = marks.iter().map(|(n, text)| (*n, text.as_str())).collect();
    assert_eq!(marks, GOLDEN_RECORDS);
}

const GOLDEN_RECORDS: [(usize, &str); 9] = [
    (258, "2fdb7b551b925601"),
    (452, "11b4f59702f08de0"),
    (45, "b82e2e22e00c297e"),
    (450, "5daec3a0fa563a18"),
    (1044, "6fcf8c4082605dfa"),
    (1108, "6fbde80cbd0498b4"),
    (185, "ef128338b5df0be0"),
    (5, "0920a76ecc40d3f2"),
    (13, "b8d3c67ca4cb5db1"),
];

#[test]
fn records_come_back_and_no_part_of_one_passes() {
    for record in records() {
        let bytes = encode_stored(&record);
        assert_eq!(decode_stored::<Record>(&bytes), Ok(record));
        for length in 0..bytes.len() {
            assert!(decode_stored::<Record>(&bytes[..length]).is_err());
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(decode_stored::<Record>(&longer), Err(WireError::Trailing.into()));
        let mut older = bytes.clone();
        older[0] = 0;
        assert_eq!(decode_stored::<Record>(&older), Err(StoredError::Version(0)));
    }
    let huge = vec![STORED_VERSION; FRAME_BYTES_MAX + 1];
    assert_eq!(decode_stored::<Record>(&huge), Err(WireError::Oversized.into()));
}

/// Length and the first digits of a digest: enough to notice any change.
fn mark(frame: &[u8]) -> (usize, String) {
    let mut hasher = Hasher::new("golden");
    hasher.fixed(frame);
    (frame.len(), hasher.finish().short())
}

#[test]
fn golden_bytes_of_a_prepare() {
    let frame = encode(&messages()[1]);
    let expected = [
        "0100",             // wire version
        "00000000",         // Message::Statement
        "02000000",         // sender
        "01000000",         // Statement::Prepare
        "0300000000000000", // view
        "0500000000000000", // sequence
        &"09".repeat(32),   // digest
        &"07".repeat(64),   // signature
    ];
    assert_eq!(hex(&frame), expected.concat());
}

#[test]
fn golden_bytes_of_a_request_and_a_reply() {
    let expected = [
        "0100",             // wire version
        "00000000",         // ClientMessage::Request
        "01000000",         // client
        "0600000000000000", // number
        "0b000000",         // bytes of the packed operations
        "03000000",
        "6f6e65",         // the first operation
        "00000000",       // the second, empty
        &"07".repeat(64), // signature
    ];
    assert_eq!(hex(&encode(&ClientMessage::Request(request()))), expected.concat());
    let expected = [
        "0100",             // wire version
        "00000000",         // ReplicaMessage::Reply
        "01000000",         // client
        "0600000000000000", // number
        &"02".repeat(32),   // digest of the request
        "00",
        "03000000", // Answer::Executed, three outcomes
        "00",
        "02000000",
        "6f6b", // Outcome::Done
        "01",
        "04000000",
        "02000000",
        "6e6f",             // Outcome::Refused
        "02",               // Outcome::ResultTooLong
        "0300000000000000", // view
    ];
    assert_eq!(hex(&encode(&answers()[0])), expected.concat());
}

#[test]
fn golden_marks_of_every_message() {
    let mut marks: Vec<(usize, String)> = messages().iter().map(|it| mark(&encode(it))).collect();
    marks.extend(answers().iter().map(|it| mark(&encode(it))));
    marks.push(mark(&encode(&ClientMessage::Query)));
    let marks: Vec<(usize, &str)> = marks.iter().map(|(n, text)| (*n, text.as_str())).collect();
    assert_eq!(marks, GOLDEN);
}

const GOLDEN: [(usize, &str); 22] = [
    (126, "2b03ce249705f400"),
    (126, "3a2c419c706ec13c"),
    (126, "d3c80e4a4b642df4"),
    (118, "543ee8dbe3095e5d"),
    (215, "8c60afff0812e1eb"),
    (320, "fa4ef2d6ec43b6b6"),
    (97, "c03b2d4c4da3b3c2"),
    (195, "11a70e404f573f95"),
    (389, "dc5d7bcfe59b0f18"),
    (186, "df66c43a54c1c9d3"),
    (523, "90e3e31853045334"),
    (1116, "a06c6bb176581da3"),
    (122, "852485722c638c45"),
    (208, "c05e0cfd8e7908f7"),
    (250, "f8e7e457e137e7e4"),
    (325, "2c6156c875913766"),
    (82, "6085ddc40c0c269f"),
    (59, "885c7e7c1e1f7e2f"),
    (59, "f53f0d119f8f73b1"),
    (14, "f468560b906458e7"),
    (147, "2cdc89f9058b8222"),
    (6, "a3a90eee90ecdffc"),
];

#[test]
fn every_message_comes_back_and_no_prefix_of_it_is_one() {
    for message in messages() {
        let frame = encode(&message);
        assert_eq!(decode::<Message>(&frame).unwrap(), message);
        for length in 0..frame.len() {
            assert!(decode::<Message>(&frame[..length]).is_err(), "{length} bytes of {message:?}");
        }
        let longer = [&frame[..], &[0]].concat();
        assert!(decode::<Message>(&longer).is_err());
    }
    for answer in answers() {
        assert_eq!(decode::<ReplicaMessage>(&encode(&answer)).unwrap(), answer);
    }
}

#[test]
fn another_version_and_an_oversized_frame_are_refused_by_name() {
    let mut frame = encode(&messages()[0]).to_vec();
    frame[0] = 2;
    assert_eq!(decode::<Message>(&frame), Err(WireError::Version(2)));
    let frame = vec![0; FRAME_BYTES_MAX + 1];
    assert_eq!(decode::<Message>(&frame), Err(WireError::Oversized));
    let frame = [&encode(&messages()[1])[..], &[0]].concat();
    assert_eq!(decode::<Message>(&frame), Err(WireError::Trailing));
}

/// Every 32-bit field of every message set to the largest count: where it is a count, nothing is allocated
/// for it. (Four billion requests would need terabytes: the test would not live to report.)
#[test]
fn i9_no_count_or_length_is_taken_at_its_word() {
    let frames = messages().iter().map(encode).collect::<Vec<_>>();
    for frame in frames {
        for at in 2..frame.len() - 3 {
            for count in [u32::MAX, u32::MAX / 2, 1 << 24] {
                let mut hostile = frame.to_vec();
                hostile[at..at + 4].copy_from_slice(&count.to_le_bytes());
                if let Ok(message) = decode::<Message>(&hostile) {
                    assert_eq!(encode(&message), hostile);
                }
            }
        }
    }
    // The same for a list alone: a batch that says it has four billion requests.
    let hostile = [&8_u64.to_le_bytes()[..], &u32::MAX.to_le_bytes()[..], &[0; 200]].concat();
    assert_eq!(decode_bare::<Batch>(&hostile), Err(WireError::Truncated));
    let hostile = [&u32::MAX.to_le_bytes()[..], &[0; 200]].concat();
    assert_eq!(decode_bare::<Signatures>(&hostile), Err(WireError::Truncated));
    assert_eq!(decode_bare::<Operations>(&hostile), Err(WireError::Truncated));
}

#[test]
fn i8_operations_must_tile_their_bytes_and_flags_must_be_flags() {
    for packed in [&[][..], &[1, 0, 0, 0], &[0, 0, 0], &[0, 0, 0, 0, 1]] {
        let length = u32::try_from(packed.len()).unwrap().to_le_bytes();
        let bytes = [&length[..], packed].concat();
        assert_eq!(decode_bare::<Operations>(&bytes), Err(WireError::Malformed), "{packed:?}");
    }
    let mut frame = encode(&signed(status())).to_vec();
    assert!(decode::<Message>(&frame).is_ok());
    for at in 0..frame.len() {
        let kept = core::mem::replace(&mut frame[at], 0xfe);
        if let Ok(message) = decode::<Message>(&frame) {
            assert_eq!(encode(&message), frame, "byte {at}");
        }
        frame[at] = kept;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn i8_whatever_decodes_has_exactly_one_encoding(body in prop::collection::vec(any::<u8>(), 0..300), kind in 0_u32..6) {
        let frame = [&VERSION.to_le_bytes()[..], &kind.to_le_bytes()[..], &body].concat();
        if let Ok(message) = decode::<Message>(&frame) {
            prop_assert_eq!(encode(&message), frame.clone());
        }
        if let Ok(message) = decode::<ClientMessage>(&frame) {
            prop_assert_eq!(encode(&message), frame.clone());
        }
        if let Ok(message) = decode::<ReplicaMessage>(&frame) {
            prop_assert_eq!(encode(&message), frame);
        }
    }
}

#[test]
fn convictions_leave_room_for_every_replica_and_have_one_encoding() {
    let many = (0..40).map(|slot| subject(0, Kind::Commit, 0, slot));
    let list = Convictions::new(many.chain([subject(3, Kind::ViewChange, 5, 0)]));
    assert_eq!(list.iter().count(), Convictions::MAX);
    assert_eq!(list.iter().last(), Some(&subject(3, Kind::ViewChange, 5, 0)));
    assert_eq!(decode::<Convictions>(&encode(&list)), Ok(list));
    let two = [subject(0, Kind::Commit, 0, 1), subject(0, Kind::Commit, 0, 2)];
    let good = encode(&Convictions::new(two)).to_vec();
    assert!(decode::<Convictions>(&good).is_ok());
    // Version and count, then two subjects of 21 bytes: each with another slot, kind, or order.
    let (first, second) = (6..27, 27..48);
    let mut turned = good[..6].to_vec();
    turned.extend_from_slice(&good[second.clone()]);
    turned.extend_from_slice(&good[first.clone()]);
    let mut twice = good.clone();
    twice.copy_within(first, second.start);
    let mut status = good.clone();
    status[10] = Kind::Status as u8;
    let mut none = good.clone();
    none[10] = 0;
    let mut too_many = good[..6].to_vec();
    too_many[2] = 17;
    for slot in 0..17 {
        let one = encode(&Convictions::new([subject(0, Kind::Commit, 0, slot)]));
        too_many.extend_from_slice(&one[6..]);
    }
    for bad in [turned, twice, status, none, too_many] {
        assert_eq!(decode::<Convictions>(&bad), Err(WireError::Malformed));
    }
}

#[test]
fn a_list_takes_at_most_twice_the_memory_of_what_is_in_it() {
    for sizes in [vec![1000_usize, 1, 1, 1], vec![5; 100], vec![1, 1000, 100_000], vec![100_000, 1]]
    {
        let mut packed = Vec::new();
        for (at, size) in sizes.iter().enumerate() {
            reserve(&mut packed, *size, sizes.len() * 1000 - at);
            packed.resize(packed.len() + size, 7);
        }
        let length: usize = sizes.iter().sum();
        // Alone in holding it, so its memory comes back as it was.
        let kept = Vec::from(settle(packed));
        assert!(kept.len() == length && kept.capacity() <= 2 * length, "{sizes:?}");
    }
}
