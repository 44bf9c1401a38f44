//! Accountability: what convicts a replica is looked for, kept, shown around (PITFALLS L9).
//!
//! Two contradicting statements of one replica often lie with two correct ones: a primary that proposes one
//! batch to each half is caught by nobody alone. So whoever sees that another voted for something else than
//! was proposed here shows both the proposal and the vote to everyone; and whatever certificate arrives
//! is compared with the votes held.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Time;
use super::view::Cause;
use super::{
    Action, Message, Misbehavior, Outbox, Reason, Replica, ReplicaId, Sequence, Signed, Statement,
    To, Verdict, Vote,
};
use crate::certificate::{Signatures, StableProof};
use crate::crypto::Kind;
use crate::evidence::{Evidence, Offence, Subject};
use crate::message::{Checkpoint, NewView, ViewChange};

/// So many contradicting votes of one sender are shown around between two stable checkpoints: one is enough
/// for a conviction, and nobody can make the others talk without end.
const SHOWN_MAX: usize = 4;

/// Whose contradicting votes were shown around since h moved last.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    since: Sequence,
    votes: BTreeMap<ReplicaId, BTreeSet<(Sequence, bool)>>,
}

impl Shown {
    fn take(&mut self, sender: ReplicaId, place: (Sequence, bool), stable: Sequence) -> bool {
        if self.since != stable {
            *self = Shown { since: stable, votes: BTreeMap::new() };
        }
        let votes = self.votes.entry(sender).or_default();
        votes.len() < SHOWN_MAX && votes.insert(place)
    }
}

impl Replica {
    /// Keeps two contradicting statements and reports them, once.
    pub(super) fn accuse(
        &mut self,
        now: Time,
        first: Signed,
        second: Signed,
        out: &mut Outbox,
    ) -> Verdict {
        let Some(evidence) = Evidence::new(first, second) else {
            return Verdict::Ignored(Reason::Duplicate);
        };
        let subject = evidence.subject();
        self.keep_evidence(now, &Arc::new(evidence), out);
        Verdict::Refused(Misbehavior::Equivocation(subject))
    }

    /// Whether evidence is worth its signatures. A void ViewChange or NewView costs hundreds of them, so those
    /// of views that are over are left alone.
    pub(super) fn wants_evidence(&self, evidence: &Evidence) -> Result<(), Reason> {
        let subject = evidence.subject();
        let heavy = matches!(subject.kind, Kind::ViewChange | Kind::NewView);
        if heavy && evidence.offence() == Offence::Void && subject.view < self.views.active {
            return Err(Reason::OtherView);
        }
        if self.evidence.wants(evidence) { Ok(()) } else { Err(Reason::Enough) }
    }

    /// Keeps evidence, reports it and passes it on, if it is new. Evidence that the primary broke the protocol in
    /// the very view it leads ends that view: a primary that equivocates in every slot can keep all of them
    /// slow and none of them late (`docs/divergences.md`). Any other changes nothing.
    pub(super) fn keep_evidence(&mut self, now: Time, evidence: &Arc<Evidence>, out: &mut Outbox) {
        if !self.evidence.insert(evidence) {
            return;
        }
        out.push(Action::Accuse(Evidence::clone(evidence)));
        let message = Message::Evidence(Arc::clone(evidence));
        out.push(Action::Relay { to: To::All, message });
        let Subject { replica, kind, view, .. } = evidence.subject();
        if view == self.views.active
            && replica == self.cluster.primary(view)
            && replica != self.id
            && matches!(kind, Kind::PrePrepare | Kind::NewView)
            && !self.is_changing()
            && let Some(next) = view.next()
        {
            self.leave_for(now, next, Cause::Convicted(view), out);
        }
    }

    /// Shows around the votes for a slot that differ from what its primary proposed here, and the proposal.
    pub(super) fn show_split(&mut self, sequence: Sequence, out: &mut Outbox) {
        let Some(slot) = self.window.slot(sequence) else { return };
        let Some(accepted) = &slot.accepted else { return };
        let proposed = accepted.vote;
        let mut differing = Vec::new();
        for commit in [false, true] {
            let votes = if commit { &slot.commits } else { &slot.prepares };
            if votes.votes().all(|vote| vote.digest == proposed.digest) {
                continue;
            }
            let others = self.cluster.replicas().filter(|sender| *sender != self.id);
            let differ = |sender: &ReplicaId| {
                votes.of(*sender).is_some_and(|(vote, _)| vote.digest != proposed.digest)
            };
            differing.extend(others.filter(differ).filter_map(|it| slot.vote_of(it, commit)));
        }
        let stable = self.window.stable();
        let proposal = accepted.signed.clone();
        let mut shown = false;
        for signed in differing {
            let commit = matches!(signed.statement, Statement::Commit(_));
            if self.shown.take(signed.sender, (sequence, commit), stable) {
                shown = true;
                out.push(Action::Relay { to: To::All, message: Message::Statement(signed) });
            }
        }
        if shown {
            out.push(Action::Relay { to: To::All, message: Message::Statement(proposal) });
        }
    }

    /// Compares the signatures under a vote with the votes held of the same view.
    pub(super) fn account_for_votes(
        &mut self,
        now: Time,
        vote: &Vote,
        signatures: &Signatures,
        commit: bool,
        out: &mut Outbox,
    ) {
        let Some(slot) = self.window.slot(vote.sequence) else { return };
        let votes = if commit { &slot.commits } else { &slot.prepares };
        let differs = |held: &Vote| held.view == vote.view && held.digest != vote.digest;
        if !votes.votes().any(differs) {
            return;
        }
        let mut pairs = Vec::new();
        for (sender, signature) in signatures.iter() {
            let Some(first) = slot.vote_of(sender, commit) else { continue };
            let statement =
                if commit { Statement::Commit(*vote) } else { Statement::Prepare(*vote) };
            pairs.push((first, Signed { sender, statement, signature: *signature }));
        }
        for (first, second) in pairs {
            self.accuse(now, first, second, out);
        }
    }

