//! Checkpoints: Q equal digests make one stable, and the log below it may go (PROTOCOL section 5).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{
    Action, Halt, Outbox, Reason, Record, Replica, ReplicaId, Sequence, Signed, Statement, Time,
    Verdict,
};
use crate::certificate::{Signatures, StableProof};
use crate::limits::Constants;
use crate::message::{Checkpoint, ReplicaSet};
use crate::types::{Digest, Instant, Signature, WriteId};

/// Checkpoints heard of and taken.
#[derive(Clone, Debug)]
pub(super) struct Checkpoints {
    /// The newest few of each sender: first valid per slot.
    heard: BTreeMap<ReplicaId, BTreeMap<Sequence, (Digest, Signature)>>,
    kept_per_sender: usize,
    /// Own digests above h, and the one at h; some of an earlier life.
    own: BTreeMap<Sequence, Digest>,
    /// The last snapshot that this run has taken or gone on from. One that an earlier life said a Checkpoint of
    /// may be gone: rotten, or replaced by a transfer.
    snapshot: Sequence,
    /// Up to here checkpoints were said of a state that was wrong.
    silent_until: Sequence,
    pub(super) proof: Option<StableProof>,
    pub(super) proof_at: Instant,
    proof_write: WriteId,
    pub(super) said_at: Instant,
}

impl Checkpoints {
    pub(super) fn new(constants: &Constants) -> Self {
        let kept = constants.window.checked_div(constants.checkpoint_interval).unwrap_or(2) + 1;
        Checkpoints {
            heard: BTreeMap::new(),
            kept_per_sender: usize::try_from(kept).unwrap_or(3),
            own: BTreeMap::new(),
            snapshot: Sequence(0),
            silent_until: Sequence(0),
            proof: None,
            proof_at: Instant(0),
            proof_write: WriteId(0),
            said_at: Instant(0),
        }
    }

    pub(super) fn of(&self, sender: ReplicaId, sequence: Sequence) -> Option<&(Digest, Signature)> {
        self.heard.get(&sender)?.get(&sequence)
    }

    pub(super) fn wants(
        &self,
        sender: ReplicaId,
        checkpoint: &Checkpoint,
        stable: Sequence,
    ) -> Result<(), Reason> {
        if checkpoint.sequence <= stable {
            return Err(Reason::BelowWindow);
        }
        match self.of(sender, checkpoint.sequence) {
            Some((digest, _)) if *digest == checkpoint.digest => Err(Reason::Duplicate),
            _ => Ok(()),
        }
    }

    fn insert(&mut self, sender: ReplicaId, checkpoint: &Checkpoint, signature: Signature) {
        let kept = self.heard.entry(sender).or_default();
        kept.insert(checkpoint.sequence, (checkpoint.digest, signature));
        while kept.len() > self.kept_per_sender {
            kept.pop_first();
        }
    }

    /// A proof for a slot, if so many distinct senders said the same.
    fn stable(&self, checkpoint: &Checkpoint, quorum: usize) -> Option<StableProof> {
        let equal = self.heard.iter().filter_map(|(sender, kept)| {
            let (digest, signature) = kept.get(&checkpoint.sequence)?;
            (*digest == checkpoint.digest).then_some((*sender, *signature))
        });
        let signatures = Signatures::new(equal.take(quorum));
        (signatures.len() == quorum).then_some(StableProof { checkpoint: *checkpoint, signatures })
    }

    /// Whether no digest for the slot can reach a quorum any more, whatever the others will say.
    fn hopeless(&self, sequence: Sequence, n: usize, quorum: usize) -> bool {
        let mut counts: BTreeMap<Digest, usize> = BTreeMap::new();
        for (digest, _) in self.heard.values().filter_map(|kept| kept.get(&sequence)) {
            *counts.entry(*digest).or_default() += 1;
        }
        let heard: usize = counts.values().sum();
        let best = counts.values().max().copied().unwrap_or(0);
        best + n.saturating_sub(heard) < quorum
    }

    /// How many are held of all senders together.
    pub(super) fn count(&self) -> usize {
        self.heard.values().map(BTreeMap::len).sum()
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.heard.values().map(BTreeMap::len).max().unwrap_or(0)
    }

    /// The senders heard of for the lowest checkpoint slot above h.
    pub(super) fn senders(&self, sequence: Sequence) -> ReplicaSet {
        let said = self.heard.iter().filter(|(_, kept)| kept.contains_key(&sequence));
        said.map(|(sender, _)| *sender).collect()
    }

    /// The signed copy of a checkpoint, for saying it again.
    pub(super) fn signed(&self, sender: ReplicaId, sequence: Sequence) -> Option<Signed> {
        let (digest, signature) = self.of(sender, sequence)?;
        let statement = Statement::Checkpoint(Checkpoint { sequence, digest: *digest });
        Some(Signed { sender, statement, signature: *signature })
    }

