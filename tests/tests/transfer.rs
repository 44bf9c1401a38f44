//! A state of 100 MB, transferred to a late replica while the others go on.
//!
//! `cargo test --release -p pbft-tests --test transfer -- --nocapture` prints the figures.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pbft_app::core::limits::Constants;
use pbft_app::core::types::ReplicaId;
use pbft_app::{
    Client, ClientConfig, Deployment, Node, NodeConfig, NodeKeys, Numbers, ReplicaEntry,
    ReplicaSockets, Store, Submitted, Timeouts,
};
use pbft_tests::paged::{PAGE, Paged};

const PAGES: usize = 100_000_000 / PAGE;

async fn node(deployment: &Deployment, id: u32, keys: NodeKeys, sockets: ReplicaSockets) -> Node {
    let config = NodeConfig {
        limits: deployment.limits(),
        deployment: deployment.clone(),
        id: ReplicaId(id),
        keys,
        evidence: None,
    };
    let application = Box::new(Paged::new(PAGES));
    Node::start(config, sockets, application, Store::memory()).await.unwrap()
}

/// Writes pages one after the other until told to stop.
async fn write_pages(client: Client, offset: u32, done: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let mut page = offset;
    while !stop.load(Ordering::Relaxed) {
        page = (page + 7919) % u32::try_from(PAGES).unwrap();
        let operation = page.to_le_bytes().to_vec();
        let outcome = client.submit(operation, Duration::from_secs(60)).await;
        assert!(matches!(outcome, Submitted::Committed(_)), "{outcome:?}");
        done.fetch_add(1, Ordering::Relaxed);
    }
}

async fn rate(done: &AtomicU64, length: Duration) -> f64 {
    let (before, since) = (done.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(length).await;
    (done.load(Ordering::Relaxed) - before) as f64 / since.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g4_a_late_replica_fetches_100_mb_while_the_others_go_on() {
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (mut sockets, mut replicas, mut keys) = (vec![], vec![], vec![]);
    for _ in 0..4 {
        let bound = ReplicaSockets::bind(local, local).unwrap();
        let own = NodeKeys::generate().unwrap();
        replicas.push(ReplicaEntry {
            keys: own.public(),
            peer_address: bound.peer_address(),
            client_address: bound.client_address(),
        });
        sockets.push(bound);
        keys.push(own);
    }
    let client_keys = NodeKeys::generate().unwrap();
    let (constants, timeouts) = (Constants::default(), Timeouts::default());
    let clients = vec![client_keys.public()];
    let deployment =
        Deployment::new("paged", replicas, clients, constants, timeouts, false).unwrap();
    let mut parts = (0_u32..).zip(keys.into_iter().zip(sockets)).collect::<Vec<_>>();
    let late = parts.pop().unwrap();
    let mut nodes = vec![];
    for (id, (keys, sockets)) in parts {
        nodes.push(node(&deployment, id, keys, sockets).await);
    }
    let config = ClientConfig::new(deployment.clone(), client_keys, Numbers::from_clock());
    let client = Client::connect(config).unwrap();
    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut writers = tokio::task::JoinSet::new();
    for offset in 0..32 {
        writers.spawn(write_pages(client.clone(), offset, Arc::clone(&done), Arc::clone(&stop)));
    }
    // The first checkpoint hashes everything; the figures begin after it, several checkpoints later.
    while done.load(Ordering::Relaxed) < 5_000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before = rate(&done, Duration::from_secs(3)).await;

    let (id, (keys, sockets)) = late;
    let since = Instant::now();
    let began = done.load(Ordering::Relaxed);
    nodes.push(node(&deployment, id, keys, sockets).await);
    let watch = nodes[3].watch();
    let others = nodes[0].watch();
    let executed = |watch: &tokio::sync::watch::Receiver<_>| {
        let summary: Option<pbft_app::core::replica::Summary> = *watch.borrow();
        summary.map_or(0, |summary| summary.executed.0)
    };
    let target = executed(&others);
    let end = Instant::now() + Duration::from_secs(120);
    while executed(&watch) < target {
        assert!(Instant::now() < end, "it never arrived");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (took, served) = (since.elapsed(), done.load(Ordering::Relaxed) - began);
    // Level with the others, not only past where they were.
    while executed(&watch) + 64 < executed(&others) {
        assert!(Instant::now() < end, "it never drew level");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let level = since.elapsed();
    let during = served as f64 / took.as_secs_f64();
    println!(
        "{} MB in pages of {PAGE} bytes: {before:.0} operations/s before; state there after {took:.2?}, level after \
         {level:.2?}; {during:.0} operations/s meanwhile",
        PAGES * PAGE / 1_000_000
    );
    stop.store(true, Ordering::Relaxed);
    while let Some(joined) = writers.join_next().await {
        joined.unwrap();
    }
    // The same state everywhere, the late one included.
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let reports = client.status(Duration::from_secs(2)).await;
        let states: Vec<_> =
            reports.values().map(|it| (it.last_executed, it.state_digest)).collect();
        if states.len() == 4 && states.iter().all(|state| *state == states[0]) {
            assert!(reports.values().all(|it| it.view_changes == 0 && it.evidence == 0));
            break;
        }
        assert!(Instant::now() < end, "{reports:?}");
    }
    for node in nodes {
        node.stop().await.unwrap();
    }
}
