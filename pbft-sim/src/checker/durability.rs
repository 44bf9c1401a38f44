//! INV9: a reply that a client has accepted survives any crash of any replicas, all of them at once included.
//!
//! At any instant power may go, so at any instant enough disks must hold what was promised: of the replicas
//! that are not faulty so many that every quorum of a later view has one of them. And whoever runs at the end,
//! after whatever crashes there were, has executed it.

use std::collections::{BTreeMap, BTreeSet};

use pbft_core::client::ClientOutcome;
use pbft_core::types::{ClientId, ReplicaId, RequestNumber, Sequence};

use super::disks::Disks;
use super::{Checker, Observation};

type Key = (ClientId, RequestNumber);

pub(super) struct Durability {
    f: usize,
    /// More than f of them can tell a client anything.
    traitors: BTreeSet<ReplicaId>,
    /// With so many holders, faulty ones counted as holders, every quorum has a correct one.
    needed: usize,
    disks: Disks,
    /// Whose disk may hold anything or nothing.
    faulty: BTreeSet<ReplicaId>,
    executed: BTreeMap<Key, Sequence>,
    accepted: BTreeSet<Sequence>,
    /// How far each replica that runs has come in this life.
    reached: BTreeMap<ReplicaId, Sequence>,
}

impl Durability {
    pub(super) fn new(replicas: usize) -> Self {
        let f = replicas.saturating_sub(1) / 3;
        Durability {
            f,
            traitors: BTreeSet::new(),
            needed: (replicas + f) / 2 + 1,
            disks: Disks::default(),
            faulty: BTreeSet::new(),
            executed: BTreeMap::new(),
            accepted: BTreeSet::new(),
            reached: BTreeMap::new(),
        }
    }

    fn check(&self, sequence: Sequence) -> Result<(), String> {
        let mut holders: BTreeSet<ReplicaId> = self.disks.holders(sequence).collect();
        holders.extend(&self.faulty);
        if holders.len() >= self.needed {
            return Ok(());
        }
        Err(format!(
            "slot {sequence} was accepted by a client; {holders:?} hold it or are faulty, {} needed",
            self.needed
        ))
    }

    fn check_all(&self, from: Sequence) -> Result<(), String> {
        self.accepted.range(from..).try_for_each(|sequence| self.check(*sequence))
    }
}

impl Checker for Durability {
    fn name(&self) -> &'static str {
        "INV9 durability"
    }

    fn distrust(&mut self, traitor: ReplicaId) {
        self.traitors.insert(traitor);
        self.faulty.insert(traitor);
        self.reached.remove(&traitor);
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        self.disks.observe(observation);
        match observation {
            Observation::Unsound { replica } | Observation::Upset { replica } => {
                self.faulty.insert(*replica);
            }
            // It votes again once what it forgot is in the states of others.
            Observation::Reinstated { replica } => {
                self.faulty.remove(replica);
            }
            Observation::Operation { entry, .. } => {
                let key = (entry.client, entry.number);
                self.executed.entry(key).or_insert(entry.sequence);
            }
            Observation::Completed { client, number, outcome: ClientOutcome::Committed(_) } => {
                if let Some(sequence) = self.executed.get(&(*client, *number)).copied() {
                    self.accepted.insert(sequence);
                    return self.check(sequence);
                }
            }
            Observation::Discarded { .. } => {
                // What lies further back is in every snapshot that counts here.
                return self.check_all(Sequence(0));
            }
            Observation::Stopped { replica } => {
                self.reached.remove(replica);
            }
            Observation::Opened { .. } => {
                return self.check_all(Sequence(0));
            }
            Observation::Stepped { replica } => {
                self.reached.insert(replica.id(), replica.summary().executed);
            }
            _ => {}
        }
        Ok(())
    }

    fn at_end(&mut self) -> Result<(), String> {
        let Some(last) = self.accepted.last().filter(|_| self.traitors.len() <= self.f) else {
            return Ok(());
        };
        self.check_all(Sequence(0))?;
        match self.reached.iter().find(|(_, reached)| *reached < last) {
            None => Ok(()),
            Some((replica, reached)) => Err(format!(
                "{replica:?} ends at slot {reached}, and a client has a reply of slot {last}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Entry;

    fn accept(checker: &mut Durability) -> Result<(), String> {
        let (client, number) = (ClientId(0), RequestNumber(1));
        let operation = bytes::Bytes::new();
        let entry = Entry { sequence: Sequence(8), client, number, operation };
        checker.observe(&Observation::Operation { replica: ReplicaId(0), entry })?;
        let outcome = ClientOutcome::Committed([].into_iter().collect());
        checker.observe(&Observation::Completed { client, number, outcome })
    }

    fn kept_by(replicas: &[u32]) -> Durability {
        let mut checker = Durability::new(4);
        for replica in replicas {
            let kept = Observation::Kept { replica: ReplicaId(*replica), sequence: Sequence(8) };
            checker.observe(&kept).unwrap();
        }
        checker
    }

    #[test]
    fn a_reply_that_too_few_disks_hold_is_found() {
        assert!(accept(&mut kept_by(&[0, 1, 2])).is_ok());
        assert!(accept(&mut kept_by(&[0, 1])).is_err());
        let mut checker = kept_by(&[0, 1]);
        checker.distrust(ReplicaId(3));
        assert!(accept(&mut checker).is_ok(), "a faulty one may be the third");
    }

    #[test]
    fn a_reply_that_a_crash_takes_away_is_found() {
        let mut checker = kept_by(&[0, 1, 2]);
        accept(&mut checker).unwrap();
        let opened = |snapshots| Observation::Opened {
            replica: ReplicaId(1),
            journal: Vec::new(),
            snapshots,
            lost: false,
        };
        assert!(checker.observe(&opened(vec![Sequence(8)])).is_ok());
        assert!(checker.observe(&opened(vec![Sequence(4)])).is_err());
    }
}
