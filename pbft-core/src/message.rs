//! What replicas and clients say to one another.
//!
//! A [`Statement`] is what a replica signs; [`Signed`] is the statement with its signature. A [`Message`]
//! is what crosses the network between replicas: a signed statement, or something that carries its own
//! proof. Between clients and replicas pass [`ClientMessage`] and [`ReplicaMessage`].

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use bytes::Bytes;

use crate::certificate::{CommitCertificate, StableProof};
use crate::cluster::Cluster;
use crate::crypto::{Author, Hasher, Kind, Signer, preimage};
use crate::evidence::Evidence;
use crate::transfer::{Ask, Part};
use crate::types::{
    ClientId, Digest, ReplicaId, RequestNumber, Sequence, Signature, View, WallTime,
};
use crate::wire;

mod client;
mod outcome;
mod view;

pub use client::{Answer, ClientMessage, Convictions, ReplicaMessage, Reply, Report, Text};
pub use outcome::{Outcome, Outcomes, Refusal};
pub use view::{BodyName, Fetch, NewView, SignedViewChange, ViewChange};

/// One or more operations of one client, in order, in one packed buffer.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Operations {
    packed: Bytes,
    count: u32,
}

impl Operations {
    /// Packs `operations`, which must not be empty.
    ///
    /// Returns `None` if there are none, or if they exceed 2^32 bytes together.
    pub fn new<T: AsRef<[u8]>>(operations: impl IntoIterator<Item = T>) -> Option<Self> {
        let mut operations = operations.into_iter();
        let mut packed = Vec::new();
        let mut count = 0_u32;
        while let Some(operation) = operations.next() {
            let operation = operation.as_ref();
            wire::reserve(&mut packed, 4 + operation.len(), operations.size_hint().0);
            packed.extend_from_slice(&u32::try_from(operation.len()).ok()?.to_le_bytes());
            packed.extend_from_slice(operation);
            count = count.checked_add(1)?;
        }
        u32::try_from(packed.len()).ok()?;
        (count > 0).then(|| Operations { packed: wire::settle(packed), count })
    }

    /// How many there are; at least 1.
    pub fn count(&self) -> usize {
        usize::try_from(self.count).unwrap_or(usize::MAX)
    }

    /// Their packed length in bytes: four bytes of length before each.
    pub fn packed_bytes(&self) -> usize {
        self.packed.len()
    }

    /// The operations in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let mut rest: &[u8] = &self.packed;
        (0..self.count()).map(move |_| {
            let (operation, after) = split_operation(rest).unwrap_or_default();
            rest = after;
            operation
        })
    }
}

fn split_operation(packed: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = packed.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

impl fmt::Debug for Operations {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} operations, {} bytes", self.count, self.packed.len())
    }
}

impl Encode for Operations {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        wire::encode_blob(&self.packed, encoder)
    }
}

impl<Context> Decode<Context> for Operations {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let packed = wire::decode_blob(decoder)?;
        let mut rest: &[u8] = &packed;
        let mut count = 0_u32;
        while !rest.is_empty() {
            let (_, after) = split_operation(rest).ok_or_else(wire::malformed)?;
            rest = after;
            count = count.checked_add(1).ok_or_else(wire::malformed)?;
        }
        if count == 0 {
            return Err(wire::malformed());
        }
        Ok(Operations { packed, count })
    }
}
wire::borrow_decode!(Operations);

/// A client's operations under its number, before they are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestBody {
    /// Who asks.
    pub client: ClientId,
    /// The client's number for it, never used twice with other operations.
    pub number: RequestNumber,
    /// What is asked.
    pub operations: Operations,
}

impl RequestBody {
    /// Identity: a digest of client, number and operations.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new("request");
        hasher.number(u64::from(self.client.0));
        hasher.number(self.number.0);
        hasher.field(&self.operations.packed);
        hasher.finish()
    }

    /// Bytes a batch of nothing but a request for `operations` takes on the wire.
    pub fn batch_bytes(operations: &Operations) -> usize {
        operations.packed_bytes().saturating_add(REQUEST_BYTES).saturating_add(BATCH_BYTES)
    }

    /// Signs the request. The signature covers the identity, so a long body is hashed once.
    pub fn sign(self, cluster: &Cluster, signer: &dyn Signer) -> Request {
        let digest = self.digest();
        self.sign_as(digest, cluster, signer)
    }

    /// The same for one who has the digest already.
    pub(crate) fn sign_as(self, digest: Digest, cluster: &Cluster, signer: &dyn Signer) -> Request {
        let author = Author::Client(self.client);
        let signature = signer.sign(&preimage(cluster, Kind::Request, author, &digest.0));
        Request { body: self, digest, signature }
    }
}

