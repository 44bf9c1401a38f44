//! Tells the others of every proposal one slot too late, so that the first is never filled.

use pbft_core::hook::Deed;
use pbft_core::message::{Statement, Vote};

use super::world::{proposal, said};
use super::{Behaviour, World};

#[derive(Default)]
pub(super) struct HoleMaker;

impl Behaviour for HoleMaker {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        let (Some((vote, batch)), Some((statement, _))) = (proposal(&deed), said(&deed)) else {
            return world.pass(deed);
        };
        let later = Vote { sequence: vote.sequence.next(), ..vote };
        world.say_each(statement, Some(&batch), |_, _| Some(Statement::PrePrepare(later)));
    }
}
