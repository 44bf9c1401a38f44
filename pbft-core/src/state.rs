//! The replicated state: sessions, agreed time and application, applied slot by slot by one owner.
//!
//! Whether a request was executed before is decided here and nowhere else, against the table as it stands
//! after the slot before (PROTOCOL section 2; PITFALLS B1, B2). So the state after slot K is the same on
//! every replica, sessions included, and so is its digest.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bincode::{Decode, Encode};
use bytes::Bytes;

use crate::application::{Application, Context};
use crate::archive::Snapshot;
use crate::cluster::Cluster;
use crate::limits::Constants;
use crate::message::{Answer, Batch, Outcome, Outcomes, Reply, Request};
use crate::pages::{PageChanges, PageError, Pages};
use crate::tree::PageTree;
use crate::types::{ClientId, Digest, RequestNumber, Sequence, View, WallTime};
use crate::wire;

/// Version of the rules by which batches change the state. Part of every state digest, so that replicas
/// of different versions find out (PITFALLS L4).
pub const EXECUTION_VERSION: u64 = 1;

/// A kept answer: what the request was and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Kept {
    number: RequestNumber,
    digest: Digest,
    answer: Answer,
}

/// One client's window of consumed numbers.
#[derive(Clone, Debug, Default)]
struct Session {
    /// The highest number consumed; 0 if none.
    top: RequestNumber,
    /// What was consumed in (top - W, top], by number. A number in that range and not here is free.
    kept: BTreeMap<RequestNumber, Kept>,
}

/// What is known of a number.
enum Known<'a> {
    Free,
    Stale,
    Kept(&'a Kept),
}

impl Session {
    fn known(&self, number: RequestNumber, window: u64) -> Known<'_> {
        if number.0.saturating_add(window) <= self.top.0 {
            return Known::Stale;
        }
        self.kept.get(&number).map_or(Known::Free, Known::Kept)
    }

    /// Consumes a number and returns the numbers that fell out of the window.
    fn record(&mut self, kept: Kept, window: u64) -> Vec<RequestNumber> {
        self.top = self.top.max(kept.number);
        self.kept.insert(kept.number, kept);
        // One by one: mostly there is one, and splitting the map would copy what stays.
        let mut dropped = Vec::new();
        while let Some(lowest) = self.kept.first_entry()
            && lowest.key().0.saturating_add(window) <= self.top.0
        {
            dropped.push(lowest.remove_entry().0);
        }
        dropped
    }

    /// The one number of the window that shares `number`'s place, `number mod window`.
    fn in_place_of(&self, number: RequestNumber, window: u64) -> Option<&Kept> {
        let back = self.top.0.checked_sub(number.0)?.checked_rem(window)?;
        self.kept.get(&RequestNumber(self.top.0.checked_sub(back)?))
    }
}

/// What came of one slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The answers to this slot's requests, in order, duplicates included. The view is the caller's hint.
    pub replies: Vec<Reply>,
    /// For the replica's mirror: the numbers this slot consumed.
    pub consumed: Vec<(ClientId, RequestNumber)>,
}

/// What changed up to a slot, not hashed yet.
#[derive(Clone, Debug)]
pub struct Frozen {
    /// After which slot.
    pub sequence: Sequence,
    /// Changed pages of the framework's own.
    pub sessions: PageChanges,
    /// Changed pages of the application.
    pub application: PageChanges,
}

/// A state that cannot go on. The replica must stop: its state would differ from the others'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// A slot was applied out of order: a defect of the host.
    #[error("slot {found} applied after slot {last}")]
    OutOfOrder {
        /// The last slot applied.
        last: Sequence,
        /// The slot that came.
        found: Sequence,
    },
    /// A page of the framework's own that no replica of this cluster and version writes.
    #[error("state page {0} is not of this cluster and version")]
    Foreign(usize),
    /// The framework's own pages do not fit: a defect of the constants.
    #[error("state page: {0}")]
    Page(#[from] PageError),
}

/// Sessions, agreed time and application as one object with one owner.
pub struct ReplicatedState {
    cluster: Arc<Cluster>,
    application: Box<dyn Application>,
    last_applied: Sequence,
    time: WallTime,
    sessions: Vec<Session>,
    /// Page 0 of the framework's tree is the head; a client's numbers follow at `1 + client * W`.
    session_pages: Pages,
    application_pages: Pages,
}

impl ReplicatedState {
    /// The state before slot 1.
    pub fn new(cluster: Arc<Cluster>, mut application: Box<dyn Application>) -> Self {
        let application_pages = Pages::new();
        application.restore(&application_pages);
        let sessions = cluster.clients().iter().map(|_| Session::default()).collect();
        ReplicatedState {
            cluster,
            application,
            last_applied: Sequence(0),
            time: WallTime(0),
            sessions,
            session_pages: Pages::new(),
            application_pages,
        }
    }