/// A client's signed request. Its identity is [`Request::digest`], which excludes the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    body: RequestBody,
    digest: Digest,
    signature: Signature,
}

impl Request {
    /// A request with a signature that is not checked here.
    pub fn new(body: RequestBody, signature: Signature) -> Self {
        let digest = body.digest();
        Request { body, digest, signature }
    }

    /// Who asks.
    pub fn client(&self) -> ClientId {
        self.body.client
    }

    /// The client's number for it.
    pub fn number(&self) -> RequestNumber {
        self.body.number
    }

    /// What is asked.
    pub fn operations(&self) -> &Operations {
        &self.body.operations
    }

    /// Identity: a digest of client, number and operations. A second signature over the same makes no
    /// second request (PITFALLS B4).
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The client's signature.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Bytes the request takes on the wire.
    pub fn wire_bytes(&self) -> usize {
        self.body.operations.packed_bytes().saturating_add(REQUEST_BYTES)
    }
}

/// What a request takes on the wire beside its packed operations: client, number, length, signature.
const REQUEST_BYTES: usize = 4 + 8 + 4 + 64;
/// What a batch takes on the wire beside its requests: agreed time, count.
pub(crate) const BATCH_BYTES: usize = 8 + 4;

impl Encode for Request {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.body.client.encode(encoder)?;
        self.body.number.encode(encoder)?;
        self.body.operations.encode(encoder)?;
        self.signature.encode(encoder)
    }
}

impl<Context> Decode<Context> for Request {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let client = ClientId::decode(decoder)?;
        let number = RequestNumber::decode(decoder)?;
        let operations = Operations::decode(decoder)?;
        let signature = Signature::decode(decoder)?;
        Ok(Request::new(RequestBody { client, number, operations }, signature))
    }
}
wire::borrow_decode!(Request);

/// Requests ordered together in one slot, and the time proposed for them.
///
/// The digest covers the client signatures: whoever holds a body whose digest is certified need not look
/// at them again, and a relay cannot spoil it (PROTOCOL section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    time: WallTime,
    requests: Vec<Request>,
    digest: Digest,
}

impl Batch {
    /// A batch of `requests` with the proposed agreed time. Its digest is computed here, never received.
    pub fn new(time: WallTime, requests: Vec<Request>) -> Self {
        let mut hasher = Hasher::new("batch");
        hasher.number(time.0);
        hasher.count(requests.len());
        for request in &requests {
            hasher.fixed(&request.digest.0);
            hasher.fixed(&request.signature.0);
        }
        let digest = hasher.finish();
        Batch { time, requests, digest }
    }

    /// The proposed agreed time.
    pub fn time(&self) -> WallTime {
        self.time
    }

    /// The requests in order.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// What the votes are about.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Bytes the batch takes on the wire.
    pub fn wire_bytes(&self) -> usize {
        self.requests.iter().fold(12, |sum, request| sum.saturating_add(request.wire_bytes()))
    }
}

impl Encode for Batch {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.time.encode(encoder)?;
        wire::encode_list(&self.requests, encoder)
    }
}

impl<Context> Decode<Context> for Batch {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let time = WallTime::decode(decoder)?;
        Ok(Batch::new(time, wire::decode_list(decoder, 84)?))
    }
}
wire::borrow_decode!(Batch);

/// A batch digest at a place in the order, in a view: what PrePrepare, Prepare and Commit say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Vote {
    /// In which view.
    pub view: View,
    /// For which slot.
    pub sequence: Sequence,
    /// For which batch.
    pub digest: Digest,
}

/// The state after a checkpoint slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Checkpoint {
    /// The slot after which the state was taken; a multiple of K.
    pub sequence: Sequence,
    /// Digest of the whole replicated state ([`crate::state`]).
    pub digest: Digest,
}

