//! Says Commit on hearing a proposal, and Prepare and Commit for slots that nobody proposed.

use pbft_core::message::{Message, Statement, Vote};
use pbft_core::replica::Input;
use pbft_core::types::ReplicaId;

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
            && let Message::Proposal { pre_prepare, .. } = verified.message()
            && let Statement::PrePrepare(vote) = &pre_prepare.statement
        {
            world.tell_others(&Statement::Commit(*vote), None);
            let sequence = vote.sequence.plus(world.random.between(1, 8));
            let unproposed = Vote { sequence, digest: world.digest(), ..*vote };
            if !world.is_primary() {
                world.tell_others(&Statement::Prepare(unproposed), None);
            }
            world.tell_others(&Statement::Commit(unproposed), None);
        }
        inputs.push(input);
    }
}
