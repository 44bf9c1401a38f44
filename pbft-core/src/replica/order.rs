//! Request, pre-prepare, prepare, commit (Castro and Liskov 1999, section 4.2).

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{
    Action, Batch, Misbehavior, Outbox, Place, Reason, Record, Replica, Sequence, Signed,
    Statement, Time, To, Verdict, View, Vote, WriteId,
};
use crate::certificate::{CommitCertificate, PreparedCertificate};
use crate::message::{BATCH_BYTES, Message, Request};
use crate::window::{Accepted, Votes};

impl Replica {
    // --- Requests ---

    pub(super) fn on_request(&mut self, now: Time, request: Request, out: &mut Outbox) -> Verdict {
        let (client, number) = (request.client(), request.number());
        if self.mirror.is_consumed(client, number) {
            // A state known to be wrong answers nobody.
            if !self.is_diverged() {
                let (digest, view) = (request.digest(), self.views.active);
                out.push(Action::Answer { client, number, digest, view });
            }
            return Verdict::Ignored(Reason::Consumed);
        }
        match self.pending.admits(&request, &self.limits, self.cluster.constants()) {
            Err(Reason::Busy) => {
                out.push(Action::Busy { client, number });
                Verdict::Ignored(Reason::Busy)
            }
            Err(reason) => {
                if reason == Reason::Duplicate {
                    self.relay(now, request, out);
                }
                Verdict::Ignored(reason)
            }
            Ok(()) => {
                self.pending.push(request.clone());
                self.relay(now, request, out);
                Verdict::Accepted
            }
        }
    }

    /// A backup passes a client's request on to the primary (PITFALLS B8).
    fn relay(&mut self, now: Time, request: Request, out: &mut Outbox) {
        let primary = self.cluster.primary(self.views.active);
        if primary != self.id
            && !self.is_changing()
            && self.pending.relay_due(&request, now.instant, self.limits.repair_delay)
        {
            out.push(Action::Relay { to: To::One(primary), message: Message::Request(request) });
        }
    }

    // --- Proposing ---

    /// Nothing more is at hand: a primary proposes what waits. So the load makes the batches: one request
    /// when idle, many when requests arrive faster than they are checked. While enough slots are in flight,
    /// requests wait. It stops at its own h + L.
    ///
    /// The host calls it whenever it has delivered all that had arrived, and at the latest after a bounded
    /// number of inputs. A replica whose host forgets it proposes nothing and is suspected.
    pub fn propose(&mut self, now: Time, out: &mut Outbox) {
        if self.halted.is_some()
            || !self.is_primary()
            || self.is_changing()
            || !self.may_promise_in(self.views.active)
        {
            return;
        }
        while self.may_propose() {
            let requests = self.next_batch();
            if requests.is_empty() {
                return;
            }
            let batch = Arc::new(Batch::new(now.wall, requests));
            let sequence = self.next_proposal;
            self.next_proposal = sequence.next();
            let vote = Vote { view: self.views.active, sequence, digest: batch.digest() };
            let after = self.vote_after(sequence);
            self.say(after, Statement::PrePrepare(vote), Some(batch), out);
        }
    }

    fn may_propose(&self) -> bool {
        let in_flight = self.next_proposal.since(self.dispatched.next());
        let (requests_max, bytes_max) = self.batch_limits();
        usize::try_from(in_flight).is_ok_and(|slots| slots < self.limits.slots_in_flight_max)
            && self.next_proposal <= self.window.high()
            && self.may_vote(self.next_proposal)
            // Decided already, in a later view: nothing is proposed against a decision.
            && self.window.slot(self.next_proposal).is_none_or(|slot| slot.committed.is_none())
            && self.pending.are_worth_a_slot(requests_max, bytes_max)
    }

    fn next_batch(&mut self) -> Vec<Request> {
        let (most, mut room) = self.batch_limits();
        let mut requests = Vec::new();
        while requests.len() < most
            && let Some(request) = self.pending.pop(room)
        {
            room = room.saturating_sub(request.wire_bytes());
            requests.push(request);
        }
        requests
    }

    /// The most requests and the most bytes of them that fit one batch.
    fn batch_limits(&self) -> (usize, usize) {
        let constants = self.cluster.constants();
        let limit = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
        let bytes = limit(constants.batch_bytes_max).saturating_sub(BATCH_BYTES);
        (limit(constants.batch_requests_max), bytes)
    }

    /// The stable checkpoint that must be durable before a PrePrepare or Prepare for `sequence` is said
    /// (PROTOCOL section 4).
    pub(super) fn floor(&self, sequence: Sequence) -> Sequence {
        sequence.minus(2 * self.cluster.constants().window)
    }

