//! Honest code that forgets a part of its journal now and then.

use std::time::Duration;

use pbft_core::hook::Deed;
use pbft_core::replica::{Input, Record};
use pbft_core::types::{Instant, ReplicaId};

use super::spec::{Settings, SpecError};
use super::{Behaviour, World};

pub(super) struct Amnesiac {
    every: Duration,
    next: Option<Instant>,
}

impl Amnesiac {
    pub(super) fn new(settings: &mut Settings) -> Result<Amnesiac, SpecError> {
        let every = Duration::from_millis(settings.number("every_ms", 700)?.max(1));
        Ok(Amnesiac { every, next: None })
    }
}

impl Behaviour for Amnesiac {
    fn hear(
        &mut self,
        world: &mut World<'_>,
        _: Option<ReplicaId>,
        input: Input,
        inputs: &mut Vec<Input>,
    ) {
        self.next.get_or_insert(world.now().after(self.every));
        inputs.push(input);
    }

    fn deadline(&self) -> Option<Instant> {
        self.next
    }

    fn wake(&mut self, world: &mut World<'_>) {
        self.next = Some(world.now().after(self.every));
        // Before the first stable checkpoint there is no snapshot to start from.
        if world.notes.stable.is_none() {
            return;
        }
        let forgets = world.random.pick(&[200, 500, 1000], 500);
        let mut kept = Vec::new();
        for record in &world.notes.journal {
            let proof = matches!(record, Record::Stable(_));
            if proof || !world.random.chance(forgets) {
                kept.push(record.clone());
            }
        }
        world.pass(Deed::Forget(kept));
    }
}
