//! A counter that n replicas agree on over mutually authenticated QUIC, of which f may be traitors.
//!
//! What it shows: an application in twenty lines (`service.rs`), replicas in one process (`demo.rs`) or as
//! processes of their own, and a client that knows what it does not know. Commands to try:
//!
//! ```text
//! cargo run --release --example counter                        # four replicas here, 2000 operations
//! cargo run --release --example counter -- demo --traitor 0=equivocating_primary
//! cargo run --release --example counter -- init /tmp/c         # keys and configuration for four hosts
//! cargo run --release --example counter -- replica /tmp/c/replica-0      # and 1, 2, 3, each in a terminal
//! cargo run --release --example counter -- add /tmp/c/client-0 5
//! cargo run --release --example counter -- status /tmp/c/client-0
//! cargo run --release --example counter -- gateway /tmp/c/gateway        # after init --users 2; then add /tmp/c/user-0 5
//! cargo run --release --example counter -- inspect /tmp/c/replica-0      # once it is stopped
//! ```
//!
//! Exit codes: 0 done; 1 failed (disagreement, refused); 2 usage or configuration; 3 no quorum in time,
//! outcome unknown.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pbft_app::config::duration;

mod client;
mod demo;
mod evidence;
mod gateway;
mod history;
mod inspect;
mod load;
mod replica;
mod service;
mod status;
mod traitor;

/// A replicated counter: an example of pbft.
#[derive(Parser)]
#[command(name = "counter", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    demo: Demo,
}

