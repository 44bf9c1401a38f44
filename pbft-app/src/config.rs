//! `cluster.toml`, the one file all members and clients share, and the directories beside it.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pbft_core::cluster::{Cluster, ClusterConfig};
use pbft_core::crypto::{Ed25519Verifier, Hasher, check_key};
use pbft_core::limits::{ClientLimits, ConfigError, Constants, Limits};
use pbft_core::types::{ClientId, Digest, PublicKey, ReplicaId, unhex32};
use pbft_core::wire;
use pbft_net::{Identity, MemberAddress};
use serde::{Deserialize, Serialize};

use crate::error::ConfigurationError;
use crate::keys::PublicKeys;

/// File name of the shared configuration.
pub const CLUSTER_FILE: &str = "cluster.toml";

/// One replica as the configuration lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaEntry {
    /// Its public keys.
    pub keys: PublicKeys,
    /// Where its peers reach it.
    pub peer_address: SocketAddr,
    /// Where clients reach it.
    pub client_address: SocketAddr,
}

/// Time-outs all members share. They are compared in the handshake, and signed by nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// How often replicas tell each other what they hold.
    pub status_interval: Duration,
    /// How long the oldest request may wait before the primary is suspected; doubles per failed view.
    pub view_timeout: Duration,
    /// The view time-out doubles up to this.
    pub view_timeout_max: Duration,
    /// How far a proposal's time may lie from a replica's clock.
    pub clock_tolerance: Duration,
    /// When a client asks all replicas instead of the primary.
    pub client_resend: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let limits = Limits::default();
        Timeouts {
            status_interval: limits.status_interval,
            view_timeout: limits.view_timeout,
            view_timeout_max: limits.view_timeout_max,
            clock_tolerance: limits.clock_tolerance,
            client_resend: ClientLimits::default().resend_interval,
        }
    }
}

/// A checked deployment: the cluster, its addresses, its time-outs.
#[derive(Clone, Debug)]
pub struct Deployment {
    cluster: Arc<Cluster>,
    verifier: Ed25519Verifier,
    replicas: Vec<ReplicaEntry>,
    clients: Vec<PublicKeys>,
    timeouts: Timeouts,
}

impl Deployment {
    /// Checks everything and computes the cluster id.
    ///
    /// # Errors
    /// The first field that does not hold: weak or repeated keys, too few replicas, an address used
    /// twice, constants or time-outs out of bounds.
    pub fn new(
        name: &str,
        replicas: Vec<ReplicaEntry>,
        clients: Vec<PublicKeys>,
        constants: Constants,
        timeouts: Timeouts,
        development: bool,
    ) -> Result<Self, ConfigError> {
        let config = ClusterConfig {
            name: name.to_owned(),
            members: replicas.iter().map(|replica| replica.keys.signing).collect(),
            clients: clients.iter().map(|keys| keys.signing).collect(),
            constants,
            development,
        };
        let cluster = Arc::new(Cluster::new(config)?);
        let verifier = Ed25519Verifier::new(&cluster)?;
        check_tls_keys(&replicas, &clients)?;
        check_addresses(&replicas)?;
        let deployment = Deployment { cluster, verifier, replicas, clients, timeouts };
        deployment.limits().check_for(&deployment.cluster)?;
        deployment.client_limits().check()?;
        Ok(deployment)
    }

