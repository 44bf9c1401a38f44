//! `load`, and the closed loop that `demo` shares with it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use pbft_app::{Completed, Submit, TypedClient};
use serde::Serialize;
use tokio::sync::watch;

use crate::client::Caller;
use crate::service::{Command, Counter};
use crate::{Failure, Load};

/// What a closed loop is to do.
pub(crate) struct Plan {
    pub(crate) operations: u64,
    /// How long each may take.
    pub(crate) timeout: Duration,
    /// When no more are begun, however few were done.
    pub(crate) until: Option<Instant>,
    /// What the operation of this index is.
    pub(crate) command: fn(u64) -> Command,
    /// Once this is true no more are begun, and those under way have an unknown outcome.
    pub(crate) stopped: watch::Receiver<bool>,
}

/// What a closed loop did.
pub(crate) struct Done {
    /// The first so many operations were begun.
    pub(crate) begun: u64,
    pub(crate) committed: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    pub(crate) elapsed: Duration,
    /// Microseconds from before the client's signature to the outcome.
    pub(crate) latency: Histogram<u64>,
    /// The longest time in which no operation at all ended.
    pub(crate) longest_stall: Duration,
}

impl Done {
    pub(crate) fn ops_per_second(&self) -> f64 {
        let committed = f64::from(u32::try_from(self.committed).unwrap_or(u32::MAX));
        committed / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// What all callers of a loop count in.
#[derive(Default)]
struct Counts {
    started: AtomicU64,
    committed: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
    stalls: Mutex<Stalls>,
}

/// The longest time between two outcomes.
#[derive(Default)]
struct Stalls {
    last: Option<Instant>,
    longest: Duration,
}

impl Stalls {
    fn note(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            self.longest = self.longest.max(now.saturating_duration_since(last));
        }
    }
}

/// Runs one caller for each client in `callers` until the plan is done.
pub(crate) async fn closed_loop<C: Submit>(
    callers: Vec<TypedClient<Counter, C>>,
    plan: Plan,
    bar: &ProgressBar,
) -> Result<Done, Failure> {
    let Plan { operations, timeout, until, command, stopped } = plan;
    let counts = Arc::new(Counts::default());
    let started = Instant::now();
    counts.stalls.lock().unwrap_or_else(PoisonError::into_inner).note(started);
    let mut tasks = tokio::task::JoinSet::new();
    for client in callers {
        let (counts, bar, mut stopped) = (Arc::clone(&counts), bar.clone(), stopped.clone());
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let before = Instant::now();
                if *stopped.borrow() || until.is_some_and(|until| before >= until) {
                    return Ok(latencies);
                }
                let index = counts.started.fetch_add(1, Ordering::Relaxed);
                if index >= operations {
                    return Ok(latencies);
                }
                let command = command(index);
                let outcome = tokio::select! {
                    outcome = client.submit(&command, timeout) => outcome,
                    _ = stopped.wait_for(|stopped| *stopped) => Ok(Completed::Unknown),
                };
                let counter = match outcome.map_err(|error| error.to_string())? {
                    Completed::Committed(_) => {
                        latencies.push(before.elapsed());
                        &counts.committed
                    }
                    Completed::Refused(_) => &counts.refused,
                    Completed::Unknown => &counts.unknown,
                };
                counter.fetch_add(1, Ordering::Relaxed);
                counts.stalls.lock().unwrap_or_else(PoisonError::into_inner).note(Instant::now());
                bar.inc(1);
            }
        });
    }
    let mut latency = histogram()?;
    while let Some(joined) = tasks.join_next().await {
        let latencies: Result<Vec<Duration>, String> =
            joined.map_err(|error| Failure::Failed(error.to_string()))?;
        for each in latencies.map_err(Failure::Failed)? {
            latency.saturating_record(u64::try_from(each.as_micros()).unwrap_or(u64::MAX));
        }
    }
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Ok(Done {
        begun: read(&counts.started).min(operations),
        committed: read(&counts.committed),
        refused: read(&counts.refused),
        unknown: read(&counts.unknown),
        elapsed: started.elapsed(),
        latency,
        longest_stall: counts.stalls.lock().unwrap_or_else(PoisonError::into_inner).longest,
    })
}

