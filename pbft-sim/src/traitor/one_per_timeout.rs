//! Orders one request per period, so that a timer reset by any progress never fires (PITFALLS E4).

use std::collections::VecDeque;
use std::sync::Arc;

use pbft_core::hook::Deed;
use pbft_core::message::{Batch, Statement, Vote};
use pbft_core::replica::To;
use pbft_core::types::Instant;

use super::spec::{Settings, SpecError};
use super::world::proposal;
use super::{Behaviour, Kit, World};

/// Proposals held back; a replica has fewer in flight.
const HELD_MAX: usize = 256;

pub(super) struct OnePerTimeout {
    period_micros: u64,
    next: Option<Instant>,
    held: VecDeque<(Vote, Arc<Batch>)>,
}

impl OnePerTimeout {
    pub(super) fn new(kit: &Kit, settings: &mut Settings) -> Result<OnePerTimeout, SpecError> {
        let timeout = u64::try_from(kit.limits.view_timeout.as_millis()).unwrap_or(1000);
        let period_micros = settings.number("period_ms", timeout * 8 / 10)?.saturating_mul(1000);
        Ok(OnePerTimeout { period_micros, next: None, held: VecDeque::new() })
    }
}

impl Behaviour for OnePerTimeout {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        let Some((vote, batch)) = proposal(&deed) else { return world.pass(deed) };
        let one = batch.requests().first().cloned().into_iter().collect();
        let batch = Arc::new(Batch::new(batch.time(), one));
        self.held.push_back((Vote { digest: batch.digest(), ..vote }, batch));
        if self.held.len() > HELD_MAX {
            self.held.pop_front();
        }
        self.next.get_or_insert(Instant(world.now().0.saturating_add(self.period_micros)));
    }

    fn deadline(&self) -> Option<Instant> {
        self.next
    }

    fn wake(&mut self, world: &mut World<'_>) {
        if let Some((vote, batch)) = self.held.pop_front() {
            world.say(To::All, Statement::PrePrepare(vote), Some(batch));
        }
        let again = Instant(world.now().0.saturating_add(self.period_micros));
        self.next = (!self.held.is_empty()).then_some(again);
    }
}
