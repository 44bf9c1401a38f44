//! `demo`: replicas and clients in one process, each replica with its own keys, runtime and QUIC endpoints.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use pbft_app::core::crypto::Hasher;
use pbft_app::core::limits::Constants;
use pbft_app::core::message::Report as StatusReport;
use pbft_app::{
    Client, ClientConfig, Deployment, History, MemoryStorage, Node, NodeConfig, NodeKeys, Numbers,
    ReplicaEntry, ReplicaSockets, Timeouts, Typed,
};
use serde::Serialize;

use crate::load::{closed_loop, millis, progress, to_json};
use crate::service::{Command, Counter};
use crate::{Demo, Failure};

const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// A replica on this machine that has not answered by then is dead.
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);
const AGREEMENT_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Serialize)]
struct Summary {
    replicas: usize,
    f: usize,
    operations: u64,
    committed: u64,
    refused: u64,
    unknown: u64,
    value: Option<i64>,
    expected: i64,
    crashed: Option<u32>,
    longest_stall_ms: u64,
    view: u64,
    view_changes: u64,
    seconds: f64,
    ops_per_second: f64,
    latency_us: Latency,
    agreement: bool,
    state_digest: String,
}

#[derive(Serialize)]
struct Latency {
    p50: u64,
    p99: u64,
}

pub(crate) async fn run(demo: &Demo) -> Result<(), Failure> {
    if demo.clients == 0 {
        return Err(Failure::Usage("--clients 0: take at least 1".to_owned()));
    }
    let (mut nodes, deployment, client_keys) = start(demo).await?;
    if !demo.json {
        let cluster = deployment.cluster();
        println!("{} replicas on 127.0.0.1, {} may be faulty", cluster.n(), cluster.f());
    }
    let mut clients = Vec::new();
    for keys in client_keys {
        let config = ClientConfig::new(deployment.clone(), keys, Numbers::from_clock());
        clients.push(Client::connect(config)?);
    }
    let typed: Vec<_> = clients.iter().map(Client::typed::<Counter>).collect();
    let bar = progress(demo.operations, demo.json);
    let victim = demo.crash_primary.then(|| nodes.remove(0));
    let crashed = victim.as_ref().map(Node::id);
    let load = closed_loop(typed.clone(), demo.operations, OPERATION_TIMEOUT, amount, &bar);
    let (done, ()) = tokio::join!(load, crash(victim, demo, &bar));
    let done = done?;
    bar.finish_and_clear();
    let value = match typed.first() {
        Some(client) => client.submit(&Command::Get, OPERATION_TIMEOUT).await.ok(),
        None => None,
    };
    let value = match value {
        Some(pbft_app::Completed::Committed(value)) => Some(value),
        _ => None,
    };
    let live = nodes.len();
    let reports = match clients.first() {
        Some(client) => settle(client, live).await,
        None => Vec::new(),
    };
    let agreement = agree(&reports, live);
    let first = reports.first();
    let expected = (0..demo.operations).map(|index| match amount(index) {
        Command::Add(amount) => amount,
        Command::Get => 0,
    });
    let expected = expected.sum();
    let summary = Summary {
        replicas: deployment.cluster().n(),
        f: deployment.cluster().f(),
        operations: demo.operations,
        committed: done.committed,
        refused: done.refused,
        unknown: done.unknown,
        value,
        expected,
        crashed: crashed.map(|id| id.0),
        longest_stall_ms: millis(done.longest_stall),
        view: reports.iter().map(|report| report.view.0).max().unwrap_or_default(),
        view_changes: reports.iter().map(|report| report.view_changes).max().unwrap_or_default(),
        seconds: done.elapsed.as_secs_f64(),
        ops_per_second: done.ops_per_second(),
        latency_us: Latency {
            p50: done.latency.value_at_quantile(0.5),
            p99: done.latency.value_at_quantile(0.99),
        },
        agreement,
        state_digest: first.map(|report| report.state_digest.to_hex()).unwrap_or_default(),
    };
    drop((clients, typed));
    // All at once: one after the other, those left would dial those gone.
    let mut stops: tokio::task::JoinSet<_> = nodes.into_iter().map(Node::stop).collect();
    while let Some(stopped) = stops.join_next().await {
        stopped.map_err(|error| Failure::Failed(error.to_string()))??;
    }
    print(demo, &summary, &reports)?;
    verdict(&summary)
}

/// What the operation of this index adds.
fn amount(index: u64) -> Command {
    Command::Add(i64::try_from(index % 10).unwrap_or(0) + 1)
}

/// Kills the primary once a third of the operations is done, in front of the reader.
async fn crash(victim: Option<Node>, demo: &Demo, bar: &ProgressBar) {
    let Some(node) = victim else { return };
    while bar.position() < demo.operations / 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    if !demo.json {
        let done = bar.position();
        bar.suspend(|| {
            println!("replica {}, the primary, is killed after {done} operations", node.id());
        });
    }
    node.crash().await;
}