fn histogram() -> Result<Histogram<u64>, Failure> {
    // One microsecond to ten minutes, three digits.
    Histogram::new_with_bounds(1, 600_000_000, 3)
        .map_err(|error| Failure::Failed(error.to_string()))
}

/// A bar on a terminal, nothing elsewhere.
pub(crate) fn progress(operations: u64, hidden: bool) -> ProgressBar {
    let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(operations), target);
    let template = "{bar:40} {pos}/{len} operations, {rate}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        // The library's own rate shows four decimals.
        let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{:.0}/s", state.per_sec());
        };
        bar.set_style(style.with_key("rate", rate));
    }
    bar
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn to_json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Failed(error.to_string()))
}

#[derive(Serialize)]
struct Report {
    operations: u64,
    committed: u64,
    refused: u64,
    unknown: u64,
    seconds: f64,
    ops_per_second: f64,
    latency_us: Latency,
    longest_stall_ms: u64,
}

#[derive(Serialize)]
struct Latency {
    p50: u64,
    p99: u64,
    max: u64,
}

/// Every connection is up before anything is measured.
async fn warm_up(
    clients: &[TypedClient<Counter, Caller>],
    timeout: Duration,
) -> Result<(), Failure> {
    let mut tasks = tokio::task::JoinSet::new();
    for client in clients {
        let client = client.clone();
        tasks.spawn(async move { client.submit(&Command::Get, timeout).await });
    }
    while let Some(joined) = tasks.join_next().await {
        let completed = joined.map_err(|error| Failure::Failed(error.to_string()))?;
        match completed.map_err(|error| Failure::Failed(error.to_string()))? {
            Completed::Committed(_) => {}
            Completed::Refused(refused) => return Err(Failure::Failed(refused.to_string())),
            Completed::Unknown => {
                let message = format!("not every connection was up within {timeout:?}");
                return Err(Failure::Unknown(message));
            }
        }
    }
    Ok(())
}

pub(crate) async fn run(load: &Load) -> Result<(), Failure> {
    if load.concurrency == 0 {
        return Err(Failure::Usage("--concurrency 0: take at least 1 caller".to_owned()));
    }
    let open = |directory: &PathBuf| crate::client::open(directory);
    let opened = load.directories.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let clients: Vec<_> = opened.iter().cloned().map(TypedClient::new).collect();
    if clients.len() > 1 {
        warm_up(&clients, load.timeout.value).await?;
    }
    let bar = progress(load.operations, load.json);
    let callers = clients.iter().flat_map(|it| std::iter::repeat_n(it.clone(), load.concurrency));
    let callers = callers.collect();
    // Nobody stops it, and the end of the channel would.
    let (_stop, stopped) = watch::channel(false);
    let plan = Plan {
        operations: load.operations,
        timeout: load.timeout.value,
        until: None,
        command: |_| Command::Add(1),
        stopped,
    };
    let done = closed_loop(callers, plan, &bar).await?;
    bar.finish_and_clear();
    let closes: tokio::task::JoinSet<()> = opened.into_iter().map(Caller::close).collect();
    closes.join_all().await;
    let report = Report {
        operations: load.operations,
        committed: done.committed,
        refused: done.refused,
        unknown: done.unknown,
        seconds: done.elapsed.as_secs_f64(),
        ops_per_second: done.ops_per_second(),
        latency_us: Latency {
            p50: done.latency.value_at_quantile(0.5),
            p99: done.latency.value_at_quantile(0.99),
            max: done.latency.max(),
        },
        longest_stall_ms: millis(done.longest_stall),
    };
    if load.json {
        println!("{}", to_json(&report)?);
    } else {
        println!(
            "{} committed, {} refused, {} unknown in {:.2} s: {:.0} operations/s",
            report.committed, report.refused, report.unknown, report.seconds, report.ops_per_second
        );
        let Latency { p50, p99, max } = report.latency_us;
        println!("latency p50 {p50} us, p99 {p99} us, max {max} us");
        if report.longest_stall_ms >= 200 {
            println!("longest time without any outcome: {} ms", report.longest_stall_ms);
        }
    }
    if done.unknown > 0 {
        return Err(Failure::Unknown(format!(
            "{} operations have an unknown outcome",
            done.unknown
        )));
    }
    if done.refused > 0 {
        return Err(Failure::Failed(format!("{} operations were refused", done.refused)));
    }
    Ok(())
}
