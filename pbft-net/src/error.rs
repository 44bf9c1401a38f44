//! What can go wrong when a network is set up. Once it runs, faults of peers are counted, never returned.

use std::io;
use std::net::SocketAddr;

/// Why a network could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// Another socket already owns the UDP port.
    #[error(
        "cannot listen on udp {address}: the port is in use; stop the process that holds it \
         (`ss -lunp` lists them) or configure another port"
    )]
    AddressInUse {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// The operating system refused the socket for another reason.
    #[error(
        "cannot open a udp socket on {address}: {source}; check that this host owns the address"
    )]
    Socket {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The private key is not an ed25519 key in PKCS#8 form.
    #[error("the TLS private key is unusable: {reason}; expected an ed25519 key in PKCS#8 DER")]
    InvalidKey {
        /// What the parser said. Never any key material.
        reason: String,
    },
    /// The TLS library refused a configuration made of valid parts.
    #[error("TLS cannot be configured: {reason}")]
    Tls {
        /// What the library said.
        reason: String,
    },
    /// Two limits contradict each other, or one is outside its range.
    #[error("invalid network limits: {relation}")]
    InvalidLimits {
        /// The relation that must hold.
        relation: &'static str,
    },
    /// The lists of members and clients do not make sense together with our own id and key.
    #[error("invalid network configuration: {reason}")]
    InvalidConfig {
        /// What is wrong, and what to change.
        reason: String,
    },
    /// The network needs a tokio runtime, and none surrounds the call.
    #[error("no tokio runtime: start the network from inside one with its io and time drivers on")]
    NoRuntime,
}
