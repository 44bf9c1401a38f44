use alloc::vec;

use super::*;
use crate::limits::Constants;
use crate::testing::World;

#[test]
fn operations_come_out_as_they_went_in() {
    let list = [&b"a"[..], b"", b"long enough"];
    let operations = Operations::new(list).unwrap();
    assert_eq!(operations.iter().collect::<Vec<_>>(), list);
    assert_eq!(operations.count(), 3);
    assert!(Operations::new(Vec::<Vec<u8>>::new()).is_none());
}

#[test]
fn a_refusal_is_cut_between_characters() {
    let words = "é".repeat(200);
    let reason = Refusal::new(1, &words).reason();
    assert_eq!((reason.len(), reason.chars().all(|c| c == 'é')), (256, true));
    let words = alloc::format!("x{words}");
    assert_eq!(Refusal::new(1, &words).reason().len(), 255);
}

#[test]
fn a_set_holds_replicas_up_to_its_width_and_no_others() {
    let set: ReplicaSet = [0, 127, 128, u32::MAX].into_iter().map(ReplicaId).collect();
    let held = [0, 1, 127, 128, u32::MAX].map(|id| set.contains(ReplicaId(id)));
    assert_eq!(held, [true, false, true, false, false]);
}

#[test]
fn sizes_are_those_of_the_encoding() {
    let world = World::new(4);
    let requests = vec![world.request(0, 1), world.request_for(1, 2, &[0; 1000])];
    for request in &requests {
        assert_eq!(wire::encode_bare(request).len(), request.wire_bytes());
        let alone = Batch::new(WallTime(1), vec![request.clone()]);
        assert_eq!(alone.wire_bytes(), RequestBody::batch_bytes(request.operations()));
    }
    let batch = Batch::new(WallTime(1), requests);
    assert_eq!(wire::encode_bare(&batch).len(), batch.wire_bytes());
    let empty = Operations::new([b""]).unwrap();
    let overhead = usize::try_from(Constants::REQUEST_OVERHEAD_BYTES).unwrap();
    assert_eq!(RequestBody::batch_bytes(&empty), overhead);
}
