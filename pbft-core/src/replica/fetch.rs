//! Bodies that certificates name and that are not at hand, fetched by digest (PITFALLS D11).

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{
    Action, Batch, Instant, Message, Outbox, Reason, Replica, ReplicaId, Sequence, Statement, Time,
    To, Verdict, Vote,
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
    /// What is missing, by who must hold it: to start the view voted for, each sender of a ViewChange holds
    /// the bodies of its certificates; to go on in the active view, its primary holds what it started
    /// with, and whoever prepared it does.
    fn missing_bodies(&self) -> Vec<(ReplicaId, Vec<BodyName>)> {
        let names = |lacking: &mut dyn Iterator<Item = BodyName>| {
            let mut names: Vec<BodyName> = lacking.collect();
            names.sort_unstable();
            names.dedup();
            names.truncate(FETCH_BODIES_MAX);
            names
        };
        let others = self.cluster.replicas().filter(|peer| *peer != self.id);
        let mut missing: Vec<(ReplicaId, Vec<BodyName>)> = Vec::new();
        if self.is_changing() {
            let view = self.views.voted;
            for peer in others {
                let heard = self.views.changes.get(&peer);
                let Some(heard) = heard.filter(|it| it.whole && it.signed.change.view == view)
                else {
                    continue;
                };
                let certified = new_view::certified([&*heard.signed.change]);
                let lacking = certified.iter().filter(|v| !self.has_body(v.sequence, &v.digest));
                let name = |v: &Vote| BodyName { sequence: v.sequence, digest: v.digest };
                missing.push((peer, names(&mut lacking.map(name))));
            }
        } else {
            let stable = self.window.stable();
            let slots = self.window.slots().filter(|(sequence, _)| *sequence > stable);
            let lacking = slots.filter_map(|(sequence, slot)| {
                slot.missing_carried().map(|digest| BodyName { sequence, digest })
            });
            let names = names(&mut { lacking });
            missing.extend(others.map(|peer| (peer, names.clone())));
            let primary = self.cluster.primary(self.views.active);
            missing.sort_by_key(|(peer, _)| *peer != primary);
        }
        missing.retain(|(_, names)| !names.is_empty());
        missing
    }

    /// Asks for what is missing, one peer at a time: f + 1 correct replicas hold every certified body, so
    /// going round finds one, and a peer that does not deliver costs a turn.
    pub(super) fn fetch_bodies(&mut self, now: Instant, out: &mut Outbox) {
        if self.fetcher.next.is_some_and(|next| now < next) {
            return;
        }
        let mut missing = self.missing_bodies();
        let Some(turn) = self.fetcher.turn.checked_rem(missing.len()) else {
            self.fetcher.next = None;
            return;
        };
        let (donor, bodies) = missing.swap_remove(turn);
        let statement = Statement::Fetch(Fetch { bodies });
        out.push(Action::Say { to: To::One(donor), statement, batch: None });
        self.fetcher.turn = self.fetcher.turn.wrapping_add(1);
        self.fetcher.next = Some(now.after(self.limits.repair_delay));
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
        let delay = self.limits.repair_delay;
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
        if for_slot
            || (self.is_changing()
                && self.missing_bodies().iter().any(|(_, names)| names.contains(&name)))
        {
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
