//! What a user and its gateway say to one another. Encoded like the messages of the protocol, and no part of it.

use std::time::Duration;

use bincode::{Decode, Encode};
use bytes::Bytes;
use pbft_core::message::Outcome;
use pbft_core::wire::Blob;

use crate::client::{Refused, Submitted};

/// The number a user gives a submission, so that it knows the outcome for its own. A user's process begins at a
/// random one: two processes with one key never mistake an outcome for theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub(crate) struct SubmissionNumber(pub(crate) u64);

/// What a user says to its gateway.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum UserMessage {
    /// Have this operation ordered, and say what became of it.
    Submit {
        number: SubmissionNumber,
        /// How long the user waits, in milliseconds; the gateway may give up earlier.
        timeout_ms: u32,
        operation: Blob,
    },
}

/// What a gateway says to a user.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum GatewayMessage {
    /// The submission has ended.
    Ended { number: SubmissionNumber, ending: Ending },
}

/// How a submission ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Ending {
    /// Ordered; f + 1 replicas told the gateway so.
    Ordered(Outcome),
    /// Refused; it has no effect and never will.
    Refused(GatewayRefusal),
    /// It may have been executed, or may yet be.
    Unknown,
}

/// Why a gateway did not have an operation ordered. It has no effect and never will.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayRefusal {
    /// The user has as many operations under way as the gateway allows one user.
    #[error("the gateway allows this user no more operations at once; wait for one to end")]
    Busy,
    /// The operation is longer than the cluster or the gateway allows.
    #[error("the operation is longer than the gateway or the cluster allows")]
    TooLong,
    /// The gateway's own client could not send it.
    #[error("the gateway cannot send anything to the cluster now; ask its operator")]
    NotSent,
    /// The gateway's client used this request's number for something else: its key is used in two places.
    #[error(
        "the gateway's request number was used before; ask its operator whether its key is used twice"
    )]
    NumberUsed,
}

impl From<Submitted> for Ending {
    fn from(submitted: Submitted) -> Self {
        match submitted {
            Submitted::Committed(result) => Ending::Ordered(Outcome::Done(result)),
            Submitted::Refused(Refused::Application(refusal)) => {
                Ending::Ordered(Outcome::Refused(refusal))
            }
            Submitted::Refused(Refused::Request(_)) => Ending::Refused(GatewayRefusal::NumberUsed),
            Submitted::Refused(Refused::Gateway(refusal)) => Ending::Refused(refusal),
            Submitted::Refused(Refused::NotSent(_) | Refused::Closed | Refused::Unreachable) => {
                Ending::Refused(GatewayRefusal::NotSent)
            }
            Submitted::Unknown => Ending::Unknown,
        }
    }
}

impl From<Ending> for Submitted {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Ordered(Outcome::Done(result)) => Submitted::Committed(result),
            Ending::Ordered(Outcome::Refused(refusal)) => {
                Submitted::Refused(Refused::Application(refusal))
            }
            // Executed, but nobody can say with what result.
            Ending::Ordered(Outcome::ResultTooLong) | Ending::Unknown => Submitted::Unknown,
            Ending::Refused(refusal) => Submitted::Refused(Refused::Gateway(refusal)),
        }
    }
}

impl UserMessage {
    pub(crate) fn submit(number: SubmissionNumber, timeout: Duration, operation: Bytes) -> Self {
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        UserMessage::Submit { number, timeout_ms, operation: Blob(operation) }
    }
}

#[cfg(test)]
#[path = "message_test.rs"]
mod tests;
