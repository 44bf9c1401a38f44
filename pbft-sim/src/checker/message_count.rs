//! INV16: without faults a slot costs exactly (n - 1) + (n - 1)^2 + n (n - 1) = 2n (n - 1) messages.

use std::collections::BTreeMap;

use pbft_core::message::Statement;
use pbft_core::types::{ReplicaId, Sequence};

use super::{Checker, Observation};

pub(super) struct MessageCount {
    n: u64,
    sent: BTreeMap<Sequence, u64>,
    executed: BTreeMap<Sequence, std::collections::BTreeSet<ReplicaId>>,
}

impl MessageCount {
    pub(super) fn new(n: usize) -> Self {
        let n = u64::try_from(n).unwrap_or(u64::MAX);
        MessageCount { n, sent: BTreeMap::new(), executed: BTreeMap::new() }
    }
}

impl Checker for MessageCount {
    fn name(&self) -> &'static str {
        "INV16 message count"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::Sent {
                statement:
                    Statement::PrePrepare(vote) | Statement::Prepare(vote) | Statement::Commit(vote),
                ..
            } => *self.sent.entry(vote.sequence).or_default() += 1,
            Observation::Executed { replica, sequence, .. } => {
                self.executed.entry(*sequence).or_default().insert(*replica);
            }
            _ => {}
        }
        Ok(())
    }

    fn at_end(&mut self) -> Result<(), String> {
        let exact = 2 * self.n * (self.n - 1);
        for sequence in self.executed.keys() {
            let sent = self.sent.get(sequence).copied().unwrap_or(0);
            if sent != exact {
                return Err(format!("slot {sequence} cost {sent} messages, not {exact}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pbft_core::message::{Batch, Vote};
    use pbft_core::types::{Digest, View, WallTime};

    use super::*;

    #[test]
    fn one_message_too_many_is_found() {
        let run = |messages| {
            let mut checker = MessageCount::new(4);
            let vote = Vote { view: View(0), sequence: Sequence(1), digest: Digest([1; 32]) };
            for _ in 0..messages {
                let statement = Statement::Commit(vote);
                checker.observe(&Observation::Sent { from: ReplicaId(0), statement }).unwrap();
            }
            let batch = Arc::new(Batch::new(WallTime(0), vec![]));
            let replica = ReplicaId(0);
            let sequence = Sequence(1);
            checker.observe(&Observation::Executed { replica, sequence, batch }).unwrap();
            checker.at_end()
        };
        assert!(run(24).is_ok() && run(25).is_err() && run(23).is_err());
    }
}
