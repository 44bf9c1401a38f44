use super::*;

fn encoded(frames: &[&[u8]]) -> Vec<u8> {
    frames.iter().flat_map(|frame| [&prefix(frame).unwrap(), *frame].concat()).collect()
}

#[test]
fn frames_survive_every_way_of_cutting_the_stream() {
    let frames: [&[u8]; 3] = [b"a", b"bcdefghij", &[7; 300]];
    let stream = encoded(&frames);
    for size in 1..=stream.len() {
        let mut decoder = FrameDecoder::new(300);
        let mut seen = Vec::new();
        for mut piece in stream.chunks(size) {
            while let Some(frame) = decoder.next(&mut piece).unwrap() {
                seen.push(frame);
            }
        }
        assert_eq!(seen, frames);
        assert!(!decoder.is_partial());
    }
}

#[test]
fn a_promise_above_the_limit_allocates_nothing() {
    let mut decoder = FrameDecoder::new(1000);
    let result = decoder.next(&mut &[0xff, 0xff, 0xff, 0xff, 1][..]);
    assert_eq!(result, Err(FrameError::TooLong(u32::MAX, 1000)));
    assert_eq!(decoder.body.capacity(), 0);
}

#[test]
fn a_promise_within_the_limit_allocates_little_until_it_is_kept() {
    let mut decoder = FrameDecoder::new(1 << 30);
    let mut input = &[&(1_u32 << 29).to_le_bytes()[..], b"x"].concat()[..];
    assert_eq!(decoder.next(&mut input), Ok(None));
    assert!(decoder.is_partial() && decoder.body.capacity() <= CAPACITY_FIRST);
    for size in [1, 1000, 60_000, 200_000, 3, 1_000_000, 5] {
        assert_eq!(decoder.next(&mut &vec![7; size][..]), Ok(None));
        let (room, arrived) = (decoder.body.capacity(), decoder.body.len());
        assert!(room <= CAPACITY_FIRST.max(GROWTH * arrived), "{room} for {arrived}");
    }
}

#[test]
fn a_long_frame_ends_up_in_as_much_memory_as_it_needs() {
    let mut decoder = FrameDecoder::new(1 << 30);
    let stream = encoded(&[&[7; 500_000]]);
    for mut piece in stream.chunks(6500) {
        let frame = decoder.next(&mut piece).unwrap();
        assert_eq!(frame.is_some(), !decoder.is_partial());
        assert!(decoder.body.capacity() <= 500_000);
    }
}

#[test]
fn an_empty_frame_is_refused() {
    assert_eq!(FrameDecoder::new(9).next(&mut &[0; 4][..]), Err(FrameError::Empty));
}