/// A set of replicas, as a bit map.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct ReplicaSet(u128);

impl ReplicaSet {
    /// Adds a replica; one beyond [`crate::limits::MEMBERS_MAX`] is left out.
    pub fn insert(&mut self, replica: ReplicaId) {
        self.0 |= 1_u128.checked_shl(replica.0).unwrap_or(0);
    }

    /// Whether `replica` is in the set.
    pub fn contains(self, replica: ReplicaId) -> bool {
        self.0 & 1_u128.checked_shl(replica.0).unwrap_or(0) != 0
    }
}

impl FromIterator<ReplicaId> for ReplicaSet {
    fn from_iter<T: IntoIterator<Item = ReplicaId>>(replicas: T) -> Self {
        let mut set = ReplicaSet::default();
        replicas.into_iter().for_each(|replica| set.insert(replica));
        set
    }
}

impl fmt::Debug for ReplicaSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_set()
            .entries((0..128).map(ReplicaId).filter(|&r| self.contains(r)))
            .finish()
    }
}

/// What a replica holds of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Held {
    /// The slot.
    pub sequence: Sequence,
    /// A PrePrepare was accepted.
    pub pre_prepare: bool,
    /// The body of the accepted or committed digest is at hand.
    pub body: bool,
    /// A commit certificate is held.
    pub committed: bool,
    /// Whose Prepare is held.
    pub prepares: ReplicaSet,
    /// Whose Commit is held.
    pub commits: ReplicaSet,
}

/// What a replica holds altogether: a hint that lets others send what it lacks, never proof of anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Status {
    /// The view it is in.
    pub view: View,
    /// The highest view it voted for.
    pub voted_view: View,
    /// The primary of `view` is found slow: f + 1 who say so leave its view together (PITFALLS F1).
    pub slow_primary: bool,
    /// Its last stable checkpoint, h.
    pub stable: Sequence,
    /// The last slot it executed.
    pub executed: Sequence,
    /// Whose Checkpoint above h it holds, for the lowest checkpoint slot above h.
    pub checkpoints: ReplicaSet,
    /// Whose ViewChange for a view above its active one it holds, and for which view; ascending by sender.
    pub view_changes: Vec<(ReplicaId, View)>,
    /// The slots it holds anything of and has not executed, ascending.
    pub slots: Vec<Held>,
    /// It has lost its store and asks to be answered with this (PROTOCOL section 9).
    pub asks: Option<WallTime>,
    /// What others ask to be answered with, ascending by asker.
    pub answers: Vec<(ReplicaId, WallTime)>,
}

impl Encode for Status {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (self.view, self.voted_view, self.slow_primary).encode(encoder)?;
        (self.stable, self.executed).encode(encoder)?;
        self.checkpoints.encode(encoder)?;
        wire::encode_list(&self.view_changes, encoder)?;
        wire::encode_list(&self.slots, encoder)?;
        self.asks.encode(encoder)?;
        wire::encode_list(&self.answers, encoder)
    }
}

impl<Context> Decode<Context> for Status {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (view, voted_view, slow_primary) = Decode::decode(decoder)?;
        let (stable, executed) = Decode::decode(decoder)?;
        let checkpoints = Decode::decode(decoder)?;
        let view_changes = wire::decode_list(decoder, 12)?;
        let slots = wire::decode_list(decoder, 43)?;
        let asks = Decode::decode(decoder)?;
        let answers = wire::decode_list(decoder, 12)?;
        Ok(Status {
            view,
            voted_view,
            slow_primary,
            stable,
            executed,
            checkpoints,
            view_changes,
            slots,
            asks,
            answers,
        })
    }
}
wire::borrow_decode!(Status);

/// What a replica signs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Statement {
    /// The primary assigns a batch to a slot.
    PrePrepare(Vote),
    /// A backup agrees.
    Prepare(Vote),
    /// The slot is prepared here.
    Commit(Vote),
    /// The state here after a checkpoint slot.
    Checkpoint(Checkpoint),
    /// What is held here.
    Status(Status),
    /// The sender leaves its view for a higher one.
    ViewChange(Arc<ViewChange>),
    /// The primary of a view starts it.
    NewView(Arc<NewView>),
    /// The sender lacks these bodies.
    Fetch(Fetch),
}

