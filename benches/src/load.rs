//! A process of clients: closed-loop callers, or an open loop that begins operations when they are due.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use pbft_app::{Client, ClientConfig, Numbers, Submitted};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::deployment;
use crate::failure::Failure;
use crate::process::{commands, tell};
use crate::record::Recorder;

/// What one process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoadPlan {
    pub directory: PathBuf,
    pub first_client: usize,
    pub clients: usize,
    pub callers: usize,
    pub together: usize,
    /// Of this process; a closed loop without.
    pub rate: Option<f64>,
    pub outstanding: usize,
    pub operation_bytes: usize,
    pub envelopes_in_flight: usize,
    pub threads: usize,
    pub timeout: f64,
    pub warmup: f64,
    pub seconds: f64,
    pub series_millis: Option<u64>,
}

/// Links are up and the first operation of every client is done within this time.
pub const CONNECT: Duration = Duration::from_secs(60);

type Shared = Arc<Mutex<Recorder>>;

fn note(recorder: &Shared, due: Instant, outcomes: &[Submitted]) {
    let now = Instant::now();
    let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
    outcomes.iter().for_each(|outcome| recorder.note(due, now, outcome));
}

/// Connects, says `ready`, begins when told `go MICROSECONDS` of the wall clock, and says `result`.
///
/// # Errors
/// No connection, or an outcome that is no result.
pub fn run(plan: &LoadPlan) -> Result<(), Failure> {
    let mut builder = match plan.threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if plan.threads > 1 {
        builder.worker_threads(plan.threads);
    }
    builder.enable_all().build()?.block_on(perform(plan))
}

async fn perform(plan: &LoadPlan) -> Result<(), Failure> {
    let mut commands = commands();
    let operation = Bytes::from(vec![b'o'; plan.operation_bytes]);
    let clients = connect(plan, &operation).await?;
    tell("ready");
    let start = loop {
        // Once the parent is gone the whole process ends by itself.
        let Some(line) = commands.recv().await else { return Ok(()) };
        if let Some(micros) = line.strip_prefix("go ") {
            break at_wall_time(micros.parse().unwrap_or(0));
        }
    };
    let from = start + Duration::from_secs_f64(plan.warmup);
    let until = from + Duration::from_secs_f64(plan.seconds);
    let series = plan.series_millis.map(Duration::from_millis);
    let recorder = Recorder::new(from, until, plan.rate.is_some(), series);
    let recorder = Arc::new(Mutex::new(recorder));
    tokio::spawn(tell_intervals(Arc::clone(&recorder)));
    tokio::time::sleep_until(start.into()).await;
    let timeout = Duration::from_secs_f64(plan.timeout);
    let load = Load { clients, operation, timeout, recorder: Arc::clone(&recorder) };
    match plan.rate {
        None => load.closed_loop(plan.callers, plan.together, until).await,
        Some(rate) => load.open_loop(rate, plan.outstanding, start, from, until).await,
    }
    let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(interval) = recorder.interval(Instant::now()) {
        tell(&format!("interval {}", serde_json::to_string(&interval)?));
    }
    tell(&format!("result {}", serde_json::to_string(&recorder.finish())?));
    Ok(())
}

/// All clients, each with one operation done.
async fn connect(plan: &LoadPlan, operation: &Bytes) -> Result<Vec<Client>, Failure> {
    let deployment = deployment::load(&plan.directory)?;
    let mut clients = Vec::new();
    let mut first = JoinSet::new();
    for index in plan.first_client..plan.first_client + plan.clients {
        let keys = deployment::client_keys(index);
        let config = ClientConfig::new(deployment.clone(), keys, Numbers::from_clock());
        let config = ClientConfig { envelopes_in_flight_max: plan.envelopes_in_flight, ..config };
        let client = Client::connect(config)?;
        let (submitter, operation) = (client.clone(), operation.clone());
        first.spawn(async move { (index, submitter.submit(operation, CONNECT).await) });
        clients.push(client);
    }
    while let Some(joined) = first.join_next().await {
        match joined {
            Ok((_, Submitted::Committed(_))) => {}
            Ok((index, outcome)) => {
                let sentence =
                    format!("client {index}'s first operation was not committed: {outcome:?}");
                return Err(Failure::Failed(sentence));
            }
            Err(error) => return Err(Failure::of("a client's task", error)),
        }
    }
    Ok(clients)
}

fn at_wall_time(micros: u64) -> Instant {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Instant::now() + Duration::from_micros(micros).saturating_sub(now)
}

