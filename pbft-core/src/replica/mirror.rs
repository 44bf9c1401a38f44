//! The replica's mirror of which request numbers are consumed: for its timers and for repeating kept
//! replies, never for deciding what is executed.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use crate::types::{ClientId, RequestNumber};

/// Consumed numbers by client, as the state's owner last reported them.
#[derive(Clone, Debug)]
pub(crate) struct Mirror {
    window: u64,
    clients: BTreeMap<ClientId, Numbers>,
}

/// Which of the numbers in (top - W, top] are consumed: a bit each, at the number modulo W.
#[derive(Clone, Debug)]
struct Numbers {
    top: RequestNumber,
    consumed: Vec<u64>,
}

impl Numbers {
    fn is_set(&self, number: u64, window: u64) -> bool {
        let (word, bit) = place(number, window);
        self.consumed.get(word).is_some_and(|word| word & bit != 0)
    }

    fn set(&mut self, number: u64, window: u64, consumed: bool) {
        let (word, bit) = place(number, window);
        if let Some(word) = self.consumed.get_mut(word) {
            *word = if consumed { *word | bit } else { *word & !bit };
        }
    }
}

impl Mirror {
    pub(crate) fn new(window: u64) -> Self {
        Mirror { window, clients: BTreeMap::new() }
    }

    /// Whether executing a request with this number would change nothing: consumed, or stale.
    pub(crate) fn is_consumed(&self, client: ClientId, number: RequestNumber) -> bool {
        self.clients.get(&client).is_some_and(|numbers| {
            let stale = number.0.saturating_add(self.window) <= numbers.top.0;
            stale || number <= numbers.top && numbers.is_set(number.0, self.window)
        })
    }

    /// The state's owner consumed a number.
    pub(crate) fn consume(&mut self, client: ClientId, number: RequestNumber) {
        let window = self.window;
        let words = usize::try_from(window.div_ceil(64)).unwrap_or(0);
        let none = || Numbers { top: RequestNumber(0), consumed: vec![0; words] };
        let numbers = self.clients.entry(client).or_insert_with(none);
        if number.0.saturating_add(window) <= numbers.top.0 {
            return;
        }
        // The places between stood for numbers that are stale now.
        let first = numbers.top.0.saturating_add(1).max(number.0.saturating_sub(window));
        for new in first..number.0 {
            numbers.set(new, window, false);
        }
        numbers.top = numbers.top.max(number);
        numbers.set(number.0, window, true);
    }
}

/// The word and the bit of a number.
fn place(number: u64, window: u64) -> (usize, u64) {
    let at = number.checked_rem(window).unwrap_or(0);
    (usize::try_from(at / 64).unwrap_or(usize::MAX), 1 << (at % 64))
}

#[cfg(test)]
#[path = "mirror_test.rs"]
mod tests;
