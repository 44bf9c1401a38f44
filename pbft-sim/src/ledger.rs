//! The application of the simulation: its results and its state depend on the whole order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use pbft_core::application::{Application, Context};
use pbft_core::crypto::Hasher;
use pbft_core::message::Refusal;
use pbft_core::pages::Pages;
use pbft_core::types::{ClientId, Digest, RequestNumber, Sequence};

/// One operation as the application saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// In which slot.
    pub sequence: Sequence,
    /// Whose.
    pub client: ClientId,
    /// Under which number.
    pub number: RequestNumber,
    /// What was asked.
    pub operation: Bytes,
}

/// What checkers read: the operations executed since they last looked.
pub type Seen = Arc<Mutex<Vec<Entry>>>;

/// Whether the next operation comes out wrong.
pub type Upset = Arc<AtomicBool>;

/// Takes the entries out.
pub fn drain(seen: &Seen) -> Vec<Entry> {
    std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A chain of hashes over everything executed. Operations starting with `!` are refused.
pub struct Ledger {
    chain: Digest,
    count: u64,
    seen: Seen,
    upset: Upset,
}

impl Ledger {
    /// An empty ledger that shows what it executes in `seen`.
    pub fn new(seen: Seen) -> Self {
        Ledger { chain: Digest::NULL, count: 0, seen, upset: Upset::default() }
    }

    /// Makes the next operation come out wrong when the handle is set: a flipped bit in memory.
    #[must_use]
    pub fn with_upset(self, upset: Upset) -> Self {
        Ledger { upset, ..self }
    }
}

impl Application for Ledger {
    fn execute(&mut self, context: &Context, operation: &[u8]) -> Result<Bytes, Refusal> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(Entry {
            sequence: context.sequence(),
            client: context.client(),
            number: context.number(),
            operation: Bytes::copy_from_slice(operation),
        });
        if operation.first() == Some(&b'!') {
            return Err(Refusal::new(1, "refused on purpose"));
        }
        let mut hasher = Hasher::new("ledger");
        hasher.fixed(&self.chain.0);
        hasher.number(context.time().0);
        hasher.fixed(&context.seed().0);
        hasher.field(operation);
        self.chain = hasher.finish();
        if self.upset.swap(false, Ordering::Relaxed) {
            self.chain.0[0] ^= 1;
        }
        self.count += 1;
        Ok(Bytes::copy_from_slice(&self.chain.0))
    }

    fn query(&self, _: &[u8]) -> Result<Bytes, Refusal> {
        Ok(Bytes::copy_from_slice(&self.chain.0))
    }

    fn checkpoint(&mut self, pages: &mut Pages) {
        let state = [&self.chain.0[..], &self.count.to_le_bytes()[..]].concat();
        // Forty bytes are within any page bound.
        let _ = pages.write(0, Bytes::from(state));
    }

    fn restore(&mut self, pages: &Pages) {
        let (chain, count) = pages.page(0).split_at(pages.page(0).len().min(32));
        self.chain = chain.try_into().map_or(Digest::NULL, Digest);
        self.count = count.try_into().map_or(0, u64::from_le_bytes);
    }
}
