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
}

#[test]
fn an_empty_frame_is_refused() {
    assert_eq!(FrameDecoder::new(9).next(&mut &[0; 4][..]), Err(FrameError::Empty));
}
