//! One measured run: starts the processes, lets them work, looks at them before and after, and ends them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use crate::accounting::{Usage, resident};
use crate::deployment;
use crate::failure::Failure;
use crate::load::{CONNECT, LoadPlan};
use crate::outcome::RunResult;
use crate::process::Process;
use crate::profile::Recording;
use crate::record::{Interval, LoadResult};
use crate::replica::Stats;
use crate::series::{Merge, Series};
use crate::tally::{After, Server, tally};
use crate::workload::{Storage, Workload};

/// From when everything is ready until the load begins.
const RUN_UP: Duration = Duration::from_millis(100);
/// How long a process may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What else is wanted of a run.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Where replicas keep what they promised; the system's directory for temporary files unless told.
    pub directory: Option<PathBuf>,
    /// Milliseconds of an interval of the series, if there is to be one.
    pub series_ms: Option<u64>,
    pub sample_memory: bool,
    pub profile: bool,
    /// No progress bar: somebody else has one.
    pub quiet: bool,
}

/// A run's figures, and its course if that was wanted.
#[derive(Debug)]
pub struct Run {
    pub result: RunResult,
    pub series: Option<Series>,
}

struct Processes {
    replicas: Vec<Process>,
    loads: Vec<Process>,
    /// How many of them are the load that is measured; the last may be one that floods.
    measured: usize,
}

/// Measures a workload once.
///
/// # Errors
/// Options that do not hold, a process that fails, or nothing that was committed.
pub fn measure(workload: &Workload, watch: &Watch) -> Result<Run, Failure> {
    workload.check()?;
    if watch.profile {
        crate::profile::check()?;
    }
    let directory = directory(watch.directory.as_deref())?;
    let mut processes = start(workload, watch, directory.path())?;
    let from = go(workload, &mut processes)?;
    let until = from + Duration::from_secs_f64(workload.seconds);
    sleep_until(from);
    let before = look(&mut processes.replicas)?;
    let usage_before = usages(&processes);
    let recording = if watch.profile {
        let pids: Vec<u32> = processes.all().map(|it| it.pid()).collect();
        let length = until.saturating_duration_since(Instant::now());
        Some(Recording::start(directory.path(), &pids, length)?)
    } else {
        None
    };
    let mut merge = Merge::new(watch.series_ms.unwrap_or(u64::MAX), processes.measured);
    let killed = attend(workload, watch, &mut processes, &mut merge, (from, until))?;
    let mut usage_after = usages(&processes);
    let mut after = look(&mut processes.replicas)?;
    let mut events = Vec::new();
    if let Some(killed) = killed {
        events.push((killed.at_ms, format!("replica {} killed", killed.index)));
        usage_after[killed.index] = killed.usage;
        after[killed.index] = None;
    }
    let profile = recording.map(Recording::finish).transpose()?;
    let loads = results(workload, &mut processes, &mut merge)?;
    let servers = before.into_iter().zip(after).zip(usage_before.iter().zip(&usage_after));
    let servers = servers.map(|((before, after), usage)| Server {
        stats: before.zip(after),
        spent: usage.0.clone().zip(usage.1.clone()).map(|(before, after)| after.since(&before)),
    });
    let servers: Vec<Server> = servers.collect();
    let clients = usage_before.iter().zip(&usage_after).skip(servers.len());
    let clients =
        clients.filter_map(|(before, after)| Some(after.as_ref()?.since(before.as_ref()?)));
    let names = processes.all().map(|it| it.name.clone());
    let peaks = names.zip(&usage_after);
    let after = After {
        servers,
        clients: clients.collect(),
        peaks: peaks
            .filter_map(|(name, usage)| Some((name, usage.as_ref()?.resident_max)))
            .collect(),
        measured: processes.measured,
        loads,
        profile,
    };
    let result = tally(workload, after)?;
    let series = watch.series_ms.map(|_| merge.finish(workload.title(), events));
    Ok(Run { result, series })
}

fn directory(parent: Option<&Path>) -> Result<TempDir, Failure> {
    let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
    tempfile::Builder::new().prefix("pbft-cluster-").tempdir_in(&parent).map_err(|error| {
        Failure::usage("--directory", parent.display(), format!("cannot be written to: {error}"))
    })
}