    /// The last slot applied.
    pub fn last_applied(&self) -> Sequence {
        self.last_applied
    }

    /// The agreed time after it.
    pub fn time(&self) -> WallTime {
        self.time
    }

    /// The application, for reading.
    pub fn application(&self) -> &dyn Application {
        &*self.application
    }

    /// Applies the batch of the next slot; `None` is the null request, which changes nothing but the slot.
    ///
    /// # Errors
    /// A slot out of order; nothing is changed then. A page of the framework's own that does not fit.
    pub fn apply(
        &mut self,
        sequence: Sequence,
        batch: Option<&Batch>,
        view: View,
    ) -> Result<Applied, StateError> {
        if sequence != self.last_applied.next() {
            return Err(StateError::OutOfOrder { last: self.last_applied, found: sequence });
        }
        self.last_applied = sequence;
        let mut applied = Applied::default();
        let Some(batch) = batch else {
            return Ok(applied);
        };
        // Made monotone here and not at the vote: a test at the vote can stop a cluster without any fault.
        self.time = self.time.max(batch.time());
        for (index, request) in (0_u32..).zip(batch.requests()) {
            let mut context = Context {
                epoch: self.cluster.epoch(),
                cluster: self.cluster.id(),
                sequence,
                time: self.time,
                client: request.client(),
                number: request.number(),
                batch: batch.digest(),
                request: index,
                operation: 0,
            };
            if let Some(reply) = self.apply_request(&mut context, request, view, &mut applied)? {
                applied.replies.push(reply);
            }
        }
        Ok(applied)
    }

    fn apply_request(
        &mut self,
        context: &mut Context,
        request: &Request,
        view: View,
        applied: &mut Applied,
    ) -> Result<Option<Reply>, StateError> {
        let (client, number) = (request.client(), request.number());
        match self.answer(client, number, request.digest()) {
            None => return Ok(None),
            Some(Some(answer)) => return Ok(Some(reply(request, answer, view))),
            Some(None) => {}
        }
        let outcomes = execute(&mut *self.application, self.cluster.constants(), context, request);
        let answer = Answer::Executed(outcomes);
        let kept = Kept { number, digest: request.digest(), answer: answer.clone() };
        let window = self.cluster.constants().client_window;
        let Some(session) = self.session_mut(client) else { return Ok(None) };
        // Pages must be a function of the state, not of when they were last written: a number that falls
        // out of the window changes its page like one that comes in.
        let place = |number: RequestNumber| number.0.checked_rem(window);
        for dropped in session.record(kept, window) {
            if place(dropped) != place(number) {
                self.write_session_page(client, dropped)?;
            }
        }
        // Here and not at the checkpoint, which would hold up the slots after it for what thousands of requests did.
        self.write_session_page(client, number)?;
        applied.consumed.push((client, number));
        Ok(Some(reply(request, answer, view)))
    }

    fn session_mut(&mut self, client: ClientId) -> Option<&mut Session> {
        self.sessions.get_mut(usize::try_from(client.0).ok()?)
    }

    /// What the table already says about a request: the kept answer, stale, number used, or nothing.
    /// The outer `None` is a client that is not admitted, which verification excludes.
    fn answer(
        &self,
        client: ClientId,
        number: RequestNumber,
        digest: Digest,
    ) -> Option<Option<Answer>> {
        let session = self.sessions.get(usize::try_from(client.0).ok()?)?;
        Some(match session.known(number, self.cluster.constants().client_window) {
            Known::Free => None,
            Known::Stale => Some(Answer::Stale),
            Known::Kept(kept) if kept.digest == digest => Some(kept.answer.clone()),
            Known::Kept(_) => Some(Answer::NumberUsed),
        })
    }

    /// The reply to a request that was consumed before, for a client that asks again.
    pub fn kept_reply(
        &self,
        client: ClientId,
        number: RequestNumber,
        digest: Digest,
        view: View,
    ) -> Option<Reply> {
        let answer = self.answer(client, number, digest)??;
        Some(Reply { client, number, digest, answer, view })
    }

    /// Hands over what changed since the last call, for [`crate::archive`] to hash: the cost follows the
    /// changes, and execution goes on while they are hashed.
    ///
    /// # Errors
    /// A page of the framework's own that does not fit.
    pub fn freeze(&mut self) -> Result<Frozen, StateError> {
        self.application.checkpoint(&mut self.application_pages);
        let head = wire::encode_bare(&(self.cluster.id(), EXECUTION_VERSION, self.time));
        self.session_pages.write(0, Bytes::from(head))?;
        Ok(Frozen {
            sequence: self.last_applied,
            sessions: self.session_pages.take_changes(),
            application: self.application_pages.take_changes(),
        })
    }

