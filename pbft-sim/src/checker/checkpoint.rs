//! INV17: stable checkpoints at one slot are equal, each stands on Q valid signatures of distinct members,
//! and no journal is cut above it. Counted anew here, with nothing of the replica's own counting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pbft_core::certificate::StableProof;
use pbft_core::cluster::Cluster;
use pbft_core::crypto::{Author, Verifier};
use pbft_core::types::{Digest, ReplicaId, Sequence};

use super::{Checker, Observation};
use crate::keys::Keys;

pub(super) struct Checkpoints {
    cluster: Arc<Cluster>,
    verifier: Arc<dyn Verifier>,
    agreed: BTreeMap<Sequence, Digest>,
    stable: BTreeMap<ReplicaId, Sequence>,
}

impl Checkpoints {
    pub(super) fn new(keys: &Keys) -> Self {
        Checkpoints {
            cluster: Arc::clone(&keys.cluster),
            verifier: Arc::clone(&keys.verifier),
            agreed: BTreeMap::new(),
            stable: BTreeMap::new(),
        }
    }

    fn check(&self, proof: &StableProof) -> Result<(), String> {
        let n = self.cluster.n();
        let f = (n - 1) / 3;
        let needed = (n + f) / 2 + 1;
        let good: BTreeSet<ReplicaId> = proof
            .signatures
            .iter()
            .filter(|(signer, signature)| {
                let preimage = proof.statement().preimage(&self.cluster, *signer);
                self.verifier.verify(Author::Replica(*signer), &preimage, signature)
            })
            .map(|(signer, _)| signer)
            .collect();
        if good.len() >= needed {
            return Ok(());
        }
        Err(format!("{} valid signers, {needed} needed: {proof:?}", good.len()))
    }
}

impl Checker for Checkpoints {
    fn name(&self) -> &'static str {
        "INV17 checkpoint agreement"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::Stable { replica, proof } => {
                self.check(proof)?;
                let sequence = proof.sequence();
                let digest = proof.checkpoint.digest;
                let agreed = *self.agreed.entry(sequence).or_insert(digest);
                if agreed != digest {
                    return Err(format!("slot {sequence}: {agreed:?} and {digest:?} are stable"));
                }
                let last = self.stable.entry(*replica).or_default();
                *last = sequence.max(*last);
            }
            Observation::Discarded { replica, below } => {
                let stable = self.stable.get(replica).copied().unwrap_or_default();
                if *below > stable {
                    return Err(format!("{replica:?} cut at {below}, stable is {stable}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pbft_core::certificate::Signatures;
    use pbft_core::message::{Checkpoint, Statement};

    use super::*;
    use crate::options::Options;

    #[test]
    fn short_forged_and_contradicting_proofs_and_early_cuts_are_found() {
        let keys = Keys::new(&Options::fault_free(1, 4)).unwrap();
        let proof = |digest, signers: &[u32], key_of: fn(u32) -> u32| {
            let checkpoint = Checkpoint { sequence: Sequence(8), digest: Digest([digest; 32]) };
            let statement = Statement::Checkpoint(checkpoint);
            let sign = |signer: &u32| {
                let signer_key = keys.signer(Author::Replica(ReplicaId(key_of(*signer))));
                let id = ReplicaId(*signer);
                (id, signer_key.sign(&statement.preimage(&keys.cluster, id)))
            };
            let signatures = Signatures::raw(signers.iter().map(sign).collect());
            let proof = StableProof { checkpoint, signatures };
            Observation::Stable { replica: ReplicaId(0), proof }
        };
        let mut checker = Checkpoints::new(&keys);
        let cut = Observation::Discarded { replica: ReplicaId(0), below: Sequence(8) };
        assert!(checker.observe(&cut).is_err());
        assert!(checker.observe(&proof(1, &[0, 1, 1], |id| id)).is_err());
        assert!(checker.observe(&proof(1, &[0, 1, 2], |_| 0)).is_err());
        assert!(checker.observe(&proof(1, &[0, 1, 2], |id| id)).is_ok());
        assert!(checker.observe(&proof(2, &[1, 2, 3], |id| id)).is_err());
        assert!(checker.observe(&cut).is_ok());
    }
}
