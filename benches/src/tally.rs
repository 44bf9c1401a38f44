//! From what the processes of a run said and used to its figures.

use std::collections::BTreeMap;

use crate::accounting::Spent;
use crate::failure::Failure;
use crate::outcome::{Batches, Journal, Latency, Processor, RunResult};
use crate::profile::Profile;
use crate::record::{LoadResult, add_pairs, histogram};
use crate::replica::Stats;
use crate::workload::Workload;

/// A replica, or the unreplicated server, over the measured time.
pub struct Server {
    /// What it said at the beginning and at the end; nothing of one that was killed.
    pub stats: Option<(Stats, Stats)>,
    pub spent: Option<Spent>,
}

/// Everything there is once a run has ended.
pub struct After {
    pub servers: Vec<Server>,
    pub clients: Vec<Spent>,
    pub peaks: BTreeMap<String, u64>,
    pub loads: Vec<LoadResult>,
    /// So many of the loads are measured; what comes after them floods.
    pub measured: usize,
    pub profile: Option<Profile>,
}

/// # Errors
/// Nothing was committed, or something did not end well although no fault was asked for.
pub fn tally(workload: &Workload, after: After) -> Result<RunResult, Failure> {
    let loads = &after.loads[..after.measured.min(after.loads.len())];
    let flood: u64 = after.loads.iter().skip(after.measured).map(|load| load.committed).sum();
    let sum = |field: fn(&LoadResult) -> u64| loads.iter().map(field).sum::<u64>();
    let (count, refused, unknown) =
        (sum(|it| it.committed), sum(|it| it.refused), sum(|it| it.unknown));
    if refused > 0 {
        let why = loads.iter().find_map(|load| load.refusal.clone()).unwrap_or_default();
        let sentence = format!("{refused} operations were refused, the first with: {why}");
        return Err(Failure::Failed(sentence));
    }
    if unknown > 0 && !workload.is_faulty() {
        return Err(Failure::Failed(format!(
            "{unknown} operations have an unknown outcome after {} s although no fault was asked for",
            workload.timeout
        )));
    }
    if count == 0 {
        return Err(Failure::Failed(format!(
            "no operation was committed in the {} s measured ({unknown} have an unknown outcome): nothing to show",
            workload.seconds
        )));
    }
    let mut latencies = histogram();
    loads.iter().for_each(|load| add_pairs(&mut latencies, &load.latencies));
    if latencies.is_empty() {
        let sentence = "operations were committed, but none of those due in the measured time";
        return Err(Failure::Failed(sentence.to_owned()));
    }
    if let Some(halted) =
        after.servers.iter().position(|it| it.stats.is_some_and(|(_, it)| it.halted))
        && !workload.is_faulty()
    {
        return Err(Failure::Failed(format!("replica {halted} has halted")));
    }
    let gained = |field: fn(&Stats) -> u64| {
        let each = after.servers.iter().filter_map(|server| server.stats);
        each.map(|(before, after)| field(&after).saturating_sub(field(&before))).max().unwrap_or(0)
    };
    let all = count + flood;
    Ok(RunResult {
        ops_per_second: count as f64 / workload.seconds,
        count,
        seconds: workload.seconds,
        latency_us: Latency::of(&latencies),
        refused,
        unknown,
        unsent: sum(|it| it.unsent),
        longest_stall_ms: loads.iter().map(|it| it.longest_stall / 1000).max().unwrap_or(0),
        cpu_seconds_per_million: processor(&after, all, workload.seconds),
        batches: batches(&after.servers, workload.seconds),
        journal: journal(&after.servers),
        peak_resident_bytes: after.peaks,
        views_entered: gained(|it| it.views_entered),
        evidence: after
            .servers
            .iter()
            .filter_map(|it| it.stats)
            .map(|(_, it)| it.evidence)
            .max()
            .unwrap_or(0),
        flood_ops_per_second: workload.flood.map(|_| flood as f64 / workload.seconds),
        profile: after.profile,
    })
}

fn processor(after: &After, operations: u64, seconds: f64) -> Processor {
    let millions = operations as f64 / 1e6;
    let mut processor = Processor::default();
    let mut all = Spent::default();
    for spent in &after.clients {
        processor.clients += spent.total() / millions;
        all.user += spent.user;
        all.kernel += spent.kernel;
    }
    for server in &after.servers {
        let spent = server.spent.clone().unwrap_or_default();
        processor.replicas.push(spent.total() / millions);
        all.user += spent.user;
        all.kernel += spent.kernel;
        for (name, seconds) in spent.threads {
            *processor.replica_threads.entry(name).or_insert(0.0) += seconds / millions;
        }
    }
    processor.total = all.total() / millions;
    processor.kernel_share = all.kernel / all.total().max(1e-9);
    processor.cores_busy = all.total() / seconds;
    processor
}

