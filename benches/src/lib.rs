//! What the benchmarks share: an application that costs nothing, a deployment on loopback, the machine; and the
//! harness that measures clusters of real processes (`cluster`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    // Counts become rates, and rates counts, without harm.
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    missing_docs
)]

pub mod accounting;
pub mod deployment;
pub mod failure;
pub mod load;
pub mod machine;
pub mod measure;
pub mod outcome;
pub mod patterns;
pub mod plot;
pub mod process;
pub mod profile;
pub mod record;
pub mod replica;
pub mod report;
mod sections;
pub mod series;
pub mod smoke;
pub mod tally;
mod unreplicated;
pub mod workload;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use pbft_app::core::limits::Constants;
use pbft_app::{
    Application, Client, ClientConfig, Context, Deployment, NodeKeys, Numbers, Pages, Refusal,
    ReplicaEntry, ReplicaSockets, Submitted, Timeouts,
};

pub const OPERATION: [u8; 16] = *b"sixteen bytes op";

/// Keeps the length of everything it was given: next to no work, so that the framework is measured.
#[derive(Default)]
pub struct Sum(u64);

impl Application for Sum {
    fn execute(&mut self, _: &Context, operation: &[u8]) -> Result<Bytes, Refusal> {
        self.0 += operation.len() as u64;
        Ok(Bytes::copy_from_slice(&self.0.to_le_bytes()))
    }
    fn query(&self, _: &[u8]) -> Result<Bytes, Refusal> {
        Ok(Bytes::copy_from_slice(&self.0.to_le_bytes()))
    }
    fn checkpoint(&mut self, pages: &mut Pages) {
        pages.write(0, Bytes::copy_from_slice(&self.0.to_le_bytes())).unwrap();
    }
    fn restore(&mut self, pages: &Pages) {
        self.0 = pages.page(0).try_into().map_or(0, u64::from_le_bytes);
    }
}

/// Servers' keys repeat: nothing here is a secret.
pub fn seed(kind: u8, index: usize) -> [u8; 32] {
    let mut seed = [kind; 32];
    seed[31] = u8::try_from(index).unwrap();
    seed
}

pub fn in_process(
    n: usize,
    clients: usize,
    constants: Constants,
) -> (Deployment, Vec<ReplicaSockets>, Vec<NodeKeys>, Vec<NodeKeys>) {
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let sockets: Vec<_> = (0..n).map(|_| ReplicaSockets::bind(local, local).unwrap()).collect();
    let keys: Vec<_> =
        (0..n).map(|index| NodeKeys::from_seeds(seed(1, index), seed(2, index))).collect();
    let client_keys: Vec<_> = (0..clients).map(|_| NodeKeys::generate().unwrap()).collect();
    let replicas = sockets.iter().zip(&keys).map(|(sockets, keys)| ReplicaEntry {
        keys: keys.public(),
        peer_address: sockets.peer_address(),
        client_address: sockets.client_address(),
    });
    let deployment = Deployment::new(
        "bench",
        replicas.collect(),
        client_keys.iter().map(NodeKeys::public).collect(),
        constants,
        Timeouts::default(),
        n < 4,
    );
    (deployment.unwrap(), sockets, keys, client_keys)
}

pub async fn connect(deployment: &Deployment, keys: Vec<NodeKeys>) -> Vec<Client> {
    let mut clients = Vec::new();
    for keys in keys {
        let config = ClientConfig::new(deployment.clone(), keys, Numbers::from_clock());
        let client = Client::connect(config).unwrap();
        // Links are up before anything is measured.
        let first = client.submit(&OPERATION[..], Duration::from_secs(20)).await;
        assert!(matches!(first, Submitted::Committed(_)), "{first:?}");
        clients.push(client);
    }
    clients
}

/// Median, least and greatest of at least one value.
pub fn median(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    let middle = f64::midpoint(values[last / 2], values[last.div_ceil(2)]);
    (middle, values[0], values[last])
}

/// This machine in one line, for benchmarks without processes.
pub fn here() -> String {
    machine::Machine::here(&std::env::temp_dir()).describe()
}
