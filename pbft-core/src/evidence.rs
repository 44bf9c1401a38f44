//! Misbehaviour that anyone can check: statements that one honest key never makes (PROTOCOL section 1).

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bincode::de::Decoder;
use bincode::error::DecodeError;
use bincode::{Decode, Encode};

use crate::cluster::Cluster;
use crate::crypto::{Kind, Verifier};
use crate::message::{Batch, Message, Signed, Statement};
use crate::new_view;
use crate::signed::{self, Cache, Scrutiny};
use crate::types::{ReplicaId, Sequence, View};
use crate::wire;

/// What misbehaviour is about: one replica, one kind of statement, one view, one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// Whose key signed.
    pub replica: ReplicaId,
    /// Which kind of statement.
    pub kind: Kind,
    /// In which view, or for which; 0 for checkpoints, which belong to none.
    pub view: View,
    /// For which slot; 0 for ViewChange and NewView, which are about many.
    pub sequence: Sequence,
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Subject { replica, kind, view, sequence } = self;
        match kind {
            Kind::Checkpoint => write!(formatter, "replica {replica}: {kind} of slot {sequence}"),
            Kind::ViewChange | Kind::NewView => {
                write!(formatter, "replica {replica}: {kind} for view {view}")
            }
            _ => write!(formatter, "replica {replica}: {kind} in view {view}, slot {sequence}"),
        }
    }
}

/// What a statement is about, if a second one about the same convicts its signer. Status may change at
/// will and is never evidence (PROTOCOL section 1).
pub fn subject(signed: &Signed) -> Option<Subject> {
    let (view, sequence) = match &signed.statement {
        Statement::PrePrepare(vote) | Statement::Prepare(vote) | Statement::Commit(vote) => {
            (vote.view, vote.sequence)
        }
        Statement::Checkpoint(checkpoint) => (View(0), checkpoint.sequence),
        Statement::ViewChange(change) => (change.view, Sequence(0)),
        Statement::NewView(new_view) => (new_view.view, Sequence(0)),
        Statement::Status(_) | Statement::Fetch(_) => return None,
    };
    Some(Subject { replica: signed.sender, kind: signed.statement.kind(), view, sequence })
}

/// In what way a replica broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Offence {
    /// Two different statements about the same.
    Equivocation,
    /// A PrePrepare of another digest than the same primary's NewView names.
    StrayProposal,
    /// A ViewChange that leaves out what a Commit of the same replica says it held.
    Omission,
    /// One statement that no correct replica signs, whatever else it said.
    Void,
}

impl fmt::Display for Offence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Offence::Equivocation => "equivocation",
            Offence::StrayProposal => "stray proposal",
            Offence::Omission => "omission",
            Offence::Void => "void statement",
        })
    }
}

/// One or two signed statements that convict their signer, to anyone who knows the cluster's keys.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Evidence(Proof);

#[allow(clippy::large_enum_variant, reason = "there are few, and all of them are behind an Arc")]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
enum Proof {
    Contradiction { first: Signed, second: Signed },
    Void { statement: Signed, batch: Option<Arc<Batch>> },
}

impl<Context> Decode<Context> for Evidence {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let evidence = match Proof::decode(decoder)? {
            Proof::Contradiction { first, second } => Evidence::new(first, second),
            Proof::Void { statement, batch } => Evidence::of_void(statement, batch),
        };
        evidence.ok_or_else(wire::malformed)
    }
}
wire::borrow_decode!(Evidence);

impl Evidence {
    /// Pairs two statements if they contradict each other; signatures are not checked here.
    pub fn new(first: Signed, second: Signed) -> Option<Self> {
        offence(&first, &second)?;
        Some(Evidence(Proof::Contradiction { first, second }))
    }

    /// One statement that is void by itself, with the body that a PrePrepare came with; whether it is void
    /// is not checked here.
    pub fn of_void(statement: Signed, batch: Option<Arc<Batch>>) -> Option<Self> {
        subject(&statement)?;
        Some(Evidence(Proof::Void { statement, batch }))
    }

    /// The offence.
    pub fn offence(&self) -> Offence {
        match &self.0 {
            Proof::Contradiction { first, second } => {
                offence(first, second).unwrap_or(Offence::Equivocation)
            }
            Proof::Void { .. } => Offence::Void,
        }
    }

    /// What it is about.
    pub fn subject(&self) -> Subject {
        let statement = self.last();
        subject(statement).unwrap_or(Subject {
            replica: statement.sender,
            kind: statement.statement.kind(),
            view: View(0),
            sequence: Sequence(0),
        })
    }

    /// The statements in it: one that is void, or two that contradict each other.
    pub fn statements(&self) -> impl Iterator<Item = &Signed> {
        let (first, second) = match &self.0 {
            Proof::Contradiction { first, second } => (first, Some(second)),
            Proof::Void { statement, .. } => (statement, None),
        };
        core::iter::once(first).chain(second)
    }

    /// Bytes it takes on the wire.
    pub fn wire_bytes(&self) -> usize {
        wire::encode_bare(self).len()
    }

    fn last(&self) -> &Signed {
        match &self.0 {
            Proof::Contradiction { second, .. } => second,
            Proof::Void { statement, .. } => statement,
        }
    }

    /// Whether the evidence convicts, to anyone who knows the cluster's keys.
    pub fn convicts(&self, cluster: &Cluster, verifier: &dyn Verifier) -> bool {
        let message = Message::Evidence(Arc::new(self.clone()));
        signed::verify(cluster, verifier, &mut Cache::new(0), message, Scrutiny::Whole).is_ok()
    }

