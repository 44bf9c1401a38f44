//! Misbehaviour that anyone can check: two signed statements that one honest key never makes.

use alloc::collections::BTreeMap;

use crate::cluster::Cluster;
use crate::crypto::{Author, Kind, Verifier};
use crate::message::{Signed, Statement};
use crate::new_view;
use crate::types::{ReplicaId, Sequence, View};

/// What a contradiction is about: one replica, one kind of statement, one view, one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// Whose key signed both.
    pub replica: ReplicaId,
    /// Which kind of statement.
    pub kind: Kind,
    /// In which view, or for which; 0 for checkpoints, which belong to none.
    pub view: View,
    /// For which slot; 0 for ViewChange and NewView, which are about many.
    pub sequence: Sequence,
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

/// Two statements of one key about the same, with different content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    first: Signed,
    second: Signed,
}

impl Evidence {
    /// Pairs two statements if they contradict each other; signatures are not checked here.
    pub fn new(first: Signed, second: Signed) -> Option<Self> {
        let same_subject = subject(&first).is_some() && subject(&first) == subject(&second);
        // Equality ignores the signature: a malleable copy is no second statement (PITFALLS I4).
        let differ = first.statement != second.statement;
        let contradict =
            (same_subject && differ) || strays(&first, &second) || forgets(&first, &second);
        contradict.then_some(Evidence { first, second })
    }

    /// What the contradiction is about.
    pub fn subject(&self) -> Subject {
        subject(&self.second).unwrap_or(Subject {
            replica: self.first.sender,
            kind: self.first.statement.kind(),
            view: View(0),
            sequence: Sequence(0),
        })
    }

    /// The statement that came first.
    pub fn first(&self) -> &Signed {
        &self.first
    }

    /// The statement that contradicts it.
    pub fn second(&self) -> &Signed {
        &self.second
    }

    /// Whether the evidence convicts, to anyone who knows the cluster's keys.
    pub fn convicts(&self, cluster: &Cluster, verifier: &dyn Verifier) -> bool {
        let good = |signed: &Signed| {
            let preimage = signed.statement.preimage(cluster, signed.sender);
            verifier.verify(Author::Replica(signed.sender), &preimage, &signed.signature)
        };
        cluster.contains(self.first.sender) && good(&self.first) && good(&self.second)
    }
}

/// Whether `second` is a PrePrepare of another digest than the NewView `first` of the same primary names.
fn strays(first: &Signed, second: &Signed) -> bool {
    let (Statement::NewView(new_view), Statement::PrePrepare(vote)) =
        (&first.statement, &second.statement)
    else {
        return false;
    };
    let changes = new_view.changes.iter().map(|change| &*change.change);
    let planned = new_view::plan(new_view.view, changes);
    let named = planned.ok().and_then(|plan| plan.digests.get(&vote.sequence).copied());
    first.sender == second.sender
        && new_view.view == vote.view
        && named.is_some_and(|digest| digest != vote.digest)
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

/// Evidence kept: one piece for each subject, so many in all (PITFALLS K6).
#[derive(Clone, Debug)]
pub struct EvidenceStore {
    kept: BTreeMap<Subject, Evidence>,
    max: usize,
}

impl EvidenceStore {
    /// A store of at most `max` pieces.
    pub fn new(max: usize) -> Self {
        EvidenceStore { kept: BTreeMap::new(), max }
    }

    /// Keeps `evidence` and says whether it is new.
    pub fn insert(&mut self, evidence: &Evidence) -> bool {
        let subject = evidence.subject();
        if self.kept.len() >= self.max || self.kept.contains_key(&subject) {
            return false;
        }
        self.kept.insert(subject, evidence.clone());
        true
    }

    /// All pieces kept.
    pub fn iter(&self) -> impl Iterator<Item = &Evidence> {
        self.kept.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}