    /// The write after which a PrePrepare or Prepare for `sequence` may be said: that proof, and the
    /// NewView of the active view.
    fn vote_after(&self, sequence: Sequence) -> WriteId {
        self.views.write.max(self.journal.proving(self.floor(sequence)))
    }

    /// Where a statement for `sequence` in `view` belongs, if anywhere.
    fn open_place(&self, view: View, sequence: Sequence) -> Result<Place, Reason> {
        if view != self.views.active || self.is_changing() {
            return Err(Reason::OtherView);
        }
        match self.window.place(sequence) {
            Place::Above => Err(Reason::AboveWindow),
            place => Ok(place),
        }
    }

    // --- PrePrepare ---

    pub(super) fn wants_proposal(
        &self,
        vote: &Vote,
        batch: Option<&Arc<Batch>>,
    ) -> Result<(), Reason> {
        let place = self.open_place(vote.view, vote.sequence)?;
        if place == Place::Below {
            return Err(Reason::BelowWindow);
        }
        let Some(slot) = self.window.slot(vote.sequence) else {
            return if batch.is_some() { Ok(()) } else { Err(Reason::NoBody) };
        };
        if let Some(accepted) = &slot.accepted {
            // A differing second one is wanted as evidence.
            let same = accepted.vote == *vote;
            return if same { Err(Reason::Duplicate) } else { Ok(()) };
        }
        // What the NewView names is accepted with or without its body; anything else is wanted as evidence.
        if slot.carried.is_some() {
            return Ok(());
        }
        if place == Place::Ahead && slot.early.is_some() {
            return Err(Reason::AboveWindow);
        }
        if batch.is_none() && slot.body_of(&vote.digest).is_none() {
            return Err(Reason::NoBody);
        }
        Ok(())
    }

    pub(super) fn on_bare_pre_prepare(
        &mut self,
        now: Time,
        vote: Vote,
        signed: Signed,
        out: &mut Outbox,
    ) -> Verdict {
        let slot = self.window.slot(vote.sequence);
        if let Some(accepted) = slot.and_then(|slot| slot.accepted.clone()) {
            return self.accuse(now, accepted.signed, signed, out);
        }
        if slot.is_some_and(|slot| slot.carried.is_some()) {
            return self.on_carried(now, vote, signed, out);
        }
        match slot.and_then(|slot| slot.body_of(&vote.digest)).cloned() {
            Some(body) => self.on_proposal(now, signed, body, out),
            None => Verdict::Ignored(Reason::NoBody),
        }
    }

    /// A slot that the NewView names: exactly its digest, body at hand or not. Only the order is agreed on
    /// again; what was executed is not executed again (PITFALLS D9), and its time is not judged (D10).
    fn on_carried(&mut self, now: Time, vote: Vote, signed: Signed, out: &mut Outbox) -> Verdict {
        let body = self.body(vote.sequence, &vote.digest).map(Arc::clone);
        let slot = self.window.slot_mut(vote.sequence);
        if slot.carried != Some(vote.digest) {
            if let Some(new_view) = self.views.new_view.clone() {
                self.accuse(now, new_view, signed, out);
            }
            return Verdict::Refused(Misbehavior::ContradictsNewView(vote.sequence));
        }
        self.accept(now, vote, signed, body, true, out);
        Verdict::Accepted
    }

    /// Takes a PrePrepare for its slot's own, and says Prepare unless this replica is its author or holds
    /// its vote back.
    fn accept(
        &mut self,
        now: Time,
        vote: Vote,
        signed: Signed,
        body: Option<Arc<Batch>>,
        willing: bool,
        out: &mut Outbox,
    ) {
        let slot = self.window.slot_mut(vote.sequence);
        slot.accepted = Some(Accepted { signed, vote, at: now.instant });
        slot.spoken_at = now.instant;
        if let Some(body) = body {
            slot.keep_body(body);
        }
        self.show_split(vote.sequence, out);
        self.watch_for_proposals(vote.sequence, true);
        if willing && !self.is_primary() && !self.is_changing() && self.may_vote(vote.sequence) {
            let after = self.vote_after(vote.sequence);
            self.say(after, Statement::Prepare(vote), None, out);
        }
        self.advance(now, vote.sequence, out);
    }

