//! Tells clients wrong results, wrong numbers, wrong digests, and views that never were.

use bytes::Bytes;
use pbft_core::hook::Deed;
use pbft_core::message::{Answer, Outcome, ReplicaMessage};
use pbft_core::types::{RequestNumber, View};

use super::world::flip;
use super::{Behaviour, World};

#[derive(Default)]
pub(super) struct ReplyLiar;

impl Behaviour for ReplyLiar {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        let Deed::Tell { client, message: ReplicaMessage::Reply(mut reply) } = deed else {
            return world.pass(deed);
        };
        match world.random.below(4) {
            0 => {
                let lie = Outcome::Done(Bytes::from_static(&[0xff; 8]));
                let outcomes = match &reply.answer {
                    Answer::Executed(outcomes) => outcomes.len(),
                    _ => 1,
                };
                reply.answer = Answer::Executed(std::iter::repeat_n(lie, outcomes).collect());
            }
            1 => reply.number = RequestNumber(reply.number.0.saturating_add(1)),
            2 => reply.digest = flip(reply.digest),
            _ => reply.answer = Answer::Stale,
        }
        reply.view = View::MAX;
        world.pass(Deed::Tell { client, message: ReplicaMessage::Reply(reply) });
    }
}
