//! Says one ViewChange to the even replicas and another, for the same view, to the odd ones.

use std::sync::Arc;

use pbft_core::hook::Deed;
use pbft_core::message::{Statement, ViewChange};

use super::controller::is_odd;
use super::world::said;
use super::{Behaviour, World};

#[derive(Default)]
pub(super) struct VcTwoFaces;

impl Behaviour for VcTwoFaces {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        let Some((statement @ Statement::ViewChange(change), _)) = said(&deed) else {
            return world.pass(deed);
        };
        let mut prepared = change.prepared.clone();
        prepared.pop();
        let lie = Arc::new(ViewChange { prepared, ..ViewChange::clone(change) });
        world.say_each(statement, None, |_, to| {
            let change = if is_odd(to) { &lie } else { change };
            Some(Statement::ViewChange(Arc::clone(change)))
        });
    }
}