impl Statement {
    /// Its signing domain.
    pub fn kind(&self) -> Kind {
        match self {
            Statement::PrePrepare(_) => Kind::PrePrepare,
            Statement::Prepare(_) => Kind::Prepare,
            Statement::Commit(_) => Kind::Commit,
            Statement::Checkpoint(_) => Kind::Checkpoint,
            Statement::Status(_) => Kind::Status,
            Statement::ViewChange(_) => Kind::ViewChange,
            Statement::NewView(_) => Kind::NewView,
            Statement::Fetch(_) => Kind::Fetch,
        }
    }

    /// The view it is about, if it is about one.
    pub fn view(&self) -> Option<View> {
        match self {
            Statement::PrePrepare(vote) | Statement::Prepare(vote) | Statement::Commit(vote) => {
                Some(vote.view)
            }
            Statement::ViewChange(change) => Some(change.view),
            Statement::NewView(new_view) => Some(new_view.view),
            Statement::Checkpoint(_) | Statement::Status(_) | Statement::Fetch(_) => None,
        }
    }

    /// The bytes signed for it in the name of `sender`. The kind is in the domain, so only the fields are
    /// encoded after it.
    pub fn preimage(&self, cluster: &Cluster, sender: ReplicaId) -> Vec<u8> {
        let content = match self {
            Statement::PrePrepare(vote) | Statement::Prepare(vote) | Statement::Commit(vote) => {
                wire::encode_bare(vote)
            }
            Statement::Checkpoint(checkpoint) => wire::encode_bare(checkpoint),
            Statement::Status(status) => wire::encode_bare(status),
            Statement::ViewChange(change) => wire::encode_bare(change),
            Statement::NewView(new_view) => wire::encode_bare(new_view),
            Statement::Fetch(fetch) => wire::encode_bare(fetch),
        };
        preimage(cluster, self.kind(), Author::Replica(sender), &content)
    }
}

/// A statement and its sender's signature, unchecked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Signed {
    /// Who says so.
    pub sender: ReplicaId,
    /// What is said.
    pub statement: Statement,
    /// The sender's signature over [`Statement::preimage`].
    pub signature: Signature,
}

/// What crosses the network between replicas, unchecked.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Message {
    /// A signed statement; a PrePrepare comes like this when its body is already held.
    Statement(Signed),
    /// A PrePrepare with its body.
    Proposal {
        /// The primary's PrePrepare.
        pre_prepare: Signed,
        /// The batch whose digest it names.
        batch: Arc<Batch>,
    },
    /// A client's request, relayed by a backup.
    Request(Request),
    /// Proof that a slot is committed, with its body unless the receiver holds it.
    Committed {
        /// Q matching Commits.
        certificate: CommitCertificate,
        /// The batch they name.
        batch: Option<Arc<Batch>>,
    },
    /// Proof that a checkpoint is stable.
    Stable(StableProof),
    /// A body that was asked for by its digest.
    Body {
        /// The slot it was asked for.
        sequence: Sequence,
        /// The batch.
        batch: Arc<Batch>,
    },
    /// A part of a snapshot is asked for: between the hosts' transfers, never for the replica itself.
    Ask(Ask),
    /// A part of a snapshot.
    Part(Part),
    /// Proof that somebody broke the protocol, passed on once by everyone to whom it is new.
    Evidence(Arc<Evidence>),
}

impl Message {
    /// The signed statement that it is, or that it brings a body for.
    pub fn signed(&self) -> Option<&Signed> {
        match self {
            Message::Statement(signed) | Message::Proposal { pre_prepare: signed, .. } => {
                Some(signed)
            }
            _ => None,
        }
    }

    /// Whether it is a hint, a status or a fetch, of somebody else than `peer`, who sent it: nobody passes those
    /// on, and an old one played again would take the place of the true one.
    pub fn is_second_hand(&self, peer: ReplicaId) -> bool {
        match self {
            Message::Statement(signed) => {
                let hint = matches!(signed.statement, Statement::Status(_) | Statement::Fetch(_));
                hint && signed.sender != peer
            }
            _ => false,
        }
    }
}

#[cfg(test)]
#[path = "message_test.rs"]
mod tests;