fn verdict(summary: &Summary) -> Result<(), Failure> {
    if !summary.agreement {
        return Err(Failure::Failed("the replicas do not agree".to_owned()));
    }
    if summary.unknown > 0 {
        let message = format!("{} operations have an unknown outcome", summary.unknown);
        return Err(Failure::Unknown(message));
    }
    if summary.unknown == 0 && summary.value != Some(summary.expected) {
        return Err(Failure::Failed(format!(
            "the counter is {:?} and should be {}: operations were lost or doubled",
            summary.value, summary.expected
        )));
    }
    if summary.refused > 0 {
        return Err(Failure::Failed(format!("{} operations were refused", summary.refused)));
    }
    Ok(())
}

fn print(demo: &Demo, summary: &Summary, reports: &[StatusReport]) -> Result<(), Failure> {
    if demo.json {
        println!("{}", to_json(summary)?);
        return Ok(());
    }
    println!(
        "{} committed, {} refused, {} unknown in {:.2} s: {:.0} operations/s",
        summary.committed,
        summary.refused,
        summary.unknown,
        summary.seconds,
        summary.ops_per_second
    );
    println!("latency p50 {} us, p99 {} us", summary.latency_us.p50, summary.latency_us.p99);
    if summary.crashed.is_some() {
        println!(
            "the service stood still for {} ms, then went on in view {}",
            summary.longest_stall_ms, summary.view
        );
    }
    for report in reports {
        println!(
            "replica {}: view {}, executed slot {}, state {}",
            report.replica,
            report.view,
            report.last_executed,
            report.state_digest.short()
        );
    }
    match (summary.agreement, summary.value) {
        (true, Some(value)) if value == summary.expected => println!(
            "all {} replicas agree: the counter is {value}, every operation counted once",
            reports.len()
        ),
        (true, Some(value)) => println!("all replicas agree: the counter is {value}"),
        (true, None) => println!("all replicas agree"),
        (false, _) => println!("the replicas DO NOT agree"),
    }
    Ok(())
}

async fn start(demo: &Demo) -> Result<(Vec<Node>, Deployment, Vec<NodeKeys>), Failure> {
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (mut sockets, mut replicas, mut replica_keys) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..demo.replicas {
        let bound =
            ReplicaSockets::bind(local, local).map_err(pbft_app::ConfigurationError::from)?;
        let keys = keys(demo.seed, "replica", index)?;
        replicas.push(ReplicaEntry {
            keys: keys.public(),
            peer_address: bound.peer_address(),
            client_address: bound.client_address(),
        });
        sockets.push(bound);
        replica_keys.push(keys);
    }
    let client_keys = (0..demo.clients).map(|index| keys(demo.seed, "client", index));
    let client_keys = client_keys.collect::<Result<Vec<_>, _>>()?;
    let deployment = Deployment::new(
        "demo",
        replicas,
        client_keys.iter().map(NodeKeys::public).collect(),
        Constants::default(),
        Timeouts::default(),
        false,
    )
    .map_err(pbft_app::ConfigurationError::from)?;
    let mut nodes = Vec::new();
    let ids = deployment.cluster().replicas();
    for ((id, sockets), keys) in ids.zip(sockets).zip(replica_keys) {
        let config = NodeConfig {
            limits: deployment.limits(),
            deployment: deployment.clone(),
            id,
            keys,
            history: History::Fresh,
        };
        let application = Box::new(Typed::<Counter>::new());
        nodes
            .push(Node::start(config, sockets, application, Box::new(MemoryStorage::new())).await?);
    }
    Ok((nodes, deployment, client_keys))
}

fn keys(seed: Option<u64>, role: &str, index: usize) -> Result<NodeKeys, Failure> {
    let Some(seed) = seed else {
        return Ok(NodeKeys::generate()?);
    };
    let derive = |purpose: &str| {
        let mut hasher = Hasher::new("demo key");
        hasher.number(seed);
        hasher.field(role.as_bytes());
        hasher.count(index);
        hasher.field(purpose.as_bytes());
        hasher.finish().0
    };
    Ok(NodeKeys::from_seeds(derive("signing"), derive("tls")))
}

/// Asks until all replicas have executed the same slot, or the time is up.
async fn settle(client: &Client, replicas: usize) -> Vec<StatusReport> {
    let end = Instant::now() + AGREEMENT_TIMEOUT;
    loop {
        let reports: Vec<_> = client.status(STATUS_TIMEOUT).await.into_values().collect();
        let slots = reports.iter().map(|report| report.last_executed);
        let same = slots.clone().min() == slots.max();
        if (reports.len() == replicas && same) || Instant::now() >= end {
            return reports;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn agree(reports: &[StatusReport], replicas: usize) -> bool {
    let Some(first) = reports.first() else {
        return false;
    };
    let same = |report: &StatusReport| {
        (report.last_executed, report.state_digest) == (first.last_executed, first.state_digest)
    };
    reports.len() == replicas && reports.iter().all(same)
}
