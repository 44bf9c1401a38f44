//! Nothing promised is forgotten: real replicas with real files, killed, cut off, damaged, copied. A few of each;
//! `cargo run --release -p pbft-tests --bin durability` does as many as one likes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use pbft_sim::random::Random;
use pbft_tests::durability::{damage, power_cut, rolling_kills};
use pbft_tests::{Cluster, base_port, binary, code, counter, stderr, stdout};

/// PITFALLS H1, G11, INV9.
#[test]
fn h1_ten_power_cuts_of_all_replicas_under_load_lose_nothing() {
    let (mut cluster, mut chance) = (Cluster::start(4), Random::new(1));
    let mut committed = 0;
    for cut in 0..10 {
        let summary = power_cut(&mut cluster, &mut chance).unwrap_or_else(|what| {
            panic!("power cut {cut}: {what}");
        });
        committed += summary.committed;
    }
    assert!(committed > 1000, "{committed} operations are no load");
}

/// SEEDS M8: one replica at a time may go at any instant; clients see nothing of it but a wait.
#[test]
fn m8_rolling_kills_and_restarts_never_stop_the_service() {
    let (mut cluster, mut chance) = (Cluster::start(4), Random::new(2));
    let mut kills = 0;
    let lasting = Duration::from_secs(15);
    let summary = rolling_kills(&mut cluster, &mut chance, lasting, |so_far| kills = so_far);
    let summary = summary.unwrap();
    assert!(kills >= 3 && summary.unknown == 0, "{kills} kills, {summary:?}");
}

#[test]
fn h4_damaged_stores_lead_to_no_wrong_vote_and_no_panic() {
    let mut chance = Random::new(3);
    for _ in 0..5 {
        let (outcome, what) = damage(&mut chance).unwrap();
        println!("{what}: {outcome:?}");
    }
}

/// One commit is on the path of a request, the one between Prepare and Commit.
#[test]
fn h1_a_request_waits_for_one_commit() {
    let mut cluster = Cluster::init(4);
    let text = cluster.path("stderr");
    cluster.start_replica_saying(0, &[], &text);
    for id in 1..4 {
        cluster.start_replica(id);
    }
    assert_eq!(cluster.load(5, 1).report()["committed"].as_u64(), Some(5));
    let commits = || std::fs::read_to_string(&text).unwrap().matches("journal commit").count();
    let before = commits();
    // Slots 6 to 25: no checkpoint among them. A replica that is behind for a moment takes two into one commit.
    assert_eq!(cluster.load(20, 1).report()["committed"].as_u64(), Some(20));
    cluster.until_agreed(&[0, 1, 2, 3]);
    let commits = commits() - before;
    assert!((10..=20).contains(&commits), "{commits} commits for 20 requests");
}

/// PITFALLS E9: a paused process has everything it promised, and drains what waits before it suspects anybody.
#[test]
fn a_paused_replica_goes_on_where_it_was() {
    let cluster = Cluster::start(4);
    for id in [1, 0] {
        let load = cluster.load(400, 4);
        cluster.signal(id, "-STOP");
        std::thread::sleep(Duration::from_millis(300));
        cluster.signal(id, "-CONT");
        assert_eq!(load.report()["committed"].as_u64(), Some(400));
    }
    cluster.until_agreed(&[0, 1, 2, 3]);
    assert_eq!((cluster.value(), cluster.evidence()), (800, 0));
}

/// PITFALLS G10: the store is kept, moved away, and put back when it is an old one.
#[test]
fn g10_a_store_that_is_missing_or_old_is_lost_and_says_so() {
    let mut cluster = Cluster::start(4);
    assert_eq!(cluster.load(200, 4).report()["committed"].as_u64(), Some(200));
    let data = PathBuf::from(cluster.path("replica-2/data"));
    let backup = PathBuf::from(cluster.path("backup"));
    cluster.kill(2);
    copy(&data, &backup);
    cluster.start_replica(2);
    assert_eq!(cluster.until_reachable(2)["voting"], true);
    for old in [true, false] {
        cluster.kill(2);
        std::fs::remove_dir_all(&data).unwrap();
        if old {
            copy(&backup, &data);
        }
        let text = cluster.path("stderr");
        cluster.start_replica_saying(2, &[], &text);
        assert_eq!(cluster.until_reachable(2)["voting"], false);
        let said = std::fs::read_to_string(&text).unwrap();
        assert!(said.contains("lost") && said.contains("without voting"), "{said}");
        // The others do without it, and it follows.
        assert_eq!(cluster.load(50, 2).report()["committed"].as_u64(), Some(50));
        cluster.until_agreed(&[0, 1, 2, 3]);
    }
    assert_eq!(cluster.evidence(), 0);
}

