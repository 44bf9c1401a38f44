//! What the unit tests of this crate share: a cluster with real keys, and a network without faults.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::application::{Application, Context};
use crate::certificate::{CommitCertificate, PreparedCertificate, Signatures, StableProof};
use crate::cluster::{Cluster, ClusterConfig};
use crate::crypto::{Ed25519Signer, Ed25519Verifier};
use crate::limits::{Constants, Limits};
use crate::message::{
    Batch, Checkpoint, Message, NewView, Operations, Refusal, Request, RequestBody, Signed,
    SignedViewChange, Statement, ViewChange, Vote,
};
use crate::pages::Pages;
use crate::replica::{Action, Input, Outbox, Record, Replica, To, Verdict};
use crate::signed::{self, Cache, Forgery, Scrutiny, Verified};
use crate::state::ReplicatedState;
use crate::types::{
    ClientId, Digest, Instant, ReplicaId, RequestNumber, Sequence, Time, View, WallTime,
};

/// The clock of all tests that need none.
pub(crate) const NOW: Time = Time { instant: Instant(1_000_000), wall: WallTime(1_000_000_000) };

pub(crate) struct World {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) verifier: Ed25519Verifier,
}

fn seed(kind: u8, index: u32) -> [u8; 32] {
    let mut seed = [kind; 32];
    seed[..4].copy_from_slice(&index.to_le_bytes());
    seed
}

pub(crate) fn replica_key(index: u32) -> Ed25519Signer {
    Ed25519Signer::from_seed(&seed(1, index))
}

pub(crate) fn client_key(index: u32) -> Ed25519Signer {
    Ed25519Signer::from_seed(&seed(2, index))
}

impl World {
    pub(crate) fn new(n: u32) -> Self {
        World::named("test", n)
    }

    pub(crate) fn named(name: &str, n: u32) -> Self {
        let constants = Constants {
            checkpoint_interval: 4,
            window: 8,
            client_window: 8,
            batch_requests_max: 4,
            ..Constants::default()
        };
        let config = ClusterConfig {
            name: name.to_string(),
            members: (0..n).map(|index| replica_key(index).public()).collect(),
            clients: (0..2).map(|index| client_key(index).public()).collect(),
            constants,
            development: n < 4,
        };
        let cluster = Arc::new(Cluster::new(config).unwrap());
        let verifier = Ed25519Verifier::new(&cluster).unwrap();
        World { cluster, verifier }
    }

    pub(crate) fn replica(&self, id: u32) -> Replica {
        Replica::new(ReplicaId(id), Arc::clone(&self.cluster), Limits::default()).unwrap()
    }

    pub(crate) fn request(&self, client: u32, number: u64) -> Request {
        self.request_for(client, number, &number.to_le_bytes())
    }

    pub(crate) fn request_for(&self, client: u32, number: u64, operation: &[u8]) -> Request {
        let operations = Operations::new([operation]).unwrap();
        let body =
            RequestBody { client: ClientId(client), number: RequestNumber(number), operations };
        body.sign(&self.cluster, &client_key(client))
    }

    pub(crate) fn batch(&self, numbers: &[u64]) -> Arc<Batch> {
        let requests = numbers.iter().map(|number| self.request(0, *number)).collect();
        Arc::new(Batch::new(NOW.wall, requests))
    }

    pub(crate) fn sign(&self, sender: u32, statement: Statement) -> Signed {
        signed::sign(&self.cluster, &replica_key(sender), ReplicaId(sender), statement)
    }

    pub(crate) fn verify(&self, message: Message) -> Result<Verified, Forgery> {
        let cache = &mut Cache::default();
        signed::verify(&self.cluster, &self.verifier, cache, message, Scrutiny::Whole)
    }

    pub(crate) fn statement(&self, sender: u32, statement: Statement) -> Verified {
        self.verify(Message::Statement(self.sign(sender, statement))).unwrap()
    }

    pub(crate) fn proposal(&self, sequence: u64, batch: &Arc<Batch>) -> Verified {
        let vote = vote(sequence, batch.digest());
        let pre_prepare = self.sign(0, Statement::PrePrepare(vote));
        self.verify(Message::Proposal { pre_prepare, batch: Arc::clone(batch) }).unwrap()
    }

    pub(crate) fn prepare(&self, sender: u32, sequence: u64, digest: Digest) -> Verified {
        self.statement(sender, Statement::Prepare(vote(sequence, digest)))
    }

