//! What a checkpoint of a large state costs: `cargo bench -p pbft-benches --bench checkpoint`.
//!
//! Four replicas with storage on a disk, all of them and the client on this machine; `TMPDIR` says which disk.
//! Callers write random pages, first on a state of 4 MiB, then on a large one: what the two have in
//! common is the machine's, what differs follows the state's size. A pause is the time between two slots executed
//! one after the other, seen from inside the application. Around a checkpoint is from the slot before it until it
//! is stable and a slot more; away from it is the rest.
//!
//! | variable | | default |
//! |---|---|---|
//! | `STATE_MIB` | the large state of each replica | 1024 |
//! | `PAGE_KIB` | its pages, 1 to 64 | 4 |
//! | `CALLERS` | at a time | 64 |
//! | `CLIENTS` | they are spread over; those of one share envelopes, so with few a slot waits for the one before | 1 |
//! | `RATE` | writes per second of all callers; 0: the next as soon as one is done | 0 |
//! | `SECONDS` | of load on each state | 30 |
//! | `INTERVAL` | K: slots from one checkpoint to the next; the window is twice that | 32 |
//!
//! `STATE_MIB=64 SECONDS=5` takes a quarter of a minute.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    missing_docs
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use pbft_app::core::limits::Constants;
use pbft_app::core::types::ReplicaId;
use pbft_app::{
    Application, Client, ClientConfig, Context, Deployment, Node, NodeConfig, NodeKeys, Numbers,
    Pages, Refusal, ReplicaSockets, Store, Submitted,
};
use pbft_benches::{here, in_process, seed};
use pbft_tests::paged::Paged;
use tempfile::TempDir;

/// A state so small that its size costs nothing.
const SMALL_BYTES: usize = 4 << 20;
const PAUSE_MICROS_MAX: u64 = 10_000;

/// What an application saw: times are microseconds since the start.
#[derive(Default)]
struct Log {
    /// Slot, first operation begun, last operation done.
    slots: Vec<(u64, u64, u64)>,
    /// After which slot, and how long `checkpoint` took.
    checkpoints: Vec<(u64, u64)>,
    /// How long each operation took, in nanoseconds: next to nothing where memory is as fast as it should be.
    operations: Vec<u64>,
}

struct Watched {
    inner: Paged,
    start: Instant,
    log: Arc<Mutex<Log>>,
    slot: u64,
}

impl Application for Watched {
    fn execute(&mut self, context: &Context, operation: &[u8]) -> Result<Bytes, Refusal> {
        let (began, clock) = (micros(self.start), Instant::now());
        let outcome = self.inner.execute(context, operation);
        let took = clock.elapsed();
        let done = micros(self.start);
        let mut log = self.log.lock().unwrap();
        log.operations.push(u64::try_from(took.as_nanos()).unwrap());
        self.slot = context.sequence().0;
        match log.slots.last_mut() {
            Some((slot, _, end)) if *slot == self.slot => *end = done,
            _ => log.slots.push((self.slot, began, done)),
        }
        outcome
    }
    fn query(&self, query: &[u8]) -> Result<Bytes, Refusal> {
        self.inner.query(query)
    }
    fn checkpoint(&mut self, pages: &mut Pages) {
        let began = micros(self.start);
        self.inner.checkpoint(pages);
        let took = micros(self.start) - began;
        self.log.lock().unwrap().checkpoints.push((self.slot, took));
    }
    fn restore(&mut self, pages: &Pages) {
        self.inner.restore(pages);
    }
}

