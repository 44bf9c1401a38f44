//! Chains of signatures: an order, and everyone who passed it on, each of whom signed it and all signatures
//! before.
//!
//! ```text
//!   value 1 | 1 signs (value)          | 3 signs (value, signature of 1)
//!             `-- the commander said 1   `-- 3 passed that on: he cannot have changed it
//! ```
//!
//! A chain counts only in the round equal to its length (PITFALLS M3): a traitor who holds a value back until
//! the last round has no loyal general left to spread it, unless m others signed too, and one of those is loyal.

use alloc::vec::Vec;

use super::{General, Setting, Value};
use crate::crypto::{Author, Signer, Verifier};
use crate::types::{ReplicaId, Signature};

/// The signing domain. No preimage of the replicas' starts alike: there, a zero byte follows `pbft`.
const DOMAIN: &[u8] = b"pbft generals\0";

/// One agreement on signed messages: its shape, and a number that no other agreement under the same keys has,
/// so that no signature of one passes in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Occasion {
    /// Who and how many.
    pub setting: Setting,
    /// Different for each agreement under the same keys.
    pub number: u64,
}

/// A value under the signatures of the generals it went through.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain<V> {
    /// The order.
    pub value: V,
    /// Signers and signatures, the commander's first. What came from outside may hold anything.
    pub links: Vec<(General, Signature)>,
}

/// Why a chain does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Fault {
    /// Not as many signatures as the round's number: held back, or too early.
    #[error("a chain of {length} signatures in round {round}")]
    WrongLength {
        /// How many signatures it has.
        length: usize,
        /// The round it came in.
        round: u8,
    },
    /// The first signer is not the commander: nobody's order.
    #[error("its first signer is general {0}, who is not the commander")]
    NotTheCommander(u8),
    /// A signer that is none of the generals.
    #[error("signed by {0}, who is none of the generals")]
    ForeignKey(u8),
    /// A general signs twice, to make it longer than it is.
    #[error("signed twice by general {0}")]
    RepeatedSigner(u8),
    /// Its receiver is among the signers and knows the value.
    #[error("signed by its receiver")]
    ThroughReceiver,
    /// A signature is not that general's over this value and the signatures before it.
    #[error("the signature of general {0} is forged")]
    Forged(u8),
}

impl Occasion {
    /// The bytes that `signer` signs under a chain: domain, agreement, signer, value, all previous signatures.
    fn preimage<V: Value>(
        &self,
        signer: General,
        value: &V,
        before: &[(General, Signature)],
    ) -> Vec<u8> {
        let mut encoded = Vec::new();
        value.encode(&mut encoded);
        let mut bytes = Vec::with_capacity(DOMAIN.len() + 32 + encoded.len() + 64 * before.len());
        bytes.extend_from_slice(DOMAIN);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        let (n, m) = (self.setting.n(), self.setting.m());
        bytes.extend_from_slice(&[n, m, self.setting.commander().0, signer.0]);
        let length = u64::try_from(encoded.len()).unwrap_or(u64::MAX);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&encoded);
        before.iter().for_each(|(_, signature)| bytes.extend_from_slice(&signature.0));
        bytes
    }
}

/// Whose key a general's is: general `k` is the `k`-th of the verifier's members.
fn author(general: General) -> Author {
    Author::Replica(ReplicaId(u32::from(general.0).wrapping_sub(1)))
}

impl<V: Value> Chain<V> {
    /// `value` as `commander` orders it, not signed yet: a chain that counts nowhere.
    pub fn unsigned(value: V) -> Self {
        Chain { value, links: Vec::new() }
    }

    /// The chain with the signature of `general` after the others.
    #[must_use]
    pub fn signed(mut self, occasion: &Occasion, general: General, signer: &dyn Signer) -> Self {
        let preimage = occasion.preimage(general, &self.value, &self.links);
        self.links.push((general, signer.sign(&preimage)));
        self
    }

    /// Everyone who signed, in order.
    pub fn signers(&self) -> impl Iterator<Item = General> + Clone + '_ {
        self.links.iter().map(|(signer, _)| *signer)
    }

    /// What costs nothing to check: round, commander, signers.
    ///
    /// # Errors
    /// The first fault.
    pub fn check_form(
        &self,
        occasion: &Occasion,
        round: u8,
        receiver: General,
    ) -> Result<(), Fault> {
        let setting = &occasion.setting;
        // First, so that all further work is bounded by the round's number.
        if self.links.len() != usize::from(round) {
            return Err(Fault::WrongLength { length: self.links.len(), round });
        }
        if let Some(foreign) = self.signers().find(|signer| !setting.has(*signer)) {
            return Err(Fault::ForeignKey(foreign.0));
        }
        if let Some(first) = self.signers().next().filter(|it| *it != setting.commander()) {
            return Err(Fault::NotTheCommander(first.0));
        }
        let mut rest = self.signers();
        while let Some(signer) = rest.next() {
            if rest.clone().any(|later| later == signer) {
                return Err(Fault::RepeatedSigner(signer.0));
            }
        }
        if self.signers().any(|signer| signer == receiver) {
            return Err(Fault::ThroughReceiver);
        }
        Ok(())
    }

    /// Checks every signature, by the one rule of [`crate::crypto`]: strict, single.
    ///
    /// # Errors
    /// The first general whose signature it is not.
    pub fn check_signatures(
        &self,
        occasion: &Occasion,
        verifier: &dyn Verifier,
    ) -> Result<(), Fault> {
        for (index, (signer, signature)) in self.links.iter().enumerate() {
            let before = self.links.get(..index).unwrap_or_default();
            let preimage = occasion.preimage(*signer, &self.value, before);
            if !verifier.verify(author(*signer), &preimage, signature) {
                return Err(Fault::Forged(signer.0));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "chain_test.rs"]
mod tests;
