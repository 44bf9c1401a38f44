//! Collects ViewChanges and never starts its view.

use pbft_core::hook::Deed;
use pbft_core::message::Statement;

use super::world::said;
use super::{Behaviour, World};

#[derive(Default)]
pub(super) struct NvStaller;

impl Behaviour for NvStaller {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        if !matches!(said(&deed), Some((Statement::NewView(_), _))) {
            world.pass(deed);
        }
    }
}
