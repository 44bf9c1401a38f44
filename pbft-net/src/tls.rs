//! TLS: mutual authentication by raw ed25519 public keys (RFC 7250), and nothing else.
//!
//! There are no certificates, names, dates or authorities: a node *is* its key, and each end
//! checks the other's key against its own list before the handshake can end. The cryptography
//! provider is built here explicitly; the process-wide default is never read, because it panics
//! when none, or two, are compiled in.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use pbft_core::types::PublicKey;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::crypto::{CryptoError, HmacKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::ring::{self, cipher_suite};
use rustls::crypto::tls13::{Hkdf, OkmBlock};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, PeerIncompatible, SignatureScheme,
};
use zeroize::Zeroizing;

use crate::{NetError, Node};

/// SubjectPublicKeyInfo of an ed25519 key: this prefix, then the 32 bytes of the key (RFC 8410).
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// PKCS#8 version 1 of an ed25519 key: this prefix, then the 32 bytes of the seed (RFC 8410).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A node's private TLS key. It authenticates the channel only; protocol messages are signed with
/// another key, so that neither can be used to forge the other.
#[derive(Clone)]
pub struct TlsKey {
    certified: Arc<CertifiedKey>,
    public: PublicKey,
    /// Secrets for QUIC itself are derived from this, so that they survive a restart.
    endpoint_secret: Arc<Zeroizing<[u8; 32]>>,
}

impl TlsKey {
    /// The key that a 32-byte ed25519 seed stands for.
    ///
    /// # Errors
    /// [`NetError::InvalidKey`] if the cryptography library refuses it, which no seed should make it do.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, NetError> {
        let mut der = Zeroizing::new(Vec::with_capacity(PKCS8_PREFIX.len() + seed.len()));
        der.extend_from_slice(&PKCS8_PREFIX);
        der.extend_from_slice(seed);
        Self::from_pkcs8_der(&der)
    }

    /// The key in a PKCS#8 document (DER, version 1 or 2), as `openssl pkey -outform DER` writes it.
    ///
    /// # Errors
    /// [`NetError::InvalidKey`] if it is not an ed25519 private key.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, NetError> {
        let invalid = |reason: String| NetError::InvalidKey { reason };
        let key = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(der))
            .map_err(|error| invalid(error.to_string()))?;
        let spki = key.public_key().ok_or_else(|| invalid("it has no public half".into()))?;
        let public = public_key_in(&spki).ok_or_else(|| invalid("it is not ed25519".into()))?;
        let mut secret = Zeroizing::new([0; 32]);
        hkdf()?
            .extract_from_secret(Some(b"pbft-net endpoint secret"), der)
            .expand_slice(&[], &mut *secret)
            .map_err(|_| invalid("no endpoint secret can be derived".into()))?;
        let certificate = CertificateDer::from(spki.to_vec());
        Ok(Self {
            certified: Arc::new(CertifiedKey::new(vec![certificate], key)),
            public,
            endpoint_secret: Arc::new(secret),
        })
    }

    /// The public half, which the other nodes list.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Keys that let peers learn of our restart at once, by a stateless reset, rather than after
    /// the idle timeout. They differ per port: an endpoint that shared them with another could be
    /// asked for the other's reset tokens (RFC 9000, 21.11).
    pub(crate) fn reset_keys(&self, purpose: &[u8]) -> Result<(Arc<dyn HmacKey>, u64), NetError> {
        let hkdf = hkdf()?;
        let expander =
            hkdf.extract_from_secret(Some(b"pbft-net reset"), self.endpoint_secret.as_slice());
        let failed = |_| NetError::Tls { reason: "no reset key can be derived".into() };
        let mut reset = Zeroizing::new([0_u8; 32]);
        expander.expand_slice(&[purpose, b" reset"], &mut *reset).map_err(failed)?;
        let mut id = [0_u8; 8];
        expander.expand_slice(&[purpose, b" connection id"], &mut id).map_err(failed)?;
        Ok((Arc::new(ResetKey { hkdf, secret: reset }), u64::from_le_bytes(id)))
    }
}

impl fmt::Debug for TlsKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TlsKey(public {:?}, private redacted)", self.public)
    }
}

/// Whose connections one port accepts: the owner of each listed key.
#[derive(Debug)]
pub(crate) struct Roster(BTreeMap<PublicKey, Node>);

impl Roster {
    /// # Errors
    /// [`NetError::InvalidConfig`] if two nodes share a key.
    pub(crate) fn new(nodes: impl Iterator<Item = (PublicKey, Node)>) -> Result<Self, NetError> {
        let mut owners = BTreeMap::new();
        for (key, node) in nodes {
            if let Some(other) = owners.insert(key, node) {
                return Err(NetError::InvalidConfig {
                    reason: format!(
                        "{other} and {node} list the same TLS key {key:?}; give each its own"
                    ),
                });
            }
        }
        Ok(Self(owners))
    }