    /// The signed copies of all Checkpoints heard.
    pub(super) fn all(&self) -> impl Iterator<Item = Signed> + '_ {
        let heard = self.heard.iter();
        heard.flat_map(|(sender, kept)| {
            kept.keys().filter_map(|sequence| self.signed(*sender, *sequence))
        })
    }

    /// Notes the own digest after a checkpoint slot.
    pub(super) fn note_own(&mut self, sequence: Sequence, digest: Digest) {
        self.own.insert(sequence, digest);
    }

    /// The state goes on from this snapshot.
    pub(super) fn go_on_from(&mut self, sequence: Sequence, digest: Digest) {
        self.own.insert(sequence, digest);
        self.snapshot = sequence;
    }

    /// The own state was wrong and is replaced. What was said of it cannot be taken back, nor said
    /// otherwise: for those slots this replica stays silent.
    pub(super) fn renounce_own(&mut self) {
        let last = self.own.last_key_value().map_or(Sequence(0), |(sequence, _)| *sequence);
        self.silent_until = self.silent_until.max(last);
        self.own.clear();
    }

    /// The own checkpoints above `stable`, for saying them again.
    pub(super) fn own_above(&self, stable: Sequence) -> Vec<Checkpoint> {
        let above = self.own.range(stable.next()..);
        above
            .map(|(sequence, digest)| Checkpoint { sequence: *sequence, digest: *digest })
            .collect()
    }

    /// Of those the ones that may be said: not of a state that was wrong.
    pub(super) fn own_unsaid(&self, stable: Sequence) -> Vec<Checkpoint> {
        self.own_above(stable.max(self.silent_until))
    }

    /// After a restart: this checkpoint was stable.
    pub(super) fn recover(&mut self, proof: StableProof) {
        self.own = self.own.split_off(&proof.sequence());
        self.proof = Some(proof);
    }

    fn forget(&mut self, stable: Sequence) {
        for kept in self.heard.values_mut() {
            *kept = kept.split_off(&stable.next());
        }
        self.own = self.own.split_off(&stable);
    }
}

impl Replica {
    /// The state's owner took the digest after a checkpoint slot.
    pub(super) fn on_snapshotted(
        &mut self,
        sequence: Sequence,
        digest: Digest,
        out: &mut Outbox,
    ) -> Verdict {
        let interval = self.cluster.constants().checkpoint_interval;
        if !sequence.is_checkpoint(interval) || sequence > self.dispatched {
            return Verdict::Ignored(Reason::Unexpected);
        }
        if sequence < self.window.stable() {
            return Verdict::Ignored(Reason::BelowWindow);
        }
        if self.is_diverged() {
            return Verdict::Ignored(Reason::Diverged);
        }
        // At most one checkpoint per slot in a replica's life: of a state executed a second time, after a
        // restart, nothing is said, whether or not it came out as it did.
        self.checkpoints.snapshot = sequence;
        if self.checkpoints.own.insert(sequence, digest).is_some() {
            self.checkpoints.silent_until = self.checkpoints.silent_until.max(sequence);
        }
        if sequence == self.window.stable() {
            self.settle(out);
        } else if sequence > self.checkpoints.silent_until {
            let checkpoint = Checkpoint { sequence, digest };
            let id = self.journal.persist(Record::Checkpoint(checkpoint), out);
            self.say(id, Statement::Checkpoint(checkpoint), None, out);
        }
        Verdict::Accepted
    }

    pub(super) fn on_checkpoint(
        &mut self,
        now: Time,
        checkpoint: Checkpoint,
        signed: &Signed,
        out: &mut Outbox,
    ) -> Verdict {
        let sender = signed.sender;
        if let Some(first) = self.checkpoints.signed(sender, checkpoint.sequence) {
            return self.accuse(now, first, signed.clone(), out);
        }
        if sender == self.id {
            self.checkpoints.said_at = now.instant;
        }
        self.checkpoints.insert(sender, &checkpoint, signed.signature);
        let (n, quorum) = (self.cluster.n(), self.cluster.quorum());
        if let Some(proof) = self.checkpoints.stable(&checkpoint, quorum) {
            return self.on_stable(now, proof, out);
        }
        if self.checkpoints.hopeless(checkpoint.sequence, n, quorum) {
            self.halt(Halt::NoAgreement { sequence: checkpoint.sequence }, out);
        }
        Verdict::Accepted
    }

    /// A checkpoint is stable: h moves, whether or not this replica executed so far. It votes above h
    /// meanwhile and executes as the certificates of the slots below arrive.
    pub(super) fn on_stable(&mut self, now: Time, proof: StableProof, out: &mut Outbox) -> Verdict {
        self.adopt_stable(now, proof, out);
        if self.halted.is_none() {
            self.take_early(now, out);
        }
        Verdict::Accepted
    }

    /// Moves h, and nothing that follows in the view.
    pub(super) fn adopt_stable(&mut self, now: Time, proof: StableProof, out: &mut Outbox) {
        self.account_for_proof(now, &proof, out);
        let stable = proof.sequence();
        self.checkpoints.proof_write = self.journal.persist(Record::Stable(proof.clone()), out);
        self.checkpoints.proof = Some(proof);
        self.checkpoints.proof_at = now.instant;
        self.checkpoints.forget(stable);
        self.window.advance(stable);
        // A primary never proposes below its window.
        self.next_proposal = self.next_proposal.max(stable.next());
        self.settle(out);
        self.retire();
        self.reinstate(out);
        self.catch_up(now.instant, out);
    }

    /// Compares the own digest at h with the agreed one. Equal: what lies below may be dropped from the
    /// journal once the proof is durable. Different: this replica's state is wrong (PITFALLS C5).
    pub(super) fn settle(&mut self, out: &mut Outbox) {
        let Some(proof) = &self.checkpoints.proof else {
            return;
        };
        let Checkpoint { sequence, digest: agreed } = proof.checkpoint;
        match self.checkpoints.own.get(&sequence).copied() {
            None => {}
            Some(own) if own == agreed => {
                self.settled = sequence;
                // What is dropped must be in a snapshot of one's own (PROTOCOL section 4).
                if self.checkpoints.snapshot < sequence {
                    return;
                }
                let action = Action::Discard { below: sequence };
                self.journal.after(self.checkpoints.proof_write, action, out);
            }
            Some(own) => self.diverge(sequence, own, agreed, out),
        }
    }
}
