//! Leaving a view and entering the next (Castro and Liskov 1999, section 4.4; PROTOCOL section 7).
//!
//! ```text
//!   r0 (primary of v)   ----- stops -----
//!   r1 (primary of w)   time-out  ViewChange(w) ->  <- Q of them   NewView(w), PrePrepare(w, s, d) ...
//!   r2                  time-out  ViewChange(w) ->                 checks it, enters w, Prepare(w, s, d) ...
//!   r3                            joins at f + 1                   the same
//! ```

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::timer::Awaited;
use super::view::{Cause, Heard, ViewEntered};
use super::{
    Action, Batch, Halt, Instant, Message, Misbehavior, Outbox, Place, Reason, Record, Replica,
    Sequence, Signed, Standing, Statement, Time, To, Verdict, View,
};
use crate::message::{NewView, SignedViewChange, ViewChange};
use crate::new_view::{self, Conflict, Plan};
use crate::signed::Scrutiny;
use crate::types::Digest;

impl Replica {
    /// Whether this replica has left its view and not entered another.
    pub fn is_changing(&self) -> bool {
        self.views.voted > self.views.active
    }

    // --- Leaving ---

    /// The timer fired (PITFALLS E3: it covers the whole way to execution).
    pub(super) fn on_timeout(&mut self, now: Time, awaited: Awaited, out: &mut Outbox) {
        let (view, cause) = match awaited {
            Awaited::Request(client, number, view) => {
                (view, Cause::RequestTimeout { client, number })
            }
            Awaited::NewView(view) => (view, Cause::NewViewTimeout(view)),
        };
        let voted = self.views.voted;
        if let Some(next) = view.next() {
            self.leave_for(now, next, cause, out);
        }
        if self.views.voted == voted {
            // There is no view to go to: near the integer limit, which no honest cluster reaches.
            self.timer.restart(now.instant);
        }
    }

    /// Votes for `view`. From here on nothing of lower views is accepted but what proves itself (PITFALLS
    /// D17); what is decided goes on being executed.
    pub(super) fn leave_for(&mut self, now: Time, view: View, cause: Cause, out: &mut Outbox) {
        // Of the views that a lost store may have been about nothing is said: the vote goes to the next.
        let silent = self.amnesia.silent_through.and_then(View::next).unwrap_or_default();
        let view = view.max(silent);
        if self.standing != Standing::Voting || view <= self.views.voted || view > View::MAX {
            return;
        }
        let since = match self.views.left {
            Some((_, since)) if self.is_changing() => since,
            _ => now.instant,
        };
        self.views.left = Some((cause, since));
        self.views.voted = view;
        self.views.bodies.clear();
        self.timer.double();
        let change = Arc::new(self.view_change(view));
        self.views.own = Some(Arc::clone(&change));
        // The certificates' bodies were appended with them, and `Durable` covers all that came before.
        let id = self.journal.persist(Record::ViewChange(Arc::clone(&change)), out);
        self.say(id, Statement::ViewChange(change), None, out);
    }

    fn view_change(&self, view: View) -> ViewChange {
        let inside = |sequence| self.window.place(sequence) == Place::Inside;
        let slots = self.window.slots().filter(|(sequence, _)| inside(*sequence));
        ViewChange {
            view,
            stable: self.checkpoints.proof.clone(),
            prepared: slots.filter_map(|(_, slot)| slot.prepared.clone()).collect(),
        }
    }

    // --- ViewChanges of others ---

    /// How much of a message must be checked: a ViewChange whole only if this replica may have to build
    /// its next view from it. So each sender can make it pay once for each of its turns.
    pub fn scrutiny(&self, message: &Message) -> Scrutiny {
        match message {
            Message::Statement(Signed { statement: Statement::ViewChange(change), .. })
                if !self.needs_whole(change.view) =>
            {
                Scrutiny::Outer
            }
            _ => Scrutiny::Whole,
        }
    }

    fn needs_whole(&self, view: View) -> bool {
        let turns = u64::try_from(self.cluster.n()).unwrap_or(u64::MAX);
        let next_turn = view >= self.views.voted && view.0 - self.views.voted.0 < turns;
        next_turn && view > self.views.active && self.cluster.primary(view) == self.id
    }

