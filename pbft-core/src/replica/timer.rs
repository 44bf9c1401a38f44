//! The one timer: it runs for the oldest request, or for the view to come (PROTOCOL section 6).

use core::time::Duration;

use super::{ClientId, Outbox, Replica, RequestNumber, Standing, Time, View};
use crate::types::Instant;

/// What is waited for. A change of it starts the timer anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// The execution of the request that has waited longest, in this view.
    Request(ClientId, RequestNumber, View),
    /// The NewView of the view voted for, once Q replicas voted for it or for a later one.
    NewView(View),
}

/// The timer and its time-out, which doubles per failed view.
#[derive(Clone, Debug)]
pub(super) struct Timer {
    pub(super) timeout: Duration,
    base: Duration,
    most: Duration,
    running: Option<(Awaited, Instant)>,
    last_step: Instant,
}

impl Timer {
    pub(super) fn new(base: Duration, most: Duration) -> Self {
        Timer { timeout: base, base, most, running: None, last_step: Instant(0) }
    }

    /// A view failed (PITFALLS E1).
    pub(super) fn double(&mut self) {
        self.timeout = self.timeout.saturating_mul(2).min(self.most);
    }

    /// The view orders fresh requests: real progress, unlike the mere arrival of a NewView.
    pub(super) fn halve(&mut self) {
        self.timeout = (self.timeout / 2).max(self.base);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.running.map(|(_, deadline)| deadline)
    }

    /// What was awaited and did not come in time.
    pub(super) fn expired(&self, now: Instant) -> Option<Awaited> {
        self.running.filter(|(_, deadline)| now >= *deadline).map(|(awaited, _)| awaited)
    }

    pub(super) fn awaits(&self, awaited: Awaited) -> bool {
        self.running.is_some_and(|(running, _)| running == awaited)
    }

    /// Notes that the process is alive. A gap of half a time-out, in which not even a status was due,
    /// means that it was stopped: what it waited for may be in its backlog, so it waits anew (PITFALLS E9).
    /// Says whether it was.
    pub(super) fn note_step(&mut self, now: Instant) -> bool {
        let gap = now.since(self.last_step);
        self.last_step = now;
        let stopped = gap >= self.timeout / 2;
        if stopped {
            self.restart(now);
        }
        stopped
    }

    /// Waits once more for the same.
    pub(super) fn restart(&mut self, now: Instant) {
        if let Some((_, deadline)) = &mut self.running {
            *deadline = now.after(self.timeout);
        }
    }

    fn set(&mut self, awaited: Option<Awaited>, now: Instant) {
        match awaited {
            None => self.running = None,
            Some(awaited) if self.awaits(awaited) => {}
            Some(awaited) => self.running = Some((awaited, now.after(self.timeout))),
        }
    }
}

impl Replica {
    /// Sets the timer for what is now awaited. Called after every input.
    pub(super) fn retime(&mut self, now: Time, out: &mut Outbox) {
        let awaited = self.awaited();
        self.keep_pace(now, awaited, out);
        let awaited = self.awaited();
        self.timer.set(awaited, now.instant);
    }

    fn awaited(&self) -> Option<Awaited> {
        if self.standing != Standing::Voting || self.halted.is_some() {
            return None;
        }
        if self.is_changing() {
            let voted = self.views.voted;
            let quorum = self.views.supporters(voted) >= self.cluster.quorum();
            return quorum.then_some(Awaited::NewView(voted));
        }
        // The primary is not to blame while this replica itself is behind, nor while the whole window is
        // executed and only the checkpoint is missing.
        let stable = self.window.stable();
        let behind = self.executed < stable || self.restoring.is_some();
        if self.is_primary() || behind || self.executed >= self.window.high() {
            return None;
        }
        let (client, number) = self.pending.head()?;
        Some(Awaited::Request(client, number, self.views.active))
    }
}
