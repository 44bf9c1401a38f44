//! Properties, checked from outside the replicas: one file each, by the numbers of docs/pitfalls.md.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use pbft_core::certificate::StableProof;
use pbft_core::client::ClientOutcome;
use pbft_core::evidence::{Evidence, Subject};
use pbft_core::message::{Batch, Message, Operations, Reply, Statement};
use pbft_core::replica::{Halt, Misbehavior, Record, Replica, To, ViewEntered};
use pbft_core::types::{ClientId, Digest, ReplicaId, RequestNumber, Sequence};

pub use goals::Goals;

use crate::keys::Keys;
use crate::ledger::Entry;
use crate::options::Options;

pub(crate) mod accountability;
mod accused;
mod agreement;
mod at_most_once;
mod checkpoint;
mod client_result;
mod commit_stability;
mod disks;
mod divergence;
mod durability;
mod equivocation;
mod goals;
mod justified;
mod linearizable;
mod memory;
mod message_count;
mod monotone;
mod persisted;
mod quiet;
mod results;
pub(crate) mod starvation;
mod state_digest;
mod strict;
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
    /// A replica said something, to others and so to itself.
    Said {
        /// Who.
        replica: ReplicaId,
        /// What.
        statement: Statement,
    },
    /// A replica has started again from its store.
    Restarted {
        /// Which.
        replica: ReplicaId,
    },
    /// A replica stops, for a while or for good.
    Stopped {
        /// Which.
        replica: ReplicaId,
    },
    /// A record of a replica is durable, or its disk says so.
    Synced {
        /// Whose.
        replica: ReplicaId,
        /// Which.
        record: Record,
    },
    /// A snapshot of a replica is durable, or its disk says so.
    Kept {
        /// Whose.
        replica: ReplicaId,
        /// After which slot.
        sequence: Sequence,
    },
    /// A replica is about to start again, and this is what its store holds.
    Opened {
        /// Which.
        replica: ReplicaId,
        /// The journal.
        journal: Vec<Record>,
        /// The snapshots.
        snapshots: Vec<Sequence>,
        /// Whether it is a new store in place of a lost one, with nothing else in it.
        lost: bool,
    },
    /// The store of a replica is damaged, or keeps nothing: it counts towards f.
    Unsound {
        /// Whose.
        replica: ReplicaId,
    },
    /// A replica cannot start again, or cannot install what it fetched.
    Lost {
        /// Which.
        replica: ReplicaId,
        /// Why.
        error: String,
    },
    /// A replica asks for the state of a stable checkpoint.
    Restoring {
        /// Which.
        replica: ReplicaId,
    },
    /// The state of a replica was replaced by the one after this slot.
    Restored {
        /// Whose.
        replica: ReplicaId,
        /// Which slot.
        sequence: Sequence,
    },
    /// A donor sent a part that does not hold.
    Blamed {
        /// Who received it.
        replica: ReplicaId,
        /// Who sent it.
        donor: ReplicaId,
    },
    /// The owner of a replica's state took its digest.
    Snapshotted {
        /// Whose.
        replica: ReplicaId,
        /// After which slot.
        sequence: Sequence,
        /// The digest.
        digest: Digest,
    },
    /// A bit flipped in a replica's state: what it says of it is not its word any more.
    Upset {
        /// Whose.
        replica: ReplicaId,
    },
    /// A replica found its own state wrong.
    Diverged {
        /// Which.
        replica: ReplicaId,
        /// At which checkpoint.
        sequence: Sequence,
    },
    /// A replica that had lost its store votes again.
    Reinstated {
        /// Which.
        replica: ReplicaId,
    },
    /// A replica found its key used elsewhere.
    Impersonated {
        /// Which.
        replica: ReplicaId,
        /// About what.
        subject: Subject,
    },
    /// A replica entered a view.
    ViewEntered {
        /// Who.
        replica: ReplicaId,
        /// Which, and why.
        event: Box<ViewEntered>,
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
            | Observation::Halted { replica, .. }
            | Observation::Said { replica, .. }
            | Observation::Restarted { replica }
            | Observation::Stopped { replica }
            | Observation::Synced { replica, .. }
            | Observation::Kept { replica, .. }
            | Observation::Opened { replica, .. }
            | Observation::Unsound { replica }
            | Observation::Lost { replica, .. }
            | Observation::Restoring { replica }
            | Observation::Restored { replica, .. }
            | Observation::Blamed { replica, .. }
            | Observation::Snapshotted { replica, .. }
            | Observation::Upset { replica }
            | Observation::Diverged { replica, .. }
            | Observation::Reinstated { replica }
            | Observation::Impersonated { replica, .. }
            | Observation::ViewEntered { replica, .. } => Some(*replica),
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

    /// Somebody is a traitor: what it says is not seen.
    fn distrust(&mut self, _traitor: ReplicaId) {}

    /// The run is over.
    fn at_end(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// All checkers of a run.
pub(crate) struct Checkers {
    checkers: Vec<Box<dyn Checker>>,
    traitors: BTreeSet<ReplicaId>,
    /// Whose state was spoilt from outside.
    upset: BTreeSet<ReplicaId>,
    evidence: u64,
    violation: Option<Violation>,
    goals: Goals,
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
            Box::new(commit_stability::CommitStability::default()),
            Box::new(justified::Justified::new(options.replicas)),
            Box::new(monotone::Monotone::default()),
            Box::new(durability::Durability::new(options.replicas)),
            Box::new(persisted::Persisted::new(options)),
            Box::new(state_digest::StateDigest::default()),
            Box::new(linearizable::Linearizable::default()),
            Box::new(equivocation::Equivocation::default()),
            Box::new(accused::Accused::default()),
            Box::new(divergence::Divergence::default()),
            Box::new(results::Results::default()),
            Box::new(strict::Strict::new(keys)),
            Box::new(memory::Memory::new(keys, options)),
        ];
        if options.is_fault_free() {
            checkers.push(Box::new(quiet::Quiet));
            checkers.push(Box::new(message_count::MessageCount::new(options.replicas)));
        }
        let goals = Goals::default();
        Checkers {
            checkers,
            traitors: BTreeSet::new(),
            upset: BTreeSet::new(),
            evidence: 0,
            violation: None,
            goals,
        }
    }

    /// What this replica does is no longer judged.
    pub(crate) fn distrust(&mut self, replica: ReplicaId) {
        self.traitors.insert(replica);
        self.checkers.iter_mut().for_each(|checker| checker.distrust(replica));
    }

    pub(crate) fn observe(&mut self, observation: &Observation<'_>) {
        if observation.replica().is_some_and(|replica| self.traitors.contains(&replica)) {
            return;
        }
        if let Observation::Upset { replica } = observation {
            self.upset.insert(*replica);
        }
        // What it answers until it notices is wrong; that nobody believes it is judged at the clients. So are the
        // parts that it gives out.
        if let Observation::Replied { replica, .. } | Observation::Blamed { donor: replica, .. } =
            observation
            && self.upset.contains(replica)
        {
            return;
        }
        self.evidence += u64::from(matches!(observation, Observation::Accused { .. }));
        self.goals.observe(observation);
        match observation {
            Observation::Lost { replica, error } => {
                self.report(
                    "a replica starts again from its store",
                    format!("{replica:?}: {error}"),
                );
            }
            Observation::Diverged { replica, sequence } if !self.upset.contains(replica) => {
                let detail = format!("{replica:?} differs after slot {sequence}");
                self.report("INV7 determinism", detail);
            }
            // Everything that bears its key it has said itself.
            Observation::Impersonated { replica, subject } => {
                let detail = format!("{replica:?} thinks that {subject} was said by somebody else");
                self.report("no replica takes its own word for another's", detail);
            }
            _ => {}
        }
        if let Observation::Halted { replica, halt } = observation {
            let property = match halt {
                Halt::TwoCertificates { .. } => "one certificate for a slot in a view",
                Halt::TwoDecisions { .. } => "one decision for a slot",
                Halt::NoAgreement { .. } => "no correct replica halts",
            };
            self.report(property, format!("{replica:?}: {halt}"));
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

    pub(crate) fn is_upset(&self, replica: ReplicaId) -> bool {
        self.upset.contains(&replica)
    }

    pub(crate) fn traitors(&self) -> &BTreeSet<ReplicaId> {
        &self.traitors
    }

    pub(crate) fn goals_mut(&mut self) -> &mut Goals {
        &mut self.goals
    }

    pub(crate) fn goals(&self) -> Goals {
        self.goals
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