    pub(super) fn wants_view_change(
        &self,
        signed: &Signed,
        change: &Arc<ViewChange>,
    ) -> Result<(), Reason> {
        if change.view <= self.views.active {
            return Err(Reason::OtherView);
        }
        let Some(heard) = self.views.changes.get(&signed.sender) else {
            return Ok(());
        };
        let held = &heard.signed.change;
        if held.view > change.view {
            return Err(Reason::OtherView);
        }
        let enough = heard.whole || !self.needs_whole(change.view);
        if *held == *change && enough { Err(Reason::Duplicate) } else { Ok(()) }
    }

    pub(super) fn on_view_change(
        &mut self,
        now: Time,
        signed: &Signed,
        change: &Arc<ViewChange>,
        scrutiny: Scrutiny,
        out: &mut Outbox,
    ) -> Verdict {
        let sender = signed.sender;
        let whole = scrutiny == Scrutiny::Whole;
        self.account_for_change(now, signed, change, whole, out);
        if let Some(heard) = self.views.changes.get(&sender)
            && heard.signed.change.view == change.view
            && heard.signed.change != *change
        {
            let subject = crate::evidence::subject(signed);
            return subject.map_or(Verdict::Ignored(Reason::Duplicate), |subject| {
                Verdict::Refused(Misbehavior::Equivocation(subject))
            });
        }
        let (change, signature) = (Arc::clone(change), signed.signature);
        if sender == self.id {
            self.views.said_at = now.instant;
        }
        let stable = change.stable.clone();
        let signed = SignedViewChange { sender, change, signature };
        self.views.changes.insert(sender, Heard { signed, whole });
        if whole
            && let Some(proof) = stable
            && proof.sequence() > self.window.stable()
        {
            self.on_stable(now, proof, out);
        }
        self.join(now, out);
        self.start_view(now, out);
        Verdict::Accepted
    }

    /// Joins when f + 1 others have voted for views above the own: the lowest of those f + 1, so that one
    /// traitor cannot drag anyone up (PITFALLS D14).
    fn join(&mut self, now: Time, out: &mut Outbox) {
        if let Some(view) = self.views.supported_by(self.cluster.join(), self.id)
            && view > self.views.voted
        {
            let senders = self.views.senders(view);
            self.leave_for(now, view, Cause::Joined(senders), out);
        }
    }

    // --- Starting a view, as its primary ---

    /// Says NewView once Q ViewChanges are here for which every certified body is at hand.
    pub(super) fn start_view(&mut self, now: Time, out: &mut Outbox) {
        let view = self.views.voted;
        let mine = self.cluster.primary(view) == self.id && self.may_promise_in(view);
        if !self.is_changing() || !mine || self.views.started >= view {
            return;
        }
        let changes = self.complete_changes(view);
        let own = changes.iter().any(|change| change.sender == self.id);
        if changes.len() < self.cluster.quorum() || !own {
            self.fetch_bodies(now.instant, out);
            return;
        }
        match new_view::plan(view, changes.iter().map(|change| &*change.change)) {
            Err(conflict) => self.halt_on(conflict, out),
            Ok(_) => {
                self.views.started = view;
                let new_view = Arc::new(NewView { view, changes });
                let record = Record::NewView { new_view: Arc::clone(&new_view), signature: None };
                self.views.write = self.journal.persist(record, out);
                self.say(self.views.write, Statement::NewView(new_view), None, out);
            }
        }
    }

    /// Q ViewChanges for exactly `view`, the own first among equals, each checked whole and with the body
    /// of every certificate at hand; a sender that does not deliver its bodies is left out. Fewer if
    /// there are not so many.
    fn complete_changes(&self, view: View) -> Vec<SignedViewChange> {
        let usable = |heard: &&Heard| {
            let change = &heard.signed.change;
            let certified = new_view::certified([&**change]);
            heard.whole
                && change.view == view
                && certified.iter().all(|vote| self.has_body(vote.sequence, &vote.digest))
        };
        let own = self.views.changes.get(&self.id).filter(usable);
        let others = self.views.changes.iter().filter(|(sender, _)| **sender != self.id);
        let others = others.map(|(_, heard)| heard).filter(usable);
        let chosen = own.into_iter().chain(others).take(self.cluster.quorum());
        let mut changes: Vec<_> = chosen.map(|heard| heard.signed.clone()).collect();
        changes.sort_by_key(|change| change.sender);
        changes
    }

