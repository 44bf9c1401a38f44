//! Two correct copies of itself with one key: the even replicas talk to one, the odd ones to the other.

use std::collections::VecDeque;
use std::sync::Arc;

use pbft_core::archive::Archive;
use pbft_core::hook::Deed;
use pbft_core::message::{Message, Statement};
use pbft_core::replica::{Action, Input, Record, Replica, To};
use pbft_core::signed::sign_message;
use pbft_core::state::ReplicatedState;
use pbft_core::types::{Instant, ReplicaId, Time, WallTime};

use super::controller::is_odd;
use super::spec::SpecError;
use super::{Behaviour, Kit, World};

/// The second copy, with a state of its own. It runs at once what a host would run elsewhere; a state that it
/// would have to be sent it does without.
pub(super) struct Twin {
    replica: Replica,
    state: ReplicatedState,
    archive: Archive,
}

impl Twin {
    pub(super) fn new(kit: &Kit) -> Result<Twin, SpecError> {
        let cluster = Arc::clone(&kit.cluster);
        let replica = Replica::new(kit.id, Arc::clone(&cluster), kit.limits.clone());
        let replica = replica.map_err(|error| SpecError::Setting {
            key: "twin".to_owned(),
            problem: error.to_string(),
        })?;
        let state = ReplicatedState::new(Arc::clone(&cluster), (kit.application)());
        Ok(Twin { replica, state, archive: Archive::new(cluster) })
    }

    fn drive(&mut self, world: &mut World<'_>, input: Input) {
        let now = world.scene().now;
        // A clock of its own, so that the two propose different batches.
        let now = Time { wall: WallTime(now.wall.0.saturating_add(1)), ..now };
        let mut inputs = VecDeque::from([input]);
        loop {
            let mut actions = Vec::new();
            if let Some(input) = inputs.pop_front() {
                self.replica.step(now, input, &mut actions);
            } else {
                self.replica.propose(now, &mut actions);
                if actions.is_empty() {
                    break;
                }
            }
            for action in actions {
                self.perform(world, now, action, &mut inputs);
            }
        }
    }

    fn perform(
        &mut self,
        world: &mut World<'_>,
        now: Time,
        action: Action,
        inputs: &mut VecDeque<Input>,
    ) {
        match action {
            Action::Persist { id, record } => {
                if let Record::Stable(proof) = record {
                    self.archive.stable(proof.sequence(), now.instant);
                }
                inputs.push_back(Input::Durable(id));
            }
            Action::Say { to, statement, batch } => {
                let hint = matches!(statement, Statement::Status(_) | Statement::Fetch(_));
                let kit = world.kit;
                let said = sign_message(&kit.cluster, &*kit.signer, kit.id, statement, batch);
                send(world, to, said.message());
                if to == To::All && !hint {
                    inputs.push_back(Input::Deliver(said));
                }
            }
            Action::Relay { to, message } => send(world, to, &message),
            Action::Execute { sequence, batch, view } => {
                if let Ok(applied) = self.state.apply(sequence, batch.as_deref(), view) {
                    inputs.push_back(Input::Executed { sequence, consumed: applied.consumed });
                }
            }
            Action::Snapshot { sequence } => {
                if let Ok(frozen) = self.state.freeze() {
                    let digest = self.archive.apply(frozen);
                    self.archive.keep();
                    inputs.push_back(Input::Snapshotted { sequence, digest });
                }
            }
            _ => {}
        }
    }
}

/// To the odd replicas only.
fn send(world: &mut World<'_>, to: To, message: &Message) {
    for peer in world.others().filter(|peer| is_odd(*peer)) {
        if to == To::All || to == To::One(peer) {
            world.send(To::One(peer), message.clone());
        }
    }
}

impl Behaviour for Twin {
    fn hear(
        &mut self,
        world: &mut World<'_>,
        from: Option<ReplicaId>,
        input: Input,
        inputs: &mut Vec<Input>,
    ) {
        let shared = matches!(&input, Input::Start)
            || matches!(&input, Input::Deliver(verified) if matches!(verified.message(), Message::Request(_)));
        match from {
            Some(peer) if is_odd(peer) => self.drive(world, input),
            None if shared => {
                self.drive(world, input.clone());
                inputs.push(input);
            }
            _ => inputs.push(input),
        }
    }

    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        match deed {
            Deed::Act(Action::Say { to: To::All, statement, batch }) => {
                world.say_each(&statement, batch.as_ref(), |_, to| {
                    (!is_odd(to)).then(|| statement.clone())
                });
            }
            Deed::Act(Action::Relay { to: To::All, message }) => {
                for peer in world.others().filter(|peer| !is_odd(*peer)) {
                    world.send(To::One(peer), message.clone());
                }
            }
            deed => world.pass(deed),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.replica.deadline()
    }

    fn wake(&mut self, world: &mut World<'_>) {
        self.drive(world, Input::Wake);
    }
}
