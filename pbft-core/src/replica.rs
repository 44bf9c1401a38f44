//! One replica: inputs in, actions out.
//!
//! [`Replica::step`] is a function of the replica, the time and the input. It reads no clock and keeps no
//! queue of its own but what must wait for the journal. Each handler is guard, change, effects: a guard
//! that refuses changes nothing.
//!
//! The replica holds no key. What it says goes out unsigned ([`Action::Say`]); the edge signs and sends it
//! and delivers the signed copy back, so own votes and foreign votes take one path.

use alloc::sync::Arc;

use crate::cluster::Cluster;
use crate::evidence::EvidenceStore;
use crate::limits::{ConfigError, Limits};
use crate::message::{Batch, Message, ReplicaSet, Signed, Statement, Vote};
use crate::signed::Verified;
pub use crate::types::Standing;
use crate::types::{ClientId, Instant, ReplicaId, RequestNumber, Sequence, Time, View, WriteId};

use crate::window::{Place, Window};

mod account;
mod amnesia;
mod catch_up;
mod checkpoint;
mod durable;
mod execute;
mod fetch;
mod footprint;
mod history;
mod io;
mod mirror;
mod order;
mod own_key;
mod pace;
mod pending;
mod recover;
mod repair;
mod timer;
mod view;
mod view_change;

use account::Shown;
use amnesia::Amnesia;
use catch_up::Restoring;
use checkpoint::Checkpoints;
use durable::Journal;
use fetch::Fetcher;
pub use footprint::Footprint;
use history::History;
pub use io::{Action, Halt, Input, Misbehavior, Outbox, Reason, Record, To, Verdict};
use mirror::Mirror;
use pace::Pace;
use pending::Pending;
use recover::Abstention;
pub use recover::RecoverError;
use repair::Repair;
use timer::Timer;
use view::Views;
pub use view::{Cause, ViewEntered};

/// A replica as a state machine.
#[derive(Clone, Debug)]
pub struct Replica {
    id: ReplicaId,
    cluster: Arc<Cluster>,
    limits: Limits,
    standing: Standing,
    amnesia: Amnesia,
    halted: Option<Halt>,

    // The order.
    views: Views,
    timer: Timer,
    pace: Pace,
    abstention: Abstention,
    window: Window,
    history: History,
    /// The next slot the primary proposes for.
    next_proposal: Sequence,
    /// The last slot given to the owner of the state.
    dispatched: Sequence,
    /// The last slot the owner of the state reported done.
    executed: Sequence,

    checkpoints: Checkpoints,
    pending: Pending,
    mirror: Mirror,
    journal: Journal,
    evidence: EvidenceStore,
    shown: Shown,
    repair: Repair,
    fetcher: Fetcher,

    // Being left behind.
    restoring: Option<Restoring>,
    /// The last slot dispatched when it was last seen to move, and when, while below h.
    lagging: Option<(Sequence, Instant)>,
    /// The last checkpoint at which the own state was the agreed one.
    settled: Sequence,
}

/// What a replica is doing, for people and tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The view it is in, or was in last.
    pub view: View,
    /// The view it votes for; above `view` while it is between views.
    pub voted_view: View,
    /// How many views it has entered since it started.
    pub view_changes: u64,
    /// Why it left a view last.
    pub cause: Option<Cause>,
    /// Whether the state of a stable checkpoint is being fetched.
    pub restoring: bool,
    /// How long its oldest request, or the next view, may take now.
    pub timeout: core::time::Duration,
    /// The last slot executed.
    pub executed: Sequence,
    /// The last stable checkpoint.
    pub stable: Sequence,
    /// Pieces of evidence held.
    pub evidence: usize,
    /// Requests waiting.
    pub pending: usize,
    /// Why it stopped, if it did.
    pub halted: Option<Halt>,
    /// Whether it votes.
    pub standing: Standing,
}

impl Replica {
    /// A replica that has never run before, in view 0 with nothing ordered.
    ///
    /// # Errors
    /// `id` is no member, or the limits do not hold.
    pub fn new(id: ReplicaId, cluster: Arc<Cluster>, limits: Limits) -> Result<Self, ConfigError> {
        if !cluster.contains(id) {
            let remedy = alloc::format!("the cluster has replicas 0 to {}", cluster.n() - 1);
            return Err(ConfigError::new("replica", id, remedy));
        }
        limits.check_for(&cluster)?;
        let constants = cluster.constants();
        Ok(Replica {
            id,
            standing: Standing::Voting,
            amnesia: Amnesia::default(),
            halted: None,
            views: Views::default(),
            timer: Timer::new(limits.view_timeout, limits.view_timeout_max),
            pace: Pace::default(),
            abstention: Abstention::default(),
            window: Window::new(constants.window),
            history: History::default(),
            next_proposal: Sequence(1),
            dispatched: Sequence(0),
            executed: Sequence(0),
            checkpoints: Checkpoints::new(constants),
            pending: Pending::default(),
            mirror: Mirror::new(constants.client_window),
            journal: Journal::default(),
            evidence: EvidenceStore::new(
                limits.evidence_max,
                limits.evidence_bytes_max,
                cluster.n(),
            ),
            shown: Shown::default(),
            repair: Repair::default(),
            fetcher: Fetcher::default(),
            restoring: None,
            lagging: None,
            settled: Sequence(0),
            cluster,
            limits,
        })
    }

