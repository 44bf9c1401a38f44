//! `demo`: replicas and clients in one process, each replica with its own keys, runtime and QUIC endpoints; some
//! of them traitors, if asked for.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use pbft_app::core::types::ReplicaId;
use pbft_app::{Client, ClientConfig, Completed, Node, Numbers, TypedClient};
use tokio::sync::watch;

use crate::load::{Plan, closed_loop, progress};
use crate::service::{Command, Counter};
use crate::{Demo, Failure};

mod observer;
mod setup;
mod summary;

use observer::{Observer, settle};
use setup::Setup;
use summary::{Gathered, Outcome};

const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Some traitors make the service so slow that nobody wants to see the end of the load.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often the replica that fetches the state is stopped again, until it has caught a lying donor.
const FETCHES_MAX: u32 = 5;
/// How long a replica that was started again may take until it is level.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// The traitor that shows itself only to replicas that fetch the state.
const DONOR: &str = "poisoned_donor";

pub(crate) async fn run(demo: &Demo) -> Result<(), Failure> {
    if demo.clients == 0 {
        return Err(Failure::Usage("--clients 0: take at least 1".to_owned()));
    }
    let setup = Setup::new(demo)?;
    let mut nodes = setup.start().await?;
    setup.announce(demo.json);
    let mut clients = Vec::new();
    for keys in setup.client_keys()? {
        let config = ClientConfig::new(setup.deployment.clone(), keys, Numbers::from_clock());
        clients.push(Client::connect(config)?);
    }
    let typed: Vec<_> = clients.iter().map(Client::typed::<Counter>).collect();
    let bar = progress(demo.operations, demo.json);
    let primary = ReplicaId(0);
    let victim = if demo.crash_primary { nodes.remove(&primary) } else { None };
    let crashed = victim.as_ref().map(Node::id);
    let beyond_f = setup.traitors.len()
        + usize::from(crashed.is_some_and(|id| !setup.is_traitor(id)))
        > setup.deployment.cluster().f();
    let (stop, stopped) = watch::channel(false);
    let honest = nodes.values().filter(|node| !setup.is_traitor(node.id()));
    let mut observer = Observer::new(honest, beyond_f);
    let late = setup.late_replica(&nodes, DONOR).and_then(|id| nodes.remove(&id));
    let fetched;
    let done = {
        let patience = (!setup.traitors.is_empty()).then_some(PATIENCE);
        let plan = Plan {
            operations: demo.operations,
            timeout: OPERATION_TIMEOUT,
            until: patience.and_then(|patience| Instant::now().checked_add(patience)),
            command: amount,
            stopped: stopped.clone(),
        };
        let over = Cell::new(false);
        let load = async {
            let done = closed_loop(typed.clone(), plan, &bar).await;
            over.set(true);
            done
        };
        let scene = Scene { demo, bar: &bar, over: &over };
        let others = nodes.values().next().map(Node::watch);
        let incidents = async {
            scene.crash(victim).await;
            if let (Some(node), Some(others)) = (late, others) {
                return scene.lose_and_fetch(&setup, node, others).await.map(Some);
            }
            Ok(None)
        };
        let work = async { tokio::join!(load, incidents) };
        tokio::select! {
            (done, late) = work => {
                fetched = late?;
                done?
            }
            never = observer.watch(clients.first(), &stop, &bar, demo.json) => match never {},
        }
    };
    bar.finish_and_clear();
    let fetches = fetched.as_ref().map_or(0, |(_, fetches)| *fetches);
    let late = fetched.map(|(node, _)| {
        let id = node.id();
        nodes.insert(id, node);
        id
    });
    let value = match typed.first() {
        Some(client) if !*stopped.borrow() => read(client).await?,
        _ => None,
    };
    let honest = || nodes.values().filter(|node| !setup.is_traitor(node.id()));
    let reports = match clients.first() {
        Some(client) => settle(client, &honest().collect::<Vec<_>>()).await,
        None => Vec::new(),
    };
    observer.look();
    let gathered = Gathered {
        setup: &setup,
        reports,
        nodes: honest().collect(),
        views: observer.views(),
        late,
        fetches,
    };
    let outcome = Outcome::new(demo, &done, value, crashed, &gathered);
    drop((clients, typed));
    outcome.print(demo, &gathered)?;
    drop(gathered);
    close(nodes, &setup).await?;
    outcome.verdict()
}