fn sleep_until(at: Instant) {
    std::thread::sleep(at.saturating_duration_since(Instant::now()));
}

impl Processes {
    fn all(&self) -> impl Iterator<Item = &Process> {
        self.replicas.iter().chain(&self.loads)
    }
}

/// Everything up to the point where all replicas run and all clients are connected.
fn start(workload: &Workload, watch: &Watch, directory: &Path) -> Result<Processes, Failure> {
    let flooding = usize::from(workload.flood.is_some());
    deployment::create(directory, workload, workload.clients + flooding)?;
    let traitors = workload.traitors()?;
    let count = if workload.unreplicated { 1 } else { workload.replicas };
    let mut replicas = Vec::new();
    for index in 0..count {
        let storage = match workload.storage {
            Storage::Disk => "disk",
            Storage::Memory => "memory",
        };
        let words = ["replica", "--storage", storage];
        let mut arguments: Vec<String> = words.map(str::to_owned).into();
        arguments.extend(["--directory".to_owned(), directory.display().to_string()]);
        arguments.extend(["--id".to_owned(), index.to_string()]);
        arguments.extend(["--in-flight".to_owned(), workload.in_flight.to_string()]);
        if let Some((_, name)) = traitors.iter().find(|(id, _)| *id as usize == index) {
            arguments.extend(["--traitor".to_owned(), name.clone()]);
        }
        if workload.unreplicated {
            arguments.push("--unreplicated".to_owned());
        }
        replicas.push(Process::start(&format!("replica-{index}"), &arguments)?);
    }
    for replica in &mut replicas {
        replica.hear("ready", PATIENCE, |_| {})?;
    }
    let mut loads = Vec::new();
    for (index, plan) in plans(workload, watch, directory).iter().enumerate() {
        let arguments = ["load".to_owned(), "--plan".to_owned(), serde_json::to_string(plan)?];
        loads.push(Process::start(&format!("clients-{index}"), &arguments)?);
    }
    for load in &mut loads {
        // It gives up by itself before, and says why.
        load.hear("ready", CONNECT + PATIENCE, |_| {})?;
    }
    Ok(Processes { replicas, loads, measured: workload.client_processes })
}

/// What each process of clients does.
fn plans(workload: &Workload, watch: &Watch, directory: &Path) -> Vec<LoadPlan> {
    let processes = workload.client_processes;
    let mut plans = Vec::new();
    let mut first_client = 0;
    for index in 0..processes {
        let clients =
            workload.clients / processes + usize::from(index < workload.clients % processes);
        let share = clients as f64 / workload.clients as f64;
        plans.push(LoadPlan {
            directory: directory.to_owned(),
            first_client,
            clients,
            callers: workload.callers,
            rate: workload.rate.map(|rate| rate * share),
            outstanding: workload.outstanding.div_ceil(processes),
            operation_bytes: workload.operation_bytes,
            together: workload.together,
            envelopes_in_flight: workload.envelopes_in_flight,
            threads: workload.client_threads,
            timeout: workload.timeout,
            warmup: workload.warmup,
            seconds: workload.seconds,
            series_millis: watch.series_ms,
        });
        first_client += clients;
    }
    if let (Some(rate), Some(plan)) = (workload.flood, plans.first().cloned()) {
        let (rate, series_millis) = (Some(rate), None);
        plans.push(LoadPlan { first_client, clients: 1, rate, series_millis, ..plan });
    }
    plans
}

/// Has the load begin; when the measured time does.
fn go(workload: &Workload, processes: &mut Processes) -> Result<Instant, Failure> {
    let start = Instant::now() + RUN_UP;
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + RUN_UP;
    for load in &mut processes.loads {
        load.say(&format!("go {}", wall.as_micros()))?;
    }
    Ok(start + Duration::from_secs_f64(workload.warmup))
}

/// What each replica says of itself; nothing of one that is gone.
fn look(replicas: &mut [Process]) -> Result<Vec<Option<Stats>>, Failure> {
    for replica in replicas.iter_mut() {
        if replica.is_alive() {
            replica.say("stats")?;
        }
    }
    let mut all = Vec::new();
    for replica in replicas {
        if replica.is_alive() {
            let answer = replica.hear("stats", PATIENCE, |_| {})?;
            all.push(Some(serde_json::from_str(&answer)?));
        } else {
            all.push(None);
        }
    }
    Ok(all)
}

