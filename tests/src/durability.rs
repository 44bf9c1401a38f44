//! What real replicas with real files go through: power cuts, rolling kills, damaged stores. The suites run a
//! few of each, `cargo run --release -p pbft-tests --bin durability` as many as one likes.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pbft_sim::random::Random;

use crate::history::{History, Summary};
use crate::{Cluster, binary};

fn time_below(chance: &mut Random, millis: u64) -> Duration {
    Duration::from_micros(chance.below(millis * 1000))
}

fn index_below(chance: &mut Random, bound: usize) -> usize {
    usize::try_from(chance.below(u64::try_from(bound).unwrap())).unwrap()
}

/// A load that writes down what it sees, in the background.
pub struct Recording {
    child: Child,
    out: PathBuf,
}

impl Recording {
    /// Starts eight callers for so long; what is under way then may take another minute.
    pub fn start(cluster: &Cluster, seconds: u64) -> Recording {
        let out = cluster.directory.path().join("history.jsonl");
        let child = Command::new(binary())
            .args(["history", &cluster.path("client-0"), "--concurrency", "8"])
            .args(["--seconds", &seconds.to_string(), "--timeout", "60s"])
            .arg("--out")
            .arg(&out)
            .stdout(Stdio::null())
            // That its replicas come and go is what this is about.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Recording { child, out }
    }

    /// Waits for its end.
    pub fn finish(mut self) -> History {
        assert!(self.child.wait().unwrap().success());
        History::read(&self.out)
    }
}

impl Cluster {
    /// Kills all replicas at the same instant, as a loss of power would: none of them can do anything about it.
    pub fn cut_power(&mut self) {
        for child in self.replicas.iter_mut().flatten() {
            child.kill().unwrap();
        }
        for child in self.replicas.iter_mut().flatten() {
            child.wait().unwrap();
        }
    }

    /// The evidence that all replicas hold together. Nobody here lies, so there must be none.
    pub fn evidence(&self) -> u64 {
        self.status().iter().map(|status| status["evidence"].as_u64().unwrap_or(0)).sum()
    }

    /// Starts all replicas, in an order drawn by chance.
    pub fn restore_power(&mut self, chance: &mut Random) {
        let mut left: Vec<usize> = (0..self.replicas.len()).collect();
        while !left.is_empty() {
            let next = left.swap_remove(index_below(chance, left.len()));
            self.start_replica(next);
        }
    }

    /// Waits until a replica answers, and returns what it says.
    pub fn until_reachable(&self, id: usize) -> serde_json::Value {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let status = self.status().swap_remove(id);
            if status["reachable"] == true {
                return status;
            }
            assert!(Instant::now() < end, "replica {id} does not answer");
        }
    }

    /// Waits until replica `id` votes on everything, and has executed what the others had when this began.
    pub fn until_level(&self, id: usize) {
        let end = Instant::now() + Duration::from_secs(60);
        let executed = |status: &serde_json::Value| status["last_executed"].as_u64();
        let goal = self.status().iter().filter_map(executed).max().unwrap_or(0);
        loop {
            let status = &self.status()[id];
            if executed(status).is_some_and(|at| at >= goal) && status["standing"] == "votes" {
                return;
            }
            assert!(Instant::now() < end, "replica {id} does not come back: {status}");
        }
    }
}

/// Kills all replicas under load and starts them again; every acknowledged addition must be in the counter
/// afterwards, none twice, and all states equal.
///
/// # Errors
/// What is wrong.
pub fn power_cut(cluster: &mut Cluster, chance: &mut Random) -> Result<Summary, String> {
    let start = cluster.value();
    let recording = Recording::start(cluster, 2);
    sleep(time_below(chance, 1900));
    cluster.cut_power();
    sleep(time_below(chance, 100));
    cluster.restore_power(chance);
    let history = recording.finish();
    judge(cluster, &history, start)
}

