//! Votes for every digest it sees, first towards whoever said it, then towards everyone, and twice; where an ally
//! has split a slot, at once and towards each side for its own digest. Now and then it shows a decision in
//! which its own Commit counts as often as a quorum needs (PITFALLS A2).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pbft_core::hook::Deed;
use pbft_core::message::{Statement, Vote};
use pbft_core::replica::{Input, To};
use pbft_core::types::{Instant, ReplicaId};

use super::world::{said, vote_in};
use super::{Behaviour, World};

/// How long it waits before it tells everyone: whoever hears the own digest first believes it.
const PATIENCE: Duration = Duration::from_millis(40);
/// Votes remembered.
const SEEN_MAX: usize = 256;

#[derive(Default)]
pub(super) struct DoubleVoter {
    answered: BTreeSet<(Vote, ReplicaId)>,
    waiting: BTreeMap<Instant, Vec<Vote>>,
}

fn vote_for(world: &mut World<'_>, to: ReplicaId, vote: Vote) {
    // A primary that says Prepare is refused at the door.
    if world.kit.cluster.primary(vote.view) != world.me() {
        world.say(To::One(to), Statement::Prepare(vote), None);
    }
    world.say(To::One(to), Statement::Commit(vote), None);
}

/// Supports an ally's split: towards each side the digest that it was shown. Says whether there is one.
fn split(world: &mut World<'_>, vote: Vote) -> bool {
    let controller = world.kit.controller.clone();
    for to in world.others() {
        // An ally counts on the even side, wherever it stands: that is what the primary itself accepts.
        let side = if controller.is_ally(to) { ReplicaId(0) } else { to };
        match controller.planned(vote.view, vote.sequence, side) {
            Some(digest) => vote_for(world, to, Vote { digest, ..vote }),
            None => return false,
        }
    }
    true
}

impl Behaviour for DoubleVoter {
    fn hear(
        &mut self,
        world: &mut World<'_>,
        _: Option<ReplicaId>,
        input: Input,
        inputs: &mut Vec<Input>,
    ) {
        if let Input::Deliver(verified) = &input
            && let Some(signed) = verified.message().signed()
            && signed.sender != world.me()
            && let Some(vote) = vote_in(&signed.statement)
            && self.answered.insert((vote, signed.sender))
            && !split(world, vote)
        {
            vote_for(world, signed.sender, vote);
            if self.answered.len() > SEEN_MAX {
                self.answered.pop_first();
            }
            self.waiting.entry(world.now().after(PATIENCE)).or_default().push(vote);
        }
        inputs.push(input);
    }

    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        match said(&deed) {
            Some((statement @ (Statement::Prepare(_) | Statement::Commit(_)), _)) => {
                world.say(To::One(world.me()), statement.clone(), None);
            }
            _ => world.pass(deed),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(due, _)| *due)
    }

    fn wake(&mut self, world: &mut World<'_>) {
        while let Some(due) = self.waiting.first_entry().filter(|due| *due.key() <= world.now()) {
            for vote in due.remove() {
                for to in world.others() {
                    vote_for(world, to, vote);
                    vote_for(world, to, vote);
                }
                if world.random.chance(100) {
                    let signer = Arc::clone(&world.kit.signer);
                    let decision = world.lonely_decision(|preimage, _| signer.sign(preimage));
                    world.send(To::All, decision);
                }
            }
        }
    }
}
