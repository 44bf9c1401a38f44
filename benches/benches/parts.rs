//! What single parts cost: `cargo bench -p pbft-benches --bench parts`. A minute, one thread.
//!
//! Requests have 16 bytes and a signature of their own. A step is everything that four replicas do in
//! `Replica::step` for one request, votes and checkpoints included, and nothing outside of it: signatures there
//! are neither made nor checked.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    missing_docs
)]

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use criterion::{BatchSize, Criterion, Throughput};
use pbft_app::storage::{About, FileMedium, Journal, Storage};
use pbft_benches::{OPERATION, Sum};
use pbft_core::certificate::{PreparedCertificate, Signatures};
use pbft_core::cluster::{Cluster, ClusterConfig};
use pbft_core::crypto::{Author, Ed25519Signer, Ed25519Verifier, Signer, Verifier, preimage};
use pbft_core::limits::{Constants, Limits};
use pbft_core::message::{
    Batch, Message, Operations, ReplicaMessage, Request, RequestBody, Statement, Vote,
};
use pbft_core::replica::{Action, Input, Outbox, Record, Replica, To};
use pbft_core::signed::{self, Cache, Scrutiny};
use pbft_core::state::ReplicatedState;
use pbft_core::types::{
    ClientId, Digest, Instant, ReplicaId, RequestNumber, Sequence, Signature, Time, View, WallTime,
    WriteId,
};
use pbft_core::wire;

/// Requests in a batch, one of each client.
const REQUESTS: u32 = 100;

fn key(kind: u8, index: u32) -> Ed25519Signer {
    let mut seed = [kind; 32];
    seed[..4].copy_from_slice(&index.to_le_bytes());
    Ed25519Signer::from_seed(&seed)
}

fn cluster() -> Arc<Cluster> {
    let config = ClusterConfig {
        name: "parts".to_owned(),
        members: (0..4).map(|index| key(1, index).public()).collect(),
        clients: (0..REQUESTS).map(|index| key(2, index).public()).collect(),
        constants: Constants::default(),
        development: false,
    };
    Arc::new(Cluster::new(config).unwrap())
}

/// Makes signatures of nothing and believes them.
struct Free;

impl Signer for Free {
    fn sign(&self, _: &[u8]) -> Signature {
        Signature([7; 64])
    }
}

impl Verifier for Free {
    fn verify(&self, _: Author, _: &[u8], _: &Signature) -> bool {
        true
    }
}

fn request(cluster: &Cluster, signer: &dyn Signer, client: u32, number: u64) -> Request {
    let operations = Operations::new([OPERATION]).unwrap();
    let (client, number) = (ClientId(client), RequestNumber(number));
    RequestBody { client, number, operations }.sign(cluster, signer)
}

fn requests(cluster: &Cluster, number: u64) -> Vec<Request> {
    (0..REQUESTS).map(|client| request(cluster, &key(2, client), client, number)).collect()
}

fn signatures(criterion: &mut Criterion, cluster: &Cluster) {
    let signer = key(2, 0);
    let verifier = Ed25519Verifier::new(cluster).unwrap();
    let author = Author::Client(ClientId(0));
    let statement = preimage(cluster, pbft_core::crypto::Kind::Request, author, &[9; 32]);
    let signature = signer.sign(&statement);
    assert!(verifier.verify(author, &statement, &signature));
    let mut group = criterion.benchmark_group("signature");
    group.bench_function("sign", |bencher| bencher.iter(|| signer.sign(black_box(&statement))));
    group.bench_function("verify", |bencher| {
        bencher.iter(|| verifier.verify(author, black_box(&statement), &signature));
    });
    group.finish();
}

fn digest(criterion: &mut Criterion, cluster: &Cluster) {
    let requests = requests(cluster, 1);
    let mut group = criterion.benchmark_group("batch of 100 requests");
    group.throughput(Throughput::Elements(u64::from(REQUESTS)));
    group.bench_function("put together and hashed", |bencher| {
        let make = |requests| Batch::new(WallTime(1), requests).digest();
        bencher.iter_batched(|| requests.clone(), make, BatchSize::SmallInput);
    });
    group.finish();
}

