//! The replica's mirror of which request numbers are consumed: for its timers and for repeating kept
//! replies, never for deciding what is executed.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::types::{ClientId, RequestNumber};

#[derive(Clone, Debug, Default)]
struct Numbers {
    top: RequestNumber,
    consumed: BTreeSet<RequestNumber>,
}

/// Consumed numbers by client, as the state's owner last reported them.
#[derive(Clone, Debug)]
pub(crate) struct Mirror {
    window: u64,
    clients: BTreeMap<ClientId, Numbers>,
}

impl Mirror {
    pub(crate) fn new(window: u64) -> Self {
        Mirror { window, clients: BTreeMap::new() }
    }

    /// Whether executing a request with this number would change nothing: consumed, or stale.
    pub(crate) fn is_consumed(&self, client: ClientId, number: RequestNumber) -> bool {
        self.clients.get(&client).is_some_and(|numbers| {
            number.0.saturating_add(self.window) <= numbers.top.0
                || numbers.consumed.contains(&number)
        })
    }

    /// The state's owner consumed a number.
    pub(crate) fn consume(&mut self, client: ClientId, number: RequestNumber) {
        let numbers = self.clients.entry(client).or_default();
        numbers.top = numbers.top.max(number);
        numbers.consumed.insert(number);
        while let Some(lowest) = numbers.consumed.first()
            && lowest.0.saturating_add(self.window) <= numbers.top.0
        {
            numbers.consumed.pop_first();
        }
    }
}
