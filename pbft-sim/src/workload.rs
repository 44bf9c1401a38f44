//! What a simulated cluster runs: an application, and what its clients ask.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use pbft_core::application::{Application, Context};
use pbft_core::message::Refusal;
use pbft_core::pages::Pages;
use pbft_core::types::{ClientId, RequestNumber};

use crate::ledger::{Entry, Ledger, Seen, Upset};
use crate::random::Random;

type Make = dyn Fn(Seen, Upset) -> Box<dyn Application> + Send + Sync;
type Ask = dyn Fn(&mut Random, ClientId, RequestNumber, u64) -> Vec<u8> + Send + Sync;

/// An application and the operations of its clients.
#[derive(Clone)]
pub struct Workload {
    make: Arc<Make>,
    ask: Arc<Ask>,
}

impl Default for Workload {
    /// The simulator's own: a chain of hashes over everything, one in twenty operations refused.
    fn default() -> Self {
        Workload {
            make: Arc::new(|seen, upset| Box::new(Ledger::new(seen).with_upset(upset))),
            ask: Arc::new(|random, client, number, index| {
                let mark = if index == 0 && random.chance(50) { "!" } else { "" };
                format!("{mark}{client:?}{number}/{index}").into_bytes()
            }),
        }
    }
}

impl Workload {
    /// An application of your own, made by `make`, whose clients ask what `ask` says.
    pub fn new(
        make: impl Fn() -> Box<dyn Application> + Send + Sync + 'static,
        ask: impl Fn(&mut Random, ClientId) -> Vec<u8> + Send + Sync + 'static,
    ) -> Workload {
        Workload {
            make: Arc::new(move |seen, _| Box::new(Watched { inner: make(), seen })),
            ask: Arc::new(move |random, client, _, _| ask(random, client)),
        }
    }

    pub(crate) fn make(&self, seen: Seen, upset: Upset) -> Box<dyn Application> {
        (self.make)(seen, upset)
    }

    pub(crate) fn ask(
        &self,
        random: &mut Random,
        client: ClientId,
        number: RequestNumber,
        index: u64,
    ) -> Vec<u8> {
        (self.ask)(random, client, number, index)
    }
}

/// Shows the checkers what an application executes.
struct Watched {
    inner: Box<dyn Application>,
    seen: Seen,
}

impl Application for Watched {
    fn execute(&mut self, context: &Context, operation: &[u8]) -> Result<Bytes, Refusal> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(Entry {
            sequence: context.sequence(),
            client: context.client(),
            number: context.number(),
            operation: Bytes::copy_from_slice(operation),
        });
        self.inner.execute(context, operation)
    }

    fn query(&self, operation: &[u8]) -> Result<Bytes, Refusal> {
        self.inner.query(operation)
    }

    fn checkpoint(&mut self, pages: &mut Pages) {
        self.inner.checkpoint(pages);
    }

    fn restore(&mut self, pages: &Pages) {
        self.inner.restore(pages);
    }
}
