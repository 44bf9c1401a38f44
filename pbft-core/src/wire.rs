//! The codec: bounded, canonical, and the only place that knows which library encodes.
//!
//! Fixed-width little-endian integers, lists and byte strings behind a 32-bit count, enums behind a
//! 32-bit index. Every value has exactly one encoding and every frame starts with the wire version.
//! Lengths that a peer sends are compared with the bytes at hand before anything is allocated
//! (PITFALLS I8, I9); `docs/wire.md` draws the layout, golden bytes in the tests pin it.

use alloc::vec::Vec;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::de::read::Reader;
use bincode::de::{Decode, Decoder};
use bincode::enc::write::{SizeWriter, Writer};
use bincode::enc::{Encode, Encoder, EncoderImpl};
use bincode::error::{DecodeError, EncodeError};
use bytes::Bytes;

use crate::limits::FRAME_BYTES_MAX;

/// Version of the wire format, part of every frame, every signature and the ALPN protocol names.
pub const VERSION: u16 = 1;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<FRAME_BYTES_MAX>> =
    bincode::config::standard()
        .with_little_endian()
        .with_fixed_int_encoding()
        .with_limit::<FRAME_BYTES_MAX>();

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The frame is longer than the bound.
    #[error("frame longer than {FRAME_BYTES_MAX} bytes")]
    Oversized,
    /// The frame was made by another version of the wire format.
    #[error("wire version {0}, expected {VERSION}")]
    Version(u16),
    /// The frame ends before the message does.
    #[error("frame ends early")]
    Truncated,
    /// Bytes follow the message.
    #[error("bytes after the end of the message")]
    Trailing,
    /// A count, length or tag that no encoder writes.
    #[error("malformed message")]
    Malformed,
}

/// Encodes `value` as a frame, wire version first.
pub fn encode<T: Encode>(value: &T) -> Bytes {
    let version = VERSION.to_le_bytes();
    let mut frame = Vec::with_capacity(version.len() + bytes_of(value));
    frame.extend_from_slice(&version);
    append(&mut frame, value);
    Bytes::from(frame)
}

/// Encodes `value` without the version, for digests and signatures.
pub fn encode_bare<T: Encode>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(bytes_of(value));
    append(&mut bytes, value);
    bytes
}

/// Decodes a frame whole: right version, nothing missing, nothing left over.
///
/// # Errors
/// What is wrong with the frame. No input panics or allocates more than a small multiple of its length.
pub fn decode<T: Decode<()>>(frame: &[u8]) -> Result<T, WireError> {
    if frame.len() > FRAME_BYTES_MAX {
        return Err(WireError::Oversized);
    }
    let (version, body) = frame.split_first_chunk::<2>().ok_or(WireError::Truncated)?;
    let version = u16::from_le_bytes(*version);
    if version != VERSION {
        return Err(WireError::Version(version));
    }
    decode_bare(body)
}

/// Version of what a replica writes into its own store, apart from the wire: a store outlives a connection.
pub const STORED_VERSION: u8 = 1;

/// Why bytes from a store are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// Another version wrote them.
    #[error("stored version {0}, expected {STORED_VERSION}")]
    Version(u8),
    /// They are not what any version writes.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Encodes `value` for the replica's own store, its version first.
pub fn encode_stored<T: Encode>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_stored_to(&mut bytes, value);
    bytes
}

/// The same in memory that is there already, in place of what it holds.
pub fn encode_stored_to<T: Encode>(bytes: &mut Vec<u8>, value: &T) {
    bytes.clear();
    bytes.push(STORED_VERSION);
    append(bytes, value);
}

/// Decodes what [`encode_stored`] wrote: right version, nothing missing, nothing left over.
///
/// # Errors
/// What is wrong with the bytes. No input panics or allocates more than a small multiple of its length.
pub fn decode_stored<T: Decode<()>>(bytes: &[u8]) -> Result<T, StoredError> {
    if bytes.len() > FRAME_BYTES_MAX {
        return Err(WireError::Oversized.into());
    }
    match bytes.split_first().ok_or(WireError::Truncated)? {
        (&STORED_VERSION, body) => Ok(decode_bare(body)?),
        (version, _) => Err(StoredError::Version(*version)),
    }
}

/// Decodes what [`encode_bare`] wrote.
///
/// # Errors
/// As [`decode`].
pub fn decode_bare<T: Decode<()>>(body: &[u8]) -> Result<T, WireError> {
    match bincode::decode_from_slice::<T, _>(body, CONFIG) {
        Ok((value, used)) if used == body.len() => Ok(value),
        Ok(_) => Err(WireError::Trailing),
        Err(DecodeError::UnexpectedEnd { .. }) => Err(WireError::Truncated),
        Err(_) => Err(WireError::Malformed),
    }
}

struct Appender<'a>(&'a mut Vec<u8>);

