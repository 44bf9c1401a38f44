//! INV3: every certificate a correct replica holds is backed by Q distinct replicas that said so.

use std::collections::{BTreeMap, BTreeSet};

use pbft_core::message::{Statement, Vote};
use pbft_core::types::{ReplicaId, Sequence, View};

use super::{Checker, Observation};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    PrePrepare,
    Prepare,
    Commit,
}

pub(super) struct Justified {
    quorum: usize,
    n: u64,
    said: BTreeMap<(Kind, Vote), BTreeSet<ReplicaId>>,
    seen: BTreeMap<(ReplicaId, Sequence), (Option<View>, bool)>,
    /// What traitors say is not seen here: each counts as if it had said everything.
    traitors: BTreeSet<ReplicaId>,
}

impl Justified {
    pub(super) fn new(replicas: usize) -> Self {
        let faulty = replicas.saturating_sub(1) / 3;
        Justified {
            quorum: (replicas + faulty) / 2 + 1,
            n: u64::try_from(replicas).unwrap_or(1),
            said: BTreeMap::new(),
            seen: BTreeMap::new(),
            traitors: BTreeSet::new(),
        }
    }

    fn sayers(&self, kind: Kind, vote: Vote) -> usize {
        self.said.get(&(kind, vote)).map_or(0, BTreeSet::len) + self.traitors.len()
    }

    fn check(&self, kind: Kind, vote: Vote) -> Result<(), String> {
        let enough = match kind {
            Kind::Commit => self.sayers(Kind::Commit, vote) >= self.quorum,
            _ => {
                let primary = u32::try_from(vote.view.0 % self.n).unwrap_or(0);
                let primary = ReplicaId(primary);
                let by_primary = self.said.get(&(Kind::PrePrepare, vote));
                // A traitor that is the primary says PrePrepare only.
                let lies = usize::from(self.traitors.contains(&primary));
                (lies > 0 || by_primary.is_some_and(|it| it.contains(&primary)))
                    && self.sayers(Kind::Prepare, vote) - lies >= self.quorum - 1
            }
        };
        if enough {
            return Ok(());
        }
        Err(format!(
            "{kind:?} certificate for {vote:?}: {} said PrePrepare, {} Prepare, {} Commit, traitors included",
            self.sayers(Kind::PrePrepare, vote),
            self.sayers(Kind::Prepare, vote),
            self.sayers(Kind::Commit, vote)
        ))
    }
}

impl Checker for Justified {
    fn name(&self) -> &'static str {
        "INV3 quorum justification"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::Said { replica, statement } => {
                let (kind, vote) = match statement {
                    Statement::PrePrepare(vote) => (Kind::PrePrepare, *vote),
                    Statement::Prepare(vote) => (Kind::Prepare, *vote),
                    Statement::Commit(vote) => (Kind::Commit, *vote),
                    _ => return Ok(()),
                };
                self.said.entry((kind, vote)).or_default().insert(*replica);
                Ok(())
            }
            Observation::Stepped { replica } => {
                for (at, slot) in replica.window().slots() {
                    let prepared = slot.prepared.as_ref().map(|it| it.vote.view);
                    let now = (prepared, slot.committed.is_some());
                    let before = self.seen.insert((replica.id(), at), now).unwrap_or_default();
                    if before == now {
                        continue;
                    }
                    if let Some(prepared) = &slot.prepared {
                        self.check(Kind::Prepare, prepared.vote)?;
                    }
                    if let Some(committed) = &slot.committed {
                        self.check(Kind::Commit, committed.vote)?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn distrust(&mut self, traitor: ReplicaId) {
        self.traitors.insert(traitor);
    }
}

#[cfg(test)]
mod tests {
    use pbft_core::types::Digest;

    use super::*;

    #[test]
    fn a_certificate_nobody_stands_behind_is_found() {
        let mut checker = Justified::new(4);
        let vote = Vote { view: View(1), sequence: Sequence(1), digest: Digest([1; 32]) };
        let mut say = |replica, statement| {
            let replica = ReplicaId(replica);
            checker.observe(&Observation::Said { replica, statement }).unwrap();
        };
        say(1, Statement::PrePrepare(vote));
        say(0, Statement::Prepare(vote));
        say(0, Statement::Prepare(vote));
        (0..2).for_each(|replica| say(replica, Statement::Commit(vote)));
        assert!(checker.check(Kind::Prepare, vote).is_err());
        assert!(checker.check(Kind::Commit, vote).is_err());
        // A traitor may have said what the third that is needed has not.
        let mut allowed =
            Justified { traitors: [ReplicaId(3)].into(), said: checker.said.clone(), ..checker };
        assert!(allowed.check(Kind::Prepare, vote).is_ok());
        assert!(allowed.check(Kind::Commit, vote).is_ok());
        let mut checker = Justified {
            traitors: BTreeSet::new(),
            said: std::mem::take(&mut allowed.said),
            ..allowed
        };
        let mut say = |replica, statement| {
            let replica = ReplicaId(replica);
            checker.observe(&Observation::Said { replica, statement }).unwrap();
        };
        say(2, Statement::Prepare(vote));
        say(3, Statement::Commit(vote));
        assert!(checker.check(Kind::Prepare, vote).is_ok());
        assert!(checker.check(Kind::Commit, vote).is_ok());
    }
}