impl Arguments {
    fn shows_traitors(&self) -> bool {
        match &self.command {
            None => !self.demo.traitor.is_empty(),
            Some(Command::Demo(demo)) => !demo.traitor.is_empty(),
            Some(_) => false,
        }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Run replicas and clients in this process and see that they agree (the default)
    Demo(Demo),
    /// Create a deployment: cluster.toml, keys, a directory for every replica and client
    Init(Init),
    /// Run one replica
    Replica {
        /// The replica's directory, DIR/replica-I
        directory: PathBuf,
        /// Make it a traitor; an unknown name lists them all
        #[arg(long, value_name = "NAME[,key=value...]")]
        traitor: Option<String>,
        /// Where it keeps what it promises: in its own data/, or nowhere, and then it must never stop
        #[arg(long, value_enum, default_value_t = Storage::Disk)]
        storage: Storage,
    },
    /// Run a gateway: users that have no key in the cluster submit through it
    Gateway {
        /// The gateway's directory, DIR/gateway: a client's with a users.toml in it
        directory: PathBuf,
    },
    /// Check a file of evidence against a cluster's keys: 0 proven, 1 not, 2 unreadable
    Evidence {
        /// The file, such as DIR/replica-I/evidence/0-pre-prepare-view0-slot1.evidence
        file: PathBuf,
        /// The cluster file, DIR/cluster.toml
        #[arg(long)]
        cluster: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print what a stopped replica's store holds, without changing it: 0 read, 1 damaged, 2 it runs
    Inspect {
        /// The replica's directory, DIR/replica-I
        directory: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Add an amount and print the value after it
    Add {
        /// The directory of a client, DIR/client-J, or of a gateway's user, DIR/user-J
        directory: PathBuf,
        /// What to add; may be negative
        #[arg(allow_negative_numbers = true)]
        amount: i64,
        #[command(flatten)]
        timeout: Timeout,
    },
    /// Print the value
    Get {
        /// The directory of a client, DIR/client-J, or of a gateway's user, DIR/user-J
        directory: PathBuf,
        #[command(flatten)]
        timeout: Timeout,
    },
    /// Add 1 many times and report throughput and latency
    Load(Load),
    /// Add and get at random and write down what happened, for a linearizability checker
    History(History),
    /// Ask every replica how it is
    Status {
        /// The client's directory, DIR/client-J; it may be in use
        directory: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Where replicas keep what must survive.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Storage {
    /// In files: survives kill -9 and power cuts
    Disk,
    /// In memory: survives nothing
    Memory,
}

/// Options of `demo`.
#[derive(Args, Clone)]
struct Demo {
    /// How many replicas: 3f + 1 tolerate f traitors
    #[arg(long, default_value_t = 4)]
    replicas: usize,
    /// How many clients, each with one operation in flight
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// How many operations, over all clients
    #[arg(long, default_value_t = 2000)]
    operations: u64,
    /// Repeats keys and amounts of an earlier run
    #[arg(long)]
    seed: Option<u64>,
    /// Kill the primary in the middle of the load
    #[arg(long)]
    crash_primary: bool,
    /// Make replica I a traitor; may be repeated, all of them then conspire
    #[arg(long, value_name = "I=NAME[,key=value...]")]
    traitor: Vec<String>,
    /// Where the replicas keep what they promise; on disk, in a directory that is removed at the end
    #[arg(long, value_enum, default_value_t = Storage::Memory)]
    storage: Storage,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Options of `init`.
#[derive(Args)]
struct Init {
    /// The directory to create
    directory: PathBuf,
    /// How many replicas
    #[arg(long, default_value_t = 4)]
    replicas: usize,
    /// How many clients
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// How many users of a gateway; the gateway is one client more
    #[arg(long, default_value_t = 0)]
    users: usize,
    /// Replica I uses ports P + 2I for peers and P + 2I + 1 for clients, the gateway the next one
    #[arg(long, default_value_t = 7000)]
    base_port: u16,
    /// Allow fewer than four replicas, which tolerate no traitor
    #[arg(long)]
    development: bool,
}

/// Options of `load`.
#[derive(Args)]
struct Load {
    /// Directories of clients, DIR/client-J, or of a gateway's users, DIR/user-J; each has a connection of its own
    #[arg(required = true, num_args = 1..)]
    directories: Vec<PathBuf>,
    /// How many operations
    #[arg(long, default_value_t = 10_000)]
    operations: u64,
    /// How many callers share each client or user, each with one operation in flight
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    timeout: Timeout,
}

/// Options of `history`.
#[derive(Args)]
struct History {
    /// The directory of a client, DIR/client-J, or of a gateway's user, DIR/user-J
    directory: PathBuf,
    /// How many callers share the client
    #[arg(long, default_value_t = 4)]
    concurrency: usize,
    /// For how long, in seconds
    #[arg(long)]
    seconds: u64,
    /// Where to write one JSON line for each operation
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    timeout: Timeout,
}

#[derive(Args)]
struct Timeout {
    /// How long to wait for an outcome, such as 500ms or 10s
    #[arg(long = "timeout", default_value = "10s", value_parser = parse_duration)]
    value: Duration,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    duration("timeout", text).map_err(|error| error.to_string())
}

/// How a command ended when it did not end well.
pub(crate) enum Failure {
    /// Exit code 1: disagreement, refused, fatal at run time.
    Failed(String),
    /// Exit code 2: usage or configuration.
    Usage(String),
    /// Exit code 3: no quorum in time; whether it happened is unknown.
    Unknown(String),
}

impl From<pbft_app::ConfigurationError> for Failure {
    fn from(error: pbft_app::ConfigurationError) -> Self {
        Failure::Usage(error.to_string())
    }
}

impl From<pbft_app::NodeError> for Failure {
    fn from(error: pbft_app::NodeError) -> Self {
        match error {
            pbft_app::NodeError::Configuration(error) => error.into(),
            other => Failure::Failed(other.to_string()),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A demonstration says itself what its traitors come to; their victims would say it a hundred times.
    let level = if arguments.shows_traitors() { "error" } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_env("PBFT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                eprintln!("error: cannot start: {error}");
                return ExitCode::from(1);
            }
        };
    let outcome = runtime.block_on(run(arguments));
    // A task that still waits for a peer must not hold the process.
    runtime.shutdown_timeout(Duration::from_millis(500));
    let (code, message) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Failed(message)) => (1, message),
        Err(Failure::Usage(message)) => (2, message),
        Err(Failure::Unknown(message)) => (3, message),
    };
    if !message.is_empty() {
        eprintln!("error: {message}");
    }
    ExitCode::from(code)
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        None => demo::run(&arguments.demo).await,
        Some(Command::Demo(demo)) => demo::run(&demo).await,
        Some(Command::Init(init)) => replica::init(&init),
        Some(Command::Replica { directory, traitor, storage }) => {
            replica::run(&directory, storage, traitor.as_deref()).await
        }
        Some(Command::Gateway { directory }) => gateway::run(&directory).await,
        Some(Command::Evidence { file, cluster, json }) => evidence::run(&file, &cluster, json),
        Some(Command::Inspect { directory, json }) => inspect::run(&directory, json),
        Some(Command::Add { directory, amount, timeout }) => {
            client::add(&directory, amount, timeout.value).await
        }
        Some(Command::Get { directory, timeout }) => client::get(&directory, timeout.value).await,
        Some(Command::Load(load)) => load::run(&load).await,
        Some(Command::History(history)) => history::run(&history).await,
        Some(Command::Status { directory, json }) => status::run(&directory, json).await,
    }
}
