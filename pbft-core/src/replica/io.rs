//! What goes into a replica and what comes out.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bincode::{Decode, Encode};

use super::view::ViewEntered;
use crate::certificate::{PreparedCertificate, StableProof};
use crate::evidence::{Evidence, Subject};
use crate::message::{Batch, Checkpoint, Message, NewView, Statement, ViewChange};
use crate::signed::Verified;
use crate::types::{
    ClientId, Digest, ReplicaId, RequestNumber, Sequence, Signature, View, WriteId,
};

/// What happens to a replica.
#[derive(Clone, Debug)]
pub enum Input {
    /// The host is ready: first status, first alarm.
    Start,
    /// A message from a peer, from a client, or the signed copy of what this replica said itself.
    Deliver(Verified),
    /// The alarm set for [`super::Replica::deadline`] went off.
    Wake,
    /// A link to this peer was made: tell it what is held here.
    Connected(ReplicaId),
    /// Every write up to this one is durable.
    Durable(WriteId),
    /// The owner of the state applied a slot.
    Executed {
        /// Which slot.
        sequence: Sequence,
        /// The request numbers it consumed.
        consumed: Vec<(ClientId, RequestNumber)>,
    },
    /// The owner of the state took the digest asked for, and the snapshot's pages are durable.
    Snapshotted {
        /// After which slot.
        sequence: Sequence,
        /// The digest of the state.
        digest: Digest,
    },
    /// The owner of the state has installed a snapshot: the one asked for with [`Action::Restore`], or
    /// the own one after a restart.
    Restored {
        /// The state is the one after this slot.
        sequence: Sequence,
        /// Its digest.
        digest: Digest,
        /// Every request number its sessions hold consumed.
        consumed: Vec<(ClientId, RequestNumber)>,
    },
    /// The edge refused a NewView that its primary did sign
    /// ([`crate::signed::Forgery::NewView`]).
    VoidNewView(View),
}

/// To whom something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum To {
    /// To every other replica; what is said also comes back to the speaker.
    All,
    /// To one replica.
    One(ReplicaId),
}

/// What the host must do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Append the record to the journal and report [`Input::Durable`] once it is safe.
    Persist {
        /// Number of the write.
        id: WriteId,
        /// What to append.
        record: Record,
    },
    /// Sign the statement, send it, and deliver the signed copy back to this replica.
    Say {
        /// To whom.
        to: To,
        /// What.
        statement: Statement,
        /// For a PrePrepare, the body that travels beside it.
        batch: Option<Arc<Batch>>,
    },
    /// Send something that was signed before.
    Relay {
        /// To whom.
        to: To,
        /// What.
        message: Message,
    },
    /// Have the owner of the state apply the next slot and report [`Input::Executed`].
    Execute {
        /// Which slot.
        sequence: Sequence,
        /// What to apply; `None` is the null request.
        batch: Option<Arc<Batch>>,
        /// The view to name in replies.
        view: View,
    },
    /// Have the owner of the state take the digest after the slot just given to it, make the snapshot
    /// durable and report [`Input::Snapshotted`].
    Snapshot {
        /// After which slot.
        sequence: Sequence,
    },
    /// Have the owner of the state repeat what came of a request consumed before.
    Answer {
        /// Whose.
        client: ClientId,
        /// Which number.
        number: RequestNumber,
        /// Identity of the request.
        digest: Digest,
        /// The view to name in the reply.
        view: View,
    },
    /// Tell the client that there is no room for its request now.
    Busy {
        /// Whose request.
        client: ClientId,
        /// Which number.
        number: RequestNumber,
    },
    /// Journal records of slots at or below this one may be dropped.
    Discard {
        /// The stable checkpoint that is durable.
        below: Sequence,
    },
    /// Have the state of this stable checkpoint transferred and installed, and report
    /// [`Input::Restored`]. Nothing is given to the state's owner before that. Given again with a newer
    /// proof while a transfer is under way: then the older may be given up, if its donors have
    /// ([`crate::transfer::Transfer::offer`]); once its result is on its way to the state's owner, no other
    /// is begun before `Restored`, which brings the action again if it is still needed.
    Restore {
        /// Everything installed must hang from it.
        proof: StableProof,
    },
    /// The own state is wrong: tell people. Repair begins by itself.
    Diverged {
        /// The last checkpoint at which it was right.
        after: Sequence,
        /// The checkpoint at which it is wrong.
        sequence: Sequence,
        /// The own digest there.
        own: Digest,
        /// The agreed one.
        agreed: Digest,
    },
    /// A view was entered: one for each, for logs.
    ViewEntered(ViewEntered),
    /// A peer is caught: keep the evidence and report it.
    Accuse(Evidence),
    /// The store was lost; from the view after this one on the replica promises again.
    Reinstated {
        /// The last view of which it says nothing.
        through: View,
    },
    /// Somebody else says things with this replica's key, of which this is one: it promises nothing more. Tell
    /// people.
    Impersonated(Subject),
    /// This replica must not go on. Nothing is said or executed after this.
    Halt(Halt),
}