fn codec(criterion: &mut Criterion, cluster: &Arc<Cluster>) {
    let batch = Arc::new(Batch::new(WallTime(1), requests(cluster, 1)));
    let vote = Vote { view: View(0), sequence: Sequence(1), digest: batch.digest() };
    let pre_prepare = signed::sign(cluster, &key(1, 0), ReplicaId(0), Statement::PrePrepare(vote));
    let proposal = Message::Proposal { pre_prepare, batch: Arc::clone(&batch) };
    let mut state = ReplicatedState::new(Arc::clone(cluster), Box::new(Sum::default()));
    let applied = state.apply(Sequence(1), Some(&batch), View(0)).unwrap();
    let reply = ReplicaMessage::Reply(applied.replies[0].clone());
    let mut group = criterion.benchmark_group("wire");
    let frame = wire::encode(&proposal);
    group.bench_function("encode a pre-prepare of 100 requests", |bencher| {
        bencher.iter(|| wire::encode(black_box(&proposal)));
    });
    group.bench_function("decode a pre-prepare of 100 requests, digests included", |bencher| {
        bencher.iter(|| wire::decode::<Message>(black_box(&frame)).unwrap());
    });
    let frame = wire::encode(&reply);
    group.bench_function("encode a reply", |bencher| {
        bencher.iter(|| wire::encode(black_box(&reply)));
    });
    group.bench_function("decode a reply", |bencher| {
        bencher.iter(|| wire::decode::<ReplicaMessage>(black_box(&frame)).unwrap());
    });
    group.finish();
}

/// Four replicas and a network without time or faults; what `step` takes is all that is measured.
struct Lockstep {
    cluster: Arc<Cluster>,
    replicas: Vec<Replica>,
    caches: Vec<Cache>,
    inputs: VecDeque<(usize, Input)>,
    stepping: Duration,
    now: u64,
    number: u64,
    executed: u64,
}

impl Lockstep {
    fn new(cluster: &Arc<Cluster>) -> Self {
        let replica = |id| Replica::new(ReplicaId(id), Arc::clone(cluster), Limits::default());
        let mut lockstep = Lockstep {
            cluster: Arc::clone(cluster),
            replicas: (0..4).map(|id| replica(id).unwrap()).collect(),
            caches: (0..4).map(|_| Cache::default()).collect(),
            inputs: (0..4).map(|index| (index, Input::Start)).collect(),
            stepping: Duration::ZERO,
            now: 1_000_000,
            number: 0,
            executed: 0,
        };
        lockstep.drain();
        lockstep
    }

    /// Has a request of each client executed everywhere; how long the steps took.
    fn round(&mut self) -> Duration {
        (self.number, self.stepping, self.executed) = (self.number + 1, Duration::ZERO, 0);
        for client in 0..REQUESTS {
            let request = request(&self.cluster, &Free, client, self.number);
            self.hand(0, Message::Request(request));
        }
        self.drain();
        assert_eq!(self.executed, u64::from(REQUESTS) * 4, "not everything was executed");
        self.stepping
    }

    fn hand(&mut self, to: usize, message: Message) {
        let cache = &mut self.caches[to];
        let checked = signed::verify(&self.cluster, &Free, cache, message, Scrutiny::Whole);
        self.inputs.push_back((to, Input::Deliver(checked.unwrap())));
    }

    fn drain(&mut self) {
        while let Some((index, input)) = self.inputs.pop_front() {
            self.now += 1;
            let now = Time { instant: Instant(self.now), wall: WallTime(self.now) };
            let mut out = Outbox::new();
            let before = Clock::now();
            self.replicas[index].step(now, input, &mut out);
            self.stepping += before.elapsed();
            for action in out {
                self.act(index, action);
            }
        }
    }