fn usages(processes: &Processes) -> Vec<Option<Usage>> {
    processes.all().map(|process| Usage::of(process.pid())).collect()
}

/// A replica that was killed, what it had used until then, and when.
struct Killed {
    index: usize,
    usage: Option<Usage>,
    at_ms: u64,
}

/// Sits through the measured time, does what was asked for in it, and sees what happens.
fn attend(
    workload: &Workload,
    watch: &Watch,
    processes: &mut Processes,
    merge: &mut Merge,
    (from, until): (Instant, Instant),
) -> Result<Option<Killed>, Failure> {
    let step = Duration::from_millis(watch.series_ms.unwrap_or(100));
    let mut due_kill = workload.kill_primary_at.map(|at| from + Duration::from_secs_f64(at));
    let mut killed = None;
    let mut next = from + step;
    let length = millis(until.saturating_duration_since(from));
    let bar = match watch.quiet {
        false => pbft_sim::progress::bar(length, "ms measured"),
        true => indicatif::ProgressBar::hidden(),
    };
    loop {
        let wake = next.min(until);
        if let Some(at) = due_kill.filter(|at| *at <= wake) {
            sleep_until(at);
            due_kill = None;
            killed = Some(kill_primary(workload, processes, from)?);
            continue;
        }
        sleep_until(wake);
        bar.set_position(millis(wake.saturating_duration_since(from)));
        // At the end a client may have said its result already, which is for `results` to hear.
        let heard = if wake < until { processes.measured } else { 0 };
        for load in processes.loads.iter().take(heard) {
            for line in load.heard() {
                take_interval(&line, merge)?;
            }
        }
        if watch.sample_memory {
            let bytes =
                processes.all().filter_map(|it| Some((it.name.clone(), resident(it.pid())?)));
            // Of the interval that has just ended.
            let at = millis(wake.saturating_duration_since(from)).saturating_sub(1);
            merge.resident(at, bytes.collect::<BTreeMap<_, _>>());
        }
        let gone = killed.as_ref().map(|killed: &Killed| killed.index);
        for (index, replica) in processes.replicas.iter_mut().enumerate() {
            if gone != Some(index) && !replica.is_alive() {
                let name = &replica.name;
                return Err(Failure::Failed(format!("the process of {name} ended under load")));
            }
        }
        if wake >= until {
            bar.finish_and_clear();
            return Ok(killed);
        }
        next += step;
    }
}

fn kill_primary(
    workload: &Workload,
    processes: &mut Processes,
    from: Instant,
) -> Result<Killed, Failure> {
    let views = look(&mut processes.replicas)?.into_iter().flatten().map(|stats| stats.view);
    let mut views: Vec<u64> = views.collect();
    views.sort_unstable();
    // Most replicas are honest.
    let view = views.get(views.len() / 2).copied().unwrap_or(0);
    let index = usize::try_from(view % workload.replicas as u64).unwrap_or(0);
    let usage = Usage::of(processes.replicas[index].pid());
    let at_ms = millis(from.elapsed());
    processes.replicas[index].kill();
    Ok(Killed { index, usage, at_ms })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn take_interval(line: &str, merge: &mut Merge) -> Result<(), Failure> {
    if let Some(text) = line.strip_prefix("interval ") {
        merge.add(&serde_json::from_str::<Interval>(text)?);
    }
    Ok(())
}

/// What all clients counted, once everything they had begun has ended.
fn results(
    workload: &Workload,
    processes: &mut Processes,
    merge: &mut Merge,
) -> Result<Vec<LoadResult>, Failure> {
    let patience = Duration::from_secs_f64(workload.timeout) + PATIENCE;
    let mut results = Vec::new();
    for load in &mut processes.loads {
        let mut said = Vec::new();
        let answer = load.hear("result", patience, |line| said.push(line.to_owned()))?;
        for line in said {
            take_interval(&line, merge)?;
        }
        results.push(serde_json::from_str(&answer)?);
    }
    Ok(results)
}
