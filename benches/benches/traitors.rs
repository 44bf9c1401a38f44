//! Throughput with each traitor over QUIC beside fault-free: `cargo bench -p pbft-benches --bench traitors`.
//!
//! Four replicas, 4 clients with 16 callers each, all on this machine, memory storage. Fault-free runs stand
//! between the others, and each ratio is to the mean of the two next to it. With `-- NAME` only traitors whose
//! name contains it; `--seconds N` for each; with `--write FILE` the table goes between the marks in FILE.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    missing_docs
)]

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pbft_app::core::limits::Constants;
use pbft_app::{Client, Deployment, Node, NodeConfig, NodeKeys, Store, Submitted};
use pbft_benches::{OPERATION, Sum, connect, here, in_process};
use pbft_core::types::ReplicaId;
use pbft_sim::traitor::{Controller, names};
use pbft_sim::{Kit, Traitor};

const CLIENTS: usize = 4;
const CALLERS: usize = 16;
/// Unless told: long enough that one view change of a good second is a small part.
const SECONDS: u64 = 8;
/// A fault-free run after so many others.
const BETWEEN: usize = 4;

struct Setup {
    nodes: Vec<Node>,
    clients: Vec<Client>,
}

fn hook(deployment: &Deployment, keys: &NodeKeys, id: ReplicaId, name: &str) -> Traitor {
    let kit = Kit {
        id,
        cluster: Arc::clone(deployment.cluster()),
        signer: Arc::new(keys.signer()),
        edge: None,
        limits: deployment.limits(),
        application: Arc::new(|| Box::new(Sum::default())),
        seed: 1,
        controller: Controller::default(),
    };
    Traitor::new(&name.parse().unwrap(), kit).unwrap()
}

async fn start(traitor: Option<(ReplicaId, &str)>) -> Setup {
    let (deployment, sockets, keys, client_keys) = in_process(4, CLIENTS, Constants::default());
    let mut nodes = Vec::new();
    for ((id, sockets), keys) in deployment.cluster().replicas().zip(sockets).zip(keys) {
        let lie = traitor.filter(|(traitor, _)| *traitor == id);
        let hook = lie.map(|(_, name)| Box::new(hook(&deployment, &keys, id, name)));
        let config = NodeConfig {
            limits: deployment.limits(),
            deployment: deployment.clone(),
            id,
            keys,
            evidence: None,
        };
        let (sum, storage) = (Box::new(Sum::default()), Store::memory());
        let node = match hook {
            Some(hook) => Node::start_with_hook(config, sockets, sum, storage, hook).await,
            None => Node::start(config, sockets, sum, storage).await,
        };
        nodes.push(node.unwrap());
    }
    let clients = connect(&deployment, client_keys).await;
    Setup { nodes, clients }
}

/// Operations committed per second, the whole run counted, whatever a traitor does to its beginning.
async fn measure(length: Duration, traitor: Option<(ReplicaId, &str)>) -> f64 {
    let setup = start(traitor).await;
    let committed = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let end = start + length;
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..CLIENTS * CALLERS {
        let client = setup.clients[caller % CLIENTS].clone();
        let committed = Arc::clone(&committed);
        tasks.spawn(async move {
            while Instant::now() < end {
                let left = end.saturating_duration_since(Instant::now());
                if let Submitted::Committed(_) = client.submit(&OPERATION[..], left).await {
                    committed.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    let rate = committed.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    drop(setup.clients);
    for node in setup.nodes {
        let _ = node.stop().await;
    }
    rate
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|it| it == name)?;
        arguments.get(at + 1).cloned()
    };
    let path = option("--write");
    let seconds = option("--seconds").map_or(SECONDS, |it| it.parse().expect("a number"));
    let length = Duration::from_secs(seconds);
    let only = arguments.first().filter(|it| !it.starts_with("--")).cloned();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut cases: Vec<(&str, &str, u32)> = Vec::new();
    for name in names().filter(|name| only.as_ref().is_none_or(|only| name.contains(only))) {
        cases.extend([(name, "backup", 3), (name, "primary", 0)]);
    }
    println!("{}; {} cases of {seconds} s", here(), cases.len());
    let mut table = String::from(
        "| traitor | role | operations/s | fault-free beside it | kept |\n|---|---|---|---|---|\n",
    );
    let mut before = runtime.block_on(measure(length, None));
    for group in cases.chunks(BETWEEN) {
        let rates: Vec<f64> = group
            .iter()
            .map(|(name, _, id)| runtime.block_on(measure(length, Some((ReplicaId(*id), name)))))
            .collect();
        let after = runtime.block_on(measure(length, None));
        let beside = f64::midpoint(before, after);
        for ((name, role, _), rate) in group.iter().zip(rates) {
            let kept = 100.0 * rate / beside;
            println!(
                "{name:<22} {role:<8} {rate:>9.0} /s, fault-free {beside:>9.0}, kept {kept:.0} %"
            );
            let _ =
                writeln!(table, "| `{name}` | {role} | {rate:.0} | {beside:.0} | {kept:.0} % |");
        }
        before = after;
    }
    if let Some(path) = path {
        let text = std::fs::read_to_string(&path).unwrap();
        let (head, rest) = text.split_once("<!-- quic: begin -->\n").expect("a mark for the begin");
        let (_, tail) = rest.split_once("<!-- quic: end -->").expect("a mark for the end");
        let marks = ("<!-- quic: begin -->\n", "<!-- quic: end -->");
        std::fs::write(&path, format!("{head}{}{table}{}{tail}", marks.0, marks.1)).unwrap();
    }
}
