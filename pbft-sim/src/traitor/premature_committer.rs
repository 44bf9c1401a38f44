//! Says Commit on hearing a proposal, and Prepare and Commit for slots that nobody proposed. As a backup it also
//! proposes for the slot after (PITFALLS A9).

use std::sync::Arc;

use pbft_core::message::{Batch, Message, Statement, Vote};
use pbft_core::replica::Input;
use pbft_core::types::{ReplicaId, WallTime};

use super::{Behaviour, World};

#[derive(Default)]
pub(super) struct PrematureCommitter;

impl Behaviour for PrematureCommitter {
    fn hear(
        &mut self,
        world: &mut World<'_>,
        _: Option<ReplicaId>,
        input: Input,
        inputs: &mut Vec<Input>,
    ) {
        if let Input::Deliver(verified) = &input
            && let Message::Proposal { pre_prepare, batch } = verified.message()
            && let Statement::PrePrepare(vote) = &pre_prepare.statement
        {
            world.tell_others(&Statement::Commit(*vote), None);
            let sequence = vote.sequence.plus(world.random.between(1, 8));
            let unproposed = Vote { sequence, digest: world.digest(), ..*vote };
            if !world.is_primary() {
                let time = WallTime(batch.time().0.saturating_add(1));
                let own = Arc::new(Batch::new(time, batch.requests().to_vec()));
                let (sequence, digest) = (vote.sequence.next(), own.digest());
                let usurped = Statement::PrePrepare(Vote { sequence, digest, ..*vote });
                world.tell_others(&usurped, Some(&own));
                world.tell_others(&Statement::Prepare(unproposed), None);
            }
            world.tell_others(&Statement::Commit(unproposed), None);
        }
        inputs.push(input);
    }
}
