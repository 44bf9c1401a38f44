//! The gate: turns frames into [`Verified`] messages before the core sees them.
//!
//! Frames come in groups of one peer, on the task that owns the replica, so a group is decoded, asked for
//! and verified without a hop between threads. The order is fixed: size, decode, membership, what the
//! replica has no use for, signatures (PITFALLS A13). What does not pass is counted by the peer that sent
//! it, not by whoever it claims to be from (PITFALLS F4).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use pbft_core::cluster::Cluster;
use pbft_core::crypto::Verifier;
use pbft_core::message::{ClientMessage, Message};
use pbft_core::replica::{Reason, Replica};
use pbft_core::signed::{self, Cache, Forgery, Verified};
use pbft_core::transfer::{Ask, Part};
use pbft_core::types::{ClientId, ReplicaId, View};
use pbft_core::wire::{self, WireError};

/// Why a frame went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// It is no message.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// Its signatures or shape do not hold.
    #[error("{0}")]
    Forgery(#[from] Forgery),
    /// A client sent another client's request.
    #[error("request of another client ({0})")]
    NotOwn(ClientId),
    /// A status or fetch of another replica: what somebody lacks, it says itself, and an old one played again
    /// would take the place of the true one.
    #[error("a hint of another replica, played again")]
    SecondHand,
    /// The replica has no use for it now; no fault of anyone.
    #[error("not needed: {0:?}")]
    Unneeded(Reason),
}

impl Rejection {
    /// Whether no correct peer sends such a thing, so that the connection should be closed.
    pub fn is_malice(&self) -> bool {
        !matches!(self, Rejection::Unneeded(_))
    }

    /// The view whose primary signed a NewView that does not hold, if that is what it is: the replica is
    /// told with [`pbft_core::replica::Input::VoidNewView`].
    pub fn void_new_view(&self) -> Option<View> {
        match self {
            Rejection::Forgery(Forgery::NewView { view, .. }) => Some(*view),
            _ => None,
        }
    }

    /// The name it is counted under.
    pub fn name(&self) -> &'static str {
        match self {
            Rejection::Wire(WireError::Oversized) => "wire_oversized",
            Rejection::Wire(WireError::Version(_)) => "wire_version",
            Rejection::Wire(WireError::Truncated) => "wire_truncated",
            Rejection::Wire(WireError::Trailing) => "wire_trailing",
            Rejection::Wire(WireError::Malformed) => "wire_malformed",
            Rejection::Forgery(forgery) => forgery_name(forgery),
            Rejection::NotOwn(_) => "request_of_another_client",
            Rejection::SecondHand => "second_hand",
            Rejection::Unneeded(_) => "unneeded",
        }
    }
}

fn forgery_name(forgery: &Forgery) -> &'static str {
    match forgery {
        Forgery::UnknownReplica(_) => "unknown_replica",
        Forgery::UnknownClient(_) => "unknown_client",
        Forgery::Signature(_) => "bad_signature",
        Forgery::NotPrimary(_) => "pre_prepare_by_backup",
        Forgery::PrimaryPrepared(_) => "prepare_by_primary",
        Forgery::Slot(_) => "slot_out_of_range",
        Forgery::NullDigest => "null_digest",
        Forgery::BodyDigest => "body_digest",
        Forgery::BatchBounds => "batch_bounds",
        Forgery::RequestBounds => "request_bounds",
        Forgery::CheckpointSlot(_) => "checkpoint_slot",
        Forgery::Signers => "certificate_signers",
        Forgery::StatusBounds => "status_bounds",
        Forgery::Kind => "statement_kind",
        Forgery::View(_) => "view_out_of_range",
        Forgery::ViewChange(_) => "void_view_change",
        Forgery::NewView { .. } => "void_new_view",
        Forgery::FetchBounds => "fetch_bounds",
        Forgery::Evidence(_) => "void_evidence",
    }
}

/// What a peer says, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromPeer {
    /// Something for the replica.
    Protocol(Verified),
    /// It asks for a part of a snapshot; the channel tells who asks, and nothing is promised.
    Ask(Ask),
    /// A part of a snapshot, which a transfer proves by itself.
    Part(Part),
}

