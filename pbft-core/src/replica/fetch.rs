//! Bodies that certificates name and that are not at hand, fetched by digest (PITFALLS D11).

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{
    Action, Batch, Instant, Message, Outbox, Reason, Replica, ReplicaId, Sequence, Statement, Time,
    To, Verdict,
};
use crate::limits::FETCH_BODIES_MAX;
use crate::message::{BodyName, Fetch};
use crate::new_view;
use crate::types::Digest;

/// When bodies were asked for, of whom, and when others were answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Fetcher {
    next: Option<Instant>,
    turn: usize,
    answered: BTreeMap<ReplicaId, Instant>,
}

impl Fetcher {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next
    }
}

impl Replica {
    /// What is missing: to start the view voted for, or to go on in the active one.
    fn missing_bodies(&self) -> Vec<BodyName> {
        let mut missing: Vec<BodyName> = if self.is_changing() {
            let view = self.views.voted;
            let changes = self.views.changes.values();
            let whole = changes.filter(|heard| heard.whole && heard.signed.change.view == view);
            let certified = new_view::certified(whole.map(|heard| &*heard.signed.change));
            let lacking = certified.iter().filter(|v| !self.has_body(v.sequence, &v.digest));
            lacking.map(|v| BodyName { sequence: v.sequence, digest: v.digest }).collect()
        } else {
            let slots =
                self.window.slots().filter(|(sequence, _)| *sequence > self.window.stable());
            let name = |(sequence, digest)| BodyName { sequence, digest };
            slots.filter_map(|(at, slot)| Some((at, slot.missing_carried()?))).map(name).collect()
        };
        missing.sort_unstable();
        missing.dedup();
        missing.truncate(FETCH_BODIES_MAX);
        missing
    }

    /// Asks for what is missing, one peer at a time: whoever prepared a body holds it, and f + 1 correct
    /// replicas did, so going round finds one.
    pub(super) fn fetch_bodies(&mut self, now: Instant, out: &mut Outbox) {
        if self.fetcher.next.is_some_and(|next| now < next) {
            return;
        }
        let bodies = self.missing_bodies();
        if bodies.is_empty() {
            self.fetcher.next = None;
            return;
        }
        let others = self.cluster.replicas().filter(|peer| *peer != self.id);
        let mut donors: Vec<ReplicaId> = others.collect();
        // First whoever must hold them: the senders of the certificates, or the primary that started the view.
        donors.sort_by_key(|peer| !self.should_hold(*peer, &bodies));
        let turn = self.fetcher.turn.checked_rem(donors.len()).unwrap_or(0);
        if let Some(donor) = donors.get(turn) {
            let statement = Statement::Fetch(Fetch { bodies });
            out.push(Action::Say { to: To::One(*donor), statement, batch: None });
        }
        self.fetcher.turn = turn + 1;
        self.fetcher.next = Some(now.after(self.limits.repair_delay));
    }

    fn should_hold(&self, peer: ReplicaId, bodies: &[BodyName]) -> bool {
        if !self.is_changing() {
            return peer == self.cluster.primary(self.views.active);
        }
        let change = self.views.changes.get(&peer).map(|heard| &heard.signed.change);
        change.is_some_and(|change| {
            change.prepared.iter().any(|it| {
                let (sequence, digest) = (it.vote.sequence, it.vote.digest);
                bodies.contains(&BodyName { sequence, digest })
            })
        })
    }

    /// A body at hand for a slot, wherever it is kept.
    pub(super) fn body(&self, sequence: Sequence, digest: &Digest) -> Option<&Arc<Batch>> {
        let slot = self.window.slot(sequence).and_then(|slot| slot.body_of(digest));
        let kept = || {
            let kept = self.history.slot(sequence)?.batch.as_ref();
            kept.filter(|batch| batch.digest() == *digest)
        };
        slot.or_else(kept).or_else(|| self.views.body(sequence, *digest))
    }

    /// Answers a peer with the bodies it asks for, within a budget and not more often than bodies are
    /// asked for by a correct replica.
    pub(super) fn on_fetch(
        &mut self,
        now: Instant,
        peer: ReplicaId,
        fetch: &Fetch,
        out: &mut Outbox,
    ) -> Verdict {
        let delay = self.limits.repair_delay / 2;
        if self.fetcher.answered.get(&peer).is_some_and(|at| now.since(*at) < delay) {
            return Verdict::Ignored(Reason::TooSoon);
        }
        self.fetcher.answered.insert(peer, now);
        let mut bytes = self.limits.repair_bytes_max;
        for name in &fetch.bodies {
            let Some(batch) = self.body(name.sequence, &name.digest) else { continue };
            let message = Message::Body { sequence: name.sequence, batch: Arc::clone(batch) };
            out.push(Action::Relay { to: To::One(peer), message });
            bytes = bytes.saturating_sub(batch.wire_bytes());
            if bytes == 0 {
                break;
            }
        }
        Verdict::Accepted
    }

    pub(super) fn wants_body(&self, sequence: Sequence, digest: Digest) -> Result<(), Reason> {
        let slot = self.window.slot(sequence);
        let for_slot = slot.is_some_and(|slot| slot.wants_body(&digest));
        let name = BodyName { sequence, digest };
        if for_slot || (self.is_changing() && self.missing_bodies().contains(&name)) {
            Ok(())
        } else {
            Err(Reason::Duplicate)
        }
    }

    pub(super) fn on_body(
        &mut self,
        now: Time,
        sequence: Sequence,
        batch: Arc<Batch>,
        out: &mut Outbox,
    ) -> Verdict {
        let digest = batch.digest();
        if self.window.slot(sequence).is_some_and(|slot| slot.wants_body(&digest)) {
            self.window.slot_mut(sequence).keep_body(batch);
            self.advance(now, sequence, out);
        } else {
            self.views.bodies.insert(BodyName { sequence, digest }, batch);
        }
        self.start_view(now, out);
        Verdict::Accepted
    }
}
