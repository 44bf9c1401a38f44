//! What a demonstration came to, as text or as one JSON object.

use std::collections::BTreeMap;

use pbft_app::Node;
use pbft_app::core::evidence::{Offence, Subject};
use pbft_app::core::message::Report;
use pbft_app::core::types::ReplicaId;
use serde::Serialize;

use super::observer::{Entered, agree, halt};
use super::setup::Setup;
use super::{Command, amount};
use crate::evidence::{Conviction, in_words};
use crate::load::{Done, millis, to_json};
use crate::{Demo, Failure};

/// Lines of evidence about one replica on a terminal; the rest is counted.
const EVIDENCE_LINES: usize = 4;

/// What was found out about the replicas at the end; the traitors are not asked.
pub(super) struct Gathered<'a> {
    pub(super) setup: &'a Setup,
    pub(super) reports: Vec<Report>,
    pub(super) nodes: Vec<&'a Node>,
    pub(super) views: Vec<Entered>,
    /// Who lost its store, and how often it fetched the state.
    pub(super) late: Option<ReplicaId>,
    pub(super) fetches: u32,
}

impl Gathered<'_> {
    /// Every conviction, and who holds the evidence.
    fn convictions(&self) -> BTreeMap<Subject, (Offence, Vec<ReplicaId>)> {
        let mut convictions = BTreeMap::new();
        for node in &self.nodes {
            for evidence in node.evidence() {
                let (_, holders) = convictions
                    .entry(evidence.subject())
                    .or_insert_with(|| (evidence.offence(), Vec::new()));
                holders.push(node.id());
            }
        }
        convictions
    }

    fn late_node(&self) -> Option<&Node> {
        self.nodes.iter().copied().find(|node| Some(node.id()) == self.late)
    }
}

#[derive(Serialize)]
struct Named {
    replica: u32,
    name: String,
}

#[derive(Serialize)]
struct ViewChange {
    view: u64,
    cause: String,
}

#[derive(Serialize)]
struct Latency {
    p50: u64,
    p99: u64,
}

#[derive(Serialize)]
pub(super) struct Outcome {
    replicas: usize,
    f: usize,
    traitors: Vec<Named>,
    operations: u64,
    /// Less than `operations` if the load was ended early.
    begun: u64,
    committed: u64,
    refused: u64,
    unknown: u64,
    value: Option<i64>,
    expected: i64,
    crashed: Option<u32>,
    longest_stall_ms: u64,
    view: u64,
    view_changes: u64,
    view_change_causes: Vec<ViewChange>,
    seconds: f64,
    ops_per_second: f64,
    latency_us: Latency,
    evidence: Vec<Conviction>,
    blamed_donors: Vec<u32>,
    agreement: bool,
    state_digest: String,
}

impl Outcome {
    pub(super) fn new(
        demo: &Demo,
        done: &Done,
        value: Option<i64>,
        crashed: Option<ReplicaId>,
        gathered: &Gathered<'_>,
    ) -> Outcome {
        let Gathered { setup, reports, nodes, views, .. } = gathered;
        let cluster = setup.deployment.cluster();
        let expected = (0..done.begun).map(|index| match amount(index) {
            Command::Add(amount) => amount,
            Command::Get => 0,
        });
        // Whose state was wrong once had executed something else, whatever it holds by now.
        let parted = |node: &&Node| halt(node).is_some() || node.findings().borrow().diverged > 0;
        let parted = nodes.iter().any(parted);
        let blamed = gathered.late_node().map(blamed_by).unwrap_or_default();
        Outcome {
            replicas: cluster.n(),
            f: cluster.f(),
            traitors: setup
                .traitors
                .iter()
                .map(|(id, spec)| Named { replica: id.0, name: spec.names().join("+") })
                .collect(),
            operations: demo.operations,
            begun: done.begun,
            committed: done.committed,
            refused: done.refused,
            unknown: done.unknown,
            value,
            expected: expected.sum(),
            crashed: crashed.map(|id| id.0),
            longest_stall_ms: millis(done.longest_stall),
            view: reports.iter().map(|report| report.view.0).max().unwrap_or_default(),
            view_changes: reports
                .iter()
                .map(|report| report.view_changes)
                .max()
                .unwrap_or_default(),
            view_change_causes: views
                .iter()
                .map(|entered| ViewChange { view: entered.view, cause: cause_of(entered) })
                .collect(),
            seconds: done.elapsed.as_secs_f64(),
            ops_per_second: done.ops_per_second(),
            latency_us: Latency {
                p50: done.latency.value_at_quantile(0.5),
                p99: done.latency.value_at_quantile(0.99),
            },
            evidence: gathered.convictions().keys().map(Conviction::new).collect(),
            blamed_donors: blamed.iter().map(|donor| donor.0).collect(),
            agreement: agree(reports, nodes.len()) && !parted,
            state_digest: reports
                .first()
                .map(|report| report.state_digest.to_hex())
                .unwrap_or_default(),
        }
    }

