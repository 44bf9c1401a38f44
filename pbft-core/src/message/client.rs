//! What passes between clients and replicas.

use alloc::string::String;
use alloc::vec::Vec;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

use super::Request;
use super::outcome::{Outcomes, cut};
use crate::crypto::Kind;
use crate::evidence::Subject;
use crate::types::{ClientId, Digest, ReplicaId, RequestNumber, Sequence, Standing, View};
use crate::wire;

/// What a client says to a replica.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ClientMessage {
    /// Order this.
    Request(Request),
    /// Tell me your status.
    Query,
}

/// What a replica says to a client. The channel authenticates the replica; a client believes f + 1.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ReplicaMessage {
    /// What came of a request.
    Reply(Reply),
    /// The replica has no room for the request now; advice to try later, nothing more.
    Busy(RequestNumber),
    /// The answer to a query.
    Report(Report),
}

/// What came of a request as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Executed: one outcome for each operation, in order.
    Executed(Outcomes),
    /// The number lies below the client's window; whether it was ever executed is forgotten.
    Stale,
    /// The number was consumed by other operations; these were not executed and never will be under it.
    NumberUsed,
}

impl Encode for Answer {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            Answer::Executed(outcomes) => {
                0_u8.encode(encoder)?;
                outcomes.encode(encoder)
            }
            Answer::Stale => 1_u8.encode(encoder),
            Answer::NumberUsed => 2_u8.encode(encoder),
        }
    }
}

impl<Context> Decode<Context> for Answer {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u8::decode(decoder)? {
            0 => Ok(Answer::Executed(Outcomes::decode(decoder)?)),
            1 => Ok(Answer::Stale),
            2 => Ok(Answer::NumberUsed),
            _ => Err(wire::malformed()),
        }
    }
}
wire::borrow_decode!(Answer);

/// A replica's answer to a request. A client compares everything but `view`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Reply {
    /// Whose request.
    pub client: ClientId,
    /// Which number.
    pub number: RequestNumber,
    /// Identity of the request answered.
    pub digest: Digest,
    /// What came of it.
    pub answer: Answer,
    /// The view the replica is in: a hint about the primary, believed on f + 1 reports.
    pub view: View,
}

/// Words for people, at most [`Text::BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Text(String);

impl Text {
    /// The most bytes of it.
    pub const BYTES_MAX: usize = 256;

    /// The words, cut at [`Text::BYTES_MAX`].
    pub fn new(words: &str) -> Self {
        Text(String::from(cut(words, Self::BYTES_MAX)))
    }

    /// The words.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Encode for Text {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        wire::encode_blob(self.0.as_bytes(), encoder)
    }
}

impl<Context> Decode<Context> for Text {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let bytes = wire::decode_blob(decoder)?;
        match core::str::from_utf8(&bytes) {
            Ok(words) if words.len() <= Self::BYTES_MAX => Ok(Text(String::from(words))),
            _ => Err(wire::malformed()),
        }
    }
}
wire::borrow_decode!(Text);

/// Whom a replica has convicted, and of what: at most [`Convictions::MAX`] subjects, each once, in order.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Convictions(Vec<Subject>);

impl Convictions {
    /// The most subjects of it.
    pub const MAX: usize = 16;

    /// What of `subjects` has room: as many of each replica as of any other, so that one that convicts
    /// itself over and over hides nobody.
    pub fn new(subjects: impl IntoIterator<Item = Subject>) -> Self {
        let mut subjects: Vec<Subject> = subjects.into_iter().collect();
        subjects.sort_unstable();
        subjects.dedup();
        let (mut rank, mut last) = (0_usize, None);
        let mut ranked: Vec<(usize, Subject)> = Vec::with_capacity(subjects.len());
        for subject in subjects {
            rank = if last == Some(subject.replica) { rank + 1 } else { 0 };
            last = Some(subject.replica);
            ranked.push((rank, subject));
        }
        ranked.sort_unstable();
        ranked.truncate(Self::MAX);
        let mut kept: Vec<Subject> = ranked.into_iter().map(|(_, subject)| subject).collect();
        kept.sort_unstable();
        Convictions(kept)
    }

    /// The subjects, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Subject> {
        self.0.iter()
    }
}

/// The kinds of which evidence can be.
const CONVICTING: [Kind; 6] = [
    Kind::PrePrepare,
    Kind::Prepare,
    Kind::Commit,
    Kind::Checkpoint,
    Kind::ViewChange,
    Kind::NewView,
];

/// Bytes of one subject: replica, kind, view, sequence.
const SUBJECT_BYTES: usize = 4 + 1 + 8 + 8;

impl Encode for Convictions {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        wire::encode_count(self.0.len(), encoder)?;
        for Subject { replica, kind, view, sequence } in &self.0 {
            replica.encode(encoder)?;
            (*kind as u8).encode(encoder)?;
            view.encode(encoder)?;
            sequence.encode(encoder)?;
        }
        Ok(())
    }
}

impl<Context> Decode<Context> for Convictions {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let count = wire::decode_count(decoder, SUBJECT_BYTES)?;
        if count > Self::MAX {
            return Err(wire::malformed());
        }
        let mut subjects: Vec<Subject> = Vec::with_capacity(count);
        for _ in 0..count {
            let replica = ReplicaId::decode(decoder)?;
            let number = u8::decode(decoder)?;
            let kind = CONVICTING.into_iter().find(|kind| *kind as u8 == number);
            let kind = kind.ok_or_else(wire::malformed)?;
            let (view, sequence) = (View::decode(decoder)?, Sequence::decode(decoder)?);
            let subject = Subject { replica, kind, view, sequence };
            // Ascending, so that one list has one encoding.
            if subjects.last().is_some_and(|last| *last >= subject) {
                return Err(wire::malformed());
            }
            subjects.push(subject);
        }
        Ok(Convictions(subjects))
    }
}
wire::borrow_decode!(Convictions);

/// A replica's status for people and tools.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Report {
    /// Who reports.
    pub replica: ReplicaId,
    /// The view it is in.
    pub view: View,
    /// Whether it is between views.
    pub in_view_change: bool,
    /// The last slot it executed.
    pub last_executed: Sequence,
    /// Its last stable checkpoint.
    pub stable_checkpoint: Sequence,
    /// Digest of the whole replicated state after `last_executed`.
    pub state_digest: Digest,
    /// How many views it has entered since it started.
    pub view_changes: u64,
    /// Why it left a view last; empty if it never did.
    pub view_change_cause: Text,
    /// Whether it is fetching the state of a stable checkpoint.
    pub transferring: bool,
    /// Whether it votes, and if not, why.
    pub standing: Standing,
    /// How many pieces of evidence it holds.
    pub evidence: u64,
    /// Whom it convicts, and of what; not all, if there are many.
    pub convictions: Convictions,
    /// Version of its software: major, minor, patch.
    pub version: [u16; 3],
}
