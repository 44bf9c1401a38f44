//! Where a traitor takes hold of a node: between the replica and the world.
//!
//! The replica itself has no code for lying. A host that wants a traitor calls a [`Hook`] once with every
//! input before the replica sees it and once with every action before the host carries it out; what the
//! hook leaves is what happens. As [`Action::Say`] is not signed yet, a hook can say whatever its own key
//! can sign, and nothing in anyone else's name.

use alloc::vec::Vec;

use crate::replica::{Action, Input};
use crate::types::Time;

/// A function on what a node hears and says.
pub trait Hook: Send {
    /// Sees an input; pushes what the replica is to be given instead (push it unchanged to be honest).
    fn on_input(&mut self, now: Time, input: Input, pass: &mut Vec<Input>);

    /// Sees an action; pushes what the host is to do instead (push it unchanged to be honest).
    fn on_action(&mut self, now: Time, action: Action, pass: &mut Vec<Action>);
}