/// If a series was asked for, each of its intervals.
async fn tell_intervals(recorder: Shared) {
    let recorder = || recorder.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        // At its very end: what came later would be counted in it, too.
        let Some(end) = recorder().interval_end() else { return };
        tokio::time::sleep_until(end.into()).await;
        let interval = recorder().interval(Instant::now());
        if let Some(interval) = interval
            && let Ok(text) = serde_json::to_string(&interval)
        {
            tell(&format!("interval {text}"));
        }
    }
}

struct Load {
    clients: Vec<Client>,
    operation: Bytes,
    timeout: Duration,
    recorder: Shared,
}

impl Load {
    /// Every caller begins its next operation when the one before has ended.
    async fn closed_loop(self, callers: usize, together: usize, until: Instant) {
        let mut tasks = JoinSet::new();
        for client in self.clients {
            for _ in 0..callers {
                let (client, operation) = (client.clone(), self.operation.clone());
                let (recorder, timeout) = (Arc::clone(&self.recorder), self.timeout);
                tasks.spawn(async move {
                    loop {
                        let before = Instant::now();
                        if before >= until {
                            return;
                        }
                        let outcomes = match together {
                            1 => vec![client.submit(operation.clone(), timeout).await],
                            _ => {
                                client.submit_all(vec![operation.clone(); together], timeout).await
                            }
                        };
                        note(&recorder, before, &outcomes);
                    }
                });
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Operation k is due k / rate after the start, whatever became of those before it. When too many are under
    /// way those that are due wait, and the time they waited is part of their latency.
    async fn open_loop(
        self,
        rate: f64,
        outstanding: usize,
        start: Instant,
        from: Instant,
        until: Instant,
    ) {
        let due_at = move |index: u64| start + Duration::from_secs_f64(index as f64 / rate);
        let mut due = pace(rate, start, until);
        let permits = Arc::new(Semaphore::new(outstanding));
        let mut tasks = JoinSet::new();
        while let Some((first, end)) = due.recv().await {
            for index in first..end {
                while tasks.try_join_next().is_some() {}
                let Some(permit) = permit(&permits, until).await else {
                    self.give_up(index, rate, start, from, until);
                    while tasks.join_next().await.is_some() {}
                    return;
                };
                let client = self.clients[index as usize % self.clients.len()].clone();
                let (operation, timeout) = (self.operation.clone(), self.timeout);
                let recorder = Arc::clone(&self.recorder);
                tasks.spawn(async move {
                    let outcome = client.submit(operation, timeout).await;
                    note(&recorder, due_at(index), &[outcome]);
                    drop(permit);
                });
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Nothing from operation `next` on was begun before the end.
    fn give_up(&self, next: u64, rate: f64, start: Instant, from: Instant, until: Instant) {
        let by = |at: Instant| (at.saturating_duration_since(start).as_secs_f64() * rate) as u64;
        let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        for index in next.max(by(from))..by(until) {
            recorder.unsent(start + Duration::from_secs_f64(index as f64 / rate), 1);
        }
    }
}

/// Leave to have one more operation under way; none before the end.
async fn permit(permits: &Arc<Semaphore>, until: Instant) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
        return Some(permit);
    }
    let permit = Arc::clone(permits).acquire_owned();
    tokio::time::timeout_at(until.into(), permit).await.ok()?.ok()
}

/// Says which operations have become due. From a thread of its own: the runtime's clock ticks in milliseconds.
fn pace(rate: f64, start: Instant, until: Instant) -> mpsc::UnboundedReceiver<(u64, u64)> {
    let (give, take) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut begun = 0_u64;
        loop {
            let now = Instant::now().min(until);
            let due = (now.saturating_duration_since(start).as_secs_f64() * rate) as u64;
            if due > begun {
                if give.send((begun, due)).is_err() {
                    return;
                }
                begun = due;
            }
            if now >= until {
                return;
            }
            let next = start + Duration::from_secs_f64((begun + 1) as f64 / rate);
            // A sleep takes some 50 microseconds longer than asked for; a shorter one would only spin.
            let rest = next.saturating_duration_since(Instant::now());
            std::thread::sleep(rest.max(Duration::from_micros(50)));
        }
    });
    take
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_operation_of_an_open_loop_becomes_due_once_and_in_time() {
        let start = Instant::now();
        let until = start + Duration::from_millis(100);
        let mut due = pace(10_000.0, start, until);
        let mut next = 0;
        while let Some((first, end)) = due.recv().await {
            assert!(first == next && end > first, "{first}..{end} after {next}");
            let last_due = start + Duration::from_secs_f64(end as f64 / 10_000.0);
            assert!(Instant::now() >= last_due, "{end} came early");
            next = end;
        }
        assert_eq!(next, 1_000);
    }
}