fn micros(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap()
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

#[derive(Clone, Copy)]
struct Plan {
    state_bytes: usize,
    page_bytes: usize,
    clients: usize,
    callers: usize,
    rate: u64,
    load: Duration,
    interval: u64,
}

impl Plan {
    fn pages(&self) -> usize {
        self.state_bytes / self.page_bytes
    }
}

struct Setup {
    deployment: Deployment,
    directory: TempDir,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    logs: Vec<Arc<Mutex<Log>>>,
    /// For each replica when each checkpoint became stable.
    stable: Vec<Arc<Mutex<BTreeMap<u64, u64>>>>,
    start: Instant,
}

fn config(deployment: &Deployment, id: ReplicaId) -> NodeConfig {
    let index = usize::try_from(id.0).unwrap();
    NodeConfig {
        limits: deployment.limits(),
        deployment: deployment.clone(),
        id,
        keys: NodeKeys::from_seeds(seed(1, index), seed(2, index)),
        evidence: None,
    }
}

async fn set_up(plan: Plan) -> Setup {
    let directory = tempfile::tempdir().unwrap();
    let constants = Constants {
        checkpoint_interval: plan.interval,
        window: 2 * plan.interval,
        ..Constants::default()
    };
    let (deployment, sockets, _, client_keys) = in_process(4, plan.clients, constants);
    let start = Instant::now();
    let (mut nodes, mut logs, mut stable) = (Vec::new(), Vec::new(), Vec::new());
    for (id, sockets) in deployment.cluster().replicas().zip(sockets) {
        let path = directory.path().join(id.to_string());
        std::fs::create_dir(&path).unwrap();
        Store::create(&path, deployment.cluster(), id).unwrap();
        let store = Store::open(&path, deployment.cluster(), id).unwrap();
        let log = Arc::<Mutex<Log>>::default();
        let inner = Paged::with_page_bytes(plan.pages(), plan.page_bytes);
        let application = Watched { inner, start, log: Arc::clone(&log), slot: 0 };
        let config = config(&deployment, id);
        let node = Node::start(config, sockets, Box::new(application), store).await.unwrap();
        let (seen, watch) = (Arc::<Mutex<BTreeMap<u64, u64>>>::default(), node.watch());
        stable.push(Arc::clone(&seen));
        tokio::spawn(async move {
            loop {
                // Often enough to tell, seldom enough not to matter.
                tokio::time::sleep(Duration::from_millis(1)).await;
                let Some(summary) = *watch.borrow() else { continue };
                seen.lock().unwrap().entry(summary.stable.0).or_insert_with(|| micros(start));
            }
        });
        nodes.push(node);
        logs.push(log);
    }
    let clients = client_keys.into_iter().map(|keys| {
        let config = ClientConfig::new(deployment.clone(), keys, Numbers::from_clock());
        Client::connect(config).unwrap()
    });
    let clients = clients.collect();
    Setup { deployment, directory, nodes, clients, logs, stable, start }
}

impl Setup {
    /// Has callers write random pages for a time, and returns how long each write took and when the load began.
    async fn load(&self, plan: Plan, length: Duration) -> (Histogram<u64>, u64) {
        let began = Instant::now();
        let end = began + length;
        let mut tasks = tokio::task::JoinSet::new();
        for caller in 0..plan.callers {
            let client = self.clients[caller % self.clients.len()].clone();
            tasks.spawn(async move {
                let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(caller as u64 * 2 + 1);
                let mut latencies = Vec::new();
                let pace = plan.callers as f64 / plan.rate as f64;
                let offset = caller as f64 / plan.callers as f64;
                while Instant::now() < end {
                    let mut due = Instant::now();
                    if plan.rate > 0 {
                        // Late ones count from when they were due.
                        due = began
                            + Duration::from_secs_f64(pace * (latencies.len() as f64 + offset));
                        tokio::time::sleep_until(due.into()).await;
                    }
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let page = u32::try_from(random % plan.pages() as u64).unwrap();
                    let operation = page.to_le_bytes().to_vec();
                    let outcome = client.submit(operation, Duration::from_secs(600)).await;
                    assert!(matches!(outcome, Submitted::Committed(_)), "{outcome:?}");
                    latencies.push(due.elapsed());
                }
                latencies
            });
        }
        let mut histogram = Histogram::new_with_bounds(1, 1_000_000_000, 3).unwrap();
        while let Some(latencies) = tasks.join_next().await {
            for latency in latencies.unwrap() {
                histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap());
            }
        }
        (histogram, u64::try_from((began - self.start).as_micros()).unwrap())
    }

    /// Writes until every replica has a first stable checkpoint: the one that hashes and stores everything.
    async fn first_checkpoint(&self, plan: Plan) {
        let began = Instant::now();
        let held = || self.stable.iter().all(|it| it.lock().unwrap().keys().any(|it| *it > 0));
        while !held() {
            assert!(began.elapsed() < Duration::from_secs(900), "there never was a checkpoint");
            self.load(plan, Duration::from_millis(200)).await;
        }
    }

    /// All pauses of all replicas from `since` on, with what was around a checkpoint told apart; the longest are
    /// printed if there are any that are too long.
    fn pauses(&self, since: u64) -> Pauses {
        let mut pauses =
            Pauses { around: empty(), away: empty(), held: empty(), to_stable: empty(), slots: 0 };
        for (log, stable) in self.logs.iter().zip(&self.stable) {
            let (log, stable) = (log.lock().unwrap(), stable.lock().unwrap());
            let ended: BTreeMap<u64, u64> =
                log.slots.iter().map(|(slot, _, end)| (*slot, *end)).collect();
            // From the end of the slot before to one slot after it is stable.
            let mut busy = Vec::new();
            for (slot, took) in &log.checkpoints {
                let frozen = ended.get(slot).copied().unwrap_or(0);
                // A later one may have become stable before anyone looked.
                let Some((_, settled)) = stable.range(slot..).next() else { continue };
                busy.push((frozen.saturating_sub(1), *settled));
                if frozen >= since {
                    pauses.held.saturating_record(*took);
                    pauses.to_stable.saturating_record(settled.saturating_sub(frozen));
                }
            }
            for pair in log.slots.windows(2) {
                let ((_, _, end), (_, next, _)) = (pair[0], pair[1]);
                if end < since {
                    continue;
                }
                pauses.slots += 1;
                let at = busy.partition_point(|(_, settled)| *settled < end);
                let is_around = busy.get(at).is_some_and(|(frozen, _)| *frozen <= next);
                let histogram = if is_around { &mut pauses.around } else { &mut pauses.away };
                histogram.saturating_record(next.saturating_sub(end));
            }
        }
        pauses
    }
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 1_000_000_000, 3).unwrap()
}

