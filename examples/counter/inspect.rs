//! `inspect`: what a stopped replica's store holds.

use std::path::Path;

use pbft_app::Inspection;
use serde::Serialize;

use crate::Failure;

#[derive(Serialize)]
struct Report {
    replica: u32,
    cluster: String,
    runs: u64,
    journal: Option<Journal>,
    journal_bytes: u64,
    snapshots: Option<Vec<Snapshot>>,
    snapshot_bytes: u64,
    set_aside: Vec<String>,
    damage: Vec<String>,
}

#[derive(Serialize)]
struct Journal {
    runs: u64,
    lost: bool,
    active_view: u64,
    voted_view: u64,
    new_view: Option<NewView>,
    stable: u64,
    prepared: Vec<Slot>,
    checkpoints: Vec<Checkpoint>,
    records: usize,
}

#[derive(Serialize)]
struct NewView {
    view: u64,
    own: bool,
}

#[derive(Serialize)]
struct Slot {
    sequence: u64,
    view: u64,
    digest: String,
    /// Requests of the batch; null if there is none, as for the null request.
    requests: Option<usize>,
}

#[derive(Serialize)]
struct Checkpoint {
    sequence: u64,
    digest: String,
}

#[derive(Serialize)]
struct Snapshot {
    sequence: u64,
    digest: String,
    pages: usize,
    bytes: u64,
}

impl Report {
    fn new(inspection: &Inspection) -> Self {
        let journal = inspection.journal.as_ref().ok().map(|journal| Journal {
            runs: journal.about.runs,
            lost: journal.about.lost,
            active_view: journal.active_view.0,
            voted_view: journal.voted_view.0,
            new_view: journal.new_view.map(|(view, own)| NewView { view: view.0, own }),
            stable: journal.stable.0,
            prepared: { journal.prepared.iter() }
                .map(|slot| Slot {
                    sequence: slot.sequence.0,
                    view: slot.view.0,
                    digest: slot.digest.to_hex(),
                    requests: slot.requests,
                })
                .collect(),
            checkpoints: { journal.checkpoints.iter() }
                .map(|(sequence, digest)| Checkpoint {
                    sequence: sequence.0,
                    digest: digest.to_hex(),
                })
                .collect(),
            records: journal.records,
        });
        let snapshots = inspection.snapshots.as_ref().ok().map(|snapshots| {
            let snapshots = snapshots.iter().map(|snapshot| Snapshot {
                sequence: snapshot.sequence.0,
                digest: snapshot.digest.to_hex(),
                pages: snapshot.pages,
                bytes: snapshot.bytes,
            });
            snapshots.collect()
        });
        Report {
            replica: inspection.replica.0,
            cluster: inspection.cluster.to_hex(),
            runs: inspection.runs,
            journal,
            journal_bytes: inspection.journal_bytes,
            snapshots,
            snapshot_bytes: inspection.snapshot_bytes,
            set_aside: inspection.set_aside.iter().map(|it| it.display().to_string()).collect(),
            damage: inspection.damage(),
        }
    }

    fn print(&self) {
        println!("replica {} of cluster {}", self.replica, short(&self.cluster));
        println!("started {} times", self.runs);
        if let Some(journal) = &self.journal {
            println!("journal: {} records in {} bytes", journal.records, self.journal_bytes);
            println!("  in view {}, voted for view {}", journal.active_view, journal.voted_view);
            if let Some(NewView { view, own }) = &journal.new_view {
                let whose = if *own { "its own" } else { "of the primary" };
                println!("  NewView of view {view}, {whose}");
            }
            println!("  stable up to slot {}", journal.stable);
            for slot in &journal.prepared {
                let body = match slot.requests {
                    Some(requests) => format!("{requests} requests at hand"),
                    None => "no batch".to_owned(),
                };
                let Slot { sequence, view, digest, .. } = slot;
                println!("  slot {sequence} prepared in view {view}: {}, {body}", short(digest));
            }
            for Checkpoint { sequence, digest } in &journal.checkpoints {
                println!("  own checkpoint of slot {sequence}: {}", short(digest));
            }
        }
        if let Some(snapshots) = &self.snapshots {
            println!("snapshots: {} in {} bytes", snapshots.len(), self.snapshot_bytes);
            for Snapshot { sequence, digest, pages, bytes } in snapshots {
                println!("  slot {sequence}: {}, {pages} pages, {bytes} bytes", short(digest));
            }
        }
        for path in &self.set_aside {
            println!("set aside: {path}");
        }
        for damage in &self.damage {
            println!("damage: {damage}");
        }
    }
}

fn short(digest: &str) -> &str {
    digest.get(..16).unwrap_or(digest)
}

pub(crate) fn run(directory: &Path, json: bool) -> Result<(), Failure> {
    let inspection = pbft_app::inspect(directory)?;
    let report = Report::new(&inspection);
    if json {
        println!("{}", crate::load::to_json(&report)?);
    } else {
        report.print();
    }
    if inspection.is_readable() {
        return Ok(());
    }
    Err(Failure::Failed(format!("the store cannot be read: {}", report.damage.join("; "))))
}
