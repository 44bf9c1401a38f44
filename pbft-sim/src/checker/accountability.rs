//! INV13: when more than f traitors have broken agreement, what correct replicas kept convicts at least
//! f + 1 of them and nobody else (PITFALLS L9).

use std::collections::BTreeSet;

use pbft_core::evidence::{Evidence, convict};
use pbft_core::message::Signed;
use pbft_core::types::ReplicaId;

use super::Violation;
use crate::keys::Keys;

/// Judges what `kept`, the statements of all correct replicas, proves after a fork.
pub(crate) fn judge(
    keys: &Keys,
    traitors: &BTreeSet<ReplicaId>,
    kept: &[Signed],
) -> (BTreeSet<ReplicaId>, Option<Violation>) {
    let proofs = convict(kept);
    let holds = |it: &&Evidence| it.convicts(&keys.cluster, &*keys.verifier);
    let convicted: BTreeSet<ReplicaId> =
        proofs.iter().filter(holds).map(|it| it.subject().replica).collect();
    let needed = keys.cluster.join();
    let wrong = |detail| Some(Violation { property: "INV13 accountability", detail });
    let violation = if convicted.len() != proofs.len() {
        wrong(format!("{} of {} proofs do not hold", proofs.len() - convicted.len(), proofs.len()))
    } else if !convicted.is_subset(traitors) {
        wrong(format!("convicted {convicted:?}, traitors {traitors:?}"))
    } else if convicted.len() < needed {
        wrong(format!("a fork convicts only {convicted:?}, fewer than {needed}"))
    } else {
        None
    };
    (convicted, violation)
}
