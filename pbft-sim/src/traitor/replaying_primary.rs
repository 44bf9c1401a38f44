//! Orders what was executed long ago, the same batch again, and one request several times in a batch.

use std::sync::Arc;

use pbft_core::hook::Deed;
use pbft_core::message::{Batch, Statement, Vote};
use pbft_core::replica::To;

use super::world::proposal;
use super::{Behaviour, World};

#[derive(Default)]
pub(super) struct ReplayingPrimary {
    turn: u64,
}

impl Behaviour for ReplayingPrimary {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        let Some((vote, batch)) = proposal(&deed) else { return world.pass(deed) };
        self.turn += 1;
        let old = world.notes.batches.front();
        let most = usize::try_from(world.kit.cluster.constants().batch_requests_max).unwrap_or(1);
        let replay = match (self.turn % 3, old) {
            (1, Some(old)) => Arc::clone(old),
            (2, Some(old)) => {
                let again = old.requests().iter().chain(batch.requests());
                let twice = again.clone().chain(again).take(most).cloned();
                Arc::new(Batch::new(batch.time(), twice.collect()))
            }
            _ => {
                let twice = batch.requests().iter().chain(batch.requests()).take(most).cloned();
                Arc::new(Batch::new(batch.time(), twice.collect()))
            }
        };
        let vote = Vote { digest: replay.digest(), ..vote };
        world.say(To::All, Statement::PrePrepare(vote), Some(replay));
    }
}
