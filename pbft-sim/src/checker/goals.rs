//! INV25: what a campaign must have seen at least once, or it proves little.

use pbft_core::message::Message;
use pbft_core::replica::{Cause, Replica};

use super::Observation;

/// How often each was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Goals {
    /// Views entered.
    pub views_entered: u64,
    /// Of those, with slots carried over.
    pub carried: u64,
    /// Of those, with gaps filled with null.
    pub null_fills: u64,
    /// Of those, beyond view 1.
    pub later_views: u64,
    /// Views left because a request waited too long.
    pub request_timeouts: u64,
    /// Views left because their primary did not start them.
    pub new_view_timeouts: u64,
    /// Views left to join f + 1 others.
    pub joined: u64,
    /// Views entered without having voted for them.
    pub followed: u64,
    /// Bodies sent that were asked for by digest.
    pub bodies_fetched: u64,
    /// Slots repaired from somebody's log.
    pub log_repairs: u64,
    /// State transfers begun.
    pub transfers: u64,
    /// States installed, after a transfer or a restart.
    pub restored: u64,
    /// Transfers under way while the replica is between views.
    pub transfers_between_views: u64,
    /// Restarts.
    pub restarts: u64,
    /// Restarts of a replica that is between views.
    pub restarts_between_views: u64,
    /// Replicas that had lost their store and vote again.
    pub reinstated: u64,
    /// Checkpoints that became stable.
    pub stable: u64,
}

impl Goals {
    pub(super) fn observe(&mut self, observation: &Observation<'_>) {
        match observation {
            Observation::ViewEntered { event, .. } => {
                self.views_entered += 1;
                self.carried += u64::from(event.max > event.min);
                self.null_fills += u64::from(event.nulls > 0);
                self.later_views += u64::from(event.view.0 > 1);
                *match event.cause {
                    Cause::RequestTimeout { .. } | Cause::SlowPrimary(_) | Cause::Convicted(_) => {
                        &mut self.request_timeouts
                    }
                    Cause::NewViewTimeout(_) | Cause::VoidNewView(_) => &mut self.new_view_timeouts,
                    Cause::Joined(_) => &mut self.joined,
                    Cause::Followed => &mut self.followed,
                } += 1;
            }
            Observation::Relayed { message, .. } => match **message {
                Message::Body { .. } => self.bodies_fetched += 1,
                Message::Committed { .. } => self.log_repairs += 1,
                _ => {}
            },
            Observation::Restoring { .. } => self.transfers += 1,
            Observation::Restored { .. } => self.restored += 1,
            Observation::Restarted { .. } => self.restarts += 1,
            Observation::Reinstated { .. } => self.reinstated += 1,
            Observation::Stable { .. } => self.stable += 1,
            Observation::Stepped { replica } => self.step(replica),
            _ => {}
        }
    }

    fn step(&mut self, replica: &Replica) {
        let summary = replica.summary();
        let between = summary.voted_view > summary.view;
        self.transfers_between_views += u64::from(between && summary.restoring);
    }

    /// Notes a restart of a replica that was between views.
    pub(crate) fn note_restart(&mut self, between_views: bool) {
        self.restarts_between_views += u64::from(between_views);
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Goals) {
        for ((_, mine), (_, theirs)) in self.counters().into_iter().zip(other.clone().counters()) {
            *mine += *theirs;
        }
    }

    /// All of them, by name.
    pub fn counters(&mut self) -> [(&'static str, &mut u64); 17] {
        [
            ("views entered", &mut self.views_entered),
            ("with carried slots", &mut self.carried),
            ("with null fills", &mut self.null_fills),
            ("beyond view 1", &mut self.later_views),
            ("request time-outs", &mut self.request_timeouts),
            ("new-view time-outs", &mut self.new_view_timeouts),
            ("joined", &mut self.joined),
            ("followed", &mut self.followed),
            ("bodies fetched", &mut self.bodies_fetched),
            ("log repairs", &mut self.log_repairs),
            ("transfers", &mut self.transfers),
            ("states installed", &mut self.restored),
            ("steps in transfer between views", &mut self.transfers_between_views),
            ("restarts", &mut self.restarts),
            ("restarts between views", &mut self.restarts_between_views),
            ("lost stores got over", &mut self.reinstated),
            ("stable checkpoints", &mut self.stable),
        ]
    }
}
