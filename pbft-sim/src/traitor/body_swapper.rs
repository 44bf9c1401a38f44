//! Names the right digest and sends each replica another body with it (PITFALLS A7).

use std::sync::Arc;

use pbft_core::hook::Deed;
use pbft_core::message::{Batch, Message, Statement};
use pbft_core::replica::To;
use pbft_core::types::WallTime;

use super::world::proposal;
use super::{Behaviour, World};

#[derive(Default)]
pub(super) struct BodySwapper;

impl Behaviour for BodySwapper {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        let Some((vote, batch)) = proposal(&deed) else { return world.pass(deed) };
        let statement = Statement::PrePrepare(vote);
        let pre_prepare = world.sign(statement.clone());
        world.say(To::One(world.me()), statement, Some(Arc::clone(&batch)));
        for to in world.others() {
            let time = WallTime(batch.time().0.saturating_add(u64::from(to.0) + 1));
            let batch = Arc::new(Batch::new(time, batch.requests().to_vec()));
            let pre_prepare = pre_prepare.clone();
            world.send(To::One(to), Message::Proposal { pre_prepare, batch });
        }
    }
}