    /// A replica that ran before and has lost what it promised: [`Standing::NonVoting`], until nothing new can
    /// contradict it. A host with a new store in place of the lost one writes [`Record::Lost`] into it first
    /// and uses [`Replica::recover`].
    ///
    /// # Errors
    /// As [`Replica::new`].
    pub fn with_lost_store(
        id: ReplicaId,
        cluster: Arc<Cluster>,
        limits: Limits,
    ) -> Result<Self, ConfigError> {
        let mut replica = Replica::new(id, cluster, limits)?;
        replica.standing = Standing::NonVoting;
        Ok(replica)
    }

    /// Takes one input and puts what the host must do into `out`, in order.
    pub fn step(&mut self, now: Time, input: Input, out: &mut Outbox) -> Verdict {
        if self.halted.is_some() {
            return Verdict::Ignored(Reason::Halted);
        }
        if self.timer.note_step(now.instant) {
            self.pace.forgive();
        }
        let verdict = self.take(now, input, out);
        self.retime(now, out);
        verdict
    }

    fn take(&mut self, now: Time, input: Input, out: &mut Outbox) -> Verdict {
        match input {
            Input::Start => {
                self.amnesia.start(now.wall);
                self.say_again(out);
                self.fetch_bodies(now.instant, out);
                self.say_status(now.instant, To::All, out);
                Verdict::Accepted
            }
            Input::Connected(peer) => {
                self.say_status(now.instant, To::One(peer), out);
                Verdict::Accepted
            }
            Input::Wake => self.on_wake(now, out),
            Input::Durable(id) => self.on_durable(now, id, out),
            Input::Executed { sequence, consumed } => self.on_executed(sequence, &consumed),
            Input::Snapshotted { sequence, digest } => self.on_snapshotted(sequence, digest, out),
            Input::Restored { sequence, digest, consumed } => {
                self.on_restored(now, sequence, digest, &consumed, out)
            }
            Input::VoidNewView(view) => self.on_void_new_view(now, view, out),
            Input::Deliver(verified) => self.on_message(now, verified, out),
        }
    }

    /// When the host should next call with [`Input::Wake`].
    pub fn deadline(&self) -> Option<Instant> {
        if self.halted.is_some() {
            return None;
        }
        let due = [self.repair.deadline(), self.timer.deadline(), self.fetcher.deadline()];
        due.into_iter().flatten().min()
    }

    /// Whether a message could change anything, asked before its signatures are paid for.
    ///
    /// # Errors
    /// Why not. The same guard stands inside [`Replica::step`].
    pub fn wants(&self, message: &Message) -> Result<(), Reason> {
        if self.halted.is_some() {
            return Err(Reason::Halted);
        }
        if self.never_said(message).is_some() {
            return Ok(());
        }
        self.needs(message)
    }

    fn needs(&self, message: &Message) -> Result<(), Reason> {
        match message {
            Message::Statement(signed) => self.wants_statement(signed),
            Message::Proposal { pre_prepare, batch } => match &pre_prepare.statement {
                Statement::PrePrepare(vote) => self.wants_proposal(vote, Some(batch)),
                // Another kind in this place is a forgery, which verification names.
                _ => Ok(()),
            },
            // Also when it is consumed: then the kept reply is repeated.
            Message::Request(_) => Ok(()),
            Message::Committed { certificate, .. } => self.wants_certificate(&certificate.vote),
            Message::Stable(proof) if proof.sequence() <= self.window.stable() => {
                Err(Reason::BelowWindow)
            }
            Message::Stable(_) => Ok(()),
            Message::Body { sequence, batch } => self.wants_body(*sequence, batch.digest()),
            Message::Evidence(evidence) => self.wants_evidence(evidence),
            Message::Ask(_) | Message::Part(_) => Err(Reason::Unexpected),
        }
    }

    /// What the replica is doing.
    pub fn summary(&self) -> Summary {
        Summary {
            view: self.views.active,
            voted_view: self.views.voted,
            view_changes: self.views.entered,
            cause: self.views.left.map(|(cause, _)| cause),
            restoring: self.restoring.is_some(),
            timeout: self.timer.timeout,
            executed: self.executed,
            stable: self.window.stable(),
            evidence: self.evidence.len(),
            pending: self.pending.len(),
            halted: self.halted,
            standing: self.shown_standing(),
        }
    }

