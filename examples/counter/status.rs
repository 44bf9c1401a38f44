//! `status`.

use std::path::Path;
use std::time::Duration;

use pbft_app::core::message::Report;
use pbft_app::core::types::{ReplicaId, Standing};
use pbft_app::{Client, ClientDirectory};
use serde::Serialize;

use crate::Failure;
use crate::evidence::Conviction;

const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Serialize)]
struct Statuses {
    replicas: Vec<Status>,
}

#[derive(Serialize)]
pub(crate) struct Status {
    id: u32,
    reachable: bool,
    view: Option<u64>,
    in_view_change: Option<bool>,
    last_executed: Option<u64>,
    stable_checkpoint: Option<u64>,
    state_digest: Option<String>,
    view_changes: Option<u64>,
    view_change_cause: Option<String>,
    transferring: Option<bool>,
    voting: Option<bool>,
    standing: Option<&'static str>,
    evidence: Option<u64>,
    convictions: Option<Vec<Conviction>>,
    version: Option<String>,
}

impl Status {
    fn new(id: ReplicaId, report: Option<&Report>) -> Self {
        Status {
            id: id.0,
            reachable: report.is_some(),
            view: report.map(|report| report.view.0),
            in_view_change: report.map(|report| report.in_view_change),
            last_executed: report.map(|report| report.last_executed.0),
            stable_checkpoint: report.map(|report| report.stable_checkpoint.0),
            state_digest: report.map(|report| report.state_digest.to_hex()),
            view_changes: report.map(|report| report.view_changes),
            view_change_cause: report.map(|report| report.view_change_cause.as_str().to_owned()),
            transferring: report.map(|report| report.transferring),
            voting: report
                .map(|report| matches!(report.standing, Standing::Voting | Standing::Abstaining)),
            standing: report.map(|report| match report.standing {
                Standing::Voting => "votes",
                Standing::Abstaining => "abstains",
                Standing::NonVoting => "store lost",
                Standing::Silent => "votes in later views",
                Standing::Impersonated => "key used elsewhere",
            }),
            evidence: report.map(|report| report.evidence),
            convictions: report
                .map(|report| report.convictions.iter().map(Conviction::new).collect()),
            version: report.map(|report| report.version.map(|part| part.to_string()).join(".")),
        }
    }
}

pub(crate) async fn run(directory: &Path, json: bool) -> Result<(), Failure> {
    let opened = ClientDirectory::open_to_read(directory)?;
    let cluster = opened.deployment().cluster().clone();
    let client = Client::from_directory(opened)?;
    let reports = client.status(TIMEOUT).await;
    let replicas = cluster.replicas().map(|id| Status::new(id, reports.get(&id))).collect();
    let statuses = Statuses { replicas };
    if json {
        println!("{}", crate::load::to_json(&statuses)?);
        return Ok(());
    }
    println!("replica  view  executed  checkpoint  evidence  state             remarks");
    for status in &statuses.replicas {
        if !status.reachable {
            println!("{:>7}  unreachable within {TIMEOUT:?}", status.id);
            continue;
        }
        let number = |value: Option<u64>| value.unwrap_or_default();
        let digest = status.state_digest.clone().unwrap_or_default();
        let mut remarks = Vec::new();
        if status.in_view_change == Some(true) {
            remarks.push("between views".to_owned());
        }
        if status.transferring == Some(true) {
            remarks.push("fetching the state".to_owned());
        }
        match reports.get(&ReplicaId(status.id)).map(|report| report.standing) {
            Some(Standing::NonVoting) => {
                remarks.push("does not vote: its store was lost".to_owned());
            }
            Some(Standing::Abstaining) => {
                remarks.push("started again: votes on new slots soon".to_owned());
            }
            Some(Standing::Silent) => {
                remarks
                    .push("votes again once the view has changed: its store was lost".to_owned());
            }
            Some(Standing::Impersonated) => {
                remarks.push("does not vote: its key is used elsewhere".to_owned());
            }
            Some(Standing::Voting) | None => {}
        }
        if let Some(cause) = status.view_change_cause.as_ref().filter(|cause| !cause.is_empty()) {
            remarks.push(format!("left a view: {cause}"));
        }
        let line = format!(
            "{:>7}  {:>4}  {:>8}  {:>10}  {:>8}  {}  {}",
            status.id,
            number(status.view),
            number(status.last_executed),
            number(status.stable_checkpoint),
            number(status.evidence),
            digest.get(..16).unwrap_or_default(),
            remarks.join("; "),
        );
        println!("{}", line.trim_end());
        for conviction in status.convictions.iter().flatten() {
            println!("         convicts {conviction}");
        }
    }
    Ok(())
}
