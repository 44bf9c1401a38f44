//! What the author of an application is told.

use std::fmt;

use pbft_core::message::Outcome;
use pbft_core::types::Digest;

/// The most characters shown of an operation or a result.
const SHOWN_MAX: usize = 80;

/// Two runs that differ. Displays itself as one sentence for the author of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The first operation at which the runs differ: its index in the author's list.
    pub operation: usize,
    /// The operation itself.
    pub bytes: Vec<u8>,
    /// What differs.
    pub what: Box<Difference>,
    /// Under which circumstances.
    pub circumstance: String,
}

/// What differs between two runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The operation's result.
    Result {
        /// In the first run.
        first: Outcome,
        /// In the other one.
        second: Outcome,
    },
    /// The pages, and no result so far.
    State {
        /// The state's digest in the first run.
        first: Digest,
        /// In the other one.
        second: Digest,
    },
    /// A result or the pages, but only if the application is restored from its own snapshot on the way.
    Restored {
        /// The first operation of which a single snapshot and restore right after it makes the difference:
        /// what it did is lost on the way. Absent if it takes more than one.
        lost: Option<usize>,
        /// What differs then.
        difference: Box<Difference>,
    },
    /// The application panicked.
    Panicked {
        /// With these words.
        message: String,
    },
    /// No run at all: the operations or the state do not fit what the framework allows.
    Unusable {
        /// Why.
        reason: String,
    },
}

impl Difference {
    pub(super) fn unusable(reason: impl fmt::Display) -> Self {
        Difference::Unusable { reason: reason.to_string() }
    }

    /// The same as a consequence of a restore.
    pub(super) fn restored(self, lost: Option<usize>) -> Self {
        match self {
            Difference::Result { .. } | Difference::State { .. } => {
                Difference::Restored { lost, difference: Box::new(self) }
            }
            other => other,
        }
    }

    /// Where authors look first.
    fn usual_causes(&self) -> &'static str {
        match self {
            Difference::Result { .. } | Difference::State { .. } => {
                "the iteration order of a hash map, a clock or random numbers instead of the context's, \
                 and addresses, statics or threads"
            }
            Difference::Restored { .. } => {
                "state not covered by `checkpoint`, state that `restore` does not replace, and pages in the \
                 iteration order of a hash map"
            }
            Difference::Panicked { .. } => {
                "an operation taken to be well-formed, arithmetic that overflows, and state that is not there \
                 after `restore`"
            }
            Difference::Unusable { .. } => {
                "operations too long, operations too many for one test, and a state too large"
            }
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Result { first, second } => {
                let (first, second) =
                    (clipped(format!("{first:?}")), clipped(format!("{second:?}")));
                write!(formatter, "gave {first} in the first run and {second} in the other")
            }
            Difference::State { first, second } => {
                write!(
                    formatter,
                    "left the state {first:?} in the first run and {second:?} in the other"
                )
            }
            Difference::Restored { lost, difference } => {
                write!(
                    formatter,
                    "{difference}, which is restored from its own snapshot on the way"
                )?;
                lost.map_or(Ok(()), |lost| {
                    write!(formatter, " (once, right after operation {lost}, is enough)")
                })
            }
            Difference::Panicked { message } => write!(formatter, "panicked: {message}"),
            Difference::Unusable { reason } => write!(formatter, "could not be run: {reason}"),
        }
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = clipped(self.bytes.escape_ascii().to_string());
        write!(
            formatter,
            "operation {} (\"{bytes}\") {}, {}; usual causes are {}",
            self.operation,
            self.what,
            self.circumstance,
            self.what.usual_causes()
        )
    }
}

impl std::error::Error for Divergence {}

fn clipped(text: String) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
