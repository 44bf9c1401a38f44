//! Frames on a stream: a u32 little-endian length, then that many bytes, at least one.

use bytes::Bytes;

/// Bytes of the length prefix.
pub(crate) const PREFIX_BYTES: usize = 4;

/// Memory set aside for a frame before any of it has arrived. A prefix may promise megabytes; the
/// buffer then grows with what is really sent.
const CAPACITY_FIRST: usize = 64 * 1024;
/// At most so many times what has arrived is set aside: what has arrived is copied at each growth.
const GROWTH: usize = 4;

/// Why a byte stream is not a stream of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// The length prefix is above the limit: length, limit.
    TooLong(u32, usize),
    /// The length prefix is zero.
    Empty,
}

/// Cuts a byte stream, fed in arbitrary pieces, into frames.
#[derive(Debug)]
pub(crate) struct FrameDecoder {
    frame_bytes_max: usize,
    prefix: [u8; PREFIX_BYTES],
    prefix_filled: usize,
    /// Bytes still missing from the frame whose prefix is complete; 0 between two frames.
    missing: usize,
    body: Vec<u8>,
}

impl FrameDecoder {
    pub(crate) fn new(frame_bytes_max: usize) -> Self {
        let prefix = [0; PREFIX_BYTES];
        Self { frame_bytes_max, prefix, prefix_filled: 0, missing: 0, body: Vec::new() }
    }

    pub(crate) fn set_frame_bytes_max(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
    }

    /// Whether a frame has begun and is not complete.
    pub(crate) fn is_partial(&self) -> bool {
        self.prefix_filled > 0
    }

    /// The next frame in `input`, which advances past the bytes used. `None` when `input` is used up.
    pub(crate) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Bytes>, FrameError> {
        while self.missing == 0 {
            let Some((byte, rest)) = input.split_first() else {
                return Ok(None);
            };
            *input = rest;
            if let Some(slot) = self.prefix.get_mut(self.prefix_filled) {
                *slot = *byte;
            }
            self.prefix_filled += 1;
            if self.prefix_filled == PREFIX_BYTES {
                self.begin(u32::from_le_bytes(self.prefix))?;
            }
        }
        let (part, rest) = input.split_at(self.missing.min(input.len()));
        *input = rest;
        // Copied, never sliced: a slice would keep the whole received datagram batch, up to 64 KiB,
        // alive for as long as the consumer keeps one small vote.
        if self.body.capacity() - self.body.len() < part.len() {
            let room = (self.body.len() * (GROWTH - 1)).max(part.len());
            self.body.reserve_exact(room.min(self.missing));
        }
        self.body.extend_from_slice(part);
        self.missing -= part.len();
        if self.missing > 0 {
            return Ok(None);
        }
        self.prefix_filled = 0;
        Ok(Some(Bytes::from(std::mem::take(&mut self.body))))
    }

    /// The length is judged before a byte is allocated for it.
    fn begin(&mut self, length: u32) -> Result<(), FrameError> {
        let too_long = FrameError::TooLong(length, self.frame_bytes_max);
        let bytes = usize::try_from(length).map_err(|_| too_long)?;
        if bytes == 0 {
            return Err(FrameError::Empty);
        }
        if bytes > self.frame_bytes_max {
            return Err(too_long);
        }
        self.body = Vec::with_capacity(bytes.min(CAPACITY_FIRST));
        self.missing = bytes;
        Ok(())
    }
}

/// The prefix of a frame, or `None` if its length does not fit one.
pub(crate) fn prefix(frame: &[u8]) -> Option<[u8; PREFIX_BYTES]> {
    u32::try_from(frame.len()).ok().map(u32::to_le_bytes)
}

#[cfg(test)]
#[path = "frame_test.rs"]
mod tests;