    pub(super) fn verdict(&self) -> Result<(), Failure> {
        if !self.agreement {
            let who = if self.traitors.is_empty() { "replicas" } else { "honest replicas" };
            return Err(Failure::Failed(format!("the {who} do not agree")));
        }
        if self.unknown > 0 {
            let message = format!("{} operations have an unknown outcome", self.unknown);
            return Err(Failure::Unknown(message));
        }
        if self.value != Some(self.expected) {
            return Err(Failure::Failed(format!(
                "the counter is {:?} and should be {}: operations were lost or doubled",
                self.value, self.expected
            )));
        }
        if self.refused > 0 {
            return Err(Failure::Failed(format!("{} operations were refused", self.refused)));
        }
        Ok(())
    }

    pub(super) fn print(&self, demo: &Demo, gathered: &Gathered<'_>) -> Result<(), Failure> {
        if demo.json {
            println!("{}", to_json(self)?);
            return Ok(());
        }
        println!(
            "{} committed, {} refused, {} unknown in {:.2} s: {:.0} operations/s",
            self.committed, self.refused, self.unknown, self.seconds, self.ops_per_second
        );
        if self.begun < self.operations {
            println!("no more were begun after that: {} were asked for", self.operations);
        }
        println!("latency p50 {} us, p99 {} us", self.latency_us.p50, self.latency_us.p99);
        for change in &self.view_change_causes {
            println!("view {} was entered: {}", change.view, change.cause);
        }
        if self.crashed.is_some() || !self.view_change_causes.is_empty() {
            println!(
                "the service stood still for {} ms at most, then went on in view {}",
                self.longest_stall_ms, self.view
            );
        }
        self.print_late(gathered);
        for report in &gathered.reports {
            println!(
                "replica {}: view {}, executed slot {}, state {}",
                report.replica,
                report.view,
                report.last_executed,
                report.state_digest.short()
            );
        }
        for (node, halt) in gathered.nodes.iter().filter_map(|node| Some((node, halt(node)?))) {
            println!("replica {}: halted, {halt}", node.id());
        }
        if !self.traitors.is_empty() {
            print_evidence(gathered);
        }
        self.print_agreement(gathered);
        Ok(())
    }

    fn print_late(&self, gathered: &Gathered<'_>) {
        let Some(node) = gathered.late_node() else { return };
        let (id, fetches) = (node.id(), gathered.fetches);
        let blamed = blamed_by(node);
        let of = |id| gathered.reports.iter().find(|report| report.replica == id);
        let slots = gathered.reports.iter().map(|report| report.last_executed);
        let level = of(id).map(|report| report.last_executed) == slots.max();
        let times = if fetches == 1 { "once".to_owned() } else { format!("{fetches} times") };
        println!(
            "replica {id} was started with nothing {times} and fetched the state: it {}",
            if level { "is level with the others" } else { "is NOT level with the others" }
        );
        if blamed.is_empty() {
            println!("it blames no donor: whatever it used was proven right");
        }
        for donor in blamed {
            println!("it blames replica {donor}, which gave out a wrong part, and asked others");
        }
    }

    fn print_agreement(&self, gathered: &Gathered<'_>) {
        let honest = if self.traitors.is_empty() { "" } else { "honest " };
        match (self.agreement, self.value) {
            (true, Some(value)) if value == self.expected => println!(
                "all {} {honest}replicas agree: the counter is {value}, every operation counted once",
                gathered.reports.len()
            ),
            (true, Some(value)) => {
                println!("all {honest}replicas agree: the counter is {value}");
            }
            (true, None) => println!("all {honest}replicas agree"),
            (false, _) => println!("the {honest}replicas DO NOT agree"),
        }
    }
}

fn blamed_by(node: &Node) -> Vec<ReplicaId> {
    node.findings().borrow().blamed.keys().copied().collect()
}

fn cause_of(entered: &Entered) -> String {
    let cause = entered.cause.map(|cause| cause.to_string());
    format!("replica {}: {}", entered.by, cause.unwrap_or_else(|| "no cause known".to_owned()))
}

fn print_evidence(gathered: &Gathered<'_>) {
    let convictions = gathered.convictions();
    if convictions.is_empty() {
        println!(
            "no evidence: this behaviour leaves none, as nothing it signed and sent to honest replicas convicts it"
        );
    }
    let mut lines: BTreeMap<ReplicaId, usize> = BTreeMap::new();
    for (subject, (offence, holders)) in &convictions {
        let line = lines.entry(subject.replica).or_default();
        *line += 1;
        if *line <= EVIDENCE_LINES {
            let s = if holders.len() == 1 { "" } else { "s" };
            let holders: Vec<String> = holders.iter().map(ToString::to_string).collect();
            let (what, holders) = (in_words(subject, *offence), holders.join(", "));
            println!("evidence: {what} (held by replica{s} {holders})");
        }
    }
    for (replica, count) in lines.iter().filter(|(_, count)| **count > EVIDENCE_LINES) {
        println!("evidence: {} more pieces about replica {replica}", count - EVIDENCE_LINES);
    }
}
