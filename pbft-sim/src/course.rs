//! What happens to links and replicas while faults last, and how everything ends well.

use pbft_core::types::ReplicaId;

use crate::checker::Observation;
use crate::node::Node;
use crate::options::{MILLIS, SECONDS};
use crate::simulation::{Event, Healed, Place, Simulation};

mod disk;
mod power;

/// A single request may take so many times as long as it may take until any is executed: those before it in
/// the order come first.
const FAIRNESS: u64 = 2;

/// One class of events.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Partition,
    Reconnect,
    Pause,
    Slowdown,
    Skew,
    Restart,
    Upset,
    Disk,
    Power,
}

impl Simulation {
    /// Draws one fault of those this run has, and the time of the next.
    pub(crate) fn on_fault(&mut self) {
        let options = &self.options;
        let classes = [
            (options.partitions, Fault::Partition),
            (options.reconnects, Fault::Reconnect),
            (options.pauses, Fault::Pause),
            (options.slowdowns, Fault::Slowdown),
            (options.skews, Fault::Skew),
            (options.restarts, Fault::Restart),
            (options.upsets, Fault::Upset),
            (options.disk.any(), Fault::Disk),
            (options.power.has_events(), Fault::Power),
        ];
        let on: Vec<Fault> =
            classes.into_iter().filter(|(on, _)| *on).map(|(_, fault)| fault).collect();
        match self.random.pick(&on, Fault::Partition) {
            Fault::Partition => self.partition(),
            Fault::Reconnect => self.reconnect(),
            Fault::Pause => self.pause(),
            Fault::Slowdown => self.slow_down(),
            Fault::Skew => self.skew(),
            Fault::Restart => self.crash_for_a_while(),
            Fault::Upset => self.upset(),
            Fault::Disk => self.disk_fault(),
            Fault::Power => self.power_fault(),
        }
        let next = self.random.between(10, 1000) * MILLIS;
        if self.now + next < self.options.heal_at {
            self.schedule(next, Event::Fault);
        }
    }

    fn any_replica(&mut self) -> ReplicaId {
        let n = u64::try_from(self.nodes.len()).unwrap_or(1);
        ReplicaId(u32::try_from(self.random.below(n)).unwrap_or(0))
    }

    /// Ends a partition if there is one, else makes one. The primary is the one of the highest view
    /// anyone is in, so that isolating it follows it.
    fn partition(&mut self) {
        if !self.network.is_whole() {
            self.network.mend();
            return;
        }
        let view = self.nodes.iter().map(|node| node.replica().view().0).max().unwrap_or(0);
        let n = u64::try_from(self.nodes.len()).unwrap_or(1);
        let primary = u32::try_from(view.checked_rem(n).unwrap_or(0)).unwrap_or(0);
        self.network.partition(primary, &mut self.random);
        if self.network.is_flapping() {
            self.schedule(MILLIS, Event::Flap);
        }
    }

    /// Everything under way on one link vanishes, and both ends learn that it was made anew.
    fn reconnect(&mut self) {
        let (one, other) = (self.any_replica(), self.any_replica());
        if one == other {
            return;
        }
        self.network.faults.reconnects += 1;
        let ends = [Place::Replica(one), Place::Replica(other)];
        self.events.retain(|_, event| match event {
            Event::Frame { from, to, .. } => !(ends.contains(from) && ends.contains(to)),
            _ => true,
        });
        if !self.network.is_cut(ends[0], ends[1]) && !self.network.is_cut(ends[1], ends[0]) {
            for (replica, peer) in [(one, other), (other, one)] {
                if !self.backlog.contains_key(&replica) {
                    self.with_node(replica, |node, now, fx| node.on_connected(now, peer, fx));
                }
            }
        }
    }

    /// Stops a process and lets it go on later: what arrives meanwhile waits.
    fn pause(&mut self) {
        let replica = self.any_replica();
        if self.backlog.contains_key(&replica) {
            return;
        }
        self.network.faults.pauses += 1;
        self.backlog.insert(replica, Vec::new());
        let length = self.random.between(100, 20_000) * MILLIS;
        self.schedule(length, Event::Resume { replica });
    }

    pub(crate) fn is_paused(&self, event: &Event) -> bool {
        addressee(event).is_some_and(|replica| self.backlog.contains_key(&replica))
    }

    pub(crate) fn put_aside(&mut self, event: Event) {
        if let Some(backlog) = addressee(&event).and_then(|id| self.backlog.get_mut(&id)) {
            backlog.push(event);
        }
    }

    /// The backlog in order, messages before timers (PITFALLS E9).
    pub(crate) fn resume(&mut self, replica: ReplicaId) {
        let Some(mut backlog) = self.backlog.remove(&replica) else { return };
        backlog.sort_by_key(|event| {
            matches!(event, Event::Wake { .. } | Event::Transfer { .. } | Event::Hook { .. })
        });
        backlog.into_iter().for_each(|event| self.process(event));
    }

