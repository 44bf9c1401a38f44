//! What colluding traitors share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pbft_core::types::{Digest, ReplicaId, Sequence, View};

/// Plans kept; older slots are over.
const PLANS_MAX: usize = 1024;

/// The one mind behind several traitors. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Controller(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    traitors: BTreeSet<ReplicaId>,
    /// Those who have heard from everyone.
    ready: BTreeSet<ReplicaId>,
    /// The two digests that are to be decided at each slot.
    plans: BTreeMap<(View, Sequence), (Digest, Digest)>,
}

impl Controller {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another traitor joins.
    pub fn enlist(&self, traitor: ReplicaId) {
        self.lock().traitors.insert(traitor);
    }

    /// Whether `replica` is one of them.
    pub fn is_ally(&self, replica: ReplicaId) -> bool {
        self.lock().traitors.contains(&replica)
    }

    /// A traitor has heard from everyone.
    pub fn note_ready(&self, traitor: ReplicaId) {
        self.lock().ready.insert(traitor);
    }

    /// Whether all of them have: a lie told to half of the others gives itself away for nothing.
    pub fn is_ready(&self) -> bool {
        let shared = self.lock();
        shared.ready.len() == shared.traitors.len()
    }

    /// How many there are.
    pub fn traitors(&self) -> usize {
        self.lock().traitors.len()
    }

    /// Notes which two digests are to be decided: the first on the even side, the second on the odd.
    pub fn plan(&self, view: View, sequence: Sequence, digests: (Digest, Digest)) {
        let mut shared = self.lock();
        shared.plans.insert((view, sequence), digests);
        while shared.plans.len() > PLANS_MAX {
            shared.plans.pop_first();
        }
    }

    /// The digest to be decided at a slot, on the side of `receiver`.
    pub fn planned(&self, view: View, sequence: Sequence, receiver: ReplicaId) -> Option<Digest> {
        let (even, odd) = *self.lock().plans.get(&(view, sequence))?;
        Some(if is_odd(receiver) { odd } else { even })
    }
}

/// The side of a replica: traitors that split the others tell the odd ones the lie.
pub(super) fn is_odd(replica: ReplicaId) -> bool {
    replica.0 % 2 == 1
}
