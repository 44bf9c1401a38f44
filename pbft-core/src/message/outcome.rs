//! What came of operations: of each one, and of all of one request in one piece.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use bincode::de::Decoder;
use bincode::de::read::Reader;
use bincode::enc::Encoder;
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use bytes::Bytes;

use crate::wire;

/// Why an application refused an operation: an outcome like any other, the same on every replica.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Refusal {
    code: u32,
    reason: Vec<u8>,
}

impl Refusal {
    /// A refusal with a code of the application's own and words for people, which are cut after
    /// [`crate::limits::REFUSAL_BYTES_MAX`] bytes.
    pub fn new(code: u32, reason: &str) -> Self {
        Refusal { code, reason: cut(reason, crate::limits::REFUSAL_BYTES_MAX).as_bytes().to_vec() }
    }

    /// The application's code.
    pub fn code(&self) -> u32 {
        self.code
    }

    /// The application's words.
    pub fn reason(&self) -> String {
        String::from_utf8_lossy(&self.reason).into_owned()
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "refusal {}: {}", self.code, self.reason())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.reason())
    }
}

/// What came of one operation, the same on every correct replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The application's result.
    Done(Bytes),
    /// The application refused; nothing was done.
    Refused(Refusal),
    /// The operation was executed, but its result exceeded the results bound of the request.
    ResultTooLong,
}

const DONE: u8 = 0;
const REFUSED: u8 = 1;
const RESULT_TOO_LONG: u8 = 2;

impl Outcome {
    fn packed_bytes(&self) -> usize {
        match self {
            Outcome::Done(result) => 5 + result.len(),
            Outcome::Refused(refusal) => 9 + refusal.reason.len(),
            Outcome::ResultTooLong => 1,
        }
    }

    fn append(&self, packed: &mut Vec<u8>) {
        let blob = |packed: &mut Vec<u8>, bytes: &[u8]| {
            // An operation's result is far below 2^32 bytes: it fits the bound on results.
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            packed.extend_from_slice(&length.to_le_bytes());
            packed.extend_from_slice(bytes);
        };
        match self {
            Outcome::Done(result) => {
                packed.push(DONE);
                blob(packed, result);
            }
            Outcome::Refused(refusal) => {
                packed.push(REFUSED);
                packed.extend_from_slice(&refusal.code.to_le_bytes());
                blob(packed, &refusal.reason);
            }
            Outcome::ResultTooLong => packed.push(RESULT_TOO_LONG),
        }
    }
}

impl Encode for Outcome {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let mut packed = Vec::new();
        self.append(&mut packed);
        encoder.writer().write(&packed)
    }
}

impl<Context> Decode<Context> for Outcome {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let mut packed = Vec::new();
        copy_outcome(decoder, &mut packed)?;
        next(&mut packed.into()).ok_or_else(wire::malformed)
    }
}
wire::borrow_decode!(Outcome);

/// What came of each operation of a request, in order, kept in one piece as it goes over the wire: making,
/// sending, comparing and keeping it costs one copy, however many operations there were.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Outcomes {
    /// Invariant: `count` outcomes as [`Outcome::append`] writes them, and nothing else.
    packed: Bytes,
    count: u32,
}

impl Outcomes {
    /// How many there are.
    pub fn len(&self) -> usize {
        usize::try_from(self.count).unwrap_or(usize::MAX)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The outcomes in order. Results share the memory of all.
    pub fn iter(&self) -> impl Iterator<Item = Outcome> + use<> {
        let mut rest = self.packed.clone();
        core::iter::from_fn(move || next(&mut rest))
    }
}

/// Takes the first outcome off; `None` at the end.
fn next(rest: &mut Bytes) -> Option<Outcome> {
    let take = |rest: &mut Bytes, count: usize| (count <= rest.len()).then(|| rest.split_to(count));
    let word = |rest: &mut Bytes| {
        let bytes = take(rest, 4)?;
        Some(u32::from_le_bytes(bytes.as_ref().try_into().ok()?))
    };
    let blob = |rest: &mut Bytes| {
        let length = usize::try_from(word(rest)?).ok()?;
        take(rest, length)
    };
    match *take(rest, 1)?.first()? {
        DONE => Some(Outcome::Done(blob(rest)?)),
        REFUSED => {
            let code = word(rest)?;
            Some(Outcome::Refused(Refusal { code, reason: blob(rest)?.to_vec() }))
        }
        _ => Some(Outcome::ResultTooLong),
    }
}

impl FromIterator<Outcome> for Outcomes {
    fn from_iter<I: IntoIterator<Item = Outcome>>(outcomes: I) -> Self {
        let mut outcomes = outcomes.into_iter();
        let (mut packed, mut count) = (Vec::new(), 0_u32);
        while let Some(outcome) = outcomes.next() {
            wire::reserve(&mut packed, outcome.packed_bytes(), outcomes.size_hint().0);
            outcome.append(&mut packed);
            count = count.saturating_add(1);
        }
        Outcomes { packed: wire::settle(packed), count }
    }
}

impl fmt::Debug for Outcomes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

impl Encode for Outcomes {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.count.encode(encoder)?;
        encoder.writer().write(&self.packed)
    }
}

impl<Context> Decode<Context> for Outcomes {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        // Grows with the bytes that are there, never by the count that is claimed.
        let count = wire::decode_count(decoder, 1)?;
        let mut packed = Vec::new();
        for _ in 0..count {
            copy_outcome(decoder, &mut packed)?;
        }
        let count = u32::try_from(count).map_err(|_| wire::malformed())?;
        Ok(Outcomes { packed: packed.into(), count })
    }
}
wire::borrow_decode!(Outcomes);

/// Copies the next outcome, if it is one.
fn copy_outcome<D: Decoder>(decoder: &mut D, packed: &mut Vec<u8>) -> Result<(), DecodeError> {
    let tag = *copy(decoder, 1, packed)?.first().ok_or_else(wire::malformed)?;
    let most = match tag {
        DONE => usize::MAX,
        REFUSED => {
            copy(decoder, 4, packed)?;
            crate::limits::REFUSAL_BYTES_MAX
        }
        RESULT_TOO_LONG => return Ok(()),
        _ => return Err(wire::malformed()),
    };
    let length = copy(decoder, 4, packed)?.try_into().map_err(|_| wire::malformed())?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > most {
        return Err(wire::malformed());
    }
    copy(decoder, length, packed)?;
    Ok(())
}

/// Copies the next `length` bytes, if they are there, and returns the copy.
fn copy<'a, D: Decoder>(
    decoder: &mut D,
    length: usize,
    packed: &'a mut Vec<u8>,
) -> Result<&'a [u8], DecodeError> {
    decoder.claim_bytes_read(length)?;
    let start = packed.len();
    let bytes = decoder.reader().peek_read(length);
    packed.extend_from_slice(bytes.ok_or(DecodeError::UnexpectedEnd { additional: length })?);
    decoder.reader().consume(length);
    Ok(packed.get(start..).unwrap_or_default())
}

/// The beginning of `words`, whole characters in at most `bytes_max` bytes.
pub(super) fn cut(words: &str, bytes_max: usize) -> &str {
    let mut end = words.len().min(bytes_max);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    words.get(..end).unwrap_or_default()
}
