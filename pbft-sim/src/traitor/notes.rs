//! What a traitor remembers of what its replica heard and did: material for lies.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use pbft_core::certificate::StableProof;
use pbft_core::hook::Deed;
use pbft_core::message::{Batch, Message, Request, Signed, SignedViewChange, Statement};
use pbft_core::replica::{Action, Input, Record};
use pbft_core::types::{Instant, ReplicaId};

use super::prune;

/// So many of each are kept.
const KEPT: usize = 64;

/// What was heard and done, the newest of it.
#[derive(Debug, Default)]
pub struct Notes {
    /// When it first did anything.
    pub begun: Option<Instant>,
    /// From whose links anything has come.
    pub links: BTreeSet<ReplicaId>,
    /// The own replica's newest stable proof.
    pub stable: Option<StableProof>,
    /// The newest ViewChange of each replica.
    pub changes: BTreeMap<ReplicaId, SignedViewChange>,
    /// Batches proposed, by whomever.
    pub batches: VecDeque<Arc<Batch>>,
    /// Clients' requests.
    pub requests: VecDeque<Request>,
    /// Others' statements.
    pub statements: VecDeque<Signed>,
    /// The own journal, as a store would keep it.
    pub journal: Vec<Record>,
}

fn keep<T>(kept: &mut VecDeque<T>, one: T) {
    kept.push_back(one);
    if kept.len() > KEPT {
        kept.pop_front();
    }
}

impl Notes {
    pub(super) fn hear(&mut self, me: ReplicaId, input: &Input) {
        let Input::Deliver(verified) = input else { return };
        match verified.message() {
            Message::Request(request) => keep(&mut self.requests, request.clone()),
            Message::Proposal { pre_prepare, batch } => {
                keep(&mut self.batches, Arc::clone(batch));
                keep(&mut self.statements, pre_prepare.clone());
            }
            Message::Statement(signed) => {
                if let Statement::ViewChange(change) = &signed.statement {
                    let (sender, change) = (signed.sender, Arc::clone(change));
                    let signature = signed.signature;
                    self.changes.insert(sender, SignedViewChange { sender, change, signature });
                }
                if signed.sender != me {
                    keep(&mut self.statements, signed.clone());
                }
            }
            _ => {}
        }
    }

    pub(super) fn act(&mut self, deed: &Deed) {
        match deed {
            Deed::Act(Action::Persist { record, .. }) => {
                if let Record::Stable(proof) = record {
                    self.stable = Some(proof.clone());
                }
                self.journal.push(record.clone());
            }
            Deed::Act(Action::Discard { below }) => prune(&mut self.journal, *below),
            _ => {}
        }
    }
}