struct Pauses {
    around: Histogram<u64>,
    away: Histogram<u64>,
    /// How long `Application::checkpoint` had the state.
    held: Histogram<u64>,
    to_stable: Histogram<u64>,
    slots: u64,
}

fn show(name: &str, histogram: &Histogram<u64>) {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "  {name:42} p50 {:8.2} ms   p99 {:8.2}   p99.9 {:8.2}   max {:8.2}   of {}",
        at(0.5),
        at(0.99),
        at(0.999),
        histogram.max() as f64 / 1000.0,
        histogram.len()
    );
}

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

async fn run(plan: Plan) {
    let mib = plan.state_bytes >> 20;
    println!("state of {mib} MiB in {} pages of {} KiB", plan.pages(), plan.page_bytes >> 10);
    let before = resident_mib();
    let began = Instant::now();
    let setup = set_up(plan).await;
    let memory = |when: &str| {
        let held = (resident_mib() - before) / 4.0;
        println!(
            "  memory of a replica {when:22} {held:.0} MiB: {:.2} x the state",
            held / mib as f64
        );
    };
    println!("  four fresh replicas started in {:.1?}", began.elapsed());
    memory("before the first");
    let began = micros(setup.start);
    setup.first_checkpoint(plan).await;
    let first = setup.pauses(began);
    show("first checkpoint: state held", &first.held);
    show("first checkpoint: until it is stable", &first.to_stable);
    show("first checkpoint: pauses", &first.around);
    memory("after the first");
    let (latency, since) = setup.load(plan, plan.load).await;
    let pauses = setup.pauses(since);
    assert!(
        !pauses.around.is_empty() && pauses.to_stable.len() >= 4 && !latency.is_empty(),
        "nothing was measured"
    );
    memory("after the load");
    println!(
        "  {:.0} writes/s, {:.0} slots/s, {} checkpoints of each replica",
        latency.len() as f64 / plan.load.as_secs_f64(),
        pauses.slots as f64 / 4.0 / plan.load.as_secs_f64(),
        pauses.to_stable.len() / 4,
    );
    show("state held by a checkpoint", &pauses.held);
    show("slot done to its checkpoint stable", &pauses.to_stable);
    show("pauses around checkpoints", &pauses.around);
    show("pauses away from checkpoints", &pauses.away);
    let long = |it: &Histogram<u64>| it.len() - it.count_between(0, PAUSE_MICROS_MAX);
    println!(
        "  pauses over {} ms: {} around checkpoints, {} away from them",
        PAUSE_MICROS_MAX / 1000,
        long(&pauses.around),
        long(&pauses.away)
    );
    show("write, as the client sees it", &latency);
    let mut inside = empty();
    setup.logs[1].lock().unwrap().operations.iter().for_each(|it| inside.saturating_record(*it));
    let at = |quantile| inside.value_at_quantile(quantile) as f64 / 1000.0;
    println!("  write, inside the application: p50 {:.1} us, p99 {:.1}", at(0.5), at(0.99));
    let journal = *setup.nodes[1].storage_metrics().borrow();
    println!(
        "  journal of a replica: {} commits, {:.2} ms each, {:.1} ms the longest",
        journal.commits,
        journal.commit_micros as f64 / 1000.0 / journal.commits as f64,
        journal.commit_micros_max as f64 / 1000.0
    );
    start_again(setup, plan).await;
}

