//! Replicas on real files in one process: what was acknowledged is there after all of them crash at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use pbft_app::core::limits::Constants;
use pbft_app::core::types::ReplicaId;
use pbft_app::{
    Client, ClientConfig, Completed, Context, Deployment, History, Node, NodeConfig, NodeKeys,
    Numbers, Refusal, ReplicaEntry, ReplicaSockets, Service, Store, Timeouts, Typed,
};
use serde::{Deserialize, Serialize};

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default, Serialize, Deserialize)]
struct Sum(i64);

impl Service for Sum {
    type Command = i64;
    type Response = i64;
    fn execute(&mut self, _: &Context, amount: i64) -> Result<i64, Refusal> {
        self.0 += amount;
        Ok(self.0)
    }
}

fn keys(role: u8, index: u8) -> NodeKeys {
    let seed = |purpose: u8| {
        let mut seed = [role; 32];
        (seed[0], seed[1]) = (purpose, index);
        seed
    };
    NodeKeys::from_seeds(seed(1), seed(2))
}

struct Cluster {
    directory: tempfile::TempDir,
    deployment: Deployment,
    nodes: Vec<Option<Node>>,
}

impl Cluster {
    async fn start() -> Self {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let sockets: Vec<_> = (0..4).map(|_| ReplicaSockets::bind(local, local).unwrap()).collect();
        let replicas = (0_u8..).zip(&sockets).map(|(index, sockets)| ReplicaEntry {
            keys: keys(1, index).public(),
            peer_address: sockets.peer_address(),
            client_address: sockets.client_address(),
        });
        let constants = Constants { checkpoint_interval: 8, window: 16, ..Constants::default() };
        let clients = vec![keys(50, 0).public()];
        let (replicas, timeouts) = (replicas.collect(), Timeouts::default());
        let deployment =
            Deployment::new("durable", replicas, clients, constants, timeouts, false).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut cluster = Cluster { directory, deployment, nodes: Vec::new() };
        for (index, sockets) in sockets.into_iter().enumerate() {
            let path = cluster.path(index);
            std::fs::create_dir(&path).unwrap();
            let id = ReplicaId(u32::try_from(index).unwrap());
            Store::create(&path, cluster.deployment.cluster(), id).unwrap();
            cluster.nodes.push(None);
            cluster.start_one(index, sockets, History::Fresh).await;
        }
        cluster
    }

    fn path(&self, index: usize) -> std::path::PathBuf {
        self.directory.path().join(format!("replica-{index}"))
    }

    async fn start_one(&mut self, index: usize, sockets: ReplicaSockets, history: History) {
        let id = ReplicaId(u32::try_from(index).unwrap());
        let store = Store::open(&self.path(index), self.deployment.cluster(), id).unwrap();
        assert_eq!(store.history(), history, "{:?}", store.remarks());
        let config = NodeConfig {
            limits: self.deployment.limits(),
            deployment: self.deployment.clone(),
            id,
            keys: keys(1, u8::try_from(index).unwrap()),
            evidence: None,
        };
        let application = Box::new(Typed::<Sum>::new());
        self.nodes[index] = Some(Node::start(config, sockets, application, store).await.unwrap());
    }

    async fn restart(&mut self, index: usize, history: History) {
        let entry = self.deployment.replicas()[index];
        let end = Instant::now() + PATIENCE;
        loop {
            match ReplicaSockets::bind(entry.peer_address, entry.client_address) {
                Ok(sockets) => return self.start_one(index, sockets, history).await,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn client(&self) -> Client {
        let config = ClientConfig::new(self.deployment.clone(), keys(50, 0), Numbers::from_clock());
        Client::connect(config).unwrap()
    }

    async fn crash_all(&mut self) {
        for node in &mut self.nodes {
            node.take().unwrap().crash().await;
        }
    }
}

async fn add(client: &Client, amount: i64) -> Option<i64> {
    match client.typed::<Sum>().submit(&amount, PATIENCE).await {
        Ok(Completed::Committed(value)) => Some(value),
        _ => None,
    }
}

fn size(path: &Path) -> u64 {
    ["journal.redb", "snapshots.redb"]
        .map(|name| std::fs::metadata(path.join("data").join(name)).unwrap().len())
        .iter()
        .sum()
}

#[tokio::test]
async fn everything_acknowledged_survives_a_crash_of_all_at_once() {
    let mut cluster = Cluster::start().await;
    let mut expected = 0;
    for round in 0..3 {
        let client = cluster.client();
        for _ in 0..60 {
            expected += 1;
            assert_eq!(add(&client, 1).await, Some(expected), "round {round}");
        }
        let metrics = *cluster.nodes[0].as_ref().unwrap().storage_metrics().borrow();
        assert!(metrics.commits > 0 && metrics.records >= metrics.commits, "{metrics:?}");
        drop(client);
        cluster.crash_all().await;
        for index in 0..4 {
            cluster.restart(index, History::Kept).await;
        }
    }
    let client = cluster.client();
    assert_eq!(add(&client, 0).await, Some(expected));
    for index in 0..4 {
        let bytes = size(&cluster.path(index));
        assert!(bytes < 8 << 20, "the files of replica {index} have {bytes} bytes");
    }
}

#[tokio::test]
async fn a_replica_goes_on_from_its_own_snapshot_and_fetches_it_if_that_is_damaged() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client();
    for value in 1..=60 {
        assert_eq!(add(&client, 1).await, Some(value));
    }
    for damage in [false, true] {
        cluster.nodes[2].take().unwrap().stop().await.unwrap();
        if damage {
            std::fs::write(cluster.path(2).join("data/snapshots.redb"), b"no database").unwrap();
        }
        cluster.restart(2, History::Kept).await;
        let before = add(&client, 1).await.unwrap();
        assert!(before > 60);
        let watch = cluster.nodes[2].as_ref().unwrap().watch();
        let end = Instant::now() + PATIENCE;
        // It is level again, votes, and nobody saw it say two things.
        loop {
            let executed = watch.borrow().map_or(0, |summary| summary.executed.0);
            let others = cluster.nodes[0].as_ref().unwrap().watch();
            if executed >= others.borrow().map_or(u64::MAX, |summary| summary.executed.0) {
                break;
            }
            assert!(Instant::now() < end, "executed {executed}");
            add(&client, 0).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(cluster.nodes.iter().flatten().all(|node| node.evidence().is_empty()));
    }
}
