//! Operations on their way into an envelope, and who waits for them.

use std::time::Instant as Clock;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::Submitted;
use crate::gateway::Ticket;

/// Operations that go into one envelope together.
pub(super) struct Waiting {
    pub(super) asked: Asked,
    pub(super) deadline: Clock,
}

/// What is asked, and who is told what became of it.
pub(super) enum Asked {
    /// A caller that waits for its operation.
    One { operation: Bytes, answer: oneshot::Sender<Submitted> },
    /// A caller that waits for all of its operations.
    All { operations: Vec<Bytes>, answer: oneshot::Sender<Vec<Submitted>> },
    /// A gateway, which waits for many at once: one wake-up for a whole envelope.
    Gateway { operation: Bytes, ticket: Ticket, to: mpsc::UnboundedSender<(Ticket, Submitted)> },
    /// So many operations whose caller was told that their outcome is unknown.
    Gone(usize),
}

impl Asked {
    pub(super) fn operations(&self) -> &[Bytes] {
        match self {
            Asked::One { operation, .. } | Asked::Gateway { operation, .. } => {
                std::slice::from_ref(operation)
            }
            Asked::All { operations, .. } => operations,
            Asked::Gone(_) => &[],
        }
    }

    /// Takes an outcome for each operation and tells whoever waits. Where there are too few, nothing is known of
    /// the rest; and nobody may be left to hear it.
    pub(super) fn answer(self, outcomes: &mut impl Iterator<Item = Submitted>) {
        let mut next = || outcomes.next().unwrap_or(Submitted::Unknown);
        match self {
            Asked::One { answer, .. } => drop(answer.send(next())),
            Asked::Gateway { ticket, to, .. } => drop(to.send((ticket, next()))),
            Asked::All { operations, answer } => {
                drop(answer.send(operations.iter().map(|_| next()).collect()));
            }
            Asked::Gone(count) => (0..count).for_each(|_| drop(next())),
        }
    }

    /// Its time is over: whoever waits is told that nothing is known.
    pub(super) fn give_up(&mut self) {
        let count = match self {
            Asked::Gone(count) => *count,
            _ => self.operations().len(),
        };
        std::mem::replace(self, Asked::Gone(count)).answer(&mut std::iter::empty());
    }
}

/// Operations under one signature.
pub(super) struct Envelope {
    pub(super) waiting: Vec<Waiting>,
    /// When the time of the first of its callers is over that was not told so yet.
    pub(super) first_deadline: Option<Clock>,
}

impl Envelope {
    pub(super) fn new(waiting: Vec<Waiting>) -> Self {
        let first_deadline = waiting.iter().map(|waiting| waiting.deadline).min();
        Envelope { waiting, first_deadline }
    }

    /// Tells everyone.
    pub(super) fn answer(self, outcomes: &mut impl Iterator<Item = Submitted>) {
        self.waiting.into_iter().for_each(|waiting| waiting.asked.answer(outcomes));
    }

    /// Tells those whose time is over; the others wait on.
    pub(super) fn expire(&mut self, now: Clock) {
        if self.first_deadline.is_none_or(|first| now < first) {
            return;
        }
        let (late, open): (Vec<&mut Waiting>, Vec<&mut Waiting>) =
            self.waiting.iter_mut().partition(|waiting| now >= waiting.deadline);
        self.first_deadline = open.iter().map(|waiting| waiting.deadline).min();
        late.into_iter().for_each(|waiting| waiting.asked.give_up());
    }
}
