//! Proposes one batch to the even replicas and another to the odd ones.
//!
//! Alone it supports neither further, so that the slot stalls; with allies, each side also gets the Commits that
//! it needs to decide.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use pbft_core::hook::Deed;
use pbft_core::message::{Batch, Statement, Vote};
use pbft_core::replica::To;
use pbft_core::types::{Instant, ReplicaId, WallTime};

use super::controller::is_odd;
use super::world::{proposal, said};
use super::{Behaviour, World};

/// So much earlier allies hear of a proposal: their votes are there before anyone can compare notes.
const HEAD_START: Duration = Duration::from_millis(5);

#[derive(Default)]
pub(super) struct EquivocatingPrimary {
    held: VecDeque<(Instant, ReplicaId, Vote, Arc<Batch>)>,
}

impl Behaviour for EquivocatingPrimary {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        let allied = world.kit.controller.traitors() > 1;
        if let Some((Statement::Commit(vote), _)) = said(&deed)
            && allied
            && world.kit.controller.planned(vote.view, vote.sequence, world.me()).is_some()
        {
            return world.say(To::One(world.me()), Statement::Commit(*vote), None);
        }
        let Some((vote, batch)) = proposal(&deed) else { return world.pass(deed) };
        let time = WallTime(batch.time().0.saturating_add(1));
        let other = Arc::new(Batch::new(time, batch.requests().to_vec()));
        let lie = Vote { digest: other.digest(), ..vote };
        world.kit.controller.plan(vote.view, vote.sequence, (vote.digest, lie.digest));
        world.say(To::One(world.me()), Statement::PrePrepare(vote), Some(Arc::clone(&batch)));
        let (accepted, first) = (vote, Arc::clone(&batch));
        for to in world.others() {
            let (vote, batch) = if is_odd(to) { (lie, &other) } else { (vote, &batch) };
            if world.kit.controller.is_ally(to) {
                // Of its own side only: an honest replica behind an ally would find the other one out.
                let vote = Vote { digest: accepted.digest, ..vote };
                world.say(To::One(to), Statement::PrePrepare(vote), Some(Arc::clone(&first)));
            } else if allied {
                world.say(To::One(to), Statement::Commit(vote), None);
                let due = world.now().after(HEAD_START);
                self.held.push_back((due, to, vote, Arc::clone(batch)));
            } else {
                world.say(To::One(to), Statement::PrePrepare(vote), Some(Arc::clone(batch)));
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.held.front().map(|(due, ..)| *due)
    }

    fn wake(&mut self, world: &mut World<'_>) {
        while self.held.front().is_some_and(|(due, ..)| *due <= world.now()) {
            if let Some((_, to, vote, batch)) = self.held.pop_front() {
                world.say(To::One(to), Statement::PrePrepare(vote), Some(batch));
            }
        }
    }
}
