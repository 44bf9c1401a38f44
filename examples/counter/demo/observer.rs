//! Watches the honest replicas: which views they enter and why, and whether agreement is broken.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use pbft_app::core::message::Report;
use pbft_app::core::replica::{Cause, Halt, Summary};
use pbft_app::core::types::ReplicaId;
use pbft_app::{Client, Findings, Node};
use tokio::sync::watch;

/// A replica on this machine that has not answered by then is dead.
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);
const AGREEMENT_TIMEOUT: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How often states are compared while more may be faulty than can be tolerated.
const COMPARE_EVERY: Duration = Duration::from_millis(300);
/// With more faulty than can be tolerated nothing need ever happen again after so long.
const STANDSTILL_MAX: Duration = Duration::from_secs(12);

/// A view that was entered, and the best reason anyone gives.
#[derive(Clone, Debug)]
pub(super) struct Entered {
    pub(super) view: u64,
    pub(super) by: ReplicaId,
    pub(super) cause: Option<Cause>,
}

/// One replica, and the last view it was seen in.
struct Watched {
    id: ReplicaId,
    summary: watch::Receiver<Option<Summary>>,
    findings: watch::Receiver<Findings>,
    view: u64,
}

pub(super) struct Observer {
    watched: Vec<Watched>,
    views: BTreeMap<u64, Entered>,
    beyond_f: bool,
    executed: u64,
    stopped: bool,
}

impl Observer {
    pub(super) fn new<'a>(honest: impl Iterator<Item = &'a Node>, beyond_f: bool) -> Self {
        let watched = honest.map(|node| {
            let (summary, findings) = (node.watch(), node.findings());
            Watched { id: node.id(), summary, findings, view: 0 }
        });
        Observer {
            watched: watched.collect(),
            views: BTreeMap::new(),
            beyond_f,
            executed: 0,
            stopped: false,
        }
    }

    /// The views entered so far, in order.
    pub(super) fn views(&self) -> Vec<Entered> {
        self.views.values().cloned().collect()
    }

    /// Looks at every replica once; says whether any executed something new.
    pub(super) fn look(&mut self) -> bool {
        let mut progress = false;
        for Watched { id, summary, view, .. } in &mut self.watched {
            let summary = summary.borrow();
            let Some(summary) = summary.as_ref() else { continue };
            if summary.executed.0 > self.executed {
                self.executed = summary.executed.0;
                progress = true;
            }
            if summary.view.0 > *view {
                *view = summary.view.0;
                let entered = Entered { view: *view, by: *id, cause: summary.cause };
                let known = self.views.entry(*view).or_insert_with(|| entered.clone());
                // Whoever only went along knows less than who was first to leave.
                if rank(entered.cause) > rank(known.cause) {
                    *known = entered;
                }
            }
        }
        progress
    }

    /// An honest replica that says itself that agreement is broken.
    fn parted(&self) -> Option<String> {
        self.watched.iter().find_map(|Watched { id, summary, findings, .. }| {
            if let Some(halt) = summary.borrow().as_ref().and_then(|summary| summary.halted) {
                return Some(format!("replica {id} has halted: {halt}"));
            }
            let diverged = findings.borrow().diverged > 0;
            diverged.then(|| {
                format!("replica {id} has executed something else than a quorum of the others")
            })
        })
    }

    /// Looks again and again; stops the load once there is no use in it any more.
    pub(super) async fn watch(
        &mut self,
        client: Option<&Client>,
        stop: &watch::Sender<bool>,
        bar: &ProgressBar,
        quiet: bool,
    ) -> Infallible {
        let mut compared = Instant::now();
        let mut moved = Instant::now();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.look() {
                moved = Instant::now();
            }
            if self.stopped {
                continue;
            }
            let mut reason = self.parted();
            if self.beyond_f && reason.is_none() {
                if moved.elapsed() >= STANDSTILL_MAX {
                    reason = Some(format!("nothing was executed for {STANDSTILL_MAX:?}"));
                } else if let Some(client) = client.filter(|_| compared.elapsed() >= COMPARE_EVERY)
                {
                    let reports = client.status(STATUS_TIMEOUT).await;
                    let honest = self.watched.iter().filter_map(|it| reports.get(&it.id));
                    reason = split(&honest.cloned().collect::<Vec<_>>());
                    compared = Instant::now();
                }
            }
            if let Some(reason) = reason {
                if !quiet {
                    bar.suspend(|| println!("the load is stopped: {reason}"));
                }
                self.stopped = true;
                stop.send_replace(true);
            }
        }
    }
}

fn rank(cause: Option<Cause>) -> u8 {
    match cause {
        None => 0,
        Some(Cause::Followed) => 1,
        Some(Cause::Joined(_)) => 2,
        Some(Cause::RequestTimeout { .. } | Cause::NewViewTimeout(_)) => 3,
        Some(Cause::VoidNewView(_) | Cause::SlowPrimary(_) | Cause::Convicted(_)) => 4,
    }
}

/// Why a replica must not go on, if so.
pub(super) fn halt(node: &Node) -> Option<Halt> {
    node.watch().borrow().as_ref().and_then(|summary| summary.halted)
}

/// Two replicas with different states after the same slot.
fn split(reports: &[Report]) -> Option<String> {
    let mut states = BTreeMap::new();
    for report in reports {
        let (other, digest) =
            states.entry(report.last_executed).or_insert((report.replica, report.state_digest));
        if *digest != report.state_digest {
            let (slot, replica) = (report.last_executed, report.replica);
            return Some(format!(
                "replicas {other} and {replica} have different states after slot {slot}"
            ));
        }
    }
    None
}

/// Asks until all of these have executed the same slot, or two have parted, or one has halted, or the time is
/// up.
pub(super) async fn settle(client: &Client, honest: &[&Node]) -> Vec<Report> {
    let end = Instant::now() + AGREEMENT_TIMEOUT;
    loop {
        let reports = client.status(STATUS_TIMEOUT).await;
        let ids = honest.iter().map(|node| node.id());
        let reports: Vec<_> = ids.filter_map(|id| reports.get(&id).cloned()).collect();
        let slots = reports.iter().map(|report| report.last_executed);
        let same = reports.len() == honest.len() && slots.clone().min() == slots.max();
        let hopeless = split(&reports).is_some() || honest.iter().any(|node| halt(node).is_some());
        if same || hopeless || Instant::now() >= end {
            return reports;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether all of them reported, and the same state after the same slot.
pub(super) fn agree(reports: &[Report], replicas: usize) -> bool {
    let Some(first) = reports.first() else { return false };
    let same = |report: &Report| {
        (report.last_executed, report.state_digest) == (first.last_executed, first.state_digest)
    };
    reports.len() == replicas && reports.iter().all(same)
}
