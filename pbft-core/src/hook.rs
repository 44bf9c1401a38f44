//! Where a traitor takes hold of a node: between the replica and the world.
//!
//! The replica itself has no code for lying. A host that wants a traitor shows a [`Hook`] every input before
//! the replica sees it and every [`Deed`] before the host carries it out; what the hook leaves, and what it
//! adds, is what happens. As [`Action::Say`] is not signed yet, a hook can say whatever its own key can
//! sign, and nothing in anyone else's name.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::message::ReplicaMessage;
use crate::replica::{Action, Input, Record, Replica};
use crate::transfer::Part;
use crate::types::{ClientId, Instant, ReplicaId, Time};

/// What a node does to the world.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "moved through a hook of a test, never kept in numbers"
)]
pub enum Deed {
    /// What its replica asked for.
    Act(Action),
    /// It tells a client something.
    Tell {
        /// Whom.
        client: ClientId,
        /// What.
        message: ReplicaMessage,
    },
    /// It hands a part of a snapshot to a peer.
    Hand {
        /// To whom.
        to: ReplicaId,
        /// Which.
        part: Part,
    },
    /// It sends bytes that need be no message.
    Bytes {
        /// To whom.
        to: ReplicaId,
        /// What.
        frame: Bytes,
    },
    /// It starts again from its last stable snapshot and these records of its journal, and forgets the rest.
    Forget(Vec<Record>),
}

/// What a hook can see.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// Both clocks.
    pub now: Time,
    /// The honest replica behind the hook, as it is.
    pub replica: &'a Replica,
}

/// A function on what a node hears and does.
pub trait Hook: Send {
    /// Sees an input, and from which peer's link it came, if from one; pushes what the replica is to be given
    /// instead (push it unchanged to be honest), and what is to be done besides.
    fn hear(
        &mut self,
        scene: Scene<'_>,
        from: Option<ReplicaId>,
        input: Input,
        inputs: &mut Vec<Input>,
        deeds: &mut Vec<Deed>,
    );

    /// Sees a deed; pushes what the host is to do instead (push it unchanged to be honest).
    fn act(&mut self, scene: Scene<'_>, deed: Deed, deeds: &mut Vec<Deed>);

    /// When the host should next call [`Hook::wake`].
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The time asked for has come; pushes what is to be done.
    fn wake(&mut self, scene: Scene<'_>, deeds: &mut Vec<Deed>) {
        let _ = (scene, deeds);
    }
}
