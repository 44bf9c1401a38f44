//! Where a traitor takes hold of a node, if the feature `fault-injection` is on: between the replica and its
//! host, at the boundary of the core and nowhere else. With the feature off nothing of it is there.

#[cfg(not(feature = "fault-injection"))]
pub(crate) use absent::Installed;
#[cfg(feature = "fault-injection")]
pub(crate) use present::Installed;

/// No hook: everything goes its way.
#[cfg(not(feature = "fault-injection"))]
mod absent {
    use bytes::Bytes;
    use pbft_core::replica::{Action, Input};
    use pbft_core::types::{ClientId, Instant, ReplicaId, Time};
    use pbft_net::{Lane, Node as Peer};

    use crate::error::NodeError;
    use crate::host::Host;

    pub(crate) struct Installed;

    impl Installed {
        pub(crate) fn none() -> Self {
            Installed
        }

        pub(crate) fn announce(&self, _: ReplicaId) {}

        pub(crate) fn deadline(&self) -> Option<Instant> {
            None
        }
    }

    impl Host {
        #[inline]
        pub(crate) fn hear(
            &mut self,
            _: Time,
            _: Option<ReplicaId>,
            input: Input,
        ) -> Result<[Input; 1], NodeError> {
            Ok([input])
        }

        #[inline]
        pub(crate) fn act(&mut self, action: Action) -> Result<(), NodeError> {
            self.perform(action)
        }

        #[inline]
        pub(crate) fn tell(&mut self, client: ClientId, frame: Bytes) -> Result<(), NodeError> {
            self.send_client(client, frame);
            Ok(())
        }

        #[inline]
        pub(crate) fn hand(&mut self, peer: ReplicaId, frame: Bytes) -> Result<(), NodeError> {
            self.network.send(Peer::Replica(peer), Lane::Transfer, frame);
            Ok(())
        }

        pub(crate) fn wake_hook(&mut self) -> Result<(), NodeError> {
            Ok(())
        }
    }
}

/// A hook, if one was given.
#[cfg(feature = "fault-injection")]
mod present {
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    use bytes::Bytes;
    use pbft_core::application::Application;
    use pbft_core::hook::{Deed, Hook, Scene};
    use pbft_core::message::{Message, ReplicaMessage};
    use pbft_core::replica::{Action, Input, Record, Replica};
    use pbft_core::types::{ClientId, Instant, ReplicaId, Time};
    use pbft_core::wire;
    use pbft_net::{Lane, Node as Peer, ReplicaSockets};

    use crate::archivist::Task;
    use crate::error::NodeError;
    use crate::host::Host;
    use crate::node::{Node, NodeConfig};
    use crate::store::Store;

    /// The least time between two of its wake-ups: one that always wants the next at once leaves the loop
    /// time for everything else.
    const REST: Duration = Duration::from_millis(1);
    /// How long the archivist may take to say whether it has a snapshot.
    const PATIENCE: Duration = Duration::from_secs(2);

    #[derive(Default)]
    pub(crate) struct Installed {
        hook: Option<Box<dyn Hook>>,
        rested: Instant,
        /// It has forgotten, and its earlier state is not back yet: nothing else reaches the replica.
        forgetting: bool,
    }

    impl Node {
        /// Starts a replica as [`Node::start`] does, with `hook` between it and the world: a traitor.
        ///
        /// # Errors
        /// The configuration does not hold or the network cannot be set up.
        pub async fn start_with_hook(
            config: NodeConfig,
            sockets: ReplicaSockets,
            application: Box<dyn Application>,
            store: Store,
            hook: Box<dyn Hook>,
        ) -> Result<Node, NodeError> {
            let hook = Installed { hook: Some(hook), ..Installed::none() };
            Node::launch(config, sockets, application, store, hook).await
        }
    }

    impl Installed {
        pub(crate) fn none() -> Self {
            Installed::default()
        }

        pub(crate) fn announce(&self, replica: ReplicaId) {
            if self.hook.is_some() {
                tracing::warn!(%replica, "FAULT INJECTION: a hook is installed, this replica is a TRAITOR");
            }
        }

        pub(crate) fn deadline(&self) -> Option<Instant> {
            self.hook.as_ref()?.deadline().map(|due| due.max(self.rested))
        }
    }