    /// Replaces everything by a proven snapshot, and returns every request number its sessions hold.
    ///
    /// # Errors
    /// Pages that no replica of this cluster and version writes. The state is then unchanged.
    pub fn restore(
        &mut self,
        snapshot: &Snapshot,
    ) -> Result<Vec<(ClientId, RequestNumber)>, StateError> {
        let (time, sessions) = self.read_session_pages(&snapshot.sessions)?;
        self.last_applied = snapshot.sequence;
        self.time = time;
        self.sessions = sessions;
        self.session_pages = snapshot.sessions.to_pages();
        self.application_pages = snapshot.application.to_pages();
        self.application.restore(&self.application_pages);
        let all = (0_u32..).zip(&self.sessions);
        let numbers = all.flat_map(|(client, session)| {
            session.kept.keys().map(move |number| (ClientId(client), *number))
        });
        Ok(numbers.collect())
    }

    fn read_session_pages(&self, tree: &PageTree) -> Result<(WallTime, Vec<Session>), StateError> {
        let head: (Digest, u64, WallTime) =
            wire::decode_bare(&tree.page(0)).map_err(|_| StateError::Foreign(0))?;
        let (cluster, version, time) = head;
        if cluster != self.cluster.id() || version != EXECUTION_VERSION {
            return Err(StateError::Foreign(0));
        }
        let window = self.cluster.constants().client_window;
        let mut sessions: Vec<Session> = self.sessions.iter().map(|_| Session::default()).collect();
        for page in 1..tree.count() {
            let bytes = tree.page(page);
            if bytes.is_empty() {
                continue;
            }
            let kept: Kept = wire::decode_bare(&bytes).map_err(|_| StateError::Foreign(page))?;
            let place = u64::try_from(page - 1).unwrap_or(u64::MAX);
            let client = place.checked_div(window).and_then(|client| usize::try_from(client).ok());
            let session = client.and_then(|client| sessions.get_mut(client));
            let own_place = kept.number.0.checked_rem(window) == place.checked_rem(window);
            match session {
                Some(session) if own_place => {
                    session.top = session.top.max(kept.number);
                    session.kept.insert(kept.number, kept);
                }
                _ => return Err(StateError::Foreign(page)),
            }
        }
        Ok((time, sessions))
    }

    /// A number's page is fixed by the number, so only numbers consumed or dropped change theirs.
    fn write_session_page(
        &mut self,
        client: ClientId,
        number: RequestNumber,
    ) -> Result<(), StateError> {
        let window = self.cluster.constants().client_window;
        let session = usize::try_from(client.0).ok().and_then(|client| self.sessions.get(client));
        let Some(session) = session else { return Ok(()) };
        let place = u64::from(client.0)
            .saturating_mul(window)
            .saturating_add(number.0.checked_rem(window).unwrap_or(0));
        let page = usize::try_from(place.saturating_add(1)).unwrap_or(usize::MAX);
        let kept = session.in_place_of(number, window);
        let bytes = kept.map(wire::encode_bare).unwrap_or_default();
        self.session_pages.write(page, Bytes::from(bytes))?;
        Ok(())
    }
}

fn reply(request: &Request, answer: Answer, view: View) -> Reply {
    Reply {
        client: request.client(),
        number: request.number(),
        digest: request.digest(),
        answer,
        view,
    }
}

/// Executes a request's operations in order, each with its own outcome, within the results bound.
fn execute(
    application: &mut dyn Application,
    constants: &Constants,
    context: &mut Context,
    request: &Request,
) -> Outcomes {
    let operations = request.operations();
    let room = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
    let each_min = room(Constants::OUTCOME_BYTES_MIN);
    // Every operation has the least an outcome takes reserved; the rest goes to whoever comes first.
    let mut spare = room(constants.results_bytes_max)
        .saturating_sub(operations.count().saturating_mul(each_min));
    let each = (0_u32..).zip(operations.iter()).map(|(index, operation)| {
        context.operation = index;
        let (extra, outcome) = match application.execute(context, operation) {
            Ok(result) => (result.len(), Outcome::Done(result)),
            Err(refusal) => (refusal.reason().len(), Outcome::Refused(refusal)),
        };
        match spare.checked_sub(extra) {
            Some(left) => {
                spare = left;
                outcome
            }
            None => Outcome::ResultTooLong,
        }
    });
    each.collect()
}

#[cfg(test)]
#[path = "state_test.rs"]
mod tests;
