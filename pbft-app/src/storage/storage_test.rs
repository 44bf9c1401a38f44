use pbft_core::certificate::{Signatures, StableProof};
use pbft_core::message::Checkpoint;
use pbft_core::types::Digest;

use super::*;

#[test]
fn discarding_keeps_the_proof_it_hangs_from() {
    let mut storage = MemoryStorage::new();
    let checkpoint = Checkpoint { sequence: Sequence(4), digest: Digest([1; 32]) };
    let proof = StableProof { checkpoint, signatures: Signatures::default() };
    storage.append(WriteId(1), Record::Checkpoint(checkpoint));
    storage.append(WriteId(2), Record::Stable(proof));
    assert_eq!(storage.commit().unwrap().last, WriteId(2));
    storage.discard(Sequence(4));
    assert_eq!(storage.len(), 1);
    storage.discard(Sequence(5));
    assert!(storage.is_empty());
}
