//! The application's side: one trait, executed in one agreed order.

use bytes::Bytes;

use crate::crypto::Hasher;
use crate::message::Refusal;
use crate::pages::Pages;
use crate::types::{ClientId, Digest, Epoch, RequestNumber, Sequence, WallTime};

/// A deterministic service.
///
/// Every replica applies the same operations in the same order and must reach the same state and the same
/// results. So an implementation uses only its state, the operation and the [`Context`]: no clock, no
/// randomness, no iteration over hash maps, no floating point that differs between builds, no threads
/// (PITFALLS L1). A replica whose state differs is found out at the next checkpoint and stops.
///
/// A panic in `execute` halts the replica deliberately: the same operation would panic everywhere, so the
/// remedy is to mend the application (PITFALLS L2). Return a [`Refusal`] for what callers get wrong.
pub trait Application: Send + 'static {
    /// Applies one operation and returns its result, or refuses it and changes nothing.
    ///
    /// # Errors
    /// A refusal is an outcome like any other: ordered, agreed, and reported to the caller.
    fn execute(&mut self, context: &Context, operation: &[u8]) -> Result<Bytes, Refusal>;

    /// Answers a read-only operation without changing anything. Reads are ordered like writes for now, so
    /// the framework itself calls only [`Application::execute`]; tools and tests read through this.
    ///
    /// # Errors
    /// As [`Application::execute`].
    fn query(&self, operation: &[u8]) -> Result<Bytes, Refusal>;

    /// Hands over the pages that changed since the last call. The pages are all that survives.
    fn checkpoint(&mut self, pages: &mut Pages);

    /// Replaces the whole state by what `pages` hold. Called before any operation on a fresh object, too.
    fn restore(&mut self, pages: &Pages);
}

/// What an application may know about the operation it executes. The same on every replica.
#[derive(Clone, Debug)]
pub struct Context {
    pub(crate) epoch: Epoch,
    pub(crate) cluster: Digest,
    pub(crate) sequence: Sequence,
    pub(crate) time: WallTime,
    pub(crate) client: ClientId,
    pub(crate) number: RequestNumber,
    pub(crate) batch: Digest,
    pub(crate) request: u32,
    pub(crate) operation: u32,
}

impl Context {
    /// The slot being executed. Several operations share one.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// The agreed time: never goes back, the same on every replica, proposed by the primary and within
    /// the clock tolerance of the replicas that voted for it.
    pub fn time(&self) -> WallTime {
        self.time
    }

    /// Who asked.
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// The client's number for the request this operation is part of.
    pub fn number(&self) -> RequestNumber {
        self.number
    }

    /// An agreed seed, different for every operation. The primary can bias it by what it batches: fit for
    /// spreading load, not for a lottery.
    pub fn seed(&self) -> Digest {
        let mut hasher = Hasher::new("seed");
        hasher.fixed(&self.cluster.0);
        hasher.number(self.epoch.0);
        hasher.number(self.sequence.0);
        hasher.fixed(&self.batch.0);
        hasher.number(u64::from(self.request));
        hasher.number(u64::from(self.operation));
        hasher.finish()
    }
}
