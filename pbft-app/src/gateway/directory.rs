//! What a gateway and its users keep on a disk: `users.toml` in a client's directory makes it a gateway's;
//! `user.toml` and a TLS key make a user's.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use pbft_core::limits::ConfigError;
use pbft_core::types::{Digest, PublicKey, unhex32};
use pbft_net::{MemberAddress, USERS_MAX, UserEntry, UserId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{GatewayConfig, GatewayLimits, UserConfig};
use crate::client::ClientConfig;
use crate::config::{Deployment, duration, parse_key, show_duration};
use crate::directory::{ClientDirectory, Numbers, create};
use crate::error::ConfigurationError;
use crate::keys::{NodeKeys, UserKey};

/// File name of a gateway's list of users, in its client directory.
pub const USERS_FILE: &str = "users.toml";
/// File name of what a user knows of its gateway, in its directory.
pub const USER_FILE: &str = "user.toml";

const USERS_HEADER: &str = "\
# The users of this gateway, by their TLS keys: nobody else may connect. A number is given once and stays the user's.
# Restart the gateway after a change.

";
const USER_HEADER: &str = "\
# Where this user's gateway is, and the TLS key it must show: that of its client in cluster.toml.

";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UsersFile {
    address: SocketAddr,
    limits: LimitsTable,
    #[serde(default)]
    user: Vec<UserTable>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    operations_per_user_max: usize,
    operations_max: usize,
    operation_bytes_max: usize,
    timeout_max: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserTable {
    id: u32,
    tls_key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserFile {
    id: u32,
    cluster_id: String,
    gateway_address: SocketAddr,
    gateway_key: String,
}

/// Makes `gateway`, the directory of a client of `deployment`, that of a gateway at `address`, and a directory
/// `user-J` for each of its users beside it.
///
/// # Errors
/// Too many users, something exists or cannot be written.
pub fn init(
    gateway: &Path,
    deployment: &Deployment,
    address: SocketAddr,
    users: usize,
) -> Result<(), ConfigurationError> {
    if users > USERS_MAX {
        let remedy = format!("one gateway serves at most {USERS_MAX}: take fewer");
        return Err(ConfigError::new("users", users, remedy).into());
    }
    let gateway_key = NodeKeys::load(gateway)?.public().tls.to_hex();
    let cluster_id = deployment.cluster().id().to_hex();
    let mut listed = Vec::new();
    for id in (0..).take(users) {
        let key = UserKey::generate()?;
        let path = gateway.join("..").join(format!("user-{id}"));
        create(&path)?;
        key.store(&path)?;
        let (cluster_id, gateway_key) = (cluster_id.clone(), gateway_key.clone());
        let file = UserFile { id, cluster_id, gateway_address: address, gateway_key };
        write(&path.join(USER_FILE), USER_HEADER, &file)?;
        listed.push(UserTable { id, tls_key: key.public().to_hex() });
    }
    let file = UsersFile { address, limits: GatewayLimits::default().into(), user: listed };
    write(&gateway.join(USERS_FILE), USERS_HEADER, &file)
}

/// A gateway's directory: a client's, locked for as long as the gateway runs, with a list of users.
#[derive(Debug)]
pub struct GatewayDirectory {
    client: ClientDirectory,
    address: SocketAddr,
    users: Vec<UserEntry>,
    limits: GatewayLimits,
}

impl GatewayDirectory {
    /// Opens a client directory with a `users.toml` in it.
    ///
    /// # Errors
    /// Anything missing, malformed, in use, or not listed in the cluster.
    pub fn open(path: &Path) -> Result<Self, ConfigurationError> {
        let file_path = path.join(USERS_FILE);
        if path.is_dir() && !file_path.exists() {
            let remedy = "a gateway lists its users there; `init` writes it if users are asked for";
            return Err(ConfigurationError::Missing { path: file_path, remedy: remedy.to_owned() });
        }
        let file: UsersFile = read(&file_path)?;
        let value_in = |error| ConfigurationError::ValueIn { path: file_path.clone(), error };
        let (users, limits) = file.check().map_err(value_in)?;
        let client = ClientDirectory::open(path)?;
        Ok(GatewayDirectory { client, address: file.address, users, limits })
    }

    /// Where its users reach it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a gateway is started with.
    ///
    /// # Errors
    /// A key cannot be read.
    pub fn into_config(mut self) -> Result<GatewayConfig, ConfigurationError> {
        let numbers = self.client.take_numbers().unwrap_or_else(Numbers::from_clock);
        let keys = NodeKeys::load(self.client.path())?;
        let client = ClientConfig::new(self.client.deployment().clone(), keys, numbers);
        Ok(GatewayConfig { client, users: self.users, limits: self.limits })
    }
}

/// A user's directory. Several processes may use it at once.
#[derive(Debug)]
pub struct UserDirectory {
    path: PathBuf,
    config: UserConfig,
}

impl UserDirectory {
    /// Whether this is a user's directory, rather than a client's.
    pub fn is_at(path: &Path) -> bool {
        path.join(USER_FILE).exists()
    }

    /// Opens `DIR/user-J`.
    ///
    /// # Errors
    /// Anything missing or malformed.
    pub fn open(path: &Path) -> Result<Self, ConfigurationError> {
        let file_path = path.join(USER_FILE);
        let file: UserFile = read(&file_path)?;
        let value_in = |error| ConfigurationError::ValueIn { path: file_path.clone(), error };
        let (gateway, cluster) = file.check().map_err(value_in)?;
        let config = UserConfig::new(UserId(file.id), UserKey::load(path)?, gateway, cluster);
        Ok(UserDirectory { path: path.to_owned(), config })
    }

    /// Which user it is.
    pub fn id(&self) -> UserId {
        self.config.id
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What a user is connected with.
    pub fn into_config(self) -> UserConfig {
        self.config
    }
}

impl UsersFile {
    fn check(&self) -> Result<(Vec<UserEntry>, GatewayLimits), ConfigError> {
        let limits = GatewayLimits {
            operations_per_user_max: self.limits.operations_per_user_max,
            operations_max: self.limits.operations_max,
            operation_bytes_max: self.limits.operation_bytes_max,
            timeout_max: duration("timeout_max", &self.limits.timeout_max)?,
        };
        limits.check()?;
        let user = |user: &UserTable| {
            let tls_key: PublicKey = parse_key("tls_key", &user.tls_key)?;
            Ok(UserEntry { id: UserId(user.id), tls_key })
        };
        let users = self.user.iter().map(user).collect::<Result<_, ConfigError>>()?;
        Ok((users, limits))
    }
}

impl From<GatewayLimits> for LimitsTable {
    fn from(limits: GatewayLimits) -> Self {
        LimitsTable {
            operations_per_user_max: limits.operations_per_user_max,
            operations_max: limits.operations_max,
            operation_bytes_max: limits.operation_bytes_max,
            timeout_max: show_duration(limits.timeout_max),
        }
    }
}

impl UserFile {
    fn check(&self) -> Result<(MemberAddress, Digest), ConfigError> {
        let tls_key = parse_key("gateway_key", &self.gateway_key)?;
        let remedy = "take the cluster_id of cluster.toml";
        let cluster = unhex32(&self.cluster_id)
            .map(Digest)
            .ok_or_else(|| ConfigError::new("cluster_id", &self.cluster_id, remedy))?;
        Ok((MemberAddress { tls_key, address: self.gateway_address }, cluster))
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigurationError> {
    let text = fs::read_to_string(path)
        .map_err(|source| ConfigurationError::File { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|error| toml_error(path, &error))
}

fn write<T: Serialize>(path: &Path, header: &str, value: &T) -> Result<(), ConfigurationError> {
    let io = |source| ConfigurationError::File { path: path.to_owned(), source };
    let body = toml::to_string(value).map_err(|error| toml_error(path, &error))?;
    let mut file = fs::File::create_new(path).map_err(io)?;
    file.write_all(header.as_bytes()).map_err(io)?;
    file.write_all(body.as_bytes()).map_err(io)?;
    file.sync_all().map_err(io)
}

fn toml_error(path: &Path, error: &impl ToString) -> ConfigurationError {
    ConfigurationError::Toml { path: path.to_owned(), message: error.to_string() }
}

#[cfg(test)]
#[path = "directory_test.rs"]
mod tests;