/// PITFALLS G10: with a new disk a replica is a full member again, once nothing new can contradict what it forgot.
#[test]
fn g10_a_replica_with_a_new_disk_votes_again() {
    let mut cluster = Cluster::start(4);
    assert_eq!(cluster.load(100, 2).report()["committed"].as_u64(), Some(100));
    cluster.kill(2);
    std::fs::remove_dir_all(cluster.path("replica-2/data")).unwrap();
    cluster.start_replica(2);
    assert_eq!(cluster.until_reachable(2)["standing"], "store lost");
    // Two windows of slots later it may vote again, in the view after the next.
    let mut operations = 100;
    while cluster.until_reachable(2)["standing"] != "votes in later views" {
        assert_eq!(cluster.load(100, 1).report()["committed"].as_u64(), Some(100));
        operations += 100;
        assert!(operations < 2000, "{:?}", cluster.status()[2]);
    }
    // Its vote is the third: with the primary gone nothing would be decided without it.
    cluster.kill(0);
    assert_eq!(cluster.load(50, 2).report()["committed"].as_u64(), Some(50));
    cluster.until_agreed(&[1, 2, 3]);
    assert_eq!(cluster.status()[2]["standing"], "votes");
    // And it knows that after a restart too.
    cluster.kill(2);
    cluster.start_replica(2);
    assert_eq!(cluster.until_reachable(2)["voting"], true);
    assert_eq!(cluster.load(50, 2).report()["committed"].as_u64(), Some(50));
    assert_eq!((cluster.value(), cluster.evidence()), (operations + 100, 0));
}

/// PITFALLS H10.
#[test]
fn h10_a_second_process_on_one_directory_is_refused_and_so_is_inspection() {
    let cluster = Cluster::start(4);
    let directory = cluster.path("replica-1");
    for arguments in [["replica", &directory], ["inspect", &directory]] {
        let output = counter(&arguments);
        assert_eq!(code(&output), 2, "{}", stderr(&output));
        assert!(stderr(&output).contains("in use"), "{}", stderr(&output));
    }
    assert_eq!(stdout(&cluster.client("add", &["1"])), "1");
}

/// PITFALLS L6: a copy of a replica's directory, started elsewhere, harms nobody.
#[test]
fn l6_a_copied_directory_on_another_port_takes_no_part() {
    let cluster = Cluster::start(4);
    assert_eq!(cluster.load(100, 2).report()["committed"].as_u64(), Some(100));
    let (from, to) = (PathBuf::from(cluster.path("")), cluster.directory.path().join("copy"));
    copy(&from, &to);
    let file = to.join("cluster.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let own: Vec<&str> = text.split('"').filter(|word| word.starts_with("127.0.0.1:")).collect();
    let base = base_port(1);
    let moved = text.replace(own[6], &format!("127.0.0.1:{base}"));
    let moved = moved.replace(own[7], &format!("127.0.0.1:{}", base + 1));
    std::fs::write(&file, moved).unwrap();
    let mut copy = Command::new(binary())
        .arg("replica")
        .arg(to.join("replica-3"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(cluster.load(400, 4).report()["committed"].as_u64(), Some(400));
    cluster.until_agreed(&[0, 1, 2, 3]);
    assert_eq!((cluster.value(), cluster.evidence()), (500, 0));
    assert!(cluster.status().iter().all(|status| status["voting"] == true));
    copy.kill().unwrap();
    copy.wait().unwrap();
}

/// A file system of its own, as small as one likes, that goes with this.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Puts what is in `path` on a file system with so many bytes to spare. `None` where nobody may mount one.
    fn under(path: &Path, spare: u64) -> Option<SmallDisk> {
        let held: u64 =
            std::fs::read_dir(path).unwrap().map(|it| it.unwrap().metadata().unwrap().len()).sum();
        let aside = path.with_extension("aside");
        std::fs::rename(path, &aside).unwrap();
        std::fs::create_dir(path).unwrap();
        let size = format!("size={}", (held + spare).next_multiple_of(4096));
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).stderr(Stdio::null());
        let mounted = mount.status().is_ok_and(|status| status.success());
        let copied = Command::new("sh")
            .args(["-c", "cp -a \"$0\"/. \"$1\""])
            .args([&aside, &path.to_path_buf()])
            .status()
            .unwrap();
        assert!(copied.success());
        mounted.then(|| SmallDisk(path.to_owned()))
    }

    /// Takes all the space there is, and returns where.
    fn fill(&self) -> PathBuf {
        use std::io::Write;
        let path = self.0.join("ballast");
        let mut file = std::fs::File::create(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// PITFALLS H7: a full disk stops one replica's votes and nothing else, and it votes again by itself.
#[test]
fn h7_a_full_disk_stops_votes_until_there_is_space() {
    let mut cluster = Cluster::init(4);
    let Some(disk) = SmallDisk::under(Path::new(&cluster.path("replica-3/data")), 256 << 10) else {
        eprintln!(
            "not tried: nobody may mount a file system here; see pbft-app's tests of full disks"
        );
        return;
    };
    let text = cluster.path("stderr");
    for id in 0..3 {
        cluster.start_replica(id);
    }
    cluster.start_replica_saying(3, &[], &text);
    assert_eq!(cluster.load(100, 4).report()["committed"].as_u64(), Some(100));
    let ballast = disk.fill();
    let mut operations = 100;
    let said = |what: &str| std::fs::read_to_string(&text).unwrap().contains(what);
    while !said("the disk is full") {
        assert_eq!(cluster.load(2000, 64).report()["committed"].as_u64(), Some(2000));
        operations += 2000;
        assert!(operations < 100_000, "the store never grew");
    }
    std::fs::remove_file(ballast).unwrap();
    // Now its vote is needed.
    cluster.kill(1);
    assert_eq!(cluster.load(200, 4).report()["committed"].as_u64(), Some(200));
    cluster.until_agreed(&[0, 2, 3]);
    assert_eq!((cluster.value(), cluster.evidence()), (operations + 200, 0));
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}