/// Stops everything, and starts one replica from its store.
async fn start_again(setup: Setup, plan: Plan) {
    let Setup { deployment, directory, nodes, clients, logs, .. } = setup;
    drop(clients);
    for node in nodes {
        node.stop().await.unwrap();
    }
    let id = ReplicaId(1);
    let path = directory.path().join(id.to_string());
    let bytes = std::fs::metadata(path.join("data/snapshots.redb")).unwrap().len();
    let gib = plan.state_bytes as f64 / f64::from(1 << 30);
    println!("  snapshots on disk: {:.2} x the state", bytes as f64 / plan.state_bytes as f64);
    let began = Instant::now();
    let cluster = deployment.cluster().clone();
    let opened = path.clone();
    let store = std::thread::spawn(move || Store::open(&opened, &cluster, id).unwrap());
    let store = store.join().unwrap();
    let open_seconds = began.elapsed().as_secs_f64();
    let local = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
    let sockets = ReplicaSockets::bind(local, local).unwrap();
    let (log, start) = (Arc::clone(&logs[1]), Instant::now());
    let inner = Paged::with_page_bytes(1, plan.page_bytes);
    let application = Box::new(Watched { inner, start, log, slot: 0 });
    let node = Node::start(config(&deployment, id), sockets, application, store).await.unwrap();
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "  one replica started again in {seconds:.2} s, {:.2} of them its store: {:.2} s per GiB",
        open_seconds,
        seconds / gib
    );
    node.stop().await.unwrap();
}

fn main() {
    let page_bytes = usize::try_from(variable("PAGE_KIB", 4)).unwrap() << 10;
    let large = usize::try_from(variable("STATE_MIB", 1024)).unwrap() << 20;
    let plan = Plan {
        state_bytes: SMALL_BYTES,
        page_bytes,
        clients: usize::try_from(variable("CLIENTS", 1)).unwrap(),
        callers: usize::try_from(variable("CALLERS", 64)).unwrap(),
        rate: variable("RATE", 0),
        load: Duration::from_secs(variable("SECONDS", 30)),
        interval: variable("INTERVAL", Constants::default().checkpoint_interval),
    };
    let something = plan.pages() > 0 && plan.clients > 0 && plan.callers > 0;
    assert!(something && !plan.load.is_zero(), "nothing to measure");
    let pace = match plan.rate {
        0 => "closed loop".to_owned(),
        rate => format!("{rate} writes/s"),
    };
    let Plan { clients, callers, interval, .. } = plan;
    println!(
        "{}; n = 4, disk, {callers} callers of {clients} clients, {pace}, K = {interval}",
        here()
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for state_bytes in [SMALL_BYTES, large] {
        runtime.block_on(run(Plan { state_bytes, ..plan }));
    }
}
