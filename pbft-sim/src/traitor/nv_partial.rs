//! Starts its view towards f + 1 replicas only; the others get another choice of ViewChanges, or nothing.

use std::sync::Arc;

use pbft_core::hook::Deed;
use pbft_core::message::{NewView, Statement};

use super::world::said;
use super::{Behaviour, World};

#[derive(Default)]
pub(super) struct NvPartial;

impl NvPartial {
    /// Another valid set: one of the others exchanged for one that was left out.
    fn other(world: &World<'_>, honest: &NewView) -> Option<NewView> {
        let chosen = |sender| honest.changes.iter().any(|change| change.sender == sender);
        let mut spare = world.notes.changes.values();
        let spare = spare.find(|it| it.change.view == honest.view && !chosen(it.sender))?;
        let mut changes = honest.changes.clone();
        let exchanged = changes.iter().rposition(|change| change.sender != world.me())?;
        changes.remove(exchanged);
        changes.push(spare.clone());
        changes.sort_by_key(|change| change.sender);
        Some(NewView { view: honest.view, changes })
    }
}

impl Behaviour for NvPartial {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        let Some((statement @ Statement::NewView(new_view), _)) = said(&deed) else {
            return world.pass(deed);
        };
        let other = Self::other(world, new_view).map(Arc::new);
        let mut favoured = world.kit.cluster.join();
        world.say_each(statement, None, |_, _| {
            if favoured > 0 {
                favoured -= 1;
                return Some(statement.clone());
            }
            other.as_ref().map(|other| Statement::NewView(Arc::clone(other)))
        });
    }
}