fn gain(before: u64, after: u64) -> f64 {
    after.saturating_sub(before) as f64
}

fn per(amount: f64, of: f64) -> f64 {
    if of > 0.0 { amount / of } else { 0.0 }
}

/// Of the replica that executed most: one that lags has slots, but not those of this time.
fn batches(servers: &[Server], seconds: f64) -> Option<Batches> {
    let best = servers.iter().filter_map(|server| server.stats);
    let (before, after) =
        best.max_by_key(|(before, after)| after.operations - before.operations)?;
    let slots = gain(before.slots, after.slots);
    let requests = gain(before.requests, after.requests);
    let operations = gain(before.operations, after.operations);
    (slots > 0.0).then(|| Batches {
        slots_per_second: slots / seconds,
        operations_per_slot: operations / slots,
        requests_per_slot: requests / slots,
        operations_per_request: per(operations, requests),
    })
}

fn journal(servers: &[Server]) -> Option<Journal> {
    let stats: Vec<(Stats, Stats)> = servers.iter().filter_map(|server| server.stats).collect();
    let sum = |field: fn(&Stats) -> u64| {
        stats.iter().map(|(before, after)| gain(field(before), field(after))).sum::<f64>()
    };
    let commits = sum(|it| it.commits);
    let operations = sum(|it| it.operations);
    (commits > 0.0).then(|| Journal {
        commits_per_operation: per(commits, operations),
        commits_per_slot: per(commits, sum(|it| it.slots)),
        syncs_per_operation: per(sum(|it| it.syncs), operations),
        bytes_per_operation: per(sum(|it| it.bytes), operations),
        micros_per_commit: per(sum(|it| it.commit_micros), commits),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(operations: u64, slots: u64, commits: u64) -> Stats {
        Stats {
            operations,
            requests: slots * 2,
            slots,
            commits,
            syncs: commits * 2,
            ..Stats::default()
        }
    }

    fn after(committed: u64, unknown: u64) -> After {
        let latencies = vec![(100, committed)];
        let server = || Server {
            stats: Some((stats(100, 10, 1), stats(1_100, 110, 51))),
            spent: Some(Spent {
                user: 0.75,
                kernel: 0.25,
                threads: [("replica".to_owned(), 1.0)].into(),
            }),
        };
        After {
            servers: vec![server(), server()],
            clients: vec![Spent { user: 1.0, ..Spent::default() }],
            peaks: BTreeMap::new(),
            loads: vec![LoadResult { committed, unknown, latencies, ..LoadResult::default() }],
            measured: 1,
            profile: None,
        }
    }

    #[test]
    fn figures_are_per_operation_and_second() {
        let workload = Workload { seconds: 2.0, ..Workload::default() };
        let result = tally(&workload, after(1_000_000, 0)).unwrap();
        assert_eq!(result.ops_per_second, 500_000.0);
        let cpu = &result.cpu_seconds_per_million;
        assert_eq!((cpu.total, cpu.clients, cpu.kernel_share), (3.0, 1.0, 0.5 / 3.0));
        assert_eq!((cpu.cores_busy, cpu.replica_threads["replica"]), (1.5, 2.0));
        let batches = result.batches.unwrap();
        assert_eq!((batches.slots_per_second, batches.operations_per_slot), (50.0, 10.0));
        assert_eq!((batches.requests_per_slot, batches.operations_per_request), (2.0, 5.0));
        let journal = result.journal.unwrap();
        assert_eq!((journal.commits_per_operation, journal.commits_per_slot), (0.05, 0.5));
    }

    #[test]
    fn nothing_committed_is_a_failure_and_so_is_an_unknown_outcome_without_a_fault() {
        let workload = Workload::default();
        assert!(matches!(tally(&workload, after(0, 0)), Err(Failure::Failed(_))));
        assert!(matches!(tally(&workload, after(10, 1)), Err(Failure::Failed(_))));
        let faulty = Workload { kill_primary_at: Some(1.0), ..Workload::default() };
        assert_eq!(tally(&faulty, after(10, 1)).unwrap().unknown, 1);
    }
}