/// A frame of a peer that went no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub rejection: Rejection,
    /// What convicts its signer, if it can be shown who that is: a message of its own for the replica.
    pub evidence: Option<Box<Verified>>,
}

/// What a client asks, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "moved once, from here into the replica")]
pub enum FromClient {
    /// Order this.
    Request(Verified),
    /// Report your status.
    Query,
}

/// Decodes, filters and verifies, with a memory of signatures found good.
pub struct Gate {
    cluster: Arc<Cluster>,
    verifier: Box<dyn Verifier>,
    cache: Cache,
    counts: BTreeMap<&'static str, u64>,
}

impl Gate {
    /// A gate for members and clients of `cluster`.
    pub fn new(cluster: Arc<Cluster>, verifier: Box<dyn Verifier>) -> Self {
        Gate { cluster, verifier, cache: Cache::default(), counts: BTreeMap::new() }
    }

    /// Passes a frame from a peer, if `replica` has use for it and it holds.
    ///
    /// # Errors
    /// Why not, and whom that convicts.
    pub fn pass_peer(
        &mut self,
        replica: &Replica,
        peer: ReplicaId,
        frame: &[u8],
    ) -> Result<FromPeer, Refused> {
        let outcome = self.check_peer(replica, peer, frame);
        self.count(outcome).map_err(|rejection| {
            let evidence = match rejection {
                Rejection::Forgery(_) => self.convict(frame),
                _ => None,
            };
            Refused { rejection, evidence }
        })
    }

    /// Decodes a second time, so that what holds is never copied.
    fn convict(&mut self, frame: &[u8]) -> Option<Box<Verified>> {
        let message = wire::decode(frame).ok()?;
        signed::void(&self.cluster, &*self.verifier, &mut self.cache, &message).map(Box::new)
    }

    /// Passes a frame from the client at the other end of its connection.
    ///
    /// # Errors
    /// Why not.
    pub fn pass_client(
        &mut self,
        replica: &Replica,
        client: ClientId,
        frame: &[u8],
    ) -> Result<FromClient, Rejection> {
        let outcome = self.check_client(replica, client, frame);
        self.count(outcome)
    }

    /// How many frames were turned away, by name.
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    fn check_peer(
        &mut self,
        replica: &Replica,
        peer: ReplicaId,
        frame: &[u8],
    ) -> Result<FromPeer, Rejection> {
        match wire::decode(frame)? {
            message if message.is_second_hand(peer) => Err(Rejection::SecondHand),
            Message::Ask(ask) => Ok(FromPeer::Ask(ask)),
            Message::Part(part) => Ok(FromPeer::Part(part)),
            message => self.verify(replica, message).map(FromPeer::Protocol),
        }
    }

    fn check_client(
        &mut self,
        replica: &Replica,
        client: ClientId,
        frame: &[u8],
    ) -> Result<FromClient, Rejection> {
        match wire::decode(frame)? {
            ClientMessage::Query => Ok(FromClient::Query),
            ClientMessage::Request(request) if request.client() != client => {
                Err(Rejection::NotOwn(request.client()))
            }
            ClientMessage::Request(request) => {
                self.verify(replica, Message::Request(request)).map(FromClient::Request)
            }
        }
    }

    fn verify(&mut self, replica: &Replica, message: Message) -> Result<Verified, Rejection> {
        replica.wants(&message).map_err(Rejection::Unneeded)?;
        let scrutiny = replica.scrutiny(&message);
        let (cluster, verifier) = (&self.cluster, &*self.verifier);
        Ok(signed::verify(cluster, verifier, &mut self.cache, message, scrutiny)?)
    }

    fn count<T>(&mut self, outcome: Result<T, Rejection>) -> Result<T, Rejection> {
        if let Err(rejection) = &outcome {
            *self.counts.entry(rejection.name()).or_default() += 1;
        }
        outcome
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Gate").field("counts", &self.counts).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "gate_test.rs"]
mod tests;
