//! Doing something over and over: the clock that several behaviours share.

use std::time::Duration;

use pbft_core::replica::Input;
use pbft_core::types::{Instant, ReplicaId};

use super::spec::{Settings, SpecError};
use super::{Behaviour, World};

/// What is done at each beat.
pub(super) trait OnBeat: Send {
    fn beat(&mut self, world: &mut World<'_>);
}

/// Does it at once and then every `every_ms`.
pub(super) struct Beating<Done> {
    every: Duration,
    next: Option<Instant>,
    done: Done,
}

impl<Done: OnBeat> Beating<Done> {
    /// `every_ms` is `otherwise` unless set.
    pub(super) fn new(
        settings: &mut Settings,
        otherwise: u64,
        done: Done,
    ) -> Result<Self, SpecError> {
        let every = Duration::from_millis(settings.number("every_ms", otherwise)?.max(1));
        Ok(Beating { every, next: None, done })
    }
}

impl<Done: OnBeat> Behaviour for Beating<Done> {
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
        self.next = Some(world.now().after(self.every));
        self.done.beat(world);
    }
}
