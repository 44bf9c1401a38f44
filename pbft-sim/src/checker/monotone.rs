//! INV11: view, voted view, h and the last slot executed never go back, not even over restarts; execution
//! alone starts again from the snapshot when a replica does, or finds its state wrong. What a replica has said
//! and what its disk has taken it knows again; a lost store ends that.

use std::collections::{BTreeMap, BTreeSet};

use pbft_core::message::Statement;
use pbft_core::replica::Record;
use pbft_core::types::{ReplicaId, Sequence, View};

use super::{Checker, Observation};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Local {
    view: View,
    voted: View,
    stable: Sequence,
    executed: Sequence,
}

impl Local {
    /// What follows from a record that is durable.
    fn take_in(&mut self, record: &Record) {
        match record {
            Record::Stable(proof) => self.stable = self.stable.max(proof.sequence()),
            Record::ViewChange(change) => self.voted = self.voted.max(change.view),
            Record::NewView { new_view, .. } => {
                self.view = self.view.max(new_view.view);
                self.voted = self.voted.max(new_view.view);
            }
            _ => {}
        }
    }
}

#[derive(Default)]
pub(super) struct Monotone {
    last: BTreeMap<ReplicaId, Local>,
    /// The highest view each replica has voted in, and the highest it has voted for.
    said: BTreeMap<ReplicaId, (View, View)>,
    /// Who is about to have its state replaced.
    diverged: BTreeSet<ReplicaId>,
}

impl Monotone {
    fn check(&mut self, replica: ReplicaId, now: Local) -> Result<(), String> {
        let last = self.last.entry(replica).or_default();
        let forward = now.view >= last.view
            && now.voted >= last.voted
            && now.stable >= last.stable
            && now.executed >= last.executed;
        if forward {
            *last = now;
            return Ok(());
        }
        Err(format!("{replica:?} went back from {last:?} to {now:?}"))
    }
}

impl Checker for Monotone {
    fn name(&self) -> &'static str {
        "INV11 monotone local state"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::Opened { replica, journal, lost, .. } => {
                if *lost {
                    self.said.remove(replica);
                }
                // Whoever has voted in a view or for one knows so again. What was only known and not acted on,
                // such as a proof that was not durable yet, may be learnt again.
                let (view, voted) = self.said.get(replica).copied().unwrap_or_default();
                let mut local = Local { view, voted, ..Local::default() };
                if !*lost {
                    journal.iter().for_each(|record| local.take_in(record));
                }
                self.last.insert(*replica, local);
                Ok(())
            }
            Observation::Diverged { replica, .. } => {
                self.diverged.insert(*replica);
                Ok(())
            }
            Observation::Restored { replica, .. } => {
                if self.diverged.remove(replica) {
                    self.last.entry(*replica).or_default().executed = Sequence(0);
                }
                Ok(())
            }
            Observation::Said { replica, statement } => {
                let said = self.said.entry(*replica).or_default();
                match statement {
                    Statement::PrePrepare(vote)
                    | Statement::Prepare(vote)
                    | Statement::Commit(vote) => said.0 = said.0.max(vote.view),
                    Statement::ViewChange(change) => said.1 = said.1.max(change.view),
                    _ => {}
                }
                Ok(())
            }
            Observation::Stepped { replica } => {
                let summary = replica.summary();
                let local = Local {
                    view: summary.view,
                    voted: summary.voted_view,
                    stable: summary.stable,
                    executed: summary.executed,
                };
                self.check(replica.id(), local)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_back_is_found() {
        let mut checker = Monotone::default();
        let local =
            Local { view: View(1), voted: View(2), stable: Sequence(8), executed: Sequence(9) };
        assert!(checker.check(ReplicaId(0), local).is_ok());
        for back in [
            Local { view: View(0), ..local },
            Local { voted: View(1), ..local },
            Local { stable: Sequence(4), ..local },
            Local { executed: Sequence(8), ..local },
        ] {
            assert!(checker.check(ReplicaId(0), back).is_err());
        }
    }
}
