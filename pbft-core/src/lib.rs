//! PBFT (Castro and Liskov, OSDI 1999; TOCS 2002), the signature variant, as a pure state machine.
//!
//! This crate holds the protocol and nothing of the world: no clock, socket, disk, key store, randomness
//! or thread, `no_std` with `alloc`. The QUIC node (`pbft-app`), the simulator (`pbft-sim`) and unit tests
//! are three hosts of the same objects.
//!
//! # The host's loop
//!
//! ```text
//!        bytes in                         bytes out
//!           |                                 ^
//!     wire::decode                       wire::encode
//!           |                                 |
//!     Replica::wants   (junk is dropped       |
//!           |           before it costs)      |
//!     signed::verify                     signed::sign <---- the edge holds the key
//!           |                                 ^   |
//!           v                                 |   | the own copy comes back
//!     Replica::step(now, Input, &mut Outbox) -+   | as a Verified
//!           |        ^        ^                   |
//!           |        +--------|-------------------+
//!   Persist |        Executed | Snapshotted
//!           v                 |
//!        journal       state::ReplicatedState  (sessions, agreed time, application)
//! ```
//!
//! 1. Call [`replica::Replica::step`] with [`replica::Input::Start`], then with every input as it comes.
//! 2. Carry out the actions in order. Report `Durable`, `Executed` and `Snapshotted` when they are done.
//! 3. Keep one alarm at [`replica::Replica::deadline`].
//! 4. When nothing more is at hand, call [`replica::Replica::propose`]: what has gathered becomes a batch.
//!
//! A fourth report is `Restored`: a replica that is behind asks for a state ([`replica::Action::Restore`]), the
//! host runs a [`transfer::Transfer`] against others' [`archive::Archive`]s, and gives the result to the
//! owner of the state.
//!
//! # Reading order
//!
//! [`types`], [`cluster`] (quorums), [`message`], [`signed`] (the door), [`replica`] and its parts
//! `order`, `execute`, `checkpoint`, `repair`, `durable`; then views: [`new_view`], `replica/view_change`,
//! `replica/timer`, `replica/fetch`; then [`state`], [`tree`], [`archive`], [`transfer`], `replica/catch_up`,
//! `replica/recover`; last [`client`]. On its own, and a good place to start: [`generals`], where 3f + 1 comes from.
//!
//! # What it is not, yet
//!
//! Nothing survives a crash but what the host's journal keeps; [`replica::Replica::recover`] goes on from
//! that. There are no fast reads and no reconfiguration. `docs/protocol.md` says what is built and what
//! is not.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

#[cfg(test)]
mod attack_test;

pub mod application;
pub mod archive;
pub mod certificate;
pub mod client;
pub mod cluster;
pub mod crypto;
pub mod evidence;
pub mod generals;
pub mod hook;
pub mod limits;
pub mod message;
pub mod new_view;
pub mod pages;
pub mod replica;
pub mod signed;
pub mod state;
#[cfg(test)]
mod testing;
pub mod transfer;
pub mod tree;
pub mod types;
#[cfg(test)]
mod view_change_test;
pub mod window;
pub mod wire;
