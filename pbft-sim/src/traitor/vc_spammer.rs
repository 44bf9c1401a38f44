//! Votes for ever higher views (PITFALLS D14).

use std::sync::Arc;

use pbft_core::message::Statement;
use pbft_core::types::View;

use super::World;
use super::beat::OnBeat;

#[derive(Default)]
pub(super) struct VcSpammer {
    view: View,
}

impl OnBeat for VcSpammer {
    fn beat(&mut self, world: &mut World<'_>) {
        // One step at a time, in leaps, and once to the end of all numbers.
        let step = world.random.pick(&[1, 1, 1, 5, 1000], 1);
        let next = View(self.view.0.max(world.view().0).saturating_add(step));
        let view = if world.random.chance(2) { View::MAX } else { next };
        self.view = next;
        let change = Arc::new(world.view_change(view));
        world.tell_others(&Statement::ViewChange(change), None);
    }
}