async fn read(client: &TypedClient<Counter>) -> Result<Option<i64>, Failure> {
    let value = client.submit(&Command::Get, OPERATION_TIMEOUT).await;
    Ok(match value.map_err(|error| Failure::Failed(error.to_string()))? {
        Completed::Committed(value) => Some(value),
        _ => None,
    })
}

/// What the operation of this index adds.
fn amount(index: u64) -> Command {
    Command::Add(i64::try_from(index % 10).unwrap_or(0) + 1)
}

/// Stops all at once: one after the other, those left would dial those gone. How a traitor ends, and how
/// an honest replica does that said before why it must not go on, is no failure of the demonstration.
async fn close(nodes: BTreeMap<ReplicaId, Node>, setup: &Setup) -> Result<(), Failure> {
    let mut stops = tokio::task::JoinSet::new();
    for (id, node) in nodes {
        let excused = setup.is_traitor(id) || observer::halt(&node).is_some();
        stops.spawn(async move { (excused, node.stop().await) });
    }
    while let Some(stopped) = stops.join_next().await {
        let (excused, ended) = stopped.map_err(|error| Failure::Failed(error.to_string()))?;
        if !excused {
            ended?;
        }
    }
    Ok(())
}

/// What happens in front of the reader during the load.
struct Scene<'a> {
    demo: &'a Demo,
    bar: &'a ProgressBar,
    /// The load has ended.
    over: &'a Cell<bool>,
}

impl Scene<'_> {
    fn say(&self, line: &str) {
        if !self.demo.json {
            self.bar.suspend(|| println!("{line}"));
        }
    }

    async fn until(&self, mut condition: impl FnMut() -> bool) {
        while !self.over.get() && !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn until_a_third(&self) -> u64 {
        self.until(|| self.bar.position() >= self.demo.operations / 3).await;
        self.bar.position()
    }

    /// Kills the primary once a third of the operations is done.
    async fn crash(&self, victim: Option<Node>) {
        let Some(node) = victim else { return };
        let done = self.until_a_third().await;
        self.say(&format!("replica {}, the primary, is killed after {done} operations", node.id()));
        node.crash().await;
    }

    /// Stops a replica once a third of the operations is done, and starts it with nothing once the others
    /// can no longer repair it slot by slot: it has to fetch the state. Once more if no donor lied to it.
    async fn lose_and_fetch(
        &self,
        setup: &Setup,
        mut node: Node,
        others: watch::Receiver<Option<pbft_app::core::replica::Summary>>,
    ) -> Result<(Node, u32), Failure> {
        let id = node.id();
        let executed = || others.borrow().as_ref().map_or(0, |summary| summary.executed.0);
        let done = self.until_a_third().await;
        self.say(&format!("replica {id} is killed after {done} operations and loses its store"));
        let window = setup.deployment.cluster().constants().window;
        let mut fetches = 0;
        loop {
            let from = executed();
            node.crash().await;
            if fetches == 0 {
                self.until(|| executed() > from + 2 * window).await;
            }
            node = setup.start_one(id, true).await?;
            fetches += 1;
            let fetching = node.watch();
            let level = || {
                let summary = fetching.borrow();
                summary.as_ref().is_some_and(|it| it.executed.0 >= from && !it.restoring)
            };
            let _ = tokio::time::timeout(FETCH_TIMEOUT, self.until(level)).await;
            if self.over.get()
                || fetches >= FETCHES_MAX
                || !node.findings().borrow().blamed.is_empty()
            {
                return Ok((node, fetches));
            }
        }
    }
}
