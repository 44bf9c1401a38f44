//! INV15: what a correct replica keeps stays within the published bounds, whatever it is sent.

use pbft_core::replica::Footprint;

use super::{Checker, Observation};
use crate::keys::Keys;
use crate::options::Options;

/// Counting costs more than a step, so only every so many are counted.
const EVERY: u64 = 16;

pub(super) struct Memory {
    most: Footprint,
    steps: u64,
}

impl Memory {
    pub(super) fn new(keys: &Keys, options: &Options) -> Memory {
        Memory { most: Footprint::most(&keys.cluster, &options.limits()), steps: 0 }
    }

    fn judge(&self, kept: &Footprint) -> Result<(), String> {
        match kept.exceeds(&self.most) {
            Some((what, kept)) => Err(format!("{kept} {what}, of {:?} allowed", self.most)),
            None => Ok(()),
        }
    }
}

impl Checker for Memory {
    fn name(&self) -> &'static str {
        "INV15 bounded memory"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        let Observation::Stepped { replica } = observation else { return Ok(()) };
        self.steps += 1;
        if self.steps.is_multiple_of(EVERY) { self.judge(&replica.footprint()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_vote_too_many_is_found() {
        let options = Options::fault_free(1, 4);
        let memory = Keys::new(&options).map(|keys| Memory::new(&keys, &options)).ok();
        let judge = |votes| {
            let kept = Footprint { votes, ..Footprint::default() };
            memory.as_ref().map(|memory| memory.judge(&kept).is_ok())
        };
        let most = memory.as_ref().map_or(0, |memory| memory.most.votes);
        assert_eq!((judge(most), judge(most + 1)), (Some(true), Some(false)));
    }
}
