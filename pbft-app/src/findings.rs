//! What a node has found out about others: evidence, kept in files too if a directory is named, and donors that
//! gave out wrong parts of a snapshot.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pbft_core::evidence::{Evidence, Subject};
use pbft_core::types::ReplicaId;
use pbft_core::wire;
use tokio::sync::watch;

/// Everything that a node has found wrong so far.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The evidence that its replica has kept, to convince anyone who knows the cluster's keys.
    pub evidence: Vec<Evidence>,
    /// Which donors gave out wrong parts of a snapshot, and how often. Nobody signed those: it convinces
    /// nobody else.
    pub blamed: BTreeMap<ReplicaId, u64>,
    /// How often its own state was another than the others agreed on.
    pub diverged: u64,
}

/// Where findings go.
pub(crate) struct Keeper {
    replica: ReplicaId,
    directory: Option<PathBuf>,
    publish: watch::Sender<Findings>,
}

impl Keeper {
    pub(crate) fn new(
        replica: ReplicaId,
        directory: Option<PathBuf>,
        publish: watch::Sender<Findings>,
    ) -> Self {
        Keeper { replica, directory, publish }
    }

    /// Logs a piece, shows it to whoever watches, and writes it down. The core bounds how many there are, so
    /// the loop writes them itself: a few milliseconds each, a few dozen times in the life of a node.
    pub(crate) fn keep(&self, evidence: Evidence) {
        let (subject, offence) = (evidence.subject(), evidence.offence());
        tracing::warn!(replica = %self.replica, %subject, %offence, "evidence of misbehaviour kept");
        if let Some(directory) = &self.directory
            && let Err(error) = write(directory, &evidence)
        {
            let directory = directory.display();
            tracing::warn!(replica = %self.replica, %directory, %error, "evidence cannot be written");
        }
        self.publish.send_modify(|findings| findings.evidence.push(evidence));
    }

    /// Notes that the own state was wrong.
    pub(crate) fn diverged(&self) {
        self.publish.send_modify(|findings| findings.diverged += 1);
    }

    /// Notes a donor that gave out a wrong part.
    pub(crate) fn blame(&self, donor: ReplicaId) {
        self.publish.send_modify(|findings| {
            *findings.blamed.entry(donor).or_default() += 1;
        });
    }
}

/// The name of a piece's file: one for each subject.
fn file_name(subject: &Subject) -> String {
    let Subject { replica, kind, view, sequence } = subject;
    format!("{replica}-{kind}-view{view}-slot{sequence}.evidence")
}

/// Writes a piece under its name, whole or not at all. One that is there already stays as it is.
fn write(directory: &Path, evidence: &Evidence) -> io::Result<()> {
    let path = directory.join(file_name(&evidence.subject()));
    if path.exists() {
        return Ok(());
    }
    fs::create_dir_all(directory)?;
    let fresh = path.with_extension("evidence.new");
    let mut file = File::create(&fresh)?;
    file.write_all(&wire::encode(evidence))?;
    file.sync_all()?;
    fs::rename(&fresh, &path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use pbft_core::message::{Signed, Statement, Vote};
    use pbft_core::types::{Digest, Sequence, Signature, View};

    use super::*;

    fn vote(digest: u8) -> Signed {
        let digest = Digest([digest; 32]);
        let vote = Vote { view: View(2), sequence: Sequence(7), digest };
        let signature = Signature([digest.0[0]; 64]);
        Signed { sender: ReplicaId(0), statement: Statement::PrePrepare(vote), signature }
    }

    #[test]
    fn evidence_is_written_once_and_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("evidence");
        let (publish, findings) = watch::channel(Findings::default());
        let keeper = Keeper::new(ReplicaId(1), Some(path.clone()), publish);
        let first = Evidence::new(vote(1), vote(2)).unwrap();
        keeper.keep(first.clone());
        keeper.keep(Evidence::new(vote(1), vote(3)).unwrap());
        let file = path.join("0-pre-prepare-view2-slot7.evidence");
        assert_eq!(wire::decode(&fs::read(&file).unwrap()), Ok(first));
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        assert_eq!(findings.borrow().evidence.len(), 2);
    }

    #[test]
    fn a_directory_that_cannot_be_written_stops_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (publish, findings) = watch::channel(Findings::default());
        let keeper = Keeper::new(ReplicaId(1), Some(file.path().to_owned()), publish);
        keeper.keep(Evidence::new(vote(1), vote(2)).unwrap());
        keeper.blame(ReplicaId(3));
        assert_eq!(findings.borrow().evidence.len(), 1);
        assert_eq!(findings.borrow().blamed[&ReplicaId(3)], 1);
    }
}