    pub(crate) fn commit(&self, sender: u32, sequence: u64, digest: Digest) -> Verified {
        self.statement(sender, Statement::Commit(vote(sequence, digest)))
    }

    /// A prepared certificate of `view`, by its primary and the first Q - 1 backups.
    pub(crate) fn certificate(
        &self,
        view: u64,
        sequence: u64,
        digest: Digest,
    ) -> PreparedCertificate {
        let vote = Vote { view: View(view), sequence: Sequence(sequence), digest };
        let primary = self.cluster.primary(vote.view);
        let backups = self.cluster.replicas().filter(|replica| *replica != primary);
        let sign = |sender: ReplicaId, statement| self.sign(sender.0, statement).signature;
        let prepares = backups
            .take(self.cluster.quorum() - 1)
            .map(|backup| (backup, sign(backup, Statement::Prepare(vote))));
        PreparedCertificate {
            vote,
            pre_prepare: sign(primary, Statement::PrePrepare(vote)),
            prepares: Signatures::new(prepares),
        }
    }

    /// A commit certificate by the first Q replicas.
    pub(crate) fn commit_certificate(
        &self,
        view: u64,
        sequence: u64,
        digest: Digest,
    ) -> CommitCertificate {
        let vote = Vote { view: View(view), sequence: Sequence(sequence), digest };
        let signers = self.cluster.replicas().take(self.cluster.quorum());
        let commits = signers.map(|r| (r, self.sign(r.0, Statement::Commit(vote)).signature));
        CommitCertificate { vote, commits: Signatures::new(commits) }
    }

    /// A stable proof by the first Q replicas.
    pub(crate) fn stable(&self, sequence: u64, digest: Digest) -> StableProof {
        let checkpoint = Checkpoint { sequence: Sequence(sequence), digest };
        let signers = self.cluster.replicas().take(self.cluster.quorum());
        let signatures =
            signers.map(|r| (r, self.sign(r.0, Statement::Checkpoint(checkpoint)).signature));
        StableProof { checkpoint, signatures: Signatures::new(signatures) }
    }

    pub(crate) fn change(
        &self,
        sender: u32,
        view: u64,
        stable: Option<StableProof>,
        prepared: &[PreparedCertificate],
    ) -> SignedViewChange {
        let change = Arc::new(ViewChange { view: View(view), stable, prepared: prepared.to_vec() });
        let signature = self.sign(sender, Statement::ViewChange(Arc::clone(&change))).signature;
        SignedViewChange { sender: ReplicaId(sender), change, signature }
    }

    pub(crate) fn new_view(&self, view: u64, changes: Vec<SignedViewChange>) -> Signed {
        let primary = self.cluster.primary(View(view));
        let new_view = NewView { view: View(view), changes };
        self.sign(primary.0, Statement::NewView(Arc::new(new_view)))
    }

    pub(crate) fn signed(&self, signed: Signed) -> Verified {
        self.verify(Message::Statement(signed)).unwrap()
    }

    /// A ViewChange without certificates.
    pub(crate) fn plain_change(&self, sender: u32, view: u64) -> Verified {
        self.signed(self.change(sender, view, None, &[]).to_signed())
    }

    pub(crate) fn pre_prepare(&self, view: u64, sequence: u64, digest: Digest) -> Verified {
        let vote = Vote { view: View(view), sequence: Sequence(sequence), digest };
        self.statement(self.cluster.primary(vote.view).0, Statement::PrePrepare(vote))
    }

    pub(crate) fn prepare_in(
        &self,
        sender: u32,
        view: u64,
        sequence: u64,
        digest: Digest,
    ) -> Verified {
        let vote = Vote { view: View(view), sequence: Sequence(sequence), digest };
        self.statement(sender, Statement::Prepare(vote))
    }

    pub(crate) fn checkpoint(&self, sender: u32, sequence: u64, digest: Digest) -> Verified {
        let checkpoint = Checkpoint { sequence: Sequence(sequence), digest };
        self.statement(sender, Statement::Checkpoint(checkpoint))
    }
}

pub(crate) fn vote(sequence: u64, digest: Digest) -> Vote {
    Vote { view: View(0), sequence: Sequence(sequence), digest }
}

/// A replica whose store is lost, started.
pub(crate) fn lost(world: &World, id: u32) -> Replica {
    let (id, cluster) = (ReplicaId(id), Arc::clone(&world.cluster));
    let mut replica = Replica::with_lost_store(id, cluster, Limits::default()).unwrap();
    drive(world, &mut replica, Input::Start);
    replica
}

