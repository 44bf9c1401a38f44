//! PBFT as a pure state machine. (See below; rewritten once the crate stands.)
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod application;
pub mod certificate;
pub mod cluster;
pub mod crypto;
pub mod evidence;
pub mod limits;
pub mod message;
pub mod pages;
pub mod replica;
pub mod signed;
pub mod state;
pub mod types;
pub mod window;
pub mod wire;
