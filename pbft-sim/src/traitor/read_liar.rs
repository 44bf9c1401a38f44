//! Answers with what it answered before: an older state.

use std::collections::BTreeMap;

use pbft_core::hook::Deed;
use pbft_core::message::{Answer, ReplicaMessage};

use super::{Behaviour, World};

/// The first answer of each shape is the one that stays.
#[derive(Default)]
pub(super) struct ReadLiar {
    first: BTreeMap<usize, Answer>,
}

impl Behaviour for ReadLiar {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        let Deed::Tell { client, message: ReplicaMessage::Reply(mut reply) } = deed else {
            return world.pass(deed);
        };
        if let Answer::Executed(outcomes) = &reply.answer {
            let count = outcomes.len();
            let honest = reply.answer.clone();
            reply.answer = self.first.entry(count).or_insert(honest).clone();
        }
        world.pass(Deed::Tell { client, message: ReplicaMessage::Reply(reply) });
    }
}
