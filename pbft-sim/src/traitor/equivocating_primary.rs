//! Proposes one batch to the even replicas and another to the odd ones.
//!
//! Alone it supports neither further, so that the slot stalls; with allies, each side also gets the Commits that
//! it needs to decide.

use std::sync::Arc;

use pbft_core::hook::Deed;
use pbft_core::message::{Batch, Statement, Vote};
use pbft_core::replica::To;
use pbft_core::types::{ReplicaId, WallTime};

use super::controller::is_odd;
use super::world::{proposal, said};
use super::{Behaviour, World};

#[derive(Default)]
pub(super) struct EquivocatingPrimary;

impl EquivocatingPrimary {
    fn propose(world: &mut World<'_>, to: ReplicaId, vote: Vote, batch: &Arc<Batch>, allied: bool) {
        world.say(To::One(to), Statement::PrePrepare(vote), Some(Arc::clone(batch)));
        if allied {
            world.say(To::One(to), Statement::Commit(vote), None);
        }
    }
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
        for to in world.others() {
            let ally = world.kit.controller.is_ally(to);
            if ally || !is_odd(to) {
                Self::propose(world, to, vote, &batch, allied);
            }
            if ally || is_odd(to) {
                Self::propose(world, to, lie, &other, allied);
            }
        }
    }
}
