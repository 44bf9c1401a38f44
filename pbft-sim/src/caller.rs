//! A client's host in the simulation: a closed loop of requests over the client state machine.

use std::sync::Arc;

use bytes::Bytes;
use pbft_core::client::{Client, ClientAction, ClientInput, ClientOutcome};
use pbft_core::cluster::Cluster;
use pbft_core::crypto::{Author, Signer};
use pbft_core::limits::{ClientLimits, ConfigError};
use pbft_core::message::{ClientMessage, Operations, ReplicaMessage};
use pbft_core::replica::To;
use pbft_core::types::{ClientId, Instant, ReplicaId, RequestNumber};
use pbft_core::wire;

use crate::checker::Observation;
use crate::keys::Keys;
use crate::node::Effect;
use crate::options::Options;
use crate::random::Random;
use crate::simulation::{Event, Place};
use crate::workload::Workload;

/// One client and its workload.
pub(crate) struct Caller {
    id: ClientId,
    cluster: Arc<Cluster>,
    signer: Arc<dyn Signer>,
    machine: Client,
    workload: Workload,
    random: Random,
    left: u64,
    operations_max: u64,
    in_flight_max: usize,
    alarm: Option<Instant>,
    pub(crate) committed: u64,
}

impl Caller {
    pub(crate) fn new(
        id: ClientId,
        keys: &Keys,
        options: &Options,
        workload: &Workload,
    ) -> Result<Self, ConfigError> {
        let cluster = Arc::clone(&keys.cluster);
        let limits = ClientLimits::default();
        Ok(Caller {
            id,
            signer: keys.signer(Author::Client(id)),
            machine: Client::new(id, Arc::clone(&cluster), limits, RequestNumber(1))?,
            workload: workload.clone(),
            cluster,
            random: Random::new(options.seed ^ 0xc11e_0000 ^ u64::from(id.0)),
            left: options.requests_per_client,
            operations_max: options.operations_max,
            in_flight_max: options.in_flight_max,
            alarm: None,
            committed: 0,
        })
    }

    pub(crate) fn is_done(&self) -> bool {
        self.left == 0 && self.machine.unresolved() == 0
    }

    /// One more request, to see that the service goes on.
    pub(crate) fn ask_once_more(&mut self) {
        self.left += 1;
    }

    pub(crate) fn unresolved(&self) -> usize {
        self.machine.unresolved()
    }

    pub(crate) fn open(&self) -> usize {
        self.machine.unresolved() + usize::try_from(self.left).unwrap_or(usize::MAX)
    }

    /// Fills the pipeline.
    pub(crate) fn submit(&mut self, now: u64, fx: &mut Vec<Effect>) {
        let mut actions = Vec::new();
        while self.left > 0
            && self.machine.unresolved() < self.in_flight_max
            && !self.machine.is_full()
        {
            let number = self.machine.next_number();
            let count = self.random.between(1, self.operations_max.max(1));
            let ask = |index| self.workload.ask(&mut self.random, self.id, number, index);
            let texts = (0..count).map(ask);
            let Some(operations) = Operations::new(texts) else {
                return;
            };
            fx.push(Effect::Observe(Observation::Submitted {
                client: self.id,
                number,
                operations: operations.clone(),
            }));
            let forever = Instant(u64::MAX);
            if self.machine.submit(Instant(now), operations, forever, &mut actions).is_err() {
                return;
            }
            self.left -= 1;
        }
        self.perform(now, actions, false, fx);
    }

    pub(crate) fn on_wake(&mut self, now: u64, fx: &mut Vec<Effect>) {
        self.alarm = None;
        let mut actions = Vec::new();
        self.machine.step(Instant(now), ClientInput::Wake, &mut actions);
        self.perform(now, actions, true, fx);
    }

    pub(crate) fn on_frame(
        &mut self,
        now: u64,
        from: ReplicaId,
        frame: &Bytes,
        fx: &mut Vec<Effect>,
    ) {
        let input = match wire::decode(frame) {
            Ok(ReplicaMessage::Reply(reply)) => ClientInput::Reply { from, reply },
            Ok(ReplicaMessage::Busy(number)) => ClientInput::Busy { from, number },
            _ => return,
        };
        let mut actions = Vec::new();
        self.machine.step(Instant(now), input, &mut actions);
        self.perform(now, actions, false, fx);
        self.submit(now, fx);
    }

    fn perform(&mut self, now: u64, actions: Vec<ClientAction>, again: bool, fx: &mut Vec<Effect>) {
        for action in actions {
            match action {
                ClientAction::Send { to, request } => {
                    if again {
                        fx.push(Effect::Observe(Observation::Resent { client: self.id }));
                    }
                    let request = request.sign(&self.cluster, &*self.signer);
                    let frame = wire::encode(&ClientMessage::Request(request));
                    for replica in self.cluster.replicas() {
                        if to == To::All || to == To::One(replica) {
                            let to = Place::Replica(replica);
                            let frame = frame.clone();
                            fx.push(Effect::Send { to, frame, guarded: false, promise: false });
                        }
                    }
                }
                ClientAction::Done { number, outcome } => {
                    self.committed += u64::from(matches!(outcome, ClientOutcome::Committed(_)));
                    let client = self.id;
                    fx.push(Effect::Observe(Observation::Completed { client, number, outcome }));
                }
            }
        }
        let deadline = self.machine.deadline();
        if let Some(due) = deadline
            && self.alarm.is_none_or(|alarm| alarm > due)
        {
            self.alarm = deadline;
            let event = Event::Wake { place: Place::Client(self.id) };
            fx.push(Effect::Later { delay: due.0.saturating_sub(now), event });
        }
    }
}
