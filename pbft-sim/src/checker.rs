//! Properties, checked from outside the replicas: one file each, by the numbers of docs/pitfalls.md.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use pbft_core::certificate::StableProof;
use pbft_core::client::ClientOutcome;
use pbft_core::evidence::Evidence;
use pbft_core::message::{Batch, Message, Operations, Reply, Statement};
use pbft_core::replica::{Halt, Misbehavior, Replica, To};
use pbft_core::types::{ClientId, ReplicaId, RequestNumber, Sequence};

use crate::keys::Keys;
use crate::ledger::Entry;
use crate::options::Options;

mod agreement;
mod at_most_once;
mod checkpoint;
mod client_result;
mod message_count;
mod quiet;
mod total_order;
mod validity;
mod window;

/// Something that happened in a run.
#[derive(Clone, Debug)]
pub enum Observation<'a> {
    /// A client submitted a request.
    Submitted {
        /// Who.
        client: ClientId,
        /// Under which number.
        number: RequestNumber,
        /// What.
        operations: Operations,
    },
    /// A client sent a request again.
    Resent {
        /// Who.
        client: ClientId,
    },
    /// A client's request ended.
    Completed {
        /// Whose.
        client: ClientId,
        /// Which.
        number: RequestNumber,
        /// How.
        outcome: ClientOutcome,
    },
    /// A replica sent a signed statement to one other.
    Sent {
        /// Who.
        from: ReplicaId,
        /// What.
        statement: Statement,
    },
    /// A replica sent something again, or passed it on.
    Relayed {
        /// Who.
        replica: ReplicaId,
        /// To whom.
        to: To,
        /// What.
        message: Box<Message>,
    },
    /// An application executed an operation.
    Operation {
        /// Whose.
        replica: ReplicaId,
        /// What it saw.
        entry: Entry,
    },
    /// A state's owner answered a request in its place in the order.
    Replied {
        /// Who.
        replica: ReplicaId,
        /// The answer.
        reply: Reply,
    },
    /// A state's owner applied a slot.
    Executed {
        /// Who.
        replica: ReplicaId,
        /// Which slot.
        sequence: Sequence,
        /// What.
        batch: Arc<Batch>,
    },
    /// A replica holds a checkpoint for stable.
    Stable {
        /// Who.
        replica: ReplicaId,
        /// Why.
        proof: StableProof,
    },
    /// A replica lets its journal be cut.
    Discarded {
        /// Who.
        replica: ReplicaId,
        /// Up to where.
        below: Sequence,
    },
    /// A replica holds evidence against another.
    Accused {
        /// Who accuses.
        replica: ReplicaId,
        /// Of what.
        evidence: Box<Evidence>,
    },
    /// A replica refused a statement.
    Refused {
        /// Who refuses.
        replica: ReplicaId,
        /// Why.
        misbehavior: Misbehavior,
    },
    /// A replica stopped for good.
    Halted {
        /// Who.
        replica: ReplicaId,
        /// Why.
        halt: Halt,
    },
    /// A replica has taken an input.
    Stepped {
        /// As it is now.
        replica: &'a Replica,
    },
}

impl Observation<'_> {
    /// Which replica it is about, if about one.
    fn replica(&self) -> Option<ReplicaId> {
        match self {
            Observation::Submitted { .. }
            | Observation::Resent { .. }
            | Observation::Completed { .. } => None,
            Observation::Sent { from, .. } => Some(*from),
            Observation::Stepped { replica } => Some(replica.id()),
            Observation::Relayed { replica, .. }
            | Observation::Operation { replica, .. }
            | Observation::Replied { replica, .. }
            | Observation::Executed { replica, .. }
            | Observation::Stable { replica, .. }
            | Observation::Discarded { replica, .. }
            | Observation::Accused { replica, .. }
            | Observation::Refused { replica, .. }
            | Observation::Halted { replica, .. } => Some(*replica),
        }
    }
}

/// A property that does not hold, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which property.
    pub property: &'static str,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} does not hold: {}", self.property, self.detail)
    }
}

/// One property. Sees everything correct replicas and clients do.
trait Checker {
    /// Number and name.
    fn name(&self) -> &'static str;

    /// Takes an observation in; says what is wrong, if anything is.
    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String>;

    /// The run is over.
    fn at_end(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// All checkers of a run.
pub(crate) struct Checkers {
    checkers: Vec<Box<dyn Checker>>,
    traitors: BTreeSet<ReplicaId>,
    evidence: u64,
    violation: Option<Violation>,
}

impl Checkers {
    pub(crate) fn new(keys: &Keys, options: &Options) -> Self {
        let mut checkers: Vec<Box<dyn Checker>> = vec![
            Box::new(agreement::Agreement::default()),
            Box::new(validity::Validity::default()),
            Box::new(at_most_once::AtMostOnce::default()),
            Box::new(total_order::TotalOrder::default()),
            Box::new(checkpoint::Checkpoints::new(keys)),
            Box::new(window::WindowBounds::new(&options.constants)),
            Box::new(client_result::ClientResults::default()),
        ];
        if options.is_fault_free() {
            checkers.push(Box::new(quiet::Quiet));
            checkers.push(Box::new(message_count::MessageCount::new(options.replicas)));
        }
        Checkers { checkers, traitors: BTreeSet::new(), evidence: 0, violation: None }
    }

    /// What this replica does is no longer judged.
    pub(crate) fn distrust(&mut self, replica: ReplicaId) {
        self.traitors.insert(replica);
    }

    pub(crate) fn observe(&mut self, observation: &Observation<'_>) {
        if observation.replica().is_some_and(|replica| self.traitors.contains(&replica)) {
            return;
        }
        if let Observation::Accused { evidence, .. } = observation {
            self.evidence += 1;
            let accused = evidence.subject().replica;
            if !self.traitors.contains(&accused) {
                let detail = format!("{accused:?} is honest and accused: {evidence:?}");
                self.report("INV12 no honest replica accused", detail);
            }
        }
        if let Observation::Halted { replica, halt } = observation {
            self.report("no correct replica halts", format!("{replica:?}: {halt}"));
        }
        let found = self.checkers.iter_mut().find_map(|checker| {
            checker.observe(observation).err().map(|detail| (checker.name(), detail))
        });
        if let Some((property, detail)) = found {
            self.report(property, detail);
        }
    }

    fn report(&mut self, property: &'static str, detail: String) {
        self.violation.get_or_insert(Violation { property, detail });
    }

    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    pub(crate) fn evidence(&self) -> u64 {
        self.evidence
    }

    pub(crate) fn at_end(&mut self) -> Option<Violation> {
        self.checkers.iter_mut().find_map(|checker| {
            let detail = checker.at_end().err()?;
            Some(Violation { property: checker.name(), detail })
        })
    }
}