    pub(super) fn on_proposal(
        &mut self,
        now: Time,
        signed: Signed,
        batch: Arc<Batch>,
        out: &mut Outbox,
    ) -> Verdict {
        let Statement::PrePrepare(vote) = signed.statement else {
            return Verdict::Ignored(Reason::Unexpected);
        };
        let place = self.window.place(vote.sequence);
        if let Some(slot) = self.window.slot(vote.sequence) {
            if let Some(accepted) = &slot.accepted {
                return self.accuse(now, accepted.signed.clone(), signed, out);
            }
            if slot.carried.is_some() {
                return self.on_carried(now, vote, signed, out);
            }
            if let Some(decided) = &slot.committed
                && decided.vote.digest != vote.digest
            {
                // Never vote against a decision, in any view (PROTOCOL section 3, rule 6).
                return Verdict::Refused(Misbehavior::ContradictsDecision(vote.sequence));
            }
        }
        if place == Place::Ahead {
            self.window.slot_mut(vote.sequence).early = Some((signed, batch));
            return Verdict::Accepted;
        }
        // A clock that disagrees withholds this replica's vote and nothing more: the proposal stands if
        // enough others find it fresh.
        let fresh = batch.time().distance(now.wall) <= self.limits.clock_tolerance;
        self.accept(now, vote, signed, Some(batch), fresh, out);
        Verdict::Accepted
    }

    /// Takes up proposals that were held until h moved.
    pub(super) fn take_early(&mut self, now: Time, out: &mut Outbox) {
        let high = self.window.high();
        let due: Vec<Sequence> = self
            .window
            .slots()
            .filter(|(sequence, slot)| *sequence <= high && slot.early.is_some())
            .map(|(sequence, _)| sequence)
            .collect();
        for sequence in due {
            if let Some((signed, batch)) = self.window.slot_mut(sequence).early.take()
                && self.window.place(sequence) == Place::Inside
            {
                self.on_proposal(now, signed, batch, out);
            }
        }
        // Votes for slots that were ahead may already be complete.
        self.advance_open(now, out);
    }

    fn advance_open(&mut self, now: Time, out: &mut Outbox) {
        let high = self.window.high();
        let open: Vec<Sequence> = self
            .window
            .slots()
            .filter(|(sequence, slot)| {
                *sequence <= high && slot.prepared_in(self.views.active).is_none()
            })
            .map(|(sequence, _)| sequence)
            .collect();
        for sequence in open {
            self.advance(now, sequence, out);
        }
    }

    // --- Prepare and Commit ---

    pub(super) fn wants_vote(&self, signed: &Signed) -> Result<(), Reason> {
        let (vote, commit) = match &signed.statement {
            Statement::Prepare(vote) => (vote, false),
            Statement::Commit(vote) => (vote, true),
            _ => return Err(Reason::Unexpected),
        };
        match self.open_place(vote.view, vote.sequence)? {
            // Checkpoints may be stable before this replica has heard a quorum of Commits: the last of
            // them still decide the slot here.
            Place::Below
                if commit && self.window.keeps_certificate(vote.sequence, self.executed) => {}
            Place::Below => return Err(Reason::BelowWindow),
            Place::Above | Place::Inside | Place::Ahead => {}
        }
        let Some(slot) = self.window.slot(vote.sequence) else {
            return Ok(());
        };
        let (votes, complete) = if commit {
            (&slot.commits, slot.committed.is_some())
        } else {
            (&slot.prepares, slot.prepared_in(vote.view).is_some())
        };
        match votes.of(signed.sender) {
            Some((held, _)) if held == vote => Err(Reason::Duplicate),
            // A differing second vote is wanted as evidence.
            Some(_) => Ok(()),
            // The own vote is kept even when it comes late, to be repeated to those who lack it.
            None if complete && signed.sender != self.id => Err(Reason::Enough),
            None => Ok(()),
        }
    }

    pub(super) fn on_vote(
        &mut self,
        now: Time,
        vote: Vote,
        signed: Signed,
        out: &mut Outbox,
    ) -> Verdict {
        let commit = matches!(signed.statement, Statement::Commit(_));
        let sender = signed.sender;
        if let Some(slot) = self.window.slot(vote.sequence)
            && let Some(first) = slot.vote_of(sender, commit)
        {
            return self.accuse(now, first, signed, out);
        }
        let own = sender == self.id;
        let slot = self.window.slot_mut(vote.sequence);
        let votes: &mut Votes = if commit { &mut slot.commits } else { &mut slot.prepares };
        votes.insert(sender, vote, signed.signature);
        if own {
            slot.spoken_at = now.instant;
        }
        self.show_split(vote.sequence, out);
        if commit && !own {
            self.watch_for_proposals(vote.sequence, false);
        }
        self.advance(now, vote.sequence, out);
        Verdict::Accepted
    }

    /// Draws every conclusion that a slot now allows: prepared, decided, executable.
    pub(super) fn advance(&mut self, now: Time, sequence: Sequence, out: &mut Outbox) {
        // A body that comes between views makes no certificate any more: the ViewChange is said without it.
        if self.window.place(sequence) == Place::Inside && !self.is_changing() {
            self.prepare(sequence, out);
        }
        self.decide(now, sequence, out);
        self.execute_ready(out);
    }

