//! The replicas of a demonstration and where they are.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use pbft_app::core::crypto::Hasher;
use pbft_app::core::limits::Constants;
use pbft_app::core::types::ReplicaId;
use pbft_app::{
    ConfigurationError, Deployment, Node, NodeConfig, NodeKeys, ReplicaEntry, ReplicaSockets,
    Store, Timeouts, Typed,
};
use pbft_sim::traitor::{Controller, Spec};
use tempfile::TempDir;

use crate::service::Counter;
use crate::traitor::{announcement, clock_seed, hook, parse_each};
use crate::{Demo, Failure, Storage};

/// How long the ports of a replica that was killed may take until they are free.
const REBIND_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything from which nodes are started.
pub(super) struct Setup {
    pub(super) deployment: Deployment,
    pub(super) traitors: Vec<(ReplicaId, Spec)>,
    controller: Controller,
    sockets: Mutex<Vec<Option<ReplicaSockets>>>,
    /// All keys follow from it.
    secret: [u8; 32],
    seed: u64,
    clients: usize,
    /// Where stores are, if not in memory; removed at the end.
    directory: Option<TempDir>,
}

impl Setup {
    pub(super) fn new(demo: &Demo) -> Result<Setup, Failure> {
        let traitors = parse_each(&demo.traitor, demo.replicas)?;
        let mut secret = [0; 32];
        match demo.seed {
            Some(seed) => {
                let mut hasher = Hasher::new("demo seed");
                hasher.number(seed);
                secret = hasher.finish().0;
            }
            None => getrandom::fill(&mut secret).map_err(|_| ConfigurationError::Randomness)?,
        }
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (mut sockets, mut replicas) = (Vec::new(), Vec::new());
        for index in 0..demo.replicas {
            let bound = ReplicaSockets::bind(local, local).map_err(ConfigurationError::from)?;
            replicas.push(ReplicaEntry {
                keys: keys(&secret, "replica", index).public(),
                peer_address: bound.peer_address(),
                client_address: bound.client_address(),
            });
            sockets.push(Some(bound));
        }
        let clients = (0..demo.clients).map(|index| keys(&secret, "client", index).public());
        let deployment = Deployment::new(
            "demo",
            replicas,
            clients.collect(),
            Constants::default(),
            Timeouts::default(),
            false,
        )
        .map_err(ConfigurationError::from)?;
        Ok(Setup {
            deployment,
            traitors,
            controller: Controller::default(),
            sockets: Mutex::new(sockets),
            secret,
            seed: demo.seed.unwrap_or_else(clock_seed),
            clients: demo.clients,
            directory: match demo.storage {
                Storage::Memory => None,
                Storage::Disk => Some(tempfile::tempdir().map_err(|error| {
                    Failure::Failed(format!("cannot make a directory for the stores: {error}"))
                })?),
            },
        })
    }

    pub(super) fn client_keys(&self) -> Result<Vec<NodeKeys>, Failure> {
        Ok((0..self.clients).map(|index| keys(&self.secret, "client", index)).collect())
    }

    pub(super) fn is_traitor(&self, id: ReplicaId) -> bool {
        self.traitors.iter().any(|(traitor, _)| *traitor == id)
    }

    /// Who is to lose its store so that `name` has somebody to give wrong parts to: the honest replica with
    /// the highest number.
    pub(super) fn late_replica(
        &self,
        nodes: &BTreeMap<ReplicaId, Node>,
        name: &str,
    ) -> Option<ReplicaId> {
        let names = self.traitors.iter().flat_map(|(_, spec)| spec.names());
        let wanted = names.into_iter().any(|it| it == name);
        nodes.keys().rev().copied().find(|id| wanted && !self.is_traitor(*id))
    }