    /// Whether the body of a certified digest is at hand, or needs not be: null, or at or below h.
    pub(super) fn has_body(&self, sequence: Sequence, digest: &Digest) -> bool {
        *digest == Digest::NULL
            || sequence <= self.window.stable()
            || self.body(sequence, digest).is_some()
    }

    // --- Entering a view ---

    pub(super) fn wants_new_view(&self, signed: &Signed, view: View) -> Result<(), Reason> {
        if view > self.views.active && view >= self.views.voted {
            return Ok(());
        }
        let held = self.views.new_view.as_ref();
        match held {
            // The own one is signed again after a restart.
            None if view == self.views.active && signed.sender == self.id => Ok(()),
            Some(held) if view == self.views.active => {
                // A differing second one is wanted as evidence.
                let same = held.statement == signed.statement;
                if same { Err(Reason::Duplicate) } else { Ok(()) }
            }
            _ => Err(Reason::OtherView),
        }
    }

    pub(super) fn on_new_view(
        &mut self,
        now: Time,
        signed: Signed,
        new_view: &Arc<NewView>,
        out: &mut Outbox,
    ) -> Verdict {
        if new_view.view == self.views.active {
            return match self.views.new_view.clone() {
                Some(first) => self.accuse(now, first, signed, out),
                None => {
                    self.views.new_view = Some(signed);
                    Verdict::Accepted
                }
            };
        }
        self.account_for_new_view(now, new_view, out);
        let changes = new_view.changes.iter().map(|change| &*change.change);
        let plan = match new_view::plan(new_view.view, changes) {
            Ok(plan) => plan,
            Err(conflict) => {
                self.halt_on(conflict, out);
                return Verdict::Refused(Misbehavior::ContradictsDecision(conflict.0));
            }
        };
        if let Some((sequence, decided)) = self.undone_by(&plan) {
            if decided < plan.view {
                self.halt(Halt::TwoDecisions { sequence }, out);
            }
            // Decided in that very view, the slot is named otherwise by another NewView of the same
            // primary, for which one traitor is enough; decided in a later one, this NewView is merely
            // late. It is not entered: nobody votes against a decision.
            if decided > plan.view {
                return Verdict::Ignored(Reason::OtherView);
            }
            return Verdict::Refused(Misbehavior::ContradictsDecision(sequence));
        }
        if let Some(proof) = &plan.stable
            && proof.sequence() > self.window.stable()
        {
            // Behind its start: vote above it at once, execute when the state is here (PITFALLS D12).
            self.adopt_stable(now, proof.clone(), out);
        }
        if signed.sender != self.id {
            let (new_view, signature) = (Arc::clone(new_view), Some(signed.signature));
            self.views.write = self.journal.persist(Record::NewView { new_view, signature }, out);
        }
        self.enter(now, signed, new_view, plan, out);
        Verdict::Accepted
    }

    /// Of the slots that this replica knows decided and the plan would decide otherwise, the one decided in
    /// the lowest view, and that view. Is it lower than the plan's, there are more than f faults (PROTOCOL
    /// section 3, rule 6): the plan had to carry the decision over.
    fn undone_by(&self, plan: &Plan) -> Option<(Sequence, View)> {
        let undone = |(sequence, digest): (&Sequence, &Digest)| {
            let decided = self.window.slot(*sequence)?.committed.as_ref()?.vote;
            (decided.digest != *digest).then_some((*sequence, decided.view))
        };
        plan.digests.iter().filter_map(undone).min_by_key(|(_, view)| *view)
    }

    fn enter(
        &mut self,
        now: Time,
        signed: Signed,
        new_view: &NewView,
        plan: Plan,
        out: &mut Outbox,
    ) {
        let from = self.views.active;
        let left = if self.is_changing() { self.views.left } else { None };
        let (cause, since) = left.unwrap_or((Cause::Followed, now.instant));
        self.views.left = Some((cause, since));
        let view = plan.view;
        self.views.active = view;
        self.views.voted = view;
        self.views.changes.retain(|_, heard| heard.signed.change.view > view);
        self.views.new_view = Some(signed);
        self.views.said_at = now.instant;
        self.views.entered = self.views.entered.saturating_add(1);
        self.pace.enter_view();
        self.window.enter_view(&plan.digests);
        self.next_proposal = plan.max.max(self.window.stable()).next();
        out.push(Action::ViewEntered(ViewEntered {
            view,
            from,
            cause,
            between_micros: micros(now.instant.since(since)),
            timeout_micros: micros(self.timer.timeout),
            senders: new_view.changes.iter().map(|change| change.sender).collect(),
            min: plan.min(),
            max: plan.max,
            nulls: plan.nulls(),
        }));
        self.views.plan = Some(plan);
        self.say_carried(out);
        self.pass_on_requests(now, out);
        self.fetch_bodies(now.instant, out);
        self.execute_ready(out);
    }

