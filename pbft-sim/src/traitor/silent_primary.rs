//! An honest backup that proposes nothing as primary.

use pbft_core::hook::Deed;

use super::world::proposal;
use super::{Behaviour, World};

#[derive(Default)]
pub(super) struct SilentPrimary;

impl Behaviour for SilentPrimary {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        if proposal(&deed).is_none() {
            world.pass(deed);
        }
    }
}
