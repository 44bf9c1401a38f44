//! Losses of power, crash loops, rolling restarts.

use pbft_core::types::{ClientId, ReplicaId};

use crate::node::Node;
use crate::options::MILLIS;
use crate::simulation::{Event, Simulation};

/// How often a replica starts in vain (PITFALLS 2.1).
const LOOPS: u32 = 20;

/// One class of events.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Loss,
    Loop,
    Roll,
}

impl Simulation {
    /// Draws one of what happens to the power of this run.
    pub(super) fn power_fault(&mut self) {
        let power = self.options.power;
        let classes =
            [(power.losses, Fault::Loss), (power.loops, Fault::Loop), (power.rolling, Fault::Roll)];
        let on = classes.into_iter().filter(|(on, _)| *on).map(|(_, fault)| fault);
        let on: Vec<Fault> = on.collect();
        match self.random.pick(&on, Fault::Loss) {
            Fault::Loss => {
                self.network.faults.power_losses += 1;
                let longest = self.random.pick(&[10, 500, 5000], 500);
                self.lose_power(longest);
            }
            Fault::Loop => {
                self.network.faults.crash_loops += 1;
                let replica = self.any_replica();
                self.crash_again(replica, LOOPS);
            }
            Fault::Roll => {
                self.network.faults.rolling_restarts += 1;
                self.roll(ReplicaId(0));
            }
        }
    }

    /// All correct replicas stop at this instant and come back one by one within so many milliseconds. What
    /// was under way between them is gone.
    fn lose_power(&mut self, longest: u64) {
        for index in 0..self.nodes.len() {
            let replica = ReplicaId(u32::try_from(index).unwrap_or(0));
            if self.node_mut(replica).is_some_and(|node| !node.is_traitor()) {
                self.stop(replica);
                let delay = self.random.between(0, longest) * MILLIS;
                self.schedule(delay, Event::Restart { replica });
            }
        }
    }

    /// A replica lives for a few milliseconds, again and again.
    pub(crate) fn crash_again(&mut self, replica: ReplicaId, left: u32) {
        let healthy = |node: &mut Node| !node.is_traitor();
        if left == 0 || self.healed.is_some() || !self.node_mut(replica).is_some_and(healthy) {
            return;
        }
        self.stop(replica);
        let down = self.random.between(0, 20) * MILLIS;
        let life = self.random.between(0, 50) * MILLIS;
        self.schedule(down, Event::Restart { replica });
        self.schedule(down + life, Event::Loop { replica, left: left - 1 });
    }

    /// Stops a replica for a moment, and then the next.
    pub(crate) fn roll(&mut self, replica: ReplicaId) {
        if self.healed.is_some() || self.node_mut(replica).is_none() {
            return;
        }
        if self.node_mut(replica).is_some_and(|node| !node.is_traitor()) {
            self.stop(replica);
            let down = self.random.between(5, 200) * MILLIS;
            self.schedule(down, Event::Restart { replica });
        }
        let next = self.random.between(50, 500) * MILLIS;
        self.schedule(next, Event::Roll { replica: ReplicaId(replica.0 + 1) });
    }

    /// Everything is done: power goes once more, everyone comes back from what is durable, and everything that a
    /// client was told must be there, also in an answer to one more request of each.
    pub(crate) fn lose_power_at_the_end(&mut self) {
        self.note_recovery();
        self.reached = Some(self.frontier());
        self.healed = None;
        self.network.faults.power_losses += 1;
        let longest = self.random.pick(&[10, 500, 5000], 500);
        self.lose_power(longest);
        for index in 0..self.callers.len() {
            if let Some(caller) = self.callers.get_mut(index) {
                caller.ask_once_more();
            }
            let client = ClientId(u32::try_from(index).unwrap_or(0));
            let at = self.random.between(0, longest) * MILLIS;
            self.schedule(at, Event::Submit { client });
        }
        self.schedule(longest * MILLIS, Event::Heal);
    }
}
