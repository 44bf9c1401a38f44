//! What the suites share: the counter as real processes over QUIC on loopback, driven only through its
//! command line, and an application with pages.
//!
//! `cargo test --workspace` builds the binary; a run of this package alone needs
//! `cargo build --example counter` first, in the same profile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub mod durability;
pub mod history;
pub mod paged;

/// A load in the background.
pub struct Load(Child);

impl Load {
    /// Waits for its end and returns what it reports.
    pub fn report(mut self) -> Value {
        let mut text = String::new();
        BufReader::new(self.0.stdout.take().unwrap()).read_line(&mut text).unwrap();
        assert_eq!(self.0.wait().unwrap().code(), Some(0), "{text}");
        serde_json::from_str(&text).unwrap()
    }
}

/// The counter, as built beside the tests.
pub fn binary() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let mut beside = this.ancestors().map(|path| path.join("examples/counter"));
    beside
        .find(|path| path.is_file())
        .expect("build the counter first: cargo build --example counter")
}

/// Runs it to its end.
pub fn counter(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).output().unwrap()
}

/// Its exit code.
pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// What it printed, without the last line's end.
pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap().trim().to_owned()
}

/// What it said.
pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Ports for a cluster of `n`, free a moment ago. Each call takes other ones.
pub fn base_port(n: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 20_000).unwrap() + 20_000;
    loop {
        let base = start + NEXT.fetch_add(2 * n, Ordering::Relaxed) % 20_000;
        if (base..base + 2 * n).all(|port| UdpSocket::bind(("127.0.0.1", port)).is_ok()) {
            return base;
        }
    }
}

/// The process of a cluster's gateway.
pub struct Gateway(Child);

impl Gateway {
    /// Starts it and waits until it is ready.
    pub fn start(cluster: &Cluster) -> Self {
        let mut child = Command::new(binary())
            .args(["gateway", &cluster.path("gateway")])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready 127.0.0.1:"), "{line:?}");
        Gateway(child)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Waits for its end and returns its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A deployment in a temporary directory, and the processes of its replicas.
pub struct Cluster {
    /// Where everything is.
    pub directory: TempDir,
    /// The processes, `None` for those not started.
    pub replicas: Vec<Option<Child>>,
}

impl Cluster {
    /// Creates a deployment of `n` replicas and two clients.
    pub fn init(n: u16) -> Self {
        Cluster::init_with_users(n, 0)
    }

    /// Creates one with a gateway and its users.
    pub fn init_with_users(n: u16, users: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster");
        // One port more than replicas need, or two, is the gateway's.
        let base = base_port(n + u16::from(users > 0)).to_string();
        let (n_text, users) = (n.to_string(), users.to_string());
        let path = path.to_str().unwrap();
        let arguments =
            ["init", path, "--replicas", &n_text, "--clients", "2", "--base-port", &base];
        let output = counter(&[&arguments[..], &["--users", &users]].concat());
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        Cluster { directory, replicas: (0..n).map(|_| None).collect() }
    }

    /// Creates one and starts all replicas.
    pub fn start(n: u16) -> Self {
        Cluster::start_with_users(n, 0)
    }

    /// Creates one with users and starts all replicas, not the gateway.
    pub fn start_with_users(n: u16, users: usize) -> Self {
        let mut cluster = Cluster::init_with_users(n, users);
        for id in 0..usize::from(n) {
            cluster.start_replica(id);
        }
        cluster
    }

    /// A path inside the deployment.
    pub fn path(&self, name: &str) -> String {
        self.directory.path().join("cluster").join(name).to_str().unwrap().to_owned()
    }

    /// Starts one replica and waits until it is ready.
    pub fn start_replica(&mut self, id: usize) {
        self.start_replica_with(id, &[]);
    }

    /// Starts one replica with more arguments and waits until it is ready.
    pub fn start_replica_with(&mut self, id: usize, arguments: &[&str]) {
        self.launch(id, arguments, Stdio::null());
    }

    /// Starts one replica, waits until it is ready, and has what it says on stderr written to a file.
    pub fn start_replica_saying(&mut self, id: usize, arguments: &[&str], file: &str) {
        self.launch(id, arguments, std::fs::File::create(file).unwrap().into());
    }

    fn launch(&mut self, id: usize, arguments: &[&str], stderr: Stdio) {
        let mut child = Command::new(binary())
            .args(["replica", &self.path(&format!("replica-{id}"))])
            .args(arguments)
            .env("PBFT_LOG", "warn,pbft_app::storage=debug")
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready 127.0.0.1:"), "{line:?}");
        self.replicas[id] = Some(child);
    }

    /// Kills a replica's process and waits until it is gone.
    pub fn kill(&mut self, id: usize) {
        let child = self.replicas[id].as_mut().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts a load of additions of 1 in the background.
    pub fn load(&self, operations: u64, concurrency: u32) -> Load {
        let (operations, concurrency) = (operations.to_string(), concurrency.to_string());
        let child = Command::new(binary())
            .args(["load", &self.path("client-0"), "--operations", &operations])
            .args(["--concurrency", &concurrency, "--timeout", "60s", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Load(child)
    }

    /// Waits until another client sees the counter at `value` or above it.
    pub fn until_value(&self, value: i64) {
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let output = counter(&["get", &self.path("client-1")]);
            if stdout(&output).parse::<i64>().unwrap_or(0) >= value {
                return;
            }
            assert!(Instant::now() < end, "the counter never came to {value}");
        }
    }

    /// Sends a signal to a replica's process.
    pub fn signal(&self, id: usize, signal: &str) {
        let pid = self.replicas[id].as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Bytes of memory that a replica's process holds, by the kernel's account.
    pub fn resident_bytes(&self, id: usize) -> u64 {
        let pid = self.replicas[id].as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Runs a client's command to its end.
    pub fn client(&self, command: &str, arguments: &[&str]) -> Output {
        let directory = self.path("client-0");
        counter(&[&[command, &directory], arguments].concat())
    }

    /// The counter's value.
    pub fn value(&self) -> i64 {
        let output = self.client("get", &[]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        stdout(&output).parse().unwrap()
    }

    /// What `status` says of each replica.
    pub fn status(&self) -> Vec<Value> {
        // Another client's key than the load's, whose connections would be in the way.
        let output = counter(&["status", &self.path("client-1"), "--json"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let status: Value = serde_json::from_str(&stdout(&output)).unwrap();
        status["replicas"].as_array().unwrap().clone()
    }

    /// Waits until these replicas report one executed slot and one state.
    pub fn until_agreed(&self, replicas: &[usize]) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let status = self.status();
            let of = |id: &usize| {
                let it = &status[*id];
                (it["last_executed"].as_u64(), it["state_digest"].as_str().map(str::to_owned))
            };
            let first = of(&replicas[0]);
            if first.0.is_some() && replicas.iter().all(|id| of(id) == first) {
                return;
            }
            assert!(Instant::now() < end, "no agreement: {status:?}");
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.replicas.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
