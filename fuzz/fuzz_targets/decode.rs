//! Bytes of a peer or client: decoding never panics, and what decodes has exactly one encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pbft_core::message::{ClientMessage, Message, ReplicaMessage};
use pbft_core::wire;

fuzz_target!(|frame: &[u8]| {
    if let Ok(message) = wire::decode::<Message>(frame) {
        assert_eq!(wire::encode(&message), frame);
    }
    if let Ok(message) = wire::decode::<ClientMessage>(frame) {
        assert_eq!(wire::encode(&message), frame);
    }
    if let Ok(message) = wire::decode::<ReplicaMessage>(frame) {
        assert_eq!(wire::encode(&message), frame);
    }
});