    fn act(&mut self, index: usize, action: Action) {
        let id = ReplicaId(index as u32);
        match action {
            Action::Persist { id, .. } => self.inputs.push_back((index, Input::Durable(id))),
            Action::Say { to, statement, batch } => {
                let signed = signed::sign(&self.cluster, &Free, id, statement.clone());
                let message = match &batch {
                    Some(batch) => {
                        Message::Proposal { pre_prepare: signed, batch: Arc::clone(batch) }
                    }
                    None => Message::Statement(signed),
                };
                if to == To::All {
                    let own = signed::sign_message(&self.cluster, &Free, id, statement, batch);
                    self.inputs.push_back((index, Input::Deliver(own)));
                }
                self.send(index, to, &message);
            }
            Action::Relay { to, message } => self.send(index, to, &message),
            Action::Execute { sequence, batch, .. } => {
                let requests = batch.iter().flat_map(|batch| batch.requests());
                let consumed: Vec<_> =
                    requests.map(|request| (request.client(), request.number())).collect();
                self.executed += consumed.len() as u64;
                self.inputs.push_back((index, Input::Executed { sequence, consumed }));
            }
            Action::Snapshot { sequence } => {
                let done = Input::Snapshotted { sequence, digest: Digest([1; 32]) };
                self.inputs.push_back((index, done));
            }
            _ => {}
        }
    }

    fn send(&mut self, from: usize, to: To, message: &Message) {
        for index in 0..self.replicas.len() {
            let is_meant = match to {
                To::All => index != from,
                To::One(id) => id.0 as usize == index,
            };
            if is_meant {
                self.hand(index, message.clone());
            }
        }
    }
}

fn step(criterion: &mut Criterion, cluster: &Arc<Cluster>) {
    let mut lockstep = Lockstep::new(cluster);
    let mut group = criterion.benchmark_group("step");
    group.throughput(Throughput::Elements(u64::from(REQUESTS)));
    group.bench_function("four replicas, 100 requests", |bencher| {
        bencher.iter_custom(|rounds| (0..rounds).map(|_| lockstep.round()).sum());
    });
    group.finish();
}

fn apply(criterion: &mut Criterion, cluster: &Arc<Cluster>) {
    let mut state = ReplicatedState::new(Arc::clone(cluster), Box::new(Sum::default()));
    let mut slot = 0;
    let mut group = criterion.benchmark_group("state");
    group.throughput(Throughput::Elements(u64::from(REQUESTS)));
    group.bench_function("apply 100 requests", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut applying = Duration::ZERO;
            for _ in 0..rounds {
                slot += 1;
                let requests =
                    (0..REQUESTS).map(|client| request(cluster, &Free, client, slot)).collect();
                let batch = Batch::new(WallTime(slot), requests);
                let before = Clock::now();
                let applied = state.apply(Sequence(slot), Some(&batch), View(0)).unwrap();
                applying += before.elapsed();
                assert_eq!(applied.consumed.len(), REQUESTS as usize);
                // As at a checkpoint, or changed pages would pile up.
                if slot % 32 == 0 {
                    black_box(state.freeze().unwrap());
                }
            }
            applying
        });
    });
    group.finish();
}

fn journal(criterion: &mut Criterion, cluster: &Cluster) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let about = About { replica: ReplicaId(0), cluster: cluster.id(), runs: 0 };
    Journal::create(&path, Arc::new(FileMedium::create(&path).unwrap()), &about, &[]).unwrap();
    let medium = Arc::new(FileMedium::open(&path).unwrap());
    let (mut journal, _) = Journal::open(&path, medium, ReplicaId(0), cluster.id()).unwrap();
    let batch = Arc::new(Batch::new(WallTime(1), requests(cluster, 1)));
    let mut slot = 0;
    let mut group = criterion.benchmark_group("journal");
    group.bench_function("commit a prepared slot of 100 requests, two fsyncs", |bencher| {
        bencher.iter(|| {
            slot += 1;
            let vote = Vote { view: View(0), sequence: Sequence(slot), digest: batch.digest() };
            let signature = Signature([7; 64]);
            let prepares = Signatures::new([(ReplicaId(1), signature), (ReplicaId(2), signature)]);
            let certificate = PreparedCertificate { vote, pre_prepare: signature, prepares };
            let record = Record::Prepared { certificate, batch: Some(Arc::clone(&batch)) };
            journal.append(WriteId(slot), record);
            if slot % 32 == 0 {
                journal.discard(Sequence(slot - 32));
            }
            journal.commit().unwrap()
        });
    });
    group.finish();
}

fn main() {
    println!("{}", pbft_benches::here());
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let cluster = cluster();
    signatures(&mut criterion, &cluster);
    digest(&mut criterion, &cluster);
    codec(&mut criterion, &cluster);
    step(&mut criterion, &cluster);
    apply(&mut criterion, &cluster);
    journal(&mut criterion, &cluster);
    criterion.final_summary();
}
