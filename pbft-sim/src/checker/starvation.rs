//! INV14 for every single request: once the faults have ended, none of a correct client's waits longer than the
//! bound, however many others are executed meanwhile (PITFALLS E4).

use std::collections::BTreeMap;

use pbft_core::types::{ClientId, RequestNumber};

use super::Observation;

/// Not one of the checkers in a row: it needs the time, and what it finds is slowness, no violation.
#[derive(Default)]
pub(crate) struct Starvation {
    waiting: BTreeMap<(ClientId, RequestNumber), u64>,
    /// From when the bound counts, and what it is.
    bound: Option<(u64, u64)>,
}

impl Starvation {
    pub(crate) fn observe(&mut self, now: u64, observation: &Observation<'_>) {
        match observation {
            Observation::Submitted { client, number, .. } => {
                self.waiting.insert((*client, *number), now);
            }
            Observation::Completed { client, number, .. } => {
                self.waiting.remove(&(*client, *number));
            }
            _ => {}
        }
    }

    /// From now on nothing waits longer than `bound`.
    pub(crate) fn heal(&mut self, now: u64, bound: u64) {
        self.bound = Some((now, bound));
    }

    /// Who waits too long, and since when.
    pub(crate) fn late(&self, now: u64) -> Option<(ClientId, RequestNumber, u64)> {
        let (healed, bound) = self.bound?;
        let waited = |since: u64| now.saturating_sub(since.max(healed));
        let late = self.waiting.iter().find(|(_, since)| waited(**since) > bound);
        late.map(|((client, number), since)| (*client, *number, waited(*since)))
    }
}

#[cfg(test)]
mod tests {
    use pbft_core::client::ClientOutcome;
    use pbft_core::message::Operations;

    use super::*;

    #[test]
    fn a_request_that_waits_too_long_is_found_and_no_other() {
        let (client, number) = (ClientId(1), RequestNumber(3));
        let operations = Operations::new(["one"]).unwrap();
        let submitted = Observation::Submitted { client, number, operations };
        let mut starvation = Starvation::default();
        starvation.observe(5, &submitted);
        assert_eq!(starvation.late(1_000), None, "faults last");
        starvation.heal(100, 50);
        assert_eq!(starvation.late(150), None);
        assert_eq!(starvation.late(151), Some((client, number, 51)));
        let outcome = ClientOutcome::Committed([].into_iter().collect());
        starvation.observe(152, &Observation::Completed { client, number, outcome });
        assert_eq!(starvation.late(1_000), None);
    }
}
