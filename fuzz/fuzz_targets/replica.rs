//! Whatever validly signed messages say, a replica does not panic and keeps its bounds. Signatures are
//! taken for good here, so that the fuzzer reaches the protocol.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use pbft_core::cluster::{Cluster, ClusterConfig};
use pbft_core::crypto::{Author, Verifier};
use pbft_core::limits::{Constants, Limits};
use pbft_core::message::Message;
use pbft_core::replica::{Action, Input, Replica};
use pbft_core::signed::{Cache, Scrutiny, verify};
use pbft_core::types::{Instant, PublicKey, ReplicaId, Signature, Time, WallTime};
use pbft_core::wire;

struct Anything;

impl Verifier for Anything {
    fn verify(&self, _: Author, _: &[u8], _: &Signature) -> bool {
        true
    }
}

const WINDOW: u64 = 8;

fuzz_target!(|input: &[u8]| {
    let constants =
        Constants { checkpoint_interval: 4, window: WINDOW, client_window: 4, ..Constants::default() };
    let cluster = Arc::new(
        Cluster::new(ClusterConfig {
            name: "fuzz".into(),
            members: (0..4).map(|id| PublicKey([id; 32])).collect(),
            clients: (10..12).map(|id| PublicKey([id; 32])).collect(),
            constants,
            development: false,
        })
        .unwrap(),
    );
    let mut replica = Replica::new(ReplicaId(1), Arc::clone(&cluster), Limits::default()).unwrap();
    let (mut cache, mut out, mut rest, mut micros) = (Cache::new(64), Vec::new(), input, 0);
    // One byte of length and one of clock before each message; the version is put in front.
    while let [length, clock, after @ ..] = rest {
        let (body, after) = after.split_at(after.len().min(usize::from(*length) * 2));
        rest = after;
        micros += u64::from(*clock) * 10_000;
        let frame = [&wire::VERSION.to_le_bytes()[..], body].concat();
        let Ok(message) = wire::decode::<Message>(&frame) else { continue };
        if replica.wants(&message).is_err() {
            continue;
        }
        let Ok(verified) = verify(&cluster, &Anything, &mut cache, message, Scrutiny::Whole) else { continue };
        let time = Time { instant: Instant(micros), wall: WallTime(0) };
        replica.step(time, Input::Deliver(verified), &mut out);
        let mut inputs = Vec::new();
        for action in out.drain(..) {
            match action {
                Action::Persist { id, .. } => inputs.push(Input::Durable(id)),
                Action::Execute { sequence, .. } => {
                    inputs.push(Input::Executed { sequence, consumed: Vec::new() });
                }
                _ => {}
            }
        }
        for input in inputs {
            replica.step(time, input, &mut out);
        }
        replica.propose(time, &mut out);
        out.clear();
        assert!(replica.window().slots().count() as u64 <= 4 * WINDOW);
    }
});