impl Writer for Appender<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Makes room for an item of `bytes` in `packed`, and when there is none for as many `more` of its size, within reason:
/// the items of a list are mostly of one size. [`settle`] gives back what was not needed.
pub(crate) fn reserve(packed: &mut Vec<u8>, bytes: usize, more: usize) {
    const AHEAD_BYTES_MAX: usize = 64 * 1024;
    if packed.capacity().saturating_sub(packed.len()) < bytes {
        let ahead = bytes.saturating_mul(more).min(AHEAD_BYTES_MAX);
        packed.reserve(bytes.saturating_add(ahead));
    }
}

/// `packed` for keeping: a list whose items were of one size after all is not copied, and any other takes at most twice
/// the memory that it needs.
pub(crate) fn settle(mut packed: Vec<u8>) -> Bytes {
    if packed.capacity() > packed.len().saturating_mul(2) {
        packed.shrink_to_fit();
    }
    packed.into()
}

/// How many bytes `value` takes.
fn bytes_of<T: Encode>(value: &T) -> usize {
    let mut encoder = EncoderImpl::new(SizeWriter::default(), CONFIG);
    let outcome = value.encode(&mut encoder);
    debug_assert!(outcome.is_ok(), "encoding failed: {outcome:?}");
    encoder.into_writer().bytes_written
}

fn append<T: Encode>(bytes: &mut Vec<u8>, value: &T) {
    let outcome = bincode::encode_into_writer(value, Appender(bytes), CONFIG);
    // Writing to memory cannot fail, and our own encoders return errors only from the writer.
    debug_assert!(outcome.is_ok(), "encoding failed: {outcome:?}");
}

/// The error our own decoders return for a value that no encoder writes.
pub(crate) fn malformed() -> DecodeError {
    DecodeError::Other("malformed")
}

fn need<D: Decoder>(decoder: &mut D, bytes: usize) -> Result<(), DecodeError> {
    if decoder.reader().peek_read(bytes).is_some() {
        Ok(())
    } else {
        Err(DecodeError::UnexpectedEnd { additional: bytes })
    }
}

pub(crate) fn encode_count<E: Encoder>(count: usize, encoder: &mut E) -> Result<(), EncodeError> {
    u32::try_from(count).unwrap_or(u32::MAX).encode(encoder)
}

/// Reads a count of items that each take at least `bytes_each`, refusing one that the bytes at hand cannot hold.
pub(crate) fn decode_count<D: Decoder>(
    decoder: &mut D,
    bytes_each: usize,
) -> Result<usize, DecodeError> {
    let count = usize::try_from(u32::decode(decoder)?).map_err(|_| malformed())?;
    need(decoder, count.checked_mul(bytes_each).ok_or_else(malformed)?)?;
    Ok(count)
}

pub(crate) fn encode_list<T: Encode, E: Encoder>(
    list: &[T],
    encoder: &mut E,
) -> Result<(), EncodeError> {
    encode_count(list.len(), encoder)?;
    list.iter().try_for_each(|item| item.encode(encoder))
}

/// Reads a list of items that each take at least `bytes_each` (not 0).
pub(crate) fn decode_list<T: Decode<D::Context>, D: Decoder>(
    decoder: &mut D,
    bytes_each: usize,
) -> Result<Vec<T>, DecodeError> {
    let count = decode_count(decoder, bytes_each.max(1))?;
    let mut list = Vec::with_capacity(count);
    for _ in 0..count {
        list.push(T::decode(decoder)?);
    }
    Ok(list)
}

pub(crate) fn encode_blob<E: Encoder>(blob: &[u8], encoder: &mut E) -> Result<(), EncodeError> {
    encode_count(blob.len(), encoder)?;
    encoder.writer().write(blob)
}

pub(crate) fn decode_blob<D: Decoder>(decoder: &mut D) -> Result<Bytes, DecodeError> {
    let length = decode_count(decoder, 1)?;
    decoder.claim_bytes_read(length)?;
    let reader = decoder.reader();
    let bytes = reader.peek_read(length).map(Bytes::copy_from_slice).ok_or_else(malformed)?;
    reader.consume(length);
    Ok(bytes)
}

/// Gives a type whose `Decode` is written by hand the `BorrowDecode` that derives around it ask for.
macro_rules! borrow_decode {
    ($type:ty) => {
        impl<'de, Context> bincode::BorrowDecode<'de, Context> for $type {
            fn borrow_decode<D: bincode::de::BorrowDecoder<'de, Context = Context>>(
                decoder: &mut D,
            ) -> Result<Self, bincode::error::DecodeError> {
                bincode::Decode::decode(decoder)
            }
        }
    };
}
pub(crate) use borrow_decode;

/// A byte string of a message that is defined outside this crate: a count of bytes, and the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Blob(pub Bytes);

impl Encode for Blob {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        encode_blob(&self.0, encoder)
    }
}

impl<Context> Decode<Context> for Blob {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        decode_blob(decoder).map(Blob)
    }
}
borrow_decode!(Blob);

#[cfg(test)]
#[path = "wire_test.rs"]
mod tests;