    /// Reads and checks a `cluster.toml`.
    ///
    /// # Errors
    /// The file, field and value that do not hold; also a cluster id that is not the one recomputed from
    /// the rest, as in a file that was cut or edited.
    pub fn load(path: &Path) -> Result<Self, ConfigurationError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ConfigurationError::File { path: path.to_owned(), source })?;
        let file: ClusterFile = toml::from_str(&text).map_err(|error| {
            ConfigurationError::Toml { path: path.to_owned(), message: error.to_string() }
        })?;
        file.check().map_err(|error| ConfigurationError::ValueIn { path: path.to_owned(), error })
    }

    /// Writes `cluster.toml`, with comments.
    ///
    /// # Errors
    /// The file exists or cannot be written.
    pub fn store(&self, path: &Path) -> Result<(), ConfigurationError> {
        let io = |source| ConfigurationError::File { path: path.to_owned(), source };
        let body = toml::to_string(&ClusterFile::from(self)).map_err(|error| {
            ConfigurationError::Toml { path: path.to_owned(), message: error.to_string() }
        })?;
        let mut file = fs::File::create_new(path).map_err(io)?;
        file.write_all(HEADER.as_bytes()).map_err(io)?;
        file.write_all(body.as_bytes()).map_err(io)?;
        file.sync_all().map_err(io)
    }

    /// The cluster the protocol runs in.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The parsed signing keys.
    pub fn verifier(&self) -> &Ed25519Verifier {
        &self.verifier
    }

    /// The replicas, replica 0 first.
    pub fn replicas(&self) -> &[ReplicaEntry] {
        &self.replicas
    }

    /// The clients' keys, client 0 first.
    pub fn clients(&self) -> &[PublicKeys] {
        &self.clients
    }

    /// The replica with these keys, or why there is none.
    ///
    /// # Errors
    /// The signing key is not listed, or is listed with another TLS key.
    pub fn replica_of(&self, keys: &PublicKeys) -> Result<ReplicaId, ConfigError> {
        let listed = self.replicas.iter().map(|replica| replica.keys);
        position(listed, keys).map(ReplicaId)
    }

    /// The client with these keys, or why there is none.
    ///
    /// # Errors
    /// The signing key is not listed, or is listed with another TLS key.
    pub fn client_of(&self, keys: &PublicKeys) -> Result<ClientId, ConfigError> {
        position(self.clients.iter().copied(), keys).map(ClientId)
    }

    /// A replica's bounds with this deployment's time-outs.
    pub fn limits(&self) -> Limits {
        let status_interval = self.timeouts.status_interval;
        Limits {
            status_interval,
            repair_delay: Limits::default().repair_delay.min(status_interval),
            view_timeout: self.timeouts.view_timeout,
            view_timeout_max: self.timeouts.view_timeout_max,
            clock_tolerance: self.timeouts.clock_tolerance,
            ..Limits::default()
        }
    }

    /// A client's time-outs in this deployment.
    pub fn client_limits(&self) -> ClientLimits {
        let default = ClientLimits::default();
        let resend_interval = self.timeouts.client_resend;
        let resend_interval_max = default.resend_interval_max.max(resend_interval);
        ClientLimits { resend_interval, resend_interval_max }
    }

    /// What the handshake compares: wire version, cluster id, and a digest of everything in the file, so
    /// that two hosts with different files find out at once.
    pub fn identity(&self) -> Identity {
        let mut hasher = Hasher::new("configuration");
        hasher.fixed(&self.cluster.id().0);
        for replica in &self.replicas {
            hasher.fixed(&replica.keys.tls.0);
            hasher.field(replica.peer_address.to_string().as_bytes());
            hasher.field(replica.client_address.to_string().as_bytes());
        }
        for client in &self.clients {
            hasher.fixed(&client.tls.0);
        }
        let Timeouts {
            status_interval,
            view_timeout,
            view_timeout_max,
            clock_tolerance,
            client_resend,
        } = self.timeouts;
        let all = [status_interval, view_timeout, view_timeout_max, clock_tolerance, client_resend];
        for timeout in all {
            hasher.number(u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX));
        }
        Identity {
            wire_version: wire::VERSION,
            cluster: self.cluster.id(),
            configuration: hasher.finish(),
        }
    }

    pub(crate) fn peer_members(&self) -> Vec<MemberAddress> {
        self.members(|replica| replica.peer_address)
    }

    pub(crate) fn client_members(&self) -> Vec<MemberAddress> {
        self.members(|replica| replica.client_address)
    }

    fn members(&self, address: impl Fn(&ReplicaEntry) -> SocketAddr) -> Vec<MemberAddress> {
        let member =
            |replica| MemberAddress { tls_key: tls_of(replica), address: address(replica) };
        self.replicas.iter().map(member).collect()
    }
}

fn tls_of(replica: &ReplicaEntry) -> PublicKey {
    replica.keys.tls
}