    fn slow_down(&mut self) {
        let replica = self.any_replica();
        let times = self.random.pick(&[1, 10, 100], 1);
        self.network.faults.slowdowns += 1;
        if let Some(node) = self.node_mut(replica) {
            node.slow_down(times);
        }
    }

    /// A monotonic clock of another rate, or a wall clock that jumps; beyond the tolerance for one replica
    /// only, which is within f.
    fn skew(&mut self) {
        let replica = self.any_replica();
        let now = self.now;
        let rate = self.random.between(500, 2000);
        let jump = self.random.chance(500);
        let far = replica == ReplicaId(0);
        let ahead = self.random.below(if far { 120 } else { 20 } * SECONDS);
        self.network.faults.skews += 1;
        if let Some(node) = self.node_mut(replica) {
            if jump {
                node.set_wall(ahead);
            } else {
                node.set_rate(now, rate);
            }
        }
        self.wake(replica);
    }

    fn wake(&mut self, replica: ReplicaId) {
        self.schedule(0, Event::Wake { place: Place::Replica(replica) });
    }

    /// Stops a replica and starts it again from its store; sometimes several times in a row.
    fn crash_for_a_while(&mut self) {
        let replica = self.any_replica();
        if self.node_mut(replica).is_none_or(|node| node.is_crashed() || node.is_traitor()) {
            return;
        }
        self.stop(replica);
        let length = if self.random.chance(300) {
            self.random.between(0, 50)
        } else {
            self.random.between(50, 8_000)
        };
        self.schedule(length * MILLIS, Event::Restart { replica });
    }

    /// A bit flips in the state of the one replica to which that happens in this run. It counts towards f, so
    /// only where fewer than f others are faulty.
    fn upset(&mut self) {
        let crashes = &self.options.crashes;
        let crashed = |node: &Node| crashes.iter().any(|(id, _)| *id == node.replica().id().0);
        let victim = self.nodes.iter().rev().find(|node| !node.is_traitor() && !crashed(node));
        if let Some(victim) = victim.filter(|victim| self.is_spare(victim.replica().id())) {
            victim.upset();
            let replica = victim.replica().id();
            self.network.faults.upsets += 1;
            self.checkers.observe(&Observation::Upset { replica });
        }
    }

    fn stop(&mut self, replica: ReplicaId) {
        self.stop_with(replica, None);
    }

    /// `survives`: whether what was on its way to the disk turns out to be there; by chance if it does not
    /// matter.
    pub(crate) fn stop_with(&mut self, replica: ReplicaId, survives: Option<bool>) {
        self.backlog.remove(&replica);
        if self.node_mut(replica).is_none_or(|node| node.is_crashed()) {
            return;
        }
        self.maybe_tear(replica);
        if let Some(node) = self.node_mut(replica) {
            node.crash(survives);
            let summary = node.replica().summary();
            let between = summary.voted_view > summary.view;
            self.network.faults.restarts += 1;
            self.checkers.goals_mut().note_restart(between);
            self.checkers.observe(&Observation::Stopped { replica });
        }
    }

    pub(crate) fn restart(&mut self, replica: ReplicaId) {
        let gone = self
            .options
            .crashes
            .iter()
            .any(|(crashed, at)| *crashed == replica.0 && *at <= self.now);
        if gone {
            return;
        }
        if self.node_mut(replica).is_some_and(|node| node.is_crashed()) {
            self.open(replica);
            self.with_crashed(replica, |node, now, fx| node.restart(now, fx));
        }
    }

    /// All faults end: links are whole, whoever will ever come back is back, clocks run alike. From here on
    /// the run is judged by how long it takes (PITFALLS N5).
    pub(crate) fn heal(&mut self) {
        self.network.heal();
        for index in 0..self.nodes.len() {
            let replica = ReplicaId(u32::try_from(index).unwrap_or(0));
            self.resume(replica);
            self.restart(replica);
            let now = self.now;
            if let Some(node) = self.node_mut(replica) {
                node.slow_down(1);
                node.set_rate(now, 1000);
                node.set_wall(0);
                node.disk_mut().heal();
            }
            self.process(Event::Room { replica });
            self.wake(replica);
        }
        let timeout = |node: &Node| node.replica().summary().timeout.as_micros();
        let largest = self.live().map(timeout).max().unwrap_or(0);
        let largest = u64::try_from(largest).unwrap_or(u64::MAX);
        let bound = self.options.recovery_bound(largest);
        self.starvation.heal(self.now, bound.saturating_mul(FAIRNESS));
        self.healed = Some(Healed {
            at: self.now,
            executed: self.frontier(),
            due: self.now.saturating_add(bound),
            waiting: self.callers.iter().any(|caller| !caller.is_done()),
            progress: None,
        });
    }
}

fn addressee(event: &Event) -> Option<ReplicaId> {
    match event {
        Event::Frame { to: Place::Replica(replica), .. }
        | Event::Durable { replica, .. }
        | Event::Written { replica, .. }
        | Event::Executor { replica, .. }
        | Event::Transfer { replica, .. }
        | Event::Hook { replica, .. }
        | Event::Wake { place: Place::Replica(replica) } => Some(*replica),
        _ => None,
    }
}
