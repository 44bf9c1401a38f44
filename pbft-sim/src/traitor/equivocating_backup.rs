//! Votes for one digest towards the even replicas and for another towards the odd ones.

use pbft_core::hook::Deed;
use pbft_core::message::{Statement, Vote};

use super::controller::is_odd;
use super::world::{flip, revote, said};
use super::{Behaviour, World};

#[derive(Default)]
pub(super) struct EquivocatingBackup;

impl Behaviour for EquivocatingBackup {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        let Some((statement @ (Statement::Prepare(vote) | Statement::Commit(vote)), _)) =
            said(&deed)
        else {
            return world.pass(deed);
        };
        let (vote, controller) = (*vote, world.kit.controller.clone());
        world.say_each(statement, None, |_, to| {
            let planned = controller.planned(vote.view, vote.sequence, to);
            let alone = if is_odd(to) { flip(vote.digest) } else { vote.digest };
            Some(revote(statement, Vote { digest: planned.unwrap_or(alone), ..vote }))
        });
    }
}
