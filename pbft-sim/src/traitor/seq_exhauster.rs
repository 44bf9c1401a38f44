//! Also proposes at the far end of the window, one beyond it, and at the end of all numbers.

use pbft_core::hook::Deed;
use pbft_core::message::{Statement, Vote};
use pbft_core::types::Sequence;

use super::world::proposal;
use super::{Behaviour, World};

#[derive(Default)]
pub(super) struct SeqExhauster;

impl Behaviour for SeqExhauster {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        if let Some((vote, batch)) = proposal(&deed) {
            let high = world.scene().replica.window().high();
            let end = Sequence(u64::MAX);
            let far = [high, high.next(), Sequence::MAX, end];
            let sequence = world.random.pick(&far, end);
            if sequence != vote.sequence {
                let far = Statement::PrePrepare(Vote { sequence, ..vote });
                world.tell_others(&far, Some(&batch));
            }
        }
        world.pass(deed);
    }
}
