//! Leaves out of its ViewChange everything it prepared.

use std::sync::Arc;

use pbft_core::hook::Deed;
use pbft_core::message::{Statement, ViewChange};

use super::world::said;
use super::{Behaviour, World};

#[derive(Default)]
pub(super) struct VcLiarOmits;

impl Behaviour for VcLiarOmits {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        let Some((statement @ Statement::ViewChange(change), _)) = said(&deed) else {
            return world.pass(deed);
        };
        let lie = Arc::new(ViewChange { prepared: Vec::new(), ..ViewChange::clone(change) });
        world.say_each(statement, None, |_, _| Some(Statement::ViewChange(Arc::clone(&lie))));
    }
}
