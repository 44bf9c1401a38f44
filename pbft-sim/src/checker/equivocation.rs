//! INV10: a correct replica says at most one thing about one subject, over all its restarts.

use std::collections::BTreeMap;

use pbft_core::evidence::{Subject, subject};
use pbft_core::message::{Signed, Statement};
use pbft_core::types::Signature;

use super::{Checker, Observation};

#[derive(Default)]
pub(super) struct Equivocation {
    said: BTreeMap<Subject, Statement>,
}

impl Equivocation {
    fn say(&mut self, about: Subject, statement: &Statement) -> Result<(), String> {
        let first = self.said.entry(about).or_insert_with(|| statement.clone());
        if first == statement {
            return Ok(());
        }
        Err(format!("{about}: first {first:?}, then {statement:?}"))
    }
}

impl Checker for Equivocation {
    fn name(&self) -> &'static str {
        "INV10 no honest equivocation"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        let Observation::Said { replica, statement } = observation else { return Ok(()) };
        let signed = Signed {
            sender: *replica,
            statement: statement.clone(),
            signature: Signature([0; 64]),
        };
        match subject(&signed) {
            Some(about) => self.say(about, statement),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use pbft_core::crypto::Kind;
    use pbft_core::message::Vote;
    use pbft_core::types::{Digest, ReplicaId, Sequence, View};

    use super::*;

    #[test]
    fn a_second_statement_about_the_same_is_found() {
        let mut checker = Equivocation::default();
        let (view, sequence) = (View(0), Sequence(1));
        let about = Subject { replica: ReplicaId(2), kind: Kind::Commit, view, sequence };
        let commit = |byte| Statement::Commit(Vote { view, sequence, digest: Digest([byte; 32]) });
        assert!(checker.say(about, &commit(1)).is_ok());
        assert!(checker.say(about, &commit(1)).is_ok());
        assert!(checker.say(about, &commit(2)).is_err());
    }
}
