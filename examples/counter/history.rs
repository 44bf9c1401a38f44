//! `history`: random operations written down with their times, for a linearizability checker.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pbft_app::Completed;
use serde::Serialize;

use crate::service::Command;
use crate::{Failure, History};

#[derive(Serialize)]
struct Line {
    process: u64,
    op: &'static str,
    amount: i64,
    invoke_ns: u64,
    complete_ns: Option<u64>,
    outcome: &'static str,
    value: Option<i64>,
}

pub(crate) async fn run(history: &History) -> Result<(), Failure> {
    if history.concurrency == 0 {
        return Err(Failure::Usage("--concurrency 0: take at least 1 caller".to_owned()));
    }
    let path = history.out.display().to_string();
    let file = File::create(&history.out)
        .map_err(|error| Failure::Usage(format!("--out {path}: {error}")))?;
    let client = crate::client::connect(&history.directory)?;
    let out = Arc::new(Mutex::new(BufWriter::new(file)));
    let origin = Instant::now();
    let end = origin + Duration::from_secs(history.seconds);
    let timeout = history.timeout.value;
    // A caller whose operation is unknown may have it executed at any later time, so it goes on as a new
    // process: a checker takes a process for sequential.
    let processes = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..history.concurrency {
        let (client, out, processes) = (client.clone(), Arc::clone(&out), Arc::clone(&processes));
        tasks.spawn(async move {
            let mut process = processes.fetch_add(1, Ordering::Relaxed);
            while Instant::now() < end {
                let (op, amount, command) = random_command()?;
                let invoke_ns = nanos(origin);
                let completed = client.submit(&command, timeout).await;
                let complete_ns = nanos(origin);
                let (outcome, complete_ns, value) = match completed.map_err(|e| e.to_string())? {
                    Completed::Committed(value) => ("committed", Some(complete_ns), Some(value)),
                    Completed::Refused(_) => ("refused", Some(complete_ns), None),
                    Completed::Unknown => ("unknown", None, None),
                };
                let line = Line { process, op, amount, invoke_ns, complete_ns, outcome, value };
                if outcome == "unknown" {
                    process = processes.fetch_add(1, Ordering::Relaxed);
                }
                let text = serde_json::to_string(&line).map_err(|error| error.to_string())?;
                let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
                writeln!(out, "{text}").map_err(|error| error.to_string())?;
            }
            Ok::<(), String>(())
        });
    }
    while let Some(joined) = tasks.join_next().await {
        joined.map_err(|error| Failure::Failed(error.to_string()))?.map_err(Failure::Failed)?;
    }
    let flushed = out.lock().unwrap_or_else(PoisonError::into_inner).flush();
    flushed.map_err(|error| Failure::Failed(format!("{path}: {error}")))
}

fn nanos(origin: Instant) -> u64 {
    u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn random_command() -> Result<(&'static str, i64, Command), String> {
    let random = getrandom::u64().map_err(|error| error.to_string())?;
    if random % 3 == 0 {
        return Ok(("get", 0, Command::Get));
    }
    let amount = i64::try_from(random / 3 % 1_000_000).unwrap_or(0) + 1;
    Ok(("add", amount, Command::Add(amount)))
}
