//! Small mutations of correct statements, another for each receiver: one off in view, slot or digest, and
//! proofs left out.

use std::sync::Arc;

use pbft_core::hook::Deed;
use pbft_core::message::{Checkpoint, NewView, Statement, ViewChange, Vote};
use pbft_core::types::{Sequence, View};

use super::world::{flip, revote, said, vote_in};
use super::{Behaviour, World};
use crate::random::Random;

#[derive(Default)]
pub(super) struct TwoFacedMutator;

fn off_by_one(random: &mut Random, number: u64) -> u64 {
    if random.chance(500) { number.saturating_add(1) } else { number.saturating_sub(1) }
}

fn mutate(random: &mut Random, honest: &Statement) -> Statement {
    if let Some(vote) = vote_in(honest) {
        let vote = match random.below(3) {
            0 => Vote { view: View(off_by_one(random, vote.view.0)), ..vote },
            1 => Vote { sequence: Sequence(off_by_one(random, vote.sequence.0)), ..vote },
            _ => Vote { digest: flip(vote.digest), ..vote },
        };
        return revote(honest, vote);
    }
    match honest {
        Statement::Checkpoint(checkpoint) => match random.below(2) {
            0 => {
                Statement::Checkpoint(Checkpoint { digest: flip(checkpoint.digest), ..*checkpoint })
            }
            _ => Statement::Checkpoint(Checkpoint {
                sequence: Sequence(off_by_one(random, checkpoint.sequence.0)),
                ..*checkpoint
            }),
        },
        Statement::ViewChange(change) => {
            let mut lie = ViewChange::clone(change);
            match random.below(4) {
                0 => lie.view = View(off_by_one(random, lie.view.0)),
                1 => lie.stable = None,
                2 => lie.prepared.clear(),
                _ => lie.prepared.reverse(),
            }
            Statement::ViewChange(Arc::new(lie))
        }
        Statement::NewView(new_view) => {
            let mut lie = NewView::clone(new_view);
            match random.below(3) {
                0 => lie.view = View(off_by_one(random, lie.view.0)),
                1 => drop(lie.changes.pop()),
                _ => lie.changes.reverse(),
            }
            Statement::NewView(Arc::new(lie))
        }
        other => other.clone(),
    }
}

impl Behaviour for TwoFacedMutator {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        let Some((statement, batch)) = said(&deed) else { return world.pass(deed) };
        world.say_each(statement, batch, |random, _| {
            Some(if random.chance(500) { mutate(random, statement) } else { statement.clone() })
        });
    }
}