fn position(
    listed: impl Iterator<Item = PublicKeys>,
    keys: &PublicKeys,
) -> Result<u32, ConfigError> {
    let found = (0_u32..).zip(listed).find(|(_, entry)| entry.signing == keys.signing);
    match found {
        Some((index, entry)) if entry.tls == keys.tls => Ok(index),
        Some((index, entry)) => Err(ConfigError::new(
            "tls_key",
            keys.tls.to_hex(),
            format!(
                "entry {index} of {CLUSTER_FILE} lists {}: restore that key",
                entry.tls.to_hex()
            ),
        )),
        None => Err(ConfigError::new(
            "signing_key",
            keys.signing.to_hex(),
            format!("not listed in {CLUSTER_FILE}: use the directory that was made with it"),
        )),
    }
}

fn check_tls_keys(replicas: &[ReplicaEntry], clients: &[PublicKeys]) -> Result<(), ConfigError> {
    let all = || replicas.iter().map(|replica| &replica.keys).chain(clients);
    let mut seen: Vec<PublicKey> = all().map(|keys| keys.signing).collect();
    for keys in all() {
        let tls = keys.tls;
        if let Err(fault) = check_key(&tls) {
            return Err(ConfigError::new("tls_key", tls.to_hex(), fault));
        }
        if seen.contains(&tls) {
            let remedy =
                "used twice; every node needs a TLS key of its own, apart from its signing key";
            return Err(ConfigError::new("tls_key", tls.to_hex(), remedy));
        }
        seen.push(tls);
    }
    Ok(())
}

fn check_addresses(replicas: &[ReplicaEntry]) -> Result<(), ConfigError> {
    let mut seen: Vec<SocketAddr> = Vec::new();
    for replica in replicas {
        let named =
            [("peer_address", replica.peer_address), ("client_address", replica.client_address)];
        for (field, address) in named {
            if seen.contains(&address) {
                return Err(ConfigError::new(
                    field,
                    address,
                    "used twice; every port serves one replica",
                ));
            }
            seen.push(address);
        }
    }
    Ok(())
}

const HEADER: &str = "\
# The one file that all replicas and clients of a cluster share: copy it unchanged to every host.
# Keys, names and constants are part of the cluster id, which every signature covers: changing one makes
# another cluster. Addresses and time-outs may change, on all hosts alike.

";