    impl Host {
        pub(crate) fn hear(
            &mut self,
            now: Time,
            from: Option<ReplicaId>,
            input: Input,
        ) -> Result<Vec<Input>, NodeError> {
            let Some(hook) = &mut self.hook.hook else { return Ok(vec![input]) };
            if self.hook.forgetting {
                if !matches!(input, Input::Restored { .. }) {
                    return Ok(Vec::new());
                }
                self.hook.forgetting = false;
                self.inputs.push_front((None, Input::Start));
            }
            let (mut passed, mut deeds) = (Vec::new(), Vec::new());
            let scene = Scene { now, replica: &self.replica };
            hook.hear(scene, from, input, &mut passed, &mut deeds);
            self.carry_out(deeds)?;
            Ok(if self.hook.forgetting { Vec::new() } else { passed })
        }

        pub(crate) fn act(&mut self, action: Action) -> Result<(), NodeError> {
            if self.hook.hook.is_some() {
                self.show(Deed::Act(action))
            } else {
                self.perform(action)
            }
        }

        pub(crate) fn tell(&mut self, client: ClientId, frame: Bytes) -> Result<(), NodeError> {
            if self.hook.hook.is_some()
                && let Ok(message) = wire::decode::<ReplicaMessage>(&frame)
            {
                return self.show_alone(Deed::Tell { client, message });
            }
            self.send_client(client, frame);
            Ok(())
        }

        pub(crate) fn hand(&mut self, to: ReplicaId, frame: Bytes) -> Result<(), NodeError> {
            if self.hook.hook.is_some()
                && let Ok(Message::Part(part)) = wire::decode(&frame)
            {
                return self.show_alone(Deed::Hand { to, part });
            }
            self.network.send(Peer::Replica(to), Lane::Transfer, frame);
            Ok(())
        }

        pub(crate) fn wake_hook(&mut self) -> Result<(), NodeError> {
            let now = self.now();
            self.hook.rested = now.instant.after(REST);
            let mut deeds = Vec::new();
            if let Some(hook) = &mut self.hook.hook
                && hook.deadline().is_some_and(|due| due <= now.instant)
            {
                hook.wake(Scene { now, replica: &self.replica }, &mut deeds);
            }
            self.carry_out(deeds)?;
            self.carry_on()
        }

        /// A deed that does not come from the replica itself.
        fn show_alone(&mut self, deed: Deed) -> Result<(), NodeError> {
            self.show(deed)?;
            self.carry_on()
        }

        fn show(&mut self, deed: Deed) -> Result<(), NodeError> {
            let now = self.now();
            let Some(hook) = &mut self.hook.hook else { return Ok(()) };
            let mut deeds = Vec::new();
            hook.act(Scene { now, replica: &self.replica }, deed, &mut deeds);
            self.carry_out(deeds)
        }

        fn carry_out(&mut self, deeds: Vec<Deed>) -> Result<(), NodeError> {
            for deed in deeds {
                match deed {
                    // What its replica still wanted before it forgot is nobody's any more.
                    _ if self.hook.forgetting => {}
                    Deed::Act(action) => self.perform(action)?,
                    Deed::Tell { client, message } => {
                        self.send_client(client, wire::encode(&message));
                    }
                    Deed::Hand { to, part } => {
                        let frame = wire::encode(&Message::Part(part));
                        self.network.send(Peer::Replica(to), Lane::Transfer, frame);
                    }
                    Deed::Bytes { to, frame } => {
                        self.network.send(Peer::Replica(to), Lane::Bulk, frame);
                    }
                    Deed::Forget(records) => self.forget(records),
                }
            }
            Ok(())
        }

        /// Starts again from the latest stable snapshot and these records. Without a snapshot, or with
        /// records that are no journal, nothing happens. The loop waits for the archivist: only here.
        fn forget(&mut self, records: Vec<Record>) {
            let (cluster, limits) = (Arc::clone(&self.cluster), self.limits.clone());
            let Ok(replica) = Replica::recover(self.id, cluster, limits, records) else { return };
            let (answer, answered) = mpsc::channel();
            let stable = replica.window().stable();
            self.executor.archivist().give(Task::GoBack { stable, answer });
            if answered.recv_timeout(PATIENCE) == Ok(true) {
                self.replica = replica;
                self.run += 1;
                self.proofs.clear();
                self.hook.forgetting = true;
                self.inputs.clear();
            }
        }
    }
}
