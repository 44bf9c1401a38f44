//! Views: which is active, which is voted for, who voted for what.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::{Instant, ReplicaId, Sequence, Signed, View, WriteId};
use crate::message::{Batch, BodyName, NewView, ReplicaSet, SignedViewChange, ViewChange};
use crate::new_view::Plan;
use crate::types::Digest;

/// A ViewChange as it was heard.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) signed: SignedViewChange,
    /// Whether everything in it was checked, as it must be before it becomes part of a NewView.
    pub(super) whole: bool,
}

/// Why a replica left its view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The oldest request was not executed in time.
    RequestTimeout {
        /// Whose.
        client: super::ClientId,
        /// Which.
        number: super::RequestNumber,
    },
    /// The primary of the view voted for did not start it in time.
    NewViewTimeout(View),
    /// So many others, f + 1 at least, had voted for this view or a later one.
    Joined(ReplicaSet),
    /// The primary of the view voted for sent a NewView that does not hold.
    VoidNewView(View),
    /// The primary of this view let requests wait while it had nothing else to do.
    SlowPrimary(View),
    /// The primary of this view is convicted of a proposal or a start of this very view.
    Convicted(View),
    /// The others changed the view without this replica's vote.
    Followed,
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::RequestTimeout { client, number } => {
                write!(formatter, "request {number} of client {client} was not executed in time")
            }
            Cause::NewViewTimeout(view) => write!(formatter, "view {view} was not started in time"),
            Cause::Joined(replicas) => write!(formatter, "joined replicas {replicas:?}"),
            Cause::VoidNewView(view) => write!(formatter, "the start of view {view} was void"),
            Cause::SlowPrimary(view) => {
                write!(formatter, "the primary of view {view} let requests wait for no reason")
            }
            Cause::Convicted(view) => {
                write!(
                    formatter,
                    "the primary of view {view} is convicted of breaking the protocol in it"
                )
            }
            Cause::Followed => formatter.write_str("followed the others"),
        }
    }
}

/// What a view change came to, for logs and status: one for each view entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewEntered {
    /// The view entered.
    pub view: View,
    /// The view left.
    pub from: View,
    /// Why this replica last left a view.
    pub cause: Cause,
    /// How long it was between views, in microseconds; 0 if it followed.
    pub between_micros: u64,
    /// Its time-out now, in microseconds.
    pub timeout_micros: u64,
    /// Whose ViewChanges justify the view.
    pub senders: ReplicaSet,
    /// The stable checkpoint it starts from.
    pub min: Sequence,
    /// The last slot carried over.
    pub max: Sequence,
    /// How many of the slots carried over are null.
    pub nulls: usize,
}

/// Everything about views.
#[derive(Clone, Debug, Default)]
pub(super) struct Views {
    /// The view in which requests are ordered.
    pub(super) active: View,
    /// The highest view voted for, or the active one if that is higher.
    pub(super) voted: View,
    /// The highest ViewChange of each sender for a view above the active one.
    pub(super) changes: BTreeMap<ReplicaId, Heard>,
    /// The own latest ViewChange, said again byte for byte (PITFALLS D18).
    pub(super) own: Option<Arc<ViewChange>>,
    /// What the active view started with; `None` in view 0.
    pub(super) plan: Option<Plan>,
    /// The active view's NewView, kept and served until a higher one is entered.
    pub(super) new_view: Option<Signed>,
    /// The own NewView of the active view, after a restart, until it is signed again.
    pub(super) unsigned: Option<Arc<NewView>>,
    /// The write that holds the NewView of the active view.
    pub(super) write: WriteId,
    /// The view for which this replica, as its primary, has said NewView (PITFALLS D13).
    pub(super) started: View,
    /// Certified bodies fetched to be able to start the view voted for.
    pub(super) bodies: BTreeMap<BodyName, Arc<Batch>>,
    /// Why the last view was left, and when.
    pub(super) left: Option<(Cause, Instant)>,
    /// When the own ViewChange was said, or the active view entered.
    pub(super) said_at: Instant,
    /// How many views this replica has entered.
    pub(super) entered: u64,
}

impl Views {
    /// The last slot that the active view's NewView names; only slots above it are fresh.
    pub(super) fn carried_max(&self) -> Sequence {
        self.plan.as_ref().map_or(Sequence(0), |plan| plan.max)
    }

    /// How many replicas' latest ViewChange is for `view` or a later one.
    pub(super) fn supporters(&self, view: View) -> usize {
        self.changes.values().filter(|heard| heard.signed.change.view >= view).count()
    }

    /// The `rank`-th highest view among the latest ViewChanges of others than `me`: so many, at least one of
    /// them correct, want that view or a later one. One sender counts once (PITFALLS D14).
    pub(super) fn supported_by(&self, rank: usize, me: ReplicaId) -> Option<View> {
        let others = self.changes.iter().filter(|(sender, _)| **sender != me);
        let mut views: Vec<View> = others.map(|(_, heard)| heard.signed.change.view).collect();
        views.sort_unstable_by(|one, other| other.cmp(one));
        views.get(rank.checked_sub(1)?).copied()
    }

    /// Everyone whose latest ViewChange is for `view` or a later one.
    pub(super) fn senders(&self, view: View) -> ReplicaSet {
        let heard = self.changes.iter().filter(|(_, heard)| heard.signed.change.view >= view);
        heard.map(|(sender, _)| *sender).collect()
    }

    /// The body of a digest certified for a slot, if it was fetched.
    pub(super) fn body(&self, sequence: Sequence, digest: Digest) -> Option<&Arc<Batch>> {
        self.bodies.get(&BodyName { sequence, digest })
    }
}
