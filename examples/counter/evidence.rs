//! `evidence`: whether a file convicts anyone, told from the file and the cluster's keys alone.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use pbft_app::Deployment;
use pbft_app::core::crypto::Kind;
use pbft_app::core::evidence::{Evidence, Offence, Subject};
use pbft_app::core::message::Message;
use pbft_app::core::signed::{Cache, Scrutiny, verify};
use pbft_app::core::wire;
use serde::Serialize;

use crate::Failure;
use crate::load::to_json;

/// Who is convicted, of what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Conviction {
    pub(crate) replica: u32,
    pub(crate) kind: String,
    pub(crate) view: u64,
    pub(crate) sequence: u64,
    #[serde(skip)]
    subject: Subject,
}

impl Conviction {
    pub(crate) fn new(subject: &Subject) -> Self {
        let Subject { replica, kind, view, sequence } = *subject;
        Conviction {
            replica: replica.0,
            kind: kind.to_string(),
            view: view.0,
            sequence: sequence.0,
            subject: *subject,
        }
    }
}

impl fmt::Display for Conviction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.subject.fmt(formatter)
    }
}

/// What the convicted replica did, in words.
pub(crate) fn in_words(subject: &Subject, offence: Offence) -> String {
    let Subject { replica, kind, view, sequence } = subject;
    let place = match kind {
        Kind::Checkpoint => format!("of slot {sequence}"),
        Kind::ViewChange | Kind::NewView => format!("for view {view}"),
        _ => format!("in view {view}, slot {sequence}"),
    };
    match offence {
        Offence::Equivocation => {
            format!("replica {replica} signed two {kind}s {place}")
        }
        Offence::StrayProposal => {
            format!("replica {replica} signed a {kind} {place} that contradicts its own new-view")
        }
        Offence::Omission => format!(
            "replica {replica} signed a {kind} {place} that leaves out what it had committed to"
        ),
        Offence::Void => {
            format!("replica {replica} signed a {kind} {place} that no correct replica signs")
        }
    }
}

#[derive(Serialize)]
struct Proven {
    proven: bool,
    #[serde(flatten)]
    conviction: Conviction,
    offence: String,
}

#[derive(Serialize)]
struct Unproven {
    proven: bool,
    reason: String,
}

pub(crate) fn run(file: &Path, cluster: &Path, json: bool) -> Result<(), Failure> {
    let deployment = Deployment::load(cluster)?;
    let unreadable =
        |error: &dyn fmt::Display| Failure::Usage(format!("{}: {error}", file.display()));
    let bytes = std::fs::read(file).map_err(|error| unreadable(&error))?;
    let evidence: Evidence = wire::decode(&bytes).map_err(|error| unreadable(&error))?;
    let (subject, offence) = (evidence.subject(), evidence.offence());
    let message = Message::Evidence(Arc::new(evidence));
    let (cluster, verifier) = (deployment.cluster(), deployment.verifier());
    let verdict = verify(cluster, verifier, &mut Cache::new(0), message, Scrutiny::Whole);
    if let Err(forgery) = verdict {
        let reason = format!("it does not hold under the keys of this cluster: {forgery}");
        if json {
            println!("{}", to_json(&Unproven { proven: false, reason: reason.clone() })?);
        }
        return Err(Failure::Failed(format!("no proof: {reason}")));
    }
    let conviction = Conviction::new(&subject);
    if json {
        let offence = offence.to_string();
        println!("{}", to_json(&Proven { proven: true, conviction, offence })?);
        return Ok(());
    }
    println!("proven: {}", in_words(&subject, offence));
    let Conviction { replica, kind, view, sequence, .. } = conviction;
    println!("replica {replica}, kind {kind}, view {view}, slot {sequence}: {offence}");
    Ok(())
}