    /// The slots held, for checkers and tools.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// The evidence held.
    pub fn evidence(&self) -> &EvidenceStore {
        &self.evidence
    }

    /// Which replica this is.
    pub fn id(&self) -> ReplicaId {
        self.id
    }

    /// The view requests are ordered in now, for replies.
    pub fn view(&self) -> View {
        self.views.active
    }

    fn wants_statement(&self, signed: &Signed) -> Result<(), Reason> {
        match &signed.statement {
            Statement::PrePrepare(vote) => self.wants_proposal(vote, None),
            Statement::Prepare(_) | Statement::Commit(_) => self.wants_vote(signed),
            Statement::Checkpoint(checkpoint) => {
                self.checkpoints.wants(signed.sender, checkpoint, self.window.stable())
            }
            Statement::ViewChange(change) => self.wants_view_change(signed, change),
            Statement::NewView(new_view) => self.wants_new_view(signed, new_view.view),
            Statement::Status(_) | Statement::Fetch(_) if signed.sender == self.id => {
                Err(Reason::Own)
            }
            Statement::Status(_) | Statement::Fetch(_) => Ok(()),
        }
    }

    fn on_message(&mut self, now: Time, verified: Verified, out: &mut Outbox) -> Verdict {
        if let Some(verdict) = self.on_own_key(&verified, out) {
            return verdict;
        }
        if let Err(reason) = self.needs(verified.message()) {
            return Verdict::Ignored(reason);
        }
        let scrutiny = verified.scrutiny();
        match verified.into_message() {
            Message::Request(request) => self.on_request(now, request, out),
            Message::Proposal { pre_prepare, batch } => {
                self.on_proposal(now, pre_prepare, batch, out)
            }
            Message::Committed { certificate, batch } => {
                self.on_certificate(now, certificate, batch, out)
            }
            Message::Stable(proof) => self.on_stable(now, proof, out),
            Message::Body { sequence, batch } => self.on_body(now, sequence, batch, out),
            Message::Ask(_) | Message::Part(_) => Verdict::Ignored(Reason::Unexpected),
            Message::Evidence(evidence) => {
                self.keep_evidence(now, &evidence, out);
                Verdict::Accepted
            }
            Message::Statement(signed) => match &signed.statement {
                Statement::PrePrepare(vote) => {
                    let vote = *vote;
                    self.on_bare_pre_prepare(now, vote, signed, out)
                }
                Statement::Prepare(vote) | Statement::Commit(vote) => {
                    let vote = *vote;
                    self.on_vote(now, vote, signed, out)
                }
                Statement::Checkpoint(checkpoint) => {
                    let checkpoint = *checkpoint;
                    self.on_checkpoint(now, checkpoint, &signed, out)
                }
                Statement::Status(status) => self.on_status(now, signed.sender, status, out),
                Statement::Fetch(fetch) => self.on_fetch(now.instant, signed.sender, fetch, out),
                Statement::ViewChange(change) => {
                    self.on_view_change(now, &signed, change, scrutiny, out)
                }
                Statement::NewView(new_view) => {
                    let new_view = Arc::clone(new_view);
                    self.on_new_view(now, signed, &new_view, out)
                }
            },
        }
    }

    fn on_durable(&mut self, now: Time, id: WriteId, out: &mut Outbox) -> Verdict {
        let waited = self.journal.waiting();
        if self.journal.durable(id, out) {
            self.prepare_again(waited, now, out);
            Verdict::Accepted
        } else {
            Verdict::Ignored(Reason::Unexpected)
        }
    }

    /// The one place from which promises leave: nothing of a replica that may have forgotten some, and
    /// nothing of a view it may have forgotten some of.
    fn say(
        &mut self,
        after: WriteId,
        statement: Statement,
        batch: Option<Arc<Batch>>,
        out: &mut Outbox,
    ) {
        let view = statement.view().unwrap_or(View::MAX);
        if self.may_promise_in(view) && !self.is_diverged() {
            let after = after.max(self.amnesia.write);
            self.journal.after(after, Action::Say { to: To::All, statement, batch }, out);
        }
    }

    fn halt(&mut self, halt: Halt, out: &mut Outbox) {
        self.halted = Some(halt);
        self.journal.silence();
        out.push(Action::Halt(halt));
    }

    fn is_primary(&self) -> bool {
        self.cluster.primary(self.views.active) == self.id
    }

    fn everyone(&self) -> ReplicaSet {
        self.cluster.replicas().collect()
    }
}

#[cfg(test)]
#[path = "replica_test.rs"]
mod tests;

#[cfg(test)]
#[path = "replica/review_test.rs"]
mod review_tests;
