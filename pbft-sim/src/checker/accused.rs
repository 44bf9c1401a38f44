//! INV12: nobody honest is accused, with evidence or as a donor, however many traitors there are.

use std::collections::BTreeSet;

use pbft_core::types::ReplicaId;

use super::{Checker, Observation};

#[derive(Default)]
pub(super) struct Accused {
    traitors: BTreeSet<ReplicaId>,
}

impl Checker for Accused {
    fn name(&self) -> &'static str {
        "INV12 no honest replica accused"
    }

    fn distrust(&mut self, traitor: ReplicaId) {
        self.traitors.insert(traitor);
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::Accused { replica, evidence }
                if !self.traitors.contains(&evidence.subject().replica) =>
            {
                Err(format!("{replica:?} accuses an honest replica: {evidence:?}"))
            }
            Observation::Blamed { replica, donor } if !self.traitors.contains(donor) => {
                Err(format!("{replica:?} blames {donor:?}, who is honest"))
            }
            _ => Ok(()),
        }
    }
}