/// The file as it stands.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterFile {
    name: String,
    cluster_id: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    development: bool,
    constants: ConstantsTable,
    timeouts: TimeoutsTable,
    replica: Vec<ReplicaTable>,
    #[serde(default)]
    client: Vec<ClientTable>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConstantsTable {
    checkpoint_interval: u64,
    window: u64,
    client_window: u64,
    batch_requests_max: u32,
    batch_bytes_max: u32,
    request_operations_max: u32,
    operation_bytes_max: u32,
    results_bytes_max: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeoutsTable {
    status_interval: String,
    view_timeout: String,
    view_timeout_max: String,
    clock_tolerance: String,
    client_resend: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplicaTable {
    signing_key: String,
    tls_key: String,
    peer_address: SocketAddr,
    client_address: SocketAddr,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientTable {
    signing_key: String,
    tls_key: String,
}

impl ClusterFile {
    fn check(self) -> Result<Deployment, ConfigError> {
        let keys = |signing: &str, tls: &str| -> Result<PublicKeys, ConfigError> {
            Ok(PublicKeys {
                signing: parse_key("signing_key", signing)?,
                tls: parse_key("tls_key", tls)?,
            })
        };
        let mut replicas = Vec::new();
        for replica in &self.replica {
            replicas.push(ReplicaEntry {
                keys: keys(&replica.signing_key, &replica.tls_key)?,
                peer_address: replica.peer_address,
                client_address: replica.client_address,
            });
        }
        let clients = self.client.iter().map(|client| keys(&client.signing_key, &client.tls_key));
        let clients = clients.collect::<Result<Vec<_>, _>>()?;
        let timeouts = Timeouts {
            status_interval: duration("status_interval", &self.timeouts.status_interval)?,
            view_timeout: duration("view_timeout", &self.timeouts.view_timeout)?,
            view_timeout_max: duration("view_timeout_max", &self.timeouts.view_timeout_max)?,
            clock_tolerance: duration("clock_tolerance", &self.timeouts.clock_tolerance)?,
            client_resend: duration("client_resend", &self.timeouts.client_resend)?,
        };
        let constants = self.constants.into();
        let development = self.development;
        let deployment =
            Deployment::new(&self.name, replicas, clients, constants, timeouts, development)?;
        let computed = deployment.cluster.id();
        if unhex32(&self.cluster_id).map(Digest) != Some(computed) {
            return Err(ConfigError::new(
                "cluster_id",
                self.cluster_id,
                format!(
                    "the rest of the file makes {computed}: the file was cut or edited, copy it again from where it was made"
                ),
            ));
        }
        Ok(deployment)
    }
}

impl From<&Deployment> for ClusterFile {
    fn from(deployment: &Deployment) -> Self {
        let timeouts = &deployment.timeouts;
        ClusterFile {
            name: deployment.cluster.name().to_owned(),
            cluster_id: deployment.cluster.id().to_hex(),
            development: deployment.cluster.development(),
            constants: deployment.cluster.constants().into(),
            timeouts: TimeoutsTable {
                status_interval: show_duration(timeouts.status_interval),
                view_timeout: show_duration(timeouts.view_timeout),
                view_timeout_max: show_duration(timeouts.view_timeout_max),
                clock_tolerance: show_duration(timeouts.clock_tolerance),
                client_resend: show_duration(timeouts.client_resend),
            },
            replica: deployment
                .replicas
                .iter()
                .map(|replica| ReplicaTable {
                    signing_key: replica.keys.signing.to_hex(),
                    tls_key: replica.keys.tls.to_hex(),
                    peer_address: replica.peer_address,
                    client_address: replica.client_address,
                })
                .collect(),
            client: deployment
                .clients
                .iter()
                .map(|client| ClientTable {
                    signing_key: client.signing.to_hex(),
                    tls_key: client.tls.to_hex(),
                })
                .collect(),
        }
    }
}

macro_rules! same_fields {
    ($($field:ident),+) => {
        impl From<ConstantsTable> for Constants {
            fn from(table: ConstantsTable) -> Self {
                Constants { $($field: table.$field),+ }
            }
        }
        impl From<&Constants> for ConstantsTable {
            fn from(constants: &Constants) -> Self {
                ConstantsTable { $($field: constants.$field),+ }
            }
        }
    };
}
same_fields!(
    checkpoint_interval,
    window,
    client_window,
    batch_requests_max,
    batch_bytes_max,
    request_operations_max,
    operation_bytes_max,
    results_bytes_max
);

pub(crate) fn parse_key(field: &str, text: &str) -> Result<PublicKey, ConfigError> {
    let remedy = "take the 64 hexadecimal digits of an ed25519 public key";
    unhex32(text).map(PublicKey).ok_or_else(|| ConfigError::new(field, text, remedy))
}

/// Reads a duration such as `500ms`, `10s` or `2m`.
///
/// # Errors
/// `field` and the text, if it is no whole number followed by `us`, `ms`, `s` or `m`.
pub fn duration(field: &str, text: &str) -> Result<Duration, ConfigError> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let micros_each = match unit {
        "us" => Some(1),
        "ms" => Some(1_000),
        "s" => Some(1_000_000),
        "m" => Some(60_000_000),
        _ => None,
    };
    let micros = micros_each.and_then(|each| number.parse::<u64>().ok()?.checked_mul(each));
    let remedy = "write a whole number and a unit: 500ms, 10s";
    micros.map(Duration::from_micros).ok_or_else(|| ConfigError::new(field, text, remedy))
}

pub(crate) fn show_duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        _ if micros.is_multiple_of(1_000_000) => format!("{}s", micros / 1_000_000),
        _ if micros.is_multiple_of(1_000) => format!("{}ms", micros / 1_000),
        _ => format!("{micros}us"),
    }
}

#[cfg(test)]
#[path = "config_test.rs"]
mod tests;