    /// Who is what, before anything happens.
    pub(super) fn announce(&self, json: bool) {
        let cluster = self.deployment.cluster();
        if !json {
            println!("{} replicas on 127.0.0.1, {} may be faulty", cluster.n(), cluster.f());
        }
        let lines = self.traitors.iter().map(|(id, spec)| announcement(*id, spec));
        let mut lines: Vec<String> = lines.collect();
        let traitors = self.traitors.len();
        if traitors > cluster.f() {
            lines.push(format!(
                "{traitors} traitors of {}: more than the {} that can be tolerated; agreement may break",
                cluster.n(),
                cluster.f()
            ));
        }
        for line in lines {
            // Standard output then holds one JSON object and nothing else.
            if json {
                eprintln!("{line}");
            } else {
                println!("{line}");
            }
        }
    }

    pub(super) async fn start(&self) -> Result<BTreeMap<ReplicaId, Node>, Failure> {
        let mut nodes = BTreeMap::new();
        for id in self.deployment.cluster().replicas() {
            nodes.insert(id, self.start_one(id, false).await?);
        }
        Ok(nodes)
    }

    /// A store for a start: a new one, or what a replica has that lost its own.
    fn store(&self, id: ReplicaId, lost: bool) -> Result<Store, Failure> {
        let Some(directory) = &self.directory else {
            return Ok(if lost { Store::lost_memory() } else { Store::memory() });
        };
        let directory = directory.path().join(format!("replica-{id}"));
        let failed = |error| Failure::Failed(format!("{}: {error}", directory.display()));
        if lost {
            std::fs::remove_dir_all(directory.join("data")).map_err(failed)?;
        } else {
            std::fs::create_dir(&directory).map_err(failed)?;
            Store::create(&directory, self.deployment.cluster(), id)?;
        }
        Ok(Store::open(&directory, self.deployment.cluster(), id)?)
    }

    /// Starts a replica, for the first time or with its store lost.
    pub(super) async fn start_one(&self, id: ReplicaId, lost: bool) -> Result<Node, Failure> {
        let index = usize::try_from(id.0).unwrap_or(usize::MAX);
        let keys = keys(&self.secret, "replica", index);
        let traitor = self.traitors.iter().find(|(traitor, _)| *traitor == id);
        let hook = match traitor {
            Some((_, spec)) => {
                let controller = self.controller.clone();
                Some(hook(spec, id, &self.deployment, &keys, self.seed, controller)?)
            }
            None => None,
        };
        let sockets = self.sockets(index).await?;
        let config = NodeConfig {
            limits: self.deployment.limits(),
            deployment: self.deployment.clone(),
            id,
            keys,
            evidence: None,
        };
        let (application, store) = (Box::new(Typed::<Counter>::new()), self.store(id, lost)?);
        Ok(match hook {
            None => Node::start(config, sockets, application, store).await?,
            Some(hook) => Node::start_with_hook(config, sockets, application, store, hook).await?,
        })
    }

    /// The sockets bound at the beginning, or others with the same addresses.
    async fn sockets(&self, index: usize) -> Result<ReplicaSockets, Failure> {
        let first = {
            let mut sockets =
                self.sockets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            sockets.get_mut(index).and_then(Option::take)
        };
        if let Some(sockets) = first {
            return Ok(sockets);
        }
        let entry = self.deployment.replicas().get(index);
        let entry =
            *entry.ok_or_else(|| Failure::Usage(format!("replica {index} is not listed")))?;
        let end = Instant::now() + REBIND_TIMEOUT;
        loop {
            match ReplicaSockets::bind(entry.peer_address, entry.client_address) {
                Ok(sockets) => return Ok(sockets),
                Err(error) if Instant::now() >= end => {
                    return Err(ConfigurationError::from(error).into());
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

fn keys(secret: &[u8; 32], role: &str, index: usize) -> NodeKeys {
    let derive = |purpose: &str| {
        let mut hasher = Hasher::new("demo key");
        hasher.fixed(secret);
        hasher.field(role.as_bytes());
        hasher.count(index);
        hasher.field(purpose.as_bytes());
        hasher.finish().0
    };
    NodeKeys::from_seeds(derive("signing"), derive("tls"))
}