    /// Who the authenticated far end of a connection is. `None` cannot happen after a handshake
    /// that checked the same roster.
    pub(crate) fn owner(&self, connection: &quinn::Connection) -> Option<Node> {
        let identity = connection.peer_identity()?;
        let chain = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
        self.0.get(&public_key_in(chain.first()?)?).copied()
    }
}

/// The accepting side: our key, and any key on the roster.
pub(crate) fn server_config(
    key: &TlsKey,
    roster: Arc<Roster>,
    protocol: &[u8],
) -> Result<QuicServerConfig, NetError> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls_error)?
        .with_client_cert_verifier(Arc::new(AcceptListed(roster)))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(
            key.certified.clone(),
        )));
    config.alpn_protocols = vec![protocol.to_vec()];
    // Nothing to resume and nothing early: 0-RTT data can be replayed below TLS (PITFALLS J4).
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    QuicServerConfig::try_from(config).map_err(|error| NetError::Tls { reason: error.to_string() })
}

/// The dialling side: our key, and exactly the key of the node we mean to reach.
pub(crate) fn client_config(
    key: &TlsKey,
    expected: PublicKey,
    protocol: &[u8],
) -> Result<QuicClientConfig, NetError> {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls_error)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptExactly(expected)))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
            key.certified.clone(),
        )));
    config.alpn_protocols = vec![protocol.to_vec()];
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    QuicClientConfig::try_from(config).map_err(|error| NetError::Tls { reason: error.to_string() })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        // AES-128 is what QUIC's first packets use in any case; ChaCha20 is for hosts without AES.
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![ring::kx_group::X25519],
        ..ring::default_provider()
    })
}

fn hkdf() -> Result<&'static dyn Hkdf, NetError> {
    let suite = cipher_suite::TLS13_AES_128_GCM_SHA256.tls13();
    suite
        .map(|suite| suite.hkdf_provider)
        .ok_or_else(|| NetError::Tls { reason: "the provider has no TLS 1.3 suite".into() })
}

#[expect(clippy::needless_pass_by_value, reason = "the shape `map_err` wants")]
fn tls_error(error: rustls::Error) -> NetError {
    NetError::Tls { reason: error.to_string() }
}

/// The key in an ed25519 SubjectPublicKeyInfo; any other bytes give `None`.
fn public_key_in(spki: &[u8]) -> Option<PublicKey> {
    spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok().map(PublicKey)
}

/// The presented key, if the peer presented exactly one and it is an ed25519 key.
fn presented(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<PublicKey, rustls::Error> {
    if !intermediates.is_empty() {
        return Err(CertificateError::BadEncoding.into());
    }
    public_key_in(end_entity).ok_or_else(|| CertificateError::BadEncoding.into())
}

fn verify_signature(
    message: &[u8],
    key: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    if signature.scheme != SignatureScheme::ED25519 {
        return Err(CertificateError::BadSignature.into());
    }
    let spki = SubjectPublicKeyInfoDer::from(key.as_ref());
    let algorithms = ring::default_provider().signature_verification_algorithms;
    verify_tls13_signature_with_raw_key(message, &spki, signature, &algorithms)
}

fn tls12_refused() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(PeerIncompatible::Tls12NotOffered.into())
}

/// Accepts the keys of a roster.
#[derive(Debug)]
struct AcceptListed(Arc<Roster>);

impl ClientCertVerifier for AcceptListed {
    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let key = presented(end_entity, intermediates)?;
        if !self.0.0.contains_key(&key) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        tls12_refused()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Accepts one key: not "any member", or a member could stand in for another (PITFALLS J5).
#[derive(Debug)]
struct AcceptExactly(PublicKey);

impl ServerCertVerifier for AcceptExactly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if presented(end_entity, intermediates)? != self.0 {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        tls12_refused()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// HMAC-SHA-256 under a derived secret, for QUIC's stateless reset tokens.
struct ResetKey {
    hkdf: &'static dyn Hkdf,
    secret: Zeroizing<[u8; 32]>,
}

impl ResetKey {
    fn tag(&self, data: &[u8]) -> [u8; 32] {
        let mut tag = [0; 32];
        let full = self.hkdf.hmac_sign(&OkmBlock::new(self.secret.as_slice()), data);
        for (out, byte) in tag.iter_mut().zip(full.as_ref()) {
            *out = *byte;
        }
        tag
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        for (out, byte) in signature_out.iter_mut().zip(self.tag(data)) {
            *out = byte;
        }
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let expected = self.tag(data);
        // All bytes are compared whatever they are, so that the time taken says nothing.
        let difference =
            expected.iter().zip(signature).fold(0, |all, (ours, theirs)| all | (ours ^ theirs));
        if signature.len() == expected.len() && difference == 0 { Ok(()) } else { Err(CryptoError) }
    }
}

#[cfg(test)]
#[path = "tls_test.rs"]
mod tests;
