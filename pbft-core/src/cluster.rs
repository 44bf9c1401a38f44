//! Who the members are, and all quorum arithmetic.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::crypto::Hasher;
use crate::limits::{
    CLIENTS_MAX, ConfigError, Constants, MEMBERS_MAX, NAME_BYTES_MAX, NEW_VIEW_BYTES_MAX,
};
use crate::pages::Pages;
use crate::types::{ClientId, Digest, Epoch, PublicKey, ReplicaId, View};
use crate::wire;

/// What a cluster is made of, before it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// A name for people; part of the cluster id.
    pub name: String,
    /// The members' signing keys, replica 0 first.
    pub members: Vec<PublicKey>,
    /// The admitted clients' signing keys, client 0 first.
    pub clients: Vec<PublicKey>,
    /// The constants all members share.
    pub constants: Constants,
    /// Allows fewer than four replicas, which tolerate no traitor.
    pub development: bool,
}

/// The checked membership: keys, constants, quorum sizes and the cluster id that every signature covers.
#[derive(Clone, PartialEq, Eq)]
pub struct Cluster {
    config: ClusterConfig,
    id: Digest,
}

impl Cluster {
    /// Checks `config` and computes the cluster id.
    ///
    /// # Errors
    /// Too few or too many members or clients, a key used twice, or constants that do not hold. Weak
    /// keys are refused by [`crate::crypto::Ed25519Verifier::new`], which every real host must pass.
    pub fn new(config: ClusterConfig) -> Result<Self, ConfigError> {
        let n = config.members.len();
        if n == 0 || (n < 4 && !config.development) {
            return Err(ConfigError::new(
                "members",
                n,
                "one traitor needs at least 4 replicas; 1 to 3 are for development only (init --development, or development = true)",
            ));
        }
        if n > MEMBERS_MAX {
            return Err(ConfigError::new(
                "members",
                n,
                alloc::format!("take at most {MEMBERS_MAX}"),
            ));
        }
        let clients = config.clients.len();
        if clients > CLIENTS_MAX {
            let remedy = alloc::format!("admit at most {CLIENTS_MAX} clients");
            return Err(ConfigError::new("clients", clients, remedy));
        }
        let name = &config.name;
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            let remedy = alloc::format!("take 1 to {NAME_BYTES_MAX} bytes");
            return Err(ConfigError::new("name", name, remedy));
        }
        config.constants.check()?;
        // The head's page, and one for each number of each client's window.
        let (window, all) = (config.constants.client_window, Pages::COUNT_MAX - 1);
        let each = usize::try_from(window).unwrap_or(usize::MAX);
        if clients.saturating_mul(each) > all {
            let remedy = alloc::format!("take less: {clients} windows share {all} pages");
            return Err(ConfigError::new("client_window", window, remedy));
        }
        let largest = largest_new_view(n, &config.constants);
        if largest > NEW_VIEW_BYTES_MAX {
            let remedy = alloc::format!(
                "a new view of {n} replicas may take {largest} bytes, {NEW_VIEW_BYTES_MAX} fit a frame: take a smaller window"
            );
            return Err(ConfigError::new("window", config.constants.window, remedy));
        }
        let mut keys: Vec<&PublicKey> = config.members.iter().chain(&config.clients).collect();
        keys.sort();
        for (key, next) in keys.iter().zip(keys.iter().skip(1)) {
            if key == next {
                return Err(ConfigError::new(
                    "signing_key",
                    key.to_hex(),
                    "used twice; every replica and every client needs a key of its own",
                ));
            }
        }
        let id = cluster_id(&config);
        Ok(Cluster { config, id })
    }

    /// n, the number of replicas.
    pub fn n(&self) -> usize {
        self.config.members.len()
    }

    /// f, the number of Byzantine replicas tolerated: floor((n - 1) / 3).
    pub fn f(&self) -> usize {
        self.n().saturating_sub(1) / 3
    }

    /// Q = ceil((n + f + 1) / 2): two quorums share at least f + 1 replicas, and n - f reach one
    /// (PITFALLS A1: 2f + 1 is right only when n = 3f + 1).
    pub fn quorum(&self) -> usize {
        (self.n() + self.f() + 1).div_ceil(2)
    }

    /// f + 1: at least one of so many is correct.
    pub fn join(&self) -> usize {
        self.f() + 1
    }

    /// The primary of `view`: view mod n.
    pub fn primary(&self, view: View) -> ReplicaId {
        let n = u64::try_from(self.n()).unwrap_or(1).max(1);
        ReplicaId(u32::try_from(view.0 % n).unwrap_or(0))
    }

    /// All replicas in order.
    pub fn replicas(&self) -> impl Iterator<Item = ReplicaId> + use<> {
        (0..u32::try_from(self.n()).unwrap_or(0)).map(ReplicaId)
    }

    /// Whether `replica` is a member.
    pub fn contains(&self, replica: ReplicaId) -> bool {
        usize::try_from(replica.0).is_ok_and(|index| index < self.n())
    }

    /// Whether `client` is admitted.
    pub fn admits(&self, client: ClientId) -> bool {
        usize::try_from(client.0).is_ok_and(|index| index < self.config.clients.len())
    }

    /// The members' signing keys, replica 0 first.
    pub fn members(&self) -> &[PublicKey] {
        &self.config.members
    }

    /// The admitted clients' signing keys, client 0 first.
    pub fn clients(&self) -> &[PublicKey] {
        &self.config.clients
    }

    /// The constants all members share.
    pub fn constants(&self) -> &Constants {
        &self.config.constants
    }

    /// The name for people.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Whether fewer than four replicas were asked for knowingly.
    pub fn development(&self) -> bool {
        self.config.development
    }

    /// The cluster id: a digest of the name, all keys, all constants and the wire version. Every
    /// signature covers it, so nothing said in one cluster means anything in another (PITFALLS I5).
    pub fn id(&self) -> Digest {
        self.id
    }

    /// The configuration epoch, constant until reconfiguration exists.
    pub fn epoch(&self) -> Epoch {
        Epoch(0)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Cluster({:?}, n {}, f {})", self.id, self.n(), self.f())
    }
}

/// Bytes of the largest NewView: Q ViewChanges with a certificate for every slot of the window.
fn largest_new_view(n: usize, constants: &Constants) -> usize {
    const SIGNATURE: usize = 4 + 64;
    let faulty = n.saturating_sub(1) / 3;
    let quorum = (n + faulty + 1).div_ceil(2);
    let window = usize::try_from(constants.window).unwrap_or(usize::MAX);
    let certificate = 48 + 64 + 4 + SIGNATURE * quorum;
    let change = window.saturating_mul(certificate).saturating_add(SIGNATURE * quorum + 256);
    change.saturating_mul(quorum)
}

fn cluster_id(config: &ClusterConfig) -> Digest {
    let mut hasher = Hasher::new("cluster");
    hasher.field(&wire::VERSION.to_le_bytes());
    hasher.field(config.name.as_bytes());
    for keys in [&config.members, &config.clients] {
        hasher.count(keys.len());
        for key in keys {
            hasher.fixed(&key.0);
        }
    }
    hasher.field(&wire::encode_bare(&config.constants));
    hasher.finish()
}

#[cfg(test)]
#[path = "cluster_test.rs"]
mod tests;
