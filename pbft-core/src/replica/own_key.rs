//! The own key seen elsewhere: two processes with one identity, a copied directory, or an old backup put
//! back in place (PROTOCOL section 9; PITFALLS L6, G10).
//!
//! A statement of the own key that this replica never said means that another says things in its name, or
//! that it has itself forgotten some. Either way it stops promising. Only what it cannot have said counts:
//! its own old messages come back all the time, and a replay must silence nobody.

use alloc::sync::Arc;

use super::{Action, Outbox, Place, Reason, Record, Replica, Standing, Statement, Verdict, View};
use crate::evidence::Evidence;
use crate::message::{Message, NewView, Signed, Vote};
use crate::signed::Verified;

impl Replica {
    /// The statement inside a message from outside that bears this replica's key and that it cannot have
    /// said.
    pub(super) fn never_said<'a>(&self, message: &'a Message) -> Option<&'a Signed> {
        let foreign =
            |signed: &&Signed| signed.sender == self.id && self.cannot_have_said(&signed.statement);
        match message {
            Message::Evidence(evidence) => Evidence::statements(evidence).find(foreign),
            message => message.signed().filter(foreign),
        }
    }

    /// Whether what this run has said and the journal implies excludes that this replica said `statement`.
    fn cannot_have_said(&self, statement: &Statement) -> bool {
        // Whose store is lost cannot tell, nor can it later of what the lost store was about.
        if !self.may_promise_in(statement.view().unwrap_or(View::MAX)) {
            return false;
        }
        let (active, voted) = (self.views.active, self.views.voted);
        match statement {
            Statement::PrePrepare(vote) | Statement::Prepare(vote) | Statement::Commit(vote) => {
                vote.view > voted
                    || (vote.view == active && self.cannot_have_voted(statement, vote))
            }
            Statement::ViewChange(change) => {
                let own = self.views.own.as_ref().filter(|own| own.view == change.view);
                change.view > voted || own.is_some_and(|own| own != change)
            }
            Statement::NewView(new_view) => {
                let held = match self.views.new_view.as_ref().map(|held| &held.statement) {
                    Some(Statement::NewView(held)) => Some(held),
                    _ => self.views.unsigned.as_ref(),
                };
                let other = |held: &Arc<NewView>| held != new_view;
                new_view.view > voted || (new_view.view == active && held.is_some_and(other))
            }
            Statement::Checkpoint(checkpoint) => {
                let own = self.checkpoints.of(self.id, checkpoint.sequence);
                own.is_some_and(|(own, _)| *own != checkpoint.digest)
            }
            Statement::Status(_) | Statement::Fetch(_) => false,
        }
    }

    /// In the active view: another digest than the own, or a slot for which nothing was said, where what was
    /// said is known.
    fn cannot_have_voted(&self, statement: &Statement, vote: &Vote) -> bool {
        if self.window.place(vote.sequence) != Place::Inside {
            return false;
        }
        let slot = self.window.slot(vote.sequence);
        if let Some(digest) = slot.and_then(|slot| slot.carried) {
            return digest != vote.digest;
        }
        let own = slot.and_then(|slot| match statement {
            Statement::PrePrepare(_) => {
                slot.accepted.as_ref().filter(|_| self.is_primary()).map(|accepted| accepted.vote)
            }
            Statement::Prepare(_) => slot.prepares.of(self.id).map(|(own, _)| *own),
            _ => slot.commits.of(self.id).map(|(own, _)| *own),
        });
        match own {
            Some(own) => own != *vote,
            // What was held back for the journal leaves after the ViewChange too, and is not noted then; nor is
            // what contradicts a decision that came meanwhile.
            None => {
                let refused = slot
                    .and_then(|slot| slot.committed.as_ref())
                    .is_some_and(|decided| decided.vote.digest != vote.digest);
                !refused && !self.is_changing() && self.may_vote(vote.sequence)
            }
        }
    }

    /// Stops promising for the rest of this run, and takes the store for lost from now on: what else was said
    /// with this key is not in it.
    pub(super) fn on_own_key(&mut self, verified: &Verified, out: &mut Outbox) -> Option<Verdict> {
        if verified.is_own_hand() {
            return None;
        }
        let subject = crate::evidence::subject(self.never_said(verified.message())?)?;
        self.standing = Standing::Impersonated;
        self.journal.silence();
        self.journal.persist(Record::Lost, out);
        out.push(Action::Impersonated(subject));
        Some(Verdict::Ignored(Reason::OwnKey))
    }
}

#[cfg(test)]
#[path = "own_key_test.rs"]
mod tests;
