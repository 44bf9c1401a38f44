//! The application: all that a user of pbft has to write.

use pbft_app::{Context, Refusal, Service};
use serde::{Deserialize, Serialize};

/// A 64-bit signed counter.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counter {
    value: i64,
}

/// What clients may ask.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Add an amount.
    Add(i64),
    /// Read the value, at this request's place in the order.
    Get,
}

/// The code of the refusal of an addition that would overflow.
const OVERFLOW: u32 = 1;

impl Service for Counter {
    type Command = Command;
    type Response = i64;

    fn execute(&mut self, _: &Context, command: Command) -> Result<i64, Refusal> {
        if let Command::Add(amount) = command {
            let sum = self.value.checked_add(amount);
            self.value = sum.ok_or_else(|| {
                Refusal::new(OVERFLOW, &format!("adding {amount} to {} overflows", self.value))
            })?;
        }
        Ok(self.value)
    }
}
