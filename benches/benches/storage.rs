//! What durability costs: the same cluster with its storage in memory and on this machine's disk, turn and turn
//! about: `cargo bench -p pbft-benches --bench storage`. `TMPDIR` chooses the disk.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    missing_docs
)]

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use pbft_app::{Client, Node, NodeConfig, StorageMetrics, Store, Submitted};
use pbft_benches::{OPERATION, Sum, connect, deployment, machine, median};

const RUNS: usize = 3;

/// Name, clients, callers of each, operations.
const WORKLOADS: [(&str, usize, usize, usize); 4] = [
    ("1 client, 1 in flight", 1, 1, 1_000),
    ("64 clients, signature each", 64, 1, 10_000),
    ("64 callers share a client", 1, 64, 20_000),
    ("8 clients x 256 callers", 8, 256, 200_000),
];

struct Setup {
    nodes: Vec<Node>,
    clients: Vec<Client>,
    _directory: Option<tempfile::TempDir>,
}

async fn start(on_disk: bool, clients: usize) -> Setup {
    let (deployment, sockets, keys, client_keys) = deployment(4, clients);
    let directory = on_disk.then(|| tempfile::tempdir().unwrap());
    let mut nodes = Vec::new();
    for ((id, sockets), keys) in deployment.cluster().replicas().zip(sockets).zip(keys) {
        let store = match &directory {
            None => Store::memory(),
            Some(directory) => {
                let path = directory.path().join(id.to_string());
                std::fs::create_dir(&path).unwrap();
                Store::create(&path, deployment.cluster(), id).unwrap();
                Store::open(&path, deployment.cluster(), id).unwrap()
            }
        };
        let (limits, deployment) = (deployment.limits(), deployment.clone());
        let config = NodeConfig { limits, deployment, id, keys, evidence: None };
        nodes.push(Node::start(config, sockets, Box::new(Sum::default()), store).await.unwrap());
    }
    let clients = connect(&deployment, client_keys).await;
    Setup { nodes, clients, _directory: directory }
}

struct Measured {
    rate: f64,
    p50: f64,
    p99: f64,
    /// Of one replica, for each operation.
    syncs: f64,
    commit_micros: f64,
    records_per_commit: f64,
}

async fn run(on_disk: bool, workload: &(&str, usize, usize, usize)) -> Measured {
    let (_, clients, callers, operations) = *workload;
    let setup = start(on_disk, clients).await;
    let read = || *setup.nodes[1].storage_metrics().borrow();
    let (before, began) = (read(), Instant::now());
    let each = operations / (clients * callers);
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..clients * callers {
        let client = setup.clients[caller % clients].clone();
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
    let (elapsed, after) = (began.elapsed().as_secs_f64(), read());
    let operations = (each * clients * callers) as f64;
    let spent = |field: fn(&StorageMetrics) -> u64| (field(&after) - field(&before)) as f64;
    let commits = spent(|it| it.commits).max(1.0);
    for node in setup.nodes {
        node.stop().await.unwrap();
    }
    Measured {
        rate: operations / elapsed,
        p50: histogram.value_at_quantile(0.5) as f64,
        p99: histogram.value_at_quantile(0.99) as f64,
        syncs: spent(|it| it.syncs) / operations,
        commit_micros: spent(|it| it.commit_micros) / commits,
        records_per_commit: spent(|it| it.records) / commits,
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("{}; four replicas, 16-byte operations, median of {RUNS} runs", machine());
    println!(
        "workload                     storage    ops/s [range]          p50 us    p99 us  syncs/op  us/commit  records/commit"
    );
    for workload in &WORKLOADS {
        let mut results = [Vec::new(), Vec::new()];
        for _ in 0..RUNS {
            for (on_disk, results) in [false, true].into_iter().zip(&mut results) {
                results.push(runtime.block_on(run(on_disk, workload)));
            }
        }
        let mut rates = Vec::new();
        for (name, results) in ["memory", "disk"].into_iter().zip(&results) {
            let of = |field: fn(&Measured) -> f64| median(results.iter().map(field).collect());
            let (rate, low, high) = of(|it| it.rate);
            let middle = |field| of(field).0;
            println!(
                "{:28} {name:8} {rate:>7.0} [{low:.0}..{high:.0}] {:>10.0}{:>10.0}{:>10.4}{:>11.0}{:>16.1}",
                workload.0,
                middle(|it| it.p50),
                middle(|it| it.p99),
                middle(|it| it.syncs),
                middle(|it| it.commit_micros),
                middle(|it| it.records_per_commit),
            );
            rates.push(rate);
        }
        println!("{:28} disk / memory: {:.2}", "", rates[1] / rates[0]);
    }
}
