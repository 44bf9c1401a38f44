//! The process of one replica: runs it, and says what it did when asked.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use clap::Args;
use pbft_app::core::types::{ClientId, ReplicaId, RequestNumber, Sequence};
use pbft_app::{
    Application, Context, Deployment, Node, NodeConfig, Pages, Refusal, ReplicaSockets, Store,
};
use pbft_sim::traitor::{Controller, Kit, Traitor};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::process::{commands, tell};
use crate::workload::Storage;
use crate::{Sum, deployment, unreplicated};

/// What a process is told on its command line.
#[derive(Args)]
pub struct Arguments {
    #[arg(long)]
    directory: PathBuf,
    #[arg(long)]
    id: u32,
    #[arg(long, value_enum)]
    storage: Storage,
    #[arg(long)]
    in_flight: usize,
    #[arg(long)]
    traitor: Option<String>,
    #[arg(long)]
    unreplicated: bool,
}

/// What a replica did since it started.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Stats {
    pub view: u64,
    pub views_entered: u64,
    pub executed: u64,
    pub pending: usize,
    pub evidence: usize,
    pub halted: bool,
    /// What the application was given: operations, requests they came in, slots that were not empty.
    pub operations: u64,
    pub requests: u64,
    pub slots: u64,
    /// The journal.
    pub commits: u64,
    pub records: u64,
    pub bytes: u64,
    pub syncs: u64,
    pub commit_micros: u64,
}

/// What an application was given, read while it goes on.
#[derive(Default)]
pub struct Counts {
    pub operations: AtomicU64,
    pub requests: AtomicU64,
    pub slots: AtomicU64,
}

/// An application that does next to nothing and counts what it was given.
pub struct Counted {
    application: Sum,
    counts: Arc<Counts>,
    slot: Sequence,
    request: Option<(ClientId, RequestNumber)>,
}

impl Counted {
    pub fn new(counts: Arc<Counts>) -> Self {
        Counted { application: Sum::default(), counts, slot: Sequence(0), request: None }
    }
}

impl Application for Counted {
    fn execute(&mut self, context: &Context, operation: &[u8]) -> Result<Bytes, Refusal> {
        // Operations of a request, and requests of a slot, come one after the other.
        if std::mem::replace(&mut self.slot, context.sequence()) != context.sequence() {
            self.counts.slots.fetch_add(1, Ordering::Relaxed);
        }
        let request = Some((context.client(), context.number()));
        if std::mem::replace(&mut self.request, request) != request {
            self.counts.requests.fetch_add(1, Ordering::Relaxed);
        }
        self.counts.operations.fetch_add(1, Ordering::Relaxed);
        self.application.execute(context, operation)
    }
    fn query(&self, question: &[u8]) -> Result<Bytes, Refusal> {
        self.application.query(question)
    }
    fn checkpoint(&mut self, pages: &mut Pages) {
        self.application.checkpoint(pages);
    }
    fn restore(&mut self, pages: &Pages) {
        self.application.restore(pages);
    }
}

/// Runs until the parent says `stop` or is gone.
///
/// # Errors
/// It cannot start, or the replica ended by itself.
pub async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { directory, id, storage, in_flight, traitor, unreplicated } = arguments;
    let shared = deployment::load(directory)?;
    let index = *id as usize;
    let entry = shared.replicas().get(index).copied();
    let entry = entry.ok_or_else(|| Failure::usage("--id", id, "no such replica"))?;
    let sockets = ReplicaSockets::bind(entry.peer_address, entry.client_address)
        .map_err(|error| Failure::of("cannot bind the replica's ports", error))?;
    let counts = Arc::new(Counts::default());
    if *unreplicated {
        let serve = unreplicated::serve(&shared, sockets, Arc::clone(&counts))?;
        return answer(Stats::default, &counts, async { Err(serve.await) }).await;
    }
    let id = ReplicaId(*id);
    let mut limits = shared.limits();
    limits.slots_in_flight_max = *in_flight;
    let keys = deployment::replica_keys(index);
    let store = match storage {
        Storage::Memory => Store::memory(),
        Storage::Disk => {
            let path = deployment::replica_path(directory, index);
            Store::open(&path, shared.cluster(), id)?
        }
    };
    let hook = traitor.as_ref().map(|name| hook(name, id, &shared, limits.clone())).transpose()?;
    let application = Box::new(Counted::new(Arc::clone(&counts)));
    let config = NodeConfig { deployment: shared, id, keys, limits, evidence: None };
    let mut node = match hook {
        None => Node::start(config, sockets, application, store).await?,
        Some(hook) => {
            Node::start_with_hook(config, sockets, application, store, Box::new(hook)).await?
        }
    };
    let (summary, metrics) = (node.watch(), node.storage_metrics());
    let look = move || {
        let (summary, metrics) = (*summary.borrow(), *metrics.borrow());
        let mut stats = Stats {
            commits: metrics.commits,
            records: metrics.records,
            bytes: metrics.bytes,
            syncs: metrics.syncs,
            commit_micros: metrics.commit_micros,
            ..Stats::default()
        };
        if let Some(summary) = summary {
            stats.view = summary.view.0;
            stats.views_entered = summary.view_changes;
            stats.executed = summary.executed.0;
            stats.pending = summary.pending;
            stats.evidence = summary.evidence;
            stats.halted = summary.halted.is_some();
        }
        stats
    };
    answer(look, &counts, async { Ok(node.wait().await?) }).await
}

fn hook(
    name: &str,
    id: ReplicaId,
    deployment: &Deployment,
    limits: pbft_app::core::limits::Limits,
) -> Result<Traitor, Failure> {
    let usage = |error| Failure::usage("--traitor", name, error);
    let kit = Kit {
        id,
        cluster: Arc::clone(deployment.cluster()),
        signer: Arc::new(deployment::replica_keys(id.0 as usize).signer()),
        edge: None,
        limits,
        application: Arc::new(|| Box::new(Sum::default())),
        seed: 1,
        controller: Controller::default(),
    };
    Traitor::new(&name.parse().map_err(usage)?, kit).map_err(usage)
}

/// Says that it is ready, and then what was done whenever it is asked, until the replica ends.
async fn answer<L: Fn() -> Stats>(
    look: L,
    counts: &Counts,
    ended: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let mut commands = commands();
    tell("ready");
    tokio::pin!(ended);
    loop {
        let command = tokio::select! {
            outcome = &mut ended => return outcome,
            command = commands.recv() => command,
        };
        match command.as_deref() {
            Some("stats") => {
                let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
                let stats = Stats {
                    operations: read(&counts.operations),
                    requests: read(&counts.requests),
                    slots: read(&counts.slots),
                    ..look()
                };
                tell(&format!("stats {}", serde_json::to_string(&stats)?));
            }
            Some("stop") | None => return Ok(()),
            Some(_) => {}
        }
    }
}
