//! What a review found about the journal's file.

use std::path::Path;
use std::sync::Arc;

use pbft_core::message::Checkpoint;
use pbft_core::replica::Record;
use pbft_core::types::{Digest, ReplicaId, Sequence, WriteId};

use super::super::faulty::Faulty;
use super::*;

/// Where each of the two commit slots keeps its number, and which byte says which is the current one.
const NUMBERS: [usize; 2] = [64 + 104, 64 + 128 + 104];
const FLAGS: usize = 9;

fn open(medium: Arc<Faulty>) -> Result<(Journal, Vec<Record>), StorageError> {
    Journal::open(Path::new("journal"), medium, ReplicaId(1), Digest([3; 32]))
}

/// A bit of the number of the last commit rots: it then looks older than the one before it.
#[test]
fn h4_a_rotten_number_takes_no_commit_back() {
    let medium = Arc::new(Faulty::new());
    let about = About { replica: ReplicaId(1), cluster: Digest([3; 32]), runs: 0 };
    Journal::create(Path::new("journal"), Arc::clone(&medium) as Arc<dyn Medium>, &about, &[])
        .unwrap();
    let (mut journal, _) = open(Arc::clone(&medium)).unwrap();
    let mut taken_back = Vec::new();
    for slot in 1..40 {
        let digest = Digest([7; 32]);
        journal.append(
            WriteId(slot),
            Record::Checkpoint(Checkpoint { sequence: Sequence(slot), digest }),
        );
        journal.commit().unwrap();
        let bytes = medium.bytes();
        let current = usize::from(bytes[FLAGS] & 1);
        for bit in 0..16 {
            let mut rotten = bytes.clone();
            rotten[NUMBERS[current] + bit / 8] ^= 1 << (bit % 8);
            if let Ok((_, records)) = open(Arc::new(Faulty::with(&rotten)))
                && records.len() < usize::try_from(slot).unwrap()
            {
                taken_back.push((slot, bit, records.len()));
            }
        }
    }
    assert!(taken_back.is_empty(), "{taken_back:?}");
}
