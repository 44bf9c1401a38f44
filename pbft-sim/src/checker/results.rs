//! INV7: a request gives the same results on every correct replica, also after restarts, replays and transfers.

use std::collections::BTreeMap;

use pbft_core::message::Answer;
use pbft_core::types::{ClientId, ReplicaId, RequestNumber};

use super::{Checker, Observation};

#[derive(Default)]
pub(super) struct Results(BTreeMap<(ClientId, RequestNumber), (ReplicaId, Answer)>);

impl Checker for Results {
    fn name(&self) -> &'static str {
        "INV7 determinism"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        let Observation::Replied { replica, reply } = observation else { return Ok(()) };
        // Stale and used numbers are answered from what is kept, which moves on.
        if !matches!(reply.answer, Answer::Executed(_)) {
            return Ok(());
        }
        let (client, number) = (reply.client, reply.number);
        let ours = || (*replica, reply.answer.clone());
        let (first, agreed) = self.0.entry((client, number)).or_insert_with(ours);
        if *agreed == reply.answer {
            return Ok(());
        }
        let theirs = &reply.answer;
        Err(format!("{client:?} {number:?}: {first:?} has {agreed:?}, {replica:?} has {theirs:?}"))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pbft_core::message::{Outcome, Reply};
    use pbft_core::types::{Digest, View};

    use super::*;

    #[test]
    fn another_result_of_the_same_request_is_found() {
        let mut checker = Results::default();
        let mut reply = |replica, answer| {
            let (client, number) = (ClientId(0), RequestNumber(1));
            let reply = Reply { client, number, digest: Digest::NULL, answer, view: View(0) };
            checker.observe(&Observation::Replied { replica: ReplicaId(replica), reply })
        };
        let done = |result| {
            Answer::Executed([Outcome::Done(Bytes::from_static(result))].into_iter().collect())
        };
        assert!(reply(0, done(b"one")).is_ok() && reply(1, done(b"one")).is_ok());
        assert!(reply(2, Answer::Stale).is_ok());
        assert!(reply(2, done(b"two")).is_err());
    }
}
