use pbft_core::message::Refusal;
use pbft_core::types::hex;
use pbft_core::wire::{self, WireError};
use proptest::prelude::*;

use super::*;

const NUMBER: SubmissionNumber = SubmissionNumber(0x0102_0304_0506_0708);

fn submit() -> UserMessage {
    UserMessage::submit(NUMBER, Duration::from_secs(10), Bytes::from("op"))
}

fn ended(ending: Ending) -> GatewayMessage {
    GatewayMessage::Ended { number: NUMBER, ending }
}

fn endings() -> Vec<(Ending, &'static str)> {
    vec![
        (Ending::Ordered(Outcome::Done(Bytes::from("r"))), "00000000 00 01000000 72"),
        (
            Ending::Ordered(Outcome::Refused(Refusal::new(7, "no"))),
            "00000000 01 07000000 02000000 6e6f",
        ),
        (Ending::Refused(GatewayRefusal::Busy), "01000000 00000000"),
        (Ending::Refused(GatewayRefusal::TooLong), "01000000 01000000"),
        (Ending::Refused(GatewayRefusal::NotSent), "01000000 02000000"),
        (Ending::Refused(GatewayRefusal::NumberUsed), "01000000 03000000"),
        (Ending::Unknown, "02000000"),
    ]
}

/// Version, index of the message, number; the rest as said.
fn golden(rest: &str) -> String {
    format!("0100 00000000 0807060504030201 {rest}").replace(' ', "")
}

#[test]
fn golden_bytes() {
    assert_eq!(hex(&wire::encode(&submit())), golden("10270000 02000000 6f70"));
    for (ending, bytes) in endings() {
        let frame = wire::encode(&ended(ending.clone()));
        assert_eq!(hex(&frame), golden(bytes));
        assert_eq!(wire::decode(&frame), Ok(ended(ending.clone())));
        // What the gateway was told is what the user is told.
        assert_eq!(Ending::from(Submitted::from(ending.clone())), ending);
    }
    assert_eq!(wire::decode(&wire::encode(&submit())), Ok(submit()));
}

#[test]
fn a_result_too_long_to_be_told_is_unknown_to_the_user() {
    let ending = Ending::Ordered(Outcome::ResultTooLong);
    assert_eq!(Submitted::from(ending), Submitted::Unknown);
}

#[test]
fn a_claimed_length_is_compared_with_the_bytes_at_hand() {
    let mut frame = wire::encode(&submit()).to_vec();
    let at = frame.len() - 2 - 4;
    frame[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(wire::decode::<UserMessage>(&frame), Err(WireError::Truncated));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_what_decodes_has_one_encoding(
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
        kept in 0..40_usize,
    ) {
        // Junk alone seldom gets past the first fields, so it also follows a good beginning.
        for good in [wire::encode(&submit()), wire::encode(&ended(endings().remove(0).0))] {
            let mixed = [&good[..kept.min(good.len())], &bytes[..]].concat();
            for bytes in [&bytes, &mixed] {
                if let Ok(message) = wire::decode::<UserMessage>(bytes) {
                    prop_assert_eq!(&wire::encode(&message)[..], &bytes[..]);
                }
                if let Ok(message) = wire::decode::<GatewayMessage>(bytes) {
                    prop_assert_eq!(&wire::encode(&message)[..], &bytes[..]);
                }
            }
        }
    }
}
