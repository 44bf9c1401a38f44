//! Orders requests that no client made: invented, or altered after they were signed.

use std::sync::Arc;

use pbft_core::hook::Deed;
use pbft_core::message::{Batch, Operations, Request, RequestBody, Statement, Vote};
use pbft_core::replica::To;
use pbft_core::types::{ClientId, RequestNumber};

use super::world::proposal;
use super::{Behaviour, World};

#[derive(Default)]
pub(super) struct ForgingPrimary;

impl ForgingPrimary {
    fn forge(world: &mut World<'_>, batch: &Batch) -> Option<Batch> {
        let honest = batch.requests().first();
        let operations = Operations::new([b"all the money"])?;
        let request = match honest.filter(|_| world.random.chance(500)) {
            Some(request) => {
                let (client, number) = (request.client(), request.number());
                let body = RequestBody { client, number, operations };
                Request::new(body, *request.signature())
            }
            None => {
                let clients = u64::try_from(world.kit.cluster.clients().len()).unwrap_or(1);
                let client = ClientId(u32::try_from(world.random.below(clients)).unwrap_or(0));
                let number = RequestNumber(world.random.between(1, 1 << 40));
                let signature = world.signature();
                Request::new(RequestBody { client, number, operations }, signature)
            }
        };
        let most = usize::try_from(world.kit.cluster.constants().batch_requests_max).unwrap_or(1);
        let rest = batch.requests().iter().take(most.saturating_sub(1)).cloned();
        Some(Batch::new(batch.time(), std::iter::once(request).chain(rest).collect()))
    }
}

impl Behaviour for ForgingPrimary {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        let Some((vote, batch)) = proposal(&deed) else { return world.pass(deed) };
        let Some(forged) = Self::forge(world, &batch).map(Arc::new) else {
            return world.pass(deed);
        };
        world.say(To::One(world.me()), Statement::PrePrepare(vote), Some(batch));
        let vote = Vote { digest: forged.digest(), ..vote };
        world.tell_others(&Statement::PrePrepare(vote), Some(&forged));
    }
}
