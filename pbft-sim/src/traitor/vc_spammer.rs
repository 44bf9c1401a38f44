//! Votes for ever higher views (PITFALLS D14).

use std::sync::Arc;

use pbft_core::message::Statement;
use pbft_core::replica::Input;
use pbft_core::types::{Instant, ReplicaId, View};

use super::spec::{Settings, SpecError};
use super::{Behaviour, World};

pub(super) struct VcSpammer {
    every_micros: u64,
    next: Option<Instant>,
    view: View,
}

impl VcSpammer {
    pub(super) fn new(settings: &mut Settings) -> Result<VcSpammer, SpecError> {
        let every_micros = settings.number("every_ms", 20)?.max(1).saturating_mul(1000);
        Ok(VcSpammer { every_micros, next: None, view: View(0) })
    }
}

impl Behaviour for VcSpammer {
    fn hear(
        &mut self,
        world: &mut World<'_>,
        _: Option<ReplicaId>,
        input: Input,
        inputs: &mut Vec<Input>,
    ) {
        self.next.get_or_insert(world.now());
        inputs.push(input);
    }

    fn deadline(&self) -> Option<Instant> {
        self.next
    }

    fn wake(&mut self, world: &mut World<'_>) {
        self.next = Some(Instant(world.now().0.saturating_add(self.every_micros)));
        // One step at a time, in leaps, and once to the end of all numbers.
        let step = world.random.pick(&[1, 1, 1, 5, 1000], 1);
        let next = View(self.view.0.max(world.view().0).saturating_add(step));
        let view = if world.random.chance(2) { View::MAX } else { next };
        self.view = next;
        let change = Arc::new(world.view_change(view));
        world.tell_others(&Statement::ViewChange(change), None);
    }
}