fn judge(cluster: &Cluster, history: &History, start: i64) -> Result<Summary, String> {
    let summary = history.check(start, cluster.value())?;
    let all: Vec<usize> = (0..cluster.replicas.len()).collect();
    cluster.until_agreed(&all);
    match cluster.evidence() {
        0 => Ok(summary),
        found => Err(format!("{found} pieces of evidence, though nobody lied")),
    }
}

/// For so long under load kills one replica after the other and starts it again. The service must never stop for
/// longer than a view change takes.
///
/// # Errors
/// What is wrong.
pub fn rolling_kills(
    cluster: &mut Cluster,
    chance: &mut Random,
    lasting: Duration,
    mut each: impl FnMut(usize),
) -> Result<Summary, String> {
    let start = cluster.value();
    let end = Instant::now() + lasting;
    // The load outlives the last kill: only with load does a replica that has started again come to vote on all.
    let recording = Recording::start(cluster, lasting.as_secs() + 10);
    let mut kills = 0;
    while Instant::now() < end {
        let id = index_below(chance, cluster.replicas.len());
        sleep(time_below(chance, 500));
        cluster.kill(id);
        sleep(time_below(chance, 1500));
        cluster.start_replica(id);
        cluster.until_level(id);
        kills += 1;
        each(kills);
    }
    judge(cluster, &recording.finish(), start)
}

/// What became of a replica whose store was damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It votes: the damage touched nothing that matters.
    Started,
    /// It takes part without voting.
    WithoutVote,
    /// It says what is wrong and does not start.
    Refused,
}

/// Kills a replica of a cluster made for this, flips a bit in one of its files or cuts it, starts it again, and
/// sees that it does one of three things: start as it was, start without voting, or refuse and say why.
///
/// # Errors
/// Anything else: a panic, a refusal without words, a lost operation, evidence against somebody.
pub fn damage(chance: &mut Random) -> Result<(Outcome, String), String> {
    let mut cluster = Cluster::start(4);
    let operations = 100 + chance.below(200);
    let report = cluster.load(operations, 2).report();
    let value = i64::try_from(report["committed"].as_u64().unwrap()).unwrap();
    cluster.kill(3);
    let what = spoil(&cluster, chance);
    let text = PathBuf::from(cluster.path("stderr"));
    let mut child = Command::new(binary())
        .args(["replica", &cluster.path("replica-3")])
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&text).unwrap())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let outcome = if line.starts_with("ready") {
        cluster.replicas[3] = Some(child);
        let status = cluster.until_reachable(3);
        if status["voting"] == true { Outcome::Started } else { Outcome::WithoutVote }
    } else {
        child.wait().unwrap();
        Outcome::Refused
    };
    let said = std::fs::read_to_string(&text).unwrap();
    if said.contains("panicked") || (outcome != Outcome::Started && said.trim().is_empty()) {
        return Err(format!("{what}: {outcome:?}, and it said {said:?}"));
    }
    let after: i64 = crate::stdout(&cluster.client("add", &["1", "--timeout", "30s"]))
        .parse()
        .map_err(|_| format!("{what}: {outcome:?}: the others do not go on"))?;
    if after != value + 1 {
        return Err(format!("{what}: {after} instead of {}", value + 1));
    }
    let level: &[usize] = if outcome == Outcome::Refused { &[0, 1, 2] } else { &[0, 1, 2, 3] };
    cluster.until_agreed(level);
    match cluster.evidence() {
        0 => Ok((outcome, what)),
        found => Err(format!("{what}: {found} pieces of evidence, though nobody lied")),
    }
}

/// Changes one file of replica 3's store; returns what was done.
fn spoil(cluster: &Cluster, chance: &mut Random) -> String {
    let name = if chance.chance(700) { "journal.redb" } else { "snapshots.redb" };
    let path = PathBuf::from(cluster.path("replica-3")).join("data").join(name);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = index_below(chance, bytes.len());
    let what = if chance.chance(200) {
        bytes.truncate(at);
        format!("{name} cut at {at}")
    } else {
        let bit = chance.below(8);
        bytes[at] ^= 1 << bit;
        format!("{name} with bit {bit} of byte {at} flipped")
    };
    std::fs::write(&path, bytes).unwrap();
    what
}