    /// So many writes may wait for the disk before no more batches are given to it.
    fn writes_waiting_max(&self) -> u64 {
        4 * self.cluster.constants().window
    }

    /// The disk has taken what waited: certificates that were left out for that are made now.
    pub(super) fn prepare_again(&mut self, waited: u64, now: Time, out: &mut Outbox) {
        let most = self.writes_waiting_max();
        if waited >= most && self.journal.waiting() < most {
            self.advance_open(now, out);
        }
    }

    /// *Prepared*: the PrePrepare, its body, and matching Prepares of Q - 1 distinct backups. The Commit
    /// waits for the certificate to be durable.
    fn prepare(&mut self, sequence: Sequence, out: &mut Outbox) {
        // The others can go on without this replica, for as long as its disk takes: what waits is bounded all
        // the same. Without a certificate nothing is said, and the slots are looked at again (PITFALLS H7).
        if self.journal.waiting() >= self.writes_waiting_max() {
            return;
        }
        let needed = self.cluster.quorum() - 1;
        let slot = self.window.slot_mut(sequence);
        let Some(accepted) = &slot.accepted else {
            return;
        };
        let vote = accepted.vote;
        if slot.prepared_in(vote.view).is_some() {
            return;
        }
        let Some(prepares) = slot.prepares.matching(&vote, needed) else {
            return;
        };
        // Without its body a certificate is set aside: it replaces none, leads to no Commit and goes into
        // no ViewChange. Else a digest that nobody can supply would be carried for ever.
        if !slot.has_body(&vote.digest) {
            return;
        }
        let batch = slot.body_of(&vote.digest).cloned();
        let certificate =
            PreparedCertificate { vote, pre_prepare: accepted.signed.signature, prepares };
        slot.prepared = Some(certificate.clone());
        let record = Record::Prepared { certificate, batch };
        let id = self.journal.persist(record, out);
        self.say(id, Statement::Commit(vote), None, out);
    }

    /// *Decided*: Q matching Commits, whether or not the slot is prepared here.
    fn decide(&mut self, now: Time, sequence: Sequence, out: &mut Outbox) {
        let quorum = self.cluster.quorum();
        let Some(slot) = self.window.slot(sequence) else {
            return;
        };
        if slot.committed.is_some() {
            return;
        }
        let complete = slot
            .commits
            .votes()
            .find_map(|vote| Some((*vote, slot.commits.matching(vote, quorum)?)));
        if let Some((vote, commits)) = complete {
            self.adopt_certificate(now, CommitCertificate { vote, commits }, None, out);
        }
    }

    // --- Certificates of others ---

    pub(super) fn wants_certificate(&self, vote: &Vote) -> Result<(), Reason> {
        if vote.sequence <= self.executed {
            return Err(Reason::BelowWindow);
        }
        if !self.window.keeps_certificate(vote.sequence, self.executed) {
            return Err(Reason::AboveWindow);
        }
        let decided = self.window.slot(vote.sequence).and_then(|slot| slot.decided());
        match decided {
            Some((held, _)) if held.vote.digest == vote.digest => Err(Reason::Duplicate),
            _ => Ok(()),
        }
    }

    pub(super) fn on_certificate(
        &mut self,
        now: Time,
        certificate: CommitCertificate,
        batch: Option<Arc<Batch>>,
        out: &mut Outbox,
    ) -> Verdict {
        let sequence = certificate.vote.sequence;
        let verdict = self.adopt_certificate(now, certificate, batch, out);
        self.execute_ready(out);
        if self.halted.is_some() {
            return Verdict::Refused(Misbehavior::ContradictsDecision(sequence));
        }
        verdict
    }

    fn adopt_certificate(
        &mut self,
        now: Time,
        certificate: CommitCertificate,
        batch: Option<Arc<Batch>>,
        out: &mut Outbox,
    ) -> Verdict {
        let sequence = certificate.vote.sequence;
        self.account_for_votes(now, &certificate.vote, &certificate.commits, true, out);
        let slot = self.window.slot_mut(sequence);
        if let Some(held) = &slot.committed
            && held.vote.digest != certificate.vote.digest
        {
            self.halt(super::Halt::TwoDecisions { sequence }, out);
            return Verdict::Refused(Misbehavior::ContradictsDecision(sequence));
        }
        if slot.committed.is_none() {
            if let Some(accepted) = &slot.accepted {
                self.pace.note_slot(now.instant.since(accepted.at));
            }
            slot.spoken_at = now.instant;
            slot.committed = Some(certificate);
        }
        if let Some(batch) = batch {
            slot.keep_body(batch);
        }
        Verdict::Accepted
    }
}
