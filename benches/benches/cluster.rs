//! Replicated against unreplicated, in one run: `cargo bench -p pbft-benches --bench cluster`.
//!
//! Both sides are asked by the same client over the same QUIC, with the same client signatures, and apply
//! the same state machine. The unreplicated server is one process of one thread that verifies, applies and
//! answers. All replicas, the server and the clients share this machine's cores, and with storage on a disk all
//! replicas share that disk: `TMPDIR` says which. Commits and fsyncs are one replica's, per operation.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    missing_docs
)]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use pbft_app::{Client, Node, NodeConfig, Store, Submitted};
use pbft_benches::{OPERATION, Sum, connect, cpu_seconds, deployment, machine, median, seed};
use pbft_core::message::{Batch, ClientMessage, Message, ReplicaMessage};
use pbft_core::signed::{Cache, Scrutiny, verify};
use pbft_core::state::ReplicatedState;
use pbft_core::types::{Sequence, View, WallTime};
use pbft_core::wire;
use pbft_net::{Lane, NetLimits, Network, Node as Peer, Received, ReplicaNetworkConfig, TlsKey};
use tempfile::TempDir;

const RUNS: usize = 3;
struct Workload {
    name: &'static str,
    clients: usize,
    callers_per_client: usize,
    operations: usize,
}

const WORKLOADS: [Workload; 4] = [
    Workload {
        name: "1 client, 1 in flight",
        clients: 1,
        callers_per_client: 1,
        operations: 1_000,
    },
    Workload {
        name: "64 clients, signature each",
        clients: 64,
        callers_per_client: 1,
        operations: 20_000,
    },
    Workload {
        name: "64 callers share a client",
        clients: 1,
        callers_per_client: 64,
        operations: 40_000,
    },
    Workload {
        name: "8 clients x 256 callers",
        clients: 8,
        callers_per_client: 256,
        operations: 400_000,
    },
];

/// What serves the requests.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Unreplicated,
    Memory,
    Disk,
}

const SIDES: [(&str, Side); 3] =
    [("unreplicated", Side::Unreplicated), ("n = 4", Side::Memory), ("n = 4, disk", Side::Disk)];

enum Server {
    Replicated { nodes: Vec<Node>, _directory: TempDir },
    Unreplicated(tokio::task::AbortHandle),
}

struct Setup {
    server: Server,
    clients: Vec<Client>,
}

async fn replicated(n: usize, clients: usize, disk: bool) -> Setup {
    let directory = tempfile::tempdir().unwrap();
    let (deployment, sockets, keys, client_keys) = deployment(n, clients);
    let mut nodes = Vec::new();
    for ((id, sockets), keys) in deployment.cluster().replicas().zip(sockets).zip(keys) {
        let config = NodeConfig {
            limits: deployment.limits(),
            deployment: deployment.clone(),
            id,
            keys,
            evidence: None,
        };
        let store = if disk {
            let path = directory.path().join(id.to_string());
            std::fs::create_dir(&path).unwrap();
            Store::create(&path, deployment.cluster(), id).unwrap();
            Store::open(&path, deployment.cluster(), id).unwrap()
        } else {
            Store::memory()
        };
        nodes.push(Node::start(config, sockets, Box::new(Sum::default()), store).await.unwrap());
    }
    let clients = connect(&deployment, client_keys).await;
    Setup { server: Server::Replicated { nodes, _directory: directory }, clients }
}

/// One server, no agreement: verify, apply, answer.
async fn unreplicated(clients: usize) -> Setup {
    let (deployment, mut sockets, mut keys, client_keys) = deployment(1, clients);
    let (sockets, keys) = (sockets.pop().unwrap(), keys.pop().unwrap());
    let config = ReplicaNetworkConfig {
        id: pbft_core::types::ReplicaId(0),
        tls_key: TlsKey::from_seed(&seed(2, 0)).unwrap(),
        members: vec![pbft_net::MemberAddress {
            tls_key: keys.public().tls,
            address: sockets.peer_address(),
        }],
        clients: deployment.clients().iter().map(|keys| keys.tls).collect(),
        identity: deployment.identity(),
        limits: NetLimits::default(),
    };
    let network = Network::replica(sockets, config).unwrap();
    let cluster = Arc::clone(deployment.cluster());
    let verifier = deployment.verifier().clone();
    let mut state = ReplicatedState::new(Arc::clone(&cluster), Box::new(Sum::default()));
    let task = tokio::spawn(async move {
        let mut cache = Cache::default();
        let mut sequence = Sequence(0);
        loop {
            let Received::Frames { from, frames } = network.receive().await else { continue };
            for frame in frames {
                let Ok(ClientMessage::Request(request)) = wire::decode(&frame) else { continue };
                let message = Message::Request(request);
                let Ok(verified) =
                    verify(&cluster, &verifier, &mut cache, message, Scrutiny::Whole)
                else {
                    continue;
                };
                let Message::Request(request) = verified.into_message() else { continue };
                sequence = sequence.next();
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
                let batch = Batch::new(WallTime(u64::try_from(now).unwrap()), vec![request]);
                for reply in state.apply(sequence, Some(&batch), View(0)).unwrap().replies {
                    let frame = wire::encode(&ReplicaMessage::Reply(reply));
                    let Peer::Client(client) = from else { continue };
                    network.send(Peer::Client(client), Lane::Urgent, frame);
                }
            }
        }
    });
    let clients = connect(&deployment, client_keys).await;
    Setup { server: Server::Unreplicated(task.abort_handle()), clients }
}

