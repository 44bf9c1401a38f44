//! What replicas say between views.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

use super::{Signed, Statement, Vote};
use crate::certificate::{PreparedCertificate, StableProof};
use crate::types::{Digest, ReplicaId, Sequence, Signature, View};
use crate::wire;

/// What a replica takes along when it leaves its view: everything that may have been decided
/// (Castro and Liskov 1999, section 4.4; PITFALLS D1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ViewChange {
    /// The view it votes for.
    pub view: View,
    /// Proof of its last stable checkpoint h; `None` when h is 0.
    pub stable: Option<StableProof>,
    /// For slots in (h, h + L], the certificate of the highest view in which the slot was prepared there;
    /// ascending by slot, at most one each.
    pub prepared: Vec<PreparedCertificate>,
}

impl ViewChange {
    /// h, the slot of its last stable checkpoint.
    pub fn stable_sequence(&self) -> Sequence {
        self.stable.as_ref().map_or(Sequence(0), StableProof::sequence)
    }

    /// Whether it leaves out a slot that its sender has committed in a lower view: above h, and no
    /// certificate for it of that view or a later one (PROTOCOL section 1).
    pub fn omits(&self, committed: &Vote) -> bool {
        let carries = |it: &PreparedCertificate| {
            it.vote.sequence == committed.sequence && it.vote.view >= committed.view
        };
        committed.view < self.view
            && committed.sequence > self.stable_sequence()
            && !self.prepared.iter().any(carries)
    }
}

impl Encode for ViewChange {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.view.encode(encoder)?;
        self.stable.encode(encoder)?;
        wire::encode_list(&self.prepared, encoder)
    }
}

impl<Context> Decode<Context> for ViewChange {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let view = View::decode(decoder)?;
        let stable = Option::<StableProof>::decode(decoder)?;
        let prepared = wire::decode_list(decoder, 116)?;
        Ok(ViewChange { view, stable, prepared })
    }
}
wire::borrow_decode!(ViewChange);

/// A ViewChange and its sender's signature, unchecked: as a [`NewView`] carries it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct SignedViewChange {
    /// Who says so.
    pub sender: ReplicaId,
    /// What is said.
    pub change: Arc<ViewChange>,
    /// The sender's signature over [`Statement::preimage`].
    pub signature: Signature,
}

impl SignedViewChange {
    /// The same as a signed statement.
    pub fn to_signed(&self) -> Signed {
        Signed {
            sender: self.sender,
            statement: Statement::ViewChange(Arc::clone(&self.change)),
            signature: self.signature,
        }
    }
}

/// The start of a view: exactly Q ViewChanges for it and nothing else, because everything else follows
/// from them ([`crate::new_view::plan`]).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NewView {
    /// The view.
    pub view: View,
    /// Its justification, ascending by sender; the primary's own is among them.
    pub changes: Vec<SignedViewChange>,
}

impl Encode for NewView {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.view.encode(encoder)?;
        wire::encode_list(&self.changes, encoder)
    }
}

impl<Context> Decode<Context> for NewView {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let view = View::decode(decoder)?;
        Ok(NewView { view, changes: wire::decode_list(decoder, 81)? })
    }
}
wire::borrow_decode!(NewView);

/// A body asked for: its slot and digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct BodyName {
    /// The slot it was certified for.
    pub sequence: Sequence,
    /// Its digest.
    pub digest: Digest,
}

/// Bodies asked for, at most [`crate::limits::FETCH_BODIES_MAX`]. A hint like a status: it promises nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fetch {
    /// Which, ascending.
    pub bodies: Vec<BodyName>,
}

impl Encode for Fetch {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        wire::encode_list(&self.bodies, encoder)
    }
}

impl<Context> Decode<Context> for Fetch {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Fetch { bodies: wire::decode_list(decoder, 40)? })
    }
}
wire::borrow_decode!(Fetch);
