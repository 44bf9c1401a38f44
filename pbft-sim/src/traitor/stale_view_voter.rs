//! Says every vote also in old views and in views to come.

use pbft_core::hook::Deed;
use pbft_core::message::{Statement, Vote};
use pbft_core::types::View;

use super::world::{revote, said};
use super::{Behaviour, World};

#[derive(Default)]
pub(super) struct StaleViewVoter;

impl Behaviour for StaleViewVoter {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        if let Some((statement @ (Statement::Prepare(vote) | Statement::Commit(vote)), _)) =
            said(&deed)
        {
            let vote = *vote;
            let at = vote.view.0;
            let views = [at.saturating_sub(1), at + 1, at + 2, at + 7, View::MAX.0];
            for view in views.into_iter().filter(|view| *view != at).map(View) {
                let prepare = matches!(statement, Statement::Prepare(_));
                if prepare && world.kit.cluster.primary(view) == world.me() {
                    continue;
                }
                world.tell_others(&revote(statement, Vote { view, ..vote }), None);
            }
        }
        world.pass(deed);
    }
}