/// Steps a replica with a message, makes its writes durable and its own votes known to itself, as a host
/// would; returns the verdict on the message and everything it did.
pub(crate) fn deliver(
    world: &World,
    replica: &mut Replica,
    message: Verified,
) -> (Verdict, Outbox) {
    drive(world, replica, Input::Deliver(message))
}

pub(crate) fn drive(world: &World, replica: &mut Replica, input: Input) -> (Verdict, Outbox) {
    drive_at(world, replica, NOW, input)
}

/// `millis` after [`NOW`] on both clocks.
pub(crate) fn later(millis: u64) -> Time {
    let micros = millis * 1000;
    Time { instant: Instant(NOW.instant.0 + micros), wall: WallTime(NOW.wall.0 + micros) }
}

pub(crate) fn drive_at(
    world: &World,
    replica: &mut Replica,
    now: Time,
    input: Input,
) -> (Verdict, Outbox) {
    let mut all = Outbox::new();
    let mut inputs = VecDeque::from([input]);
    let mut verdict = None;
    loop {
        let mut out = Outbox::new();
        if let Some(input) = inputs.pop_front() {
            let this = replica.step(now, input, &mut out);
            verdict.get_or_insert(this);
        } else {
            replica.propose(now, &mut out);
            if out.is_empty() {
                break;
            }
        }
        for action in &out {
            match action {
                Action::Persist { id, .. } => inputs.push_back(Input::Durable(*id)),
                Action::Say { to: To::All, statement, batch } => {
                    let id = replica.id();
                    let key = replica_key(id.0);
                    let own = signed::sign_message(
                        &world.cluster,
                        &key,
                        id,
                        statement.clone(),
                        batch.clone(),
                    );
                    inputs.push_back(Input::Deliver(own));
                }
                _ => {}
            }
        }
        all.extend(out);
    }
    (verdict.unwrap(), all)
}

pub(crate) fn says(out: &Outbox, wanted: impl Fn(&Statement) -> bool) -> usize {
    let says =
        |action: &&Action| matches!(action, Action::Say { statement, .. } if wanted(statement));
    out.iter().filter(says).count()
}

pub(crate) fn commits(out: &Outbox) -> usize {
    says(out, |statement| matches!(statement, Statement::Commit(_)))
}

pub(crate) fn prepares(out: &Outbox) -> usize {
    says(out, |statement| matches!(statement, Statement::Prepare(_)))
}

pub(crate) fn executed(out: &Outbox) -> Vec<u64> {
    let slots = out.iter().filter_map(|action| match action {
        Action::Execute { sequence, .. } => Some(sequence.0),
        _ => None,
    });
    slots.collect()
}

pub(crate) fn persisted(out: &Outbox) -> Vec<&Record> {
    let records = out.iter().filter_map(|action| match action {
        Action::Persist { record, .. } => Some(record),
        _ => None,
    });
    records.collect()
}

/// An application that keeps every operation it is given, in order.
#[derive(Default)]
pub(crate) struct Recorder(pub(crate) Vec<u8>);

impl Application for Recorder {
    fn execute(&mut self, context: &Context, operation: &[u8]) -> Result<Bytes, Refusal> {
        if operation == b"refuse" {
            return Err(Refusal::new(7, "as asked"));
        }
        if let Some(size) = operation.strip_prefix(b"size ") {
            let size = core::str::from_utf8(size).unwrap().parse().unwrap();
            return Ok(Bytes::from(alloc::vec![0; size]));
        }
        if operation == b"seed" {
            return Ok(Bytes::copy_from_slice(&context.seed().0));
        }
        self.0.extend_from_slice(operation);
        Ok(Bytes::from(self.0.len().to_string()))
    }

    fn query(&self, _: &[u8]) -> Result<Bytes, Refusal> {
        Ok(Bytes::copy_from_slice(&self.0))
    }

    fn checkpoint(&mut self, pages: &mut Pages) {
        pages.write(0, Bytes::copy_from_slice(&self.0)).unwrap();
    }

    fn restore(&mut self, pages: &Pages) {
        self.0 = pages.page(0).to_vec();
    }
}

pub(crate) fn state(world: &World) -> ReplicatedState {
    ReplicatedState::new(Arc::clone(&world.cluster), Box::new(Recorder::default()))
}