/// What must survive a crash before it may be acted on. Stored with [`crate::wire::encode_stored`]: the order
/// of the variants is part of the format, new ones go to the end.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Record {
    /// A slot is prepared; durable before the Commit is said.
    Prepared {
        /// The certificate.
        certificate: PreparedCertificate,
        /// The body of its digest; the null request has none.
        batch: Option<Arc<Batch>>,
    },
    /// The own checkpoint; durable before it is said.
    Checkpoint(Checkpoint),
    /// The own ViewChange; durable before it is said.
    ViewChange(Arc<ViewChange>),
    /// The start of a view; durable before it is said, and before any vote in that view.
    NewView {
        /// What it holds.
        new_view: Arc<NewView>,
        /// The primary's signature; `None` if this replica is the primary and signs it again.
        signature: Option<Signature>,
    },
    /// A checkpoint is stable; durable before any vote for a slot that it admits by two windows.
    Stable(StableProof),
    /// What was promised before is not known: the first record of a store that replaces a lost one. Until
    /// [`Record::Reinstated`] the replica promises nothing.
    Lost,
    /// The loss is over: nothing said from now on can contradict what was forgotten. Durable before anything
    /// is.
    Reinstated {
        /// Nothing is said of views up to this one.
        through: View,
    },
}

/// Where actions are put, in order.
pub type Outbox = Vec<Action>;

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was taken into account.
    Accepted,
    /// It was not needed; nothing changed.
    Ignored(Reason),
    /// Its author broke the protocol; nothing changed but the evidence.
    Refused(Misbehavior),
}

/// Why an input was not needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It belongs to another view.
    OtherView,
    /// Its slot is at or below the stable checkpoint, or executed.
    BelowWindow,
    /// Its slot is too far ahead; a status will bring it again.
    AboveWindow,
    /// The same was held already.
    Duplicate,
    /// What it would add to is complete.
    Enough,
    /// A PrePrepare whose body is not at hand.
    NoBody,
    /// The request's number was consumed before; the kept reply is repeated.
    Consumed,
    /// The client has another request under this number waiting.
    NumberPending,
    /// There is no room for another request.
    Busy,
    /// The status came sooner after the last than repair is given.
    TooSoon,
    /// It is the own status coming back.
    Own,
    /// It bears the own key and is not this replica's: see [`Action::Impersonated`].
    OwnKey,
    /// The alarm was early or the timer is gone.
    NotDue,
    /// A report that matches nothing asked for: a defect of the host.
    Unexpected,
    /// The own state is wrong and being repaired.
    Diverged,
    /// This replica has halted.
    Halted,
}

/// How the author of a valid statement broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Misbehavior {
    /// Two different statements about the same (PITFALLS A8 and its kin).
    Equivocation(Subject),
    /// A proposal or certificate for a slot that is decided otherwise: more than f faults.
    ContradictsDecision(Sequence),
    /// A PrePrepare for another digest than the NewView of the same primary names (PITFALLS D2).
    ContradictsNewView(Sequence),
}

/// Why a replica stops for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// So many different digests that no quorum can agree: the application is not deterministic.
    #[error(
        "the checkpoints at slot {sequence} differ so much that no quorum can agree: the application is not deterministic, or more than f replicas are faulty"
    )]
    NoAgreement {
        /// At which slot.
        sequence: Sequence,
    },
    /// Two certificates of one view, or two stable checkpoints of one slot, with different digests.
    #[error(
        "slot {sequence} is certified twice in one view, differently: more than f replicas are faulty"
    )]
    TwoCertificates {
        /// Which slot.
        sequence: Sequence,
    },
    /// Two decisions for one slot: more than f replicas are faulty.
    #[error("slot {sequence} is decided twice, differently: more than f replicas are faulty")]
    TwoDecisions {
        /// Which slot.
        sequence: Sequence,
    },
}
