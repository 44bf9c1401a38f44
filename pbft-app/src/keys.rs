//! Key files: PKCS#8 PEM, mode 0600, never overwritten, never printed.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use pbft_core::crypto::Ed25519Signer;
use pbft_core::types::PublicKey;
use zeroize::Zeroizing;

use crate::error::ConfigurationError;

/// The secrets of one node: a key for statements and one for TLS. Separate, so that the signing key can
/// move elsewhere and no handshake ever signs with it (PITFALLS J5).
pub struct NodeKeys {
    signing: Zeroizing<[u8; 32]>,
    tls: Zeroizing<[u8; 32]>,
}

/// The public halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKeys {
    /// Signs statements or requests.
    pub signing: PublicKey,
    /// Authenticates connections.
    pub tls: PublicKey,
}

const SIGNING_FILE: &str = "signing.pem";
const TLS_FILE: &str = "tls.pem";

impl NodeKeys {
    /// Two fresh keys from the operating system's generator.
    ///
    /// # Errors
    /// The generator failed.
    pub fn generate() -> Result<Self, ConfigurationError> {
        let mut keys = NodeKeys::from_seeds([0; 32], [0; 32]);
        for seed in [&mut keys.signing, &mut keys.tls] {
            getrandom::fill(seed.as_mut()).map_err(|_| ConfigurationError::Randomness)?;
        }
        Ok(keys)
    }

    /// The keys with these seeds: for tests and demonstrations that must repeat.
    pub fn from_seeds(signing: [u8; 32], tls: [u8; 32]) -> Self {
        NodeKeys { signing: Zeroizing::new(signing), tls: Zeroizing::new(tls) }
    }

    /// Reads `signing.pem` and `tls.pem` in `directory`.
    ///
    /// # Errors
    /// A file that is missing, readable by others, or no ed25519 key in PKCS#8 PEM.
    pub fn load(directory: &Path) -> Result<Self, ConfigurationError> {
        Ok(NodeKeys {
            signing: read_key(&directory.join(SIGNING_FILE))?,
            tls: read_key(&directory.join(TLS_FILE))?,
        })
    }

    /// Writes both keys into `directory`, which must not hold any yet.
    ///
    /// # Errors
    /// A file that exists or cannot be written.
    pub fn store(&self, directory: &Path) -> Result<(), ConfigurationError> {
        write_key(&directory.join(SIGNING_FILE), &self.signing)?;
        write_key(&directory.join(TLS_FILE), &self.tls)
    }

    /// The public halves.
    pub fn public(&self) -> PublicKeys {
        let public = |seed| Ed25519Signer::from_seed(seed).public();
        PublicKeys { signing: public(&self.signing), tls: public(&self.tls) }
    }

    /// The signer for statements or requests.
    pub fn signer(&self) -> Ed25519Signer {
        Ed25519Signer::from_seed(&self.signing)
    }

    pub(crate) fn tls_seed(&self) -> &[u8; 32] {
        &self.tls
    }
}

impl std::fmt::Debug for NodeKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "NodeKeys({:?}, private halves withheld)", self.public())
    }
}

/// The secret of a user of a gateway: it authenticates a connection and signs nothing.
pub struct UserKey(Zeroizing<[u8; 32]>);

impl UserKey {
    /// A fresh key from the operating system's generator.
    ///
    /// # Errors
    /// The generator failed.
    pub fn generate() -> Result<Self, ConfigurationError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut()).map_err(|_| ConfigurationError::Randomness)?;
        Ok(UserKey(seed))
    }

    /// The key with this seed: for tests and demonstrations that must repeat.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        UserKey(Zeroizing::new(seed))
    }

    /// Reads `tls.pem` in `directory`.
    ///
    /// # Errors
    /// A file that is missing, readable by others, or no ed25519 key in PKCS#8 PEM.
    pub fn load(directory: &Path) -> Result<Self, ConfigurationError> {
        read_key(&directory.join(TLS_FILE)).map(UserKey)
    }

    /// Writes it into `directory`, which must not hold one yet.
    ///
    /// # Errors
    /// A file that exists or cannot be written.
    pub fn store(&self, directory: &Path) -> Result<(), ConfigurationError> {
        write_key(&directory.join(TLS_FILE), &self.0)
    }

    /// The public half, which the gateway lists.
    pub fn public(&self) -> PublicKey {
        Ed25519Signer::from_seed(&self.0).public()
    }

    pub(crate) fn seed(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for UserKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "UserKey({:?}, private half withheld)", self.public())
    }
}

fn read_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, ConfigurationError> {
    let io = |source| ConfigurationError::File { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(ConfigurationError::KeyMode { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(io)?;
    let key = SigningKey::from_pkcs8_pem(&text)
        .map_err(|_| ConfigurationError::KeyFormat { path: path.to_owned() })?;
    Ok(Zeroizing::new(key.to_bytes()))
}

fn write_key(path: &Path, seed: &[u8; 32]) -> Result<(), ConfigurationError> {
    let io = |source| ConfigurationError::File { path: path.to_owned(), source };
    let pem = SigningKey::from_bytes(seed)
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|_| ConfigurationError::KeyFormat { path: path.to_owned() })?;
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    file.write_all(pem.as_bytes()).map_err(io)?;
    file.sync_all().map_err(io)
}

/// Where the signing key of a node directory lies, for messages.
pub(crate) fn signing_path(directory: &Path) -> PathBuf {
    directory.join(SIGNING_FILE)
}

/// Where the TLS key of a node directory lies, for messages.
pub(crate) fn tls_path(directory: &Path) -> PathBuf {
    directory.join(TLS_FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_and_only_their_owner_may_read_them() {
        let directory = tempfile::tempdir().unwrap();
        let keys = NodeKeys::generate().unwrap();
        keys.store(directory.path()).unwrap();
        let path = signing_path(directory.path());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("-----BEGIN PRIVATE KEY-----"));
        assert_eq!(NodeKeys::load(directory.path()).unwrap().public(), keys.public());
        assert!(matches!(keys.store(directory.path()), Err(ConfigurationError::File { .. })));
        assert!(!format!("{keys:?}").contains(&pbft_core::types::hex(&keys.signing[..])));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        NodeKeys::generate().unwrap().store(directory.path()).unwrap();
        let path = tls_path(directory.path());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = NodeKeys::load(directory.path()).unwrap_err().to_string();
        assert!(error.contains("644") && error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        NodeKeys::generate().unwrap().store(directory.path()).unwrap();
        std::fs::write(signing_path(directory.path()), "not a key").unwrap();
        let error = NodeKeys::load(directory.path()).unwrap_err().to_string();
        assert!(error.contains("signing.pem") && error.contains("PKCS#8"), "{error}");
    }
}