    /// Compares the signatures under a stable proof with the Checkpoints heard.
    pub(super) fn account_for_proof(&mut self, now: Time, proof: &StableProof, out: &mut Outbox) {
        let Checkpoint { sequence, .. } = proof.checkpoint;
        for (sender, signature) in proof.signatures.iter() {
            if let Some(first) = self.checkpoints.signed(sender, sequence) {
                let signature = *signature;
                self.accuse(
                    now,
                    first,
                    Signed { sender, statement: proof.statement(), signature },
                    out,
                );
            }
        }
    }

    /// Compares a ViewChange whose certificates were checked with what is held: the certificates' votes with
    /// those of the view left, and what it leaves out with its sender's Commits.
    pub(super) fn account_for_change(
        &mut self,
        now: Time,
        signed: &Signed,
        change: &ViewChange,
        whole: bool,
        out: &mut Outbox,
    ) {
        if let Some(heard) = self.views.changes.get(&signed.sender)
            && heard.signed.change.view == change.view
            && *heard.signed.change != *change
        {
            let first = heard.signed.to_signed();
            self.accuse(now, first, signed.clone(), out);
        }
        let commits = self.window.slots().filter_map(|(_, slot)| slot.vote_of(signed.sender, true));
        let omitted = |commit: &Signed| matches!(&commit.statement, Statement::Commit(vote) if change.omits(vote));
        let omitted: Option<Signed> = { commits }.find(omitted);
        if let Some(commit) = omitted {
            self.accuse(now, commit, signed.clone(), out);
        }
        if !whole {
            return;
        }
        for certificate in &change.prepared {
            let vote = certificate.vote;
            self.account_for_votes(now, &vote, &certificate.prepares, false, out);
            let accepted = self.window.slot(vote.sequence).and_then(|slot| slot.accepted.as_ref());
            if let Some(accepted) = accepted
                && accepted.vote.view == vote.view
                && accepted.vote.digest != vote.digest
            {
                let (first, sender) = (accepted.signed.clone(), accepted.signed.sender);
                let statement = Statement::PrePrepare(vote);
                let second = Signed { sender, statement, signature: certificate.pre_prepare };
                self.accuse(now, first, second, out);
            }
        }
        if let Some(proof) = &change.stable {
            self.account_for_proof(now, proof, out);
        }
    }

    /// Compares everything in a NewView that holds with what is held.
    pub(super) fn account_for_new_view(&mut self, now: Time, new_view: &NewView, out: &mut Outbox) {
        for change in &new_view.changes {
            self.account_for_change(now, &change.to_signed(), &change.change, true, out);
        }
    }

    /// Every statement of others that this replica still holds signed, those inside certificates included:
    /// what it can contribute when more than f replicas have broken agreement
    /// ([`crate::evidence::convict`]).
    pub fn kept_statements(&self) -> Vec<Signed> {
        let mut kept = Vec::new();
        for (_, slot) in self.window.slots() {
            kept.extend(slot.accepted.iter().map(|accepted| accepted.signed.clone()));
            for sender in self.cluster.replicas() {
                kept.extend(
                    [false, true].iter().filter_map(|commit| slot.vote_of(sender, *commit)),
                );
            }
            for certificate in slot.prepared.iter() {
                self.keep_prepared(certificate, &mut kept);
            }
            for certificate in slot.committed.iter() {
                keep_all(&certificate.commits, &certificate.statement(), &mut kept);
            }
        }
        for decided in self.history.iter() {
            keep_all(&decided.certificate.commits, &decided.certificate.statement(), &mut kept);
        }
        kept.extend(self.views.new_view.clone());
        let inside = match self.views.new_view.as_ref().map(|signed| &signed.statement) {
            Some(Statement::NewView(new_view)) => new_view.changes.clone(),
            _ => Vec::new(),
        };
        let heard = self.views.changes.values().map(|heard| heard.signed.clone());
        for change in inside.into_iter().chain(heard) {
            for certificate in &change.change.prepared {
                self.keep_prepared(certificate, &mut kept);
            }
            if let Some(proof) = &change.change.stable {
                keep_all(&proof.signatures, &proof.statement(), &mut kept);
            }
            kept.push(change.to_signed());
        }
        if let Some(proof) = &self.checkpoints.proof {
            keep_all(&proof.signatures, &proof.statement(), &mut kept);
        }
        kept.extend(self.checkpoints.all());
        kept.extend(self.evidence.iter().flat_map(Evidence::statements).cloned());
        kept
    }

    fn keep_prepared(
        &self,
        certificate: &crate::certificate::PreparedCertificate,
        kept: &mut Vec<Signed>,
    ) {
        let vote = certificate.vote;
        let sender = self.cluster.primary(vote.view);
        let statement = Statement::PrePrepare(vote);
        kept.push(Signed { sender, statement, signature: certificate.pre_prepare });
        keep_all(&certificate.prepares, &Statement::Prepare(vote), kept);
    }
}

fn keep_all(signatures: &Signatures, statement: &Statement, kept: &mut Vec<Signed>) {
    for (sender, signature) in signatures.iter() {
        kept.push(Signed { sender, statement: statement.clone(), signature: *signature });
    }
}