    /// The void statement and its body, if that is what it is.
    pub(crate) fn void(&self) -> Option<(&Signed, Option<&Arc<Batch>>)> {
        match &self.0 {
            Proof::Void { statement, batch } => Some((statement, batch.as_ref())),
            Proof::Contradiction { .. } => None,
        }
    }
}

/// How two statements of one key contradict each other, if they do.
fn offence(first: &Signed, second: &Signed) -> Option<Offence> {
    let same_subject = subject(first).is_some() && subject(first) == subject(second);
    // Equality ignores the signature: a malleable copy is no second statement (PITFALLS I4).
    if same_subject && first.statement != second.statement {
        Some(Offence::Equivocation)
    } else if strays(first, second) {
        Some(Offence::StrayProposal)
    } else if forgets(first, second) {
        Some(Offence::Omission)
    } else {
        None
    }
}

/// Whether `second` is a PrePrepare of another digest than the NewView `first` of the same primary names.
fn strays(first: &Signed, second: &Signed) -> bool {
    let (Statement::NewView(new_view), Statement::PrePrepare(vote)) =
        (&first.statement, &second.statement)
    else {
        return false;
    };
    if first.sender != second.sender || new_view.view != vote.view {
        return false;
    }
    // Neither is checked yet, so this must not cost more than their bytes.
    let changes = new_view.changes.iter().map(|change| &*change.change);
    new_view::named(changes, vote.sequence).is_some_and(|digest| digest != vote.digest)
}

/// Whether `second` is a ViewChange that leaves out what the Commit `first` of the same replica, in a lower
/// view, says it held: every certificate is durable before its Commit is said, so no crash explains it.
fn forgets(first: &Signed, second: &Signed) -> bool {
    let (Statement::Commit(vote), Statement::ViewChange(change)) =
        (&first.statement, &second.statement)
    else {
        return false;
    };
    first.sender == second.sender && change.omits(vote)
}

/// Everything that `statements`, whose signatures hold, prove: one piece for each replica convicted. After
/// more than f faults this names at least f + 1 of them, if all that correct replicas kept is given
/// (PITFALLS L9; Sheng et al., BFT Protocol Forensics, 2021).
pub fn convict<'a>(statements: impl IntoIterator<Item = &'a Signed>) -> Vec<Evidence> {
    let mut convicted: BTreeMap<ReplicaId, Evidence> = BTreeMap::new();
    let mut said: BTreeMap<Subject, &Signed> = BTreeMap::new();
    let (mut commits, mut changes) = (Vec::new(), Vec::new());
    for signed in statements {
        match &signed.statement {
            Statement::Commit(_) => commits.push(signed),
            Statement::ViewChange(_) => changes.push(signed),
            _ => {}
        }
        let Some(subject) = subject(signed) else { continue };
        let first = *said.entry(subject).or_insert(signed);
        if let Some(evidence) = Evidence::new(first.clone(), signed.clone()) {
            convicted.entry(signed.sender).or_insert(evidence);
        }
    }
    for change in changes {
        if convicted.contains_key(&change.sender) {
            continue;
        }
        if let Some(commit) = commits.iter().find(|commit| forgets(commit, change))
            && let Some(evidence) = Evidence::new((*commit).clone(), change.clone())
        {
            convicted.insert(change.sender, evidence);
        }
    }
    convicted.into_values().collect()
}

/// Evidence kept: one piece for each subject, so many and so many bytes in all, of each replica an equal
/// share: one that convicts itself over and over does not crowd out the others' (PITFALLS K6).
#[derive(Clone, Debug)]
pub struct EvidenceStore {
    kept: BTreeMap<Subject, Evidence>,
    bytes: BTreeMap<ReplicaId, usize>,
    max_of_each: usize,
    bytes_of_each: usize,
}

impl EvidenceStore {
    /// A store of at most `max` pieces of `bytes_max` bytes together about `n` replicas, and at least one
    /// piece about each.
    pub fn new(max: usize, bytes_max: usize, n: usize) -> Self {
        EvidenceStore {
            kept: BTreeMap::new(),
            bytes: BTreeMap::new(),
            max_of_each: max.checked_div(n).unwrap_or(1).max(1),
            bytes_of_each: bytes_max.checked_div(n).unwrap_or(bytes_max),
        }
    }

    /// Whether `evidence` is new and would be kept; asked before its signatures are paid for.
    pub fn wants(&self, evidence: &Evidence) -> bool {
        let subject = evidence.subject();
        let of_replica = self.kept.keys().filter(|kept| kept.replica == subject.replica);
        let bytes = self.bytes.get(&subject.replica).copied().unwrap_or(0);
        !self.kept.contains_key(&subject)
            && of_replica.take(self.max_of_each).count() < self.max_of_each
            && bytes.saturating_add(evidence.wire_bytes()) <= self.bytes_of_each
    }

    /// Keeps `evidence` and says whether it is new.
    pub fn insert(&mut self, evidence: &Evidence) -> bool {
        let wanted = self.wants(evidence);
        if wanted {
            let subject = evidence.subject();
            *self.bytes.entry(subject.replica).or_default() += evidence.wire_bytes();
            self.kept.insert(subject, evidence.clone());
        }
        wanted
    }

    /// All pieces kept.
    pub fn iter(&self) -> impl Iterator<Item = &Evidence> {
        self.kept.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Their bytes on the wire.
    pub fn bytes(&self) -> usize {
        self.bytes.values().sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

#[cfg(test)]
#[path = "evidence_test.rs"]
mod tests;