    /// The primary says one PrePrepare for each slot of O, without its body.
    pub(super) fn say_carried(&mut self, out: &mut Outbox) {
        if !self.is_primary() {
            return;
        }
        let Some(plan) = &self.views.plan else { return };
        let votes: Vec<_> = plan.votes().collect();
        for vote in votes {
            let after = self.views.write.max(self.journal.proving(self.floor(vote.sequence)));
            self.say(after, Statement::PrePrepare(vote), None, out);
        }
    }

    /// The bodies of O that are at hand.
    fn carried_bodies(&self) -> Vec<Arc<Batch>> {
        let digests = self.views.plan.iter().flat_map(|plan| &plan.digests);
        digests.filter_map(|(sequence, digest)| self.body(*sequence, digest).cloned()).collect()
    }

    /// What is not executed waits again, and the new primary hears of the oldest.
    fn pass_on_requests(&mut self, now: Time, out: &mut Outbox) {
        let most =
            usize::try_from(self.cluster.constants().batch_requests_max).unwrap_or(usize::MAX);
        let oldest = self.pending.requeue(now.instant, most);
        for batch in self.carried_bodies() {
            for request in batch.requests() {
                self.pending.mark_proposed(request.client(), request.number());
            }
        }
        let primary = self.cluster.primary(self.views.active);
        if primary != self.id {
            for request in oldest {
                let message = Message::Request(request);
                out.push(Action::Relay { to: To::One(primary), message });
            }
        }
    }

    /// The primary of the view voted for signed a NewView that does not hold. Its view is given up at once,
    /// but only by those who voted for it and wait for it: otherwise one bad message for view 2^63 would
    /// drag everyone there.
    pub(super) fn on_void_new_view(&mut self, now: Time, view: View, out: &mut Outbox) -> Verdict {
        if !self.is_changing() || !self.timer.awaits(Awaited::NewView(view)) {
            return Verdict::Ignored(Reason::OtherView);
        }
        if let Some(next) = view.next() {
            self.leave_for(now, next, Cause::VoidNewView(view), out);
        }
        Verdict::Accepted
    }

    fn halt_on(&mut self, Conflict(sequence): Conflict, out: &mut Outbox) {
        self.halt(Halt::TwoCertificates { sequence }, out);
    }

    // --- Repair ---

    /// The ViewChanges held and of use, for the own status.
    pub(super) fn view_changes_held(&self) -> Vec<(super::ReplicaId, View)> {
        let useful = self
            .views
            .changes
            .iter()
            .filter(|(_, heard)| heard.whole || !self.needs_whole(heard.signed.change.view));
        useful.map(|(sender, heard)| (*sender, heard.signed.change.view)).collect()
    }

    /// Sends a peer the start of the view it has missed, or the ViewChange it lacks.
    pub(super) fn repair_views(
        &self,
        now: Instant,
        peer: super::ReplicaId,
        status: &crate::message::Status,
        out: &mut Outbox,
    ) {
        if now.since(self.views.said_at) < self.limits.repair_delay {
            return;
        }
        if status.view < self.views.active
            && let Some(new_view) = &self.views.new_view
        {
            let message = Message::Statement(new_view.clone());
            out.push(Action::Relay { to: To::One(peer), message });
        }
        let Some(own) = self.views.changes.get(&self.id) else { return };
        let view = own.signed.change.view;
        let held = status.view_changes.iter().any(|(sender, v)| *sender == self.id && *v >= view);
        if status.view < view && !held {
            let message = Message::Statement(own.signed.to_signed());
            out.push(Action::Relay { to: To::One(peer), message });
        }
    }
}

fn micros(duration: core::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