struct Measured {
    ops_per_second: f64,
    p50: u64,
    p99: u64,
    cpu_seconds_per_million: f64,
    commits_per_operation: f64,
    syncs_per_operation: f64,
}

/// Commits and fsyncs of the first replica so far.
fn writes(setup: &Setup) -> (f64, f64) {
    match &setup.server {
        Server::Replicated { nodes, .. } => {
            let metrics = *nodes[0].storage_metrics().borrow();
            (metrics.commits as f64, metrics.syncs as f64)
        }
        Server::Unreplicated(_) => (0.0, 0.0),
    }
}

async fn measure(setup: &Setup, workload: &Workload) -> Measured {
    let callers = workload.clients * workload.callers_per_client;
    let each = workload.operations / callers;
    let (commits, syncs) = writes(setup);
    let (cpu, start) = (cpu_seconds(), Instant::now());
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let client = setup.clients[caller % workload.clients].clone();
        tasks.spawn(async move {
            let mut latencies = Vec::with_capacity(each);
            for _ in 0..each {
                let before = Instant::now();
                let outcome = client.submit(&OPERATION[..], Duration::from_secs(30)).await;
                assert!(matches!(outcome, Submitted::Committed(_)), "{outcome:?}");
                latencies.push(before.elapsed());
            }
            latencies
        });
    }
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).unwrap();
    while let Some(latencies) = tasks.join_next().await {
        for latency in latencies.unwrap() {
            histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap());
        }
    }
    let (elapsed, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let operations = (each * callers) as f64;
    assert!(operations > 0.0 && histogram.len() as f64 == operations, "nothing was measured");
    Measured {
        ops_per_second: operations / elapsed,
        p50: histogram.value_at_quantile(0.5),
        p99: histogram.value_at_quantile(0.99),
        cpu_seconds_per_million: cpu / operations * 1e6,
        commits_per_operation: (writes(setup).0 - commits) / operations,
        syncs_per_operation: (writes(setup).1 - syncs) / operations,
    }
}

async fn run(side: Side, workload: &Workload) -> Measured {
    let setup = match side {
        Side::Unreplicated => unreplicated(workload.clients).await,
        Side::Memory | Side::Disk => replicated(4, workload.clients, side == Side::Disk).await,
    };
    let measured = measure(&setup, workload).await;
    drop(setup.clients);
    match setup.server {
        Server::Replicated { nodes, .. } => {
            for node in nodes {
                node.stop().await.unwrap();
            }
        }
        Server::Unreplicated(task) => task.abort(),
    }
    measured
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("{}; 16-byte operations, closed loop, median of {RUNS} runs [range]", machine());
    println!(
        "workload                     server          ops/s [range]              p50 us    p99 us   CPU s/M ops   commits/op  fsyncs/op"
    );
    for workload in &WORKLOADS {
        let mut medians = Vec::new();
        for (name, side) in SIDES {
            let results: Vec<Measured> =
                (0..RUNS).map(|_| runtime.block_on(run(side, workload))).collect();
            let of = |field: fn(&Measured) -> f64| median(results.iter().map(field).collect());
            let (rate, low, high) = of(|it| it.ops_per_second);
            let (p50, p99) = (of(|it| it.p50 as f64).0, of(|it| it.p99 as f64).0);
            let cpu = of(|it| it.cpu_seconds_per_million).0;
            let (commits, syncs) =
                (of(|it| it.commits_per_operation).0, of(|it| it.syncs_per_operation).0);
            println!(
                "{:28} {name:12} {rate:>9.0} [{low:.0}..{high:.0}]{p50:>12.0}{p99:>10.0}{cpu:>12.1}{commits:>12.3}{syncs:>10.3}",
                workload.name
            );
            medians.push(rate);
        }
        if let [alone, memory, disk] = medians[..] {
            let (replicated, durable) = (memory / alone, disk / memory);
            println!(
                "{:28} replicated / unreplicated: {replicated:.3}, disk / memory: {durable:.3}",
                ""
            );
        }
    }
}
