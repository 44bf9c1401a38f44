//! Proposes just before each time-out.

use std::collections::VecDeque;

use pbft_core::hook::Deed;
use pbft_core::types::Instant;

use super::spec::{Settings, SpecError};
use super::world::proposal;
use super::{Behaviour, Kit, World};

pub(super) struct SlowPrimary {
    delay_micros: u64,
    held: VecDeque<(Instant, Deed)>,
}

impl SlowPrimary {
    pub(super) fn new(kit: &Kit, settings: &mut Settings) -> Result<SlowPrimary, SpecError> {
        let timeout = u64::try_from(kit.limits.view_timeout.as_millis()).unwrap_or(1000);
        let delay_micros = settings.number("delay_ms", timeout * 9 / 10)?.saturating_mul(1000);
        Ok(SlowPrimary { delay_micros, held: VecDeque::new() })
    }
}

impl Behaviour for SlowPrimary {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        if proposal(&deed).is_some() {
            let due = Instant(world.now().0.saturating_add(self.delay_micros));
            self.held.push_back((due, deed));
        } else {
            world.pass(deed);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.held.front().map(|(due, _)| *due)
    }

    fn wake(&mut self, world: &mut World<'_>) {
        while self.held.front().is_some_and(|(due, _)| *due <= world.now()) {
            if let Some((_, deed)) = self.held.pop_front() {
                world.pass(deed);
            }
        }
    }
}
