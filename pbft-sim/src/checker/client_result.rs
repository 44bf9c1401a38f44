//! INV22: what a client takes for the outcome of a request is what the request's execution gave.

use std::collections::BTreeMap;

use pbft_core::client::ClientOutcome;
use pbft_core::message::Answer;
use pbft_core::types::{ClientId, RequestNumber};

use super::{Checker, Observation};

#[derive(Default)]
pub(super) struct ClientResults(BTreeMap<(ClientId, RequestNumber), Answer>);

impl Checker for ClientResults {
    fn name(&self) -> &'static str {
        "INV22 client safety"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::Replied { reply, .. } => {
                if matches!(reply.answer, Answer::Executed(_)) {
                    let key = (reply.client, reply.number);
                    self.0.entry(key).or_insert_with(|| reply.answer.clone());
                }
                Ok(())
            }
            Observation::Completed { client, number, outcome } => {
                let executed = self.0.get(&(*client, *number));
                match (outcome, executed) {
                    (ClientOutcome::Committed(theirs), Some(Answer::Executed(ours)))
                        if theirs == ours =>
                    {
                        Ok(())
                    }
                    _ => Err(format!(
                        "{client:?} {number:?} ended {outcome:?}, execution gave {executed:?}"
                    )),
                }
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pbft_core::message::{Outcome, Outcomes, Reply};
    use pbft_core::types::{Digest, ReplicaId, View};

    use super::*;

    #[test]
    fn a_result_that_no_execution_gave_is_found() {
        let mut checker = ClientResults::default();
        let (client, number) = (ClientId(0), RequestNumber(1));
        let outcomes = |text: &'static str| {
            [Outcome::Done(Bytes::from(text))].into_iter().collect::<Outcomes>()
        };
        let answer = Answer::Executed(outcomes("a"));
        let reply = Reply { client, number, digest: Digest([0; 32]), answer, view: View(0) };
        checker.observe(&Observation::Replied { replica: ReplicaId(0), reply }).unwrap();
        let mut ended =
            |outcome| checker.observe(&Observation::Completed { client, number, outcome });
        assert!(ended(ClientOutcome::Committed(outcomes("a"))).is_ok());
        assert!(ended(ClientOutcome::Committed(outcomes("b"))).is_err());
        assert!(ended(ClientOutcome::Unknown).is_err());
    }
}
