//! QUIC endpoints, with every setting that bounds memory or time set by hand (PITFALLS J2).

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::udp::UdpSocketState;
use quinn::{
    AckFrequencyConfig, ClientConfig, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig,
    ServerConfig, TokioRuntime, TransportConfig, ValidationTokenConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;

use crate::limits::Port;
use crate::tls::{self, Roster};
use crate::{NetError, NetLimits, TlsKey};

/// A first packet's data, kept until the handshake is taken up.
const INCOMING_BUFFER_BYTES: u64 = 64 * 1024;
const INCOMING_BUFFER_BYTES_ALL: u64 = 4 * 1024 * 1024;
/// Asked of the system for each socket: bursts that overflow it look like congestion.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// A path that carries no such datagrams is found out by probing; one that does, such as Ethernet with jumbo
/// frames, costs half the processor time per byte. Ten of them, which quinn hands over at once, must fit the
/// 65,507 bytes that the kernel takes: more is refused, and counts as lost.
const DATAGRAM_BYTES_MAX: u16 = 6500;
/// What every Ethernet carries.
const DATAGRAM_BYTES_USUAL: u16 = 1452;
/// Ten of the largest datagrams: with the 12,000 bytes that are usual a probe for a larger one fills the window of a young
/// connection, and quinn holds back even the frame that says why it is closed.
const INITIAL_WINDOW_BYTES: u64 = 10 * DATAGRAM_BYTES_MAX as u64;
/// So many replies to a client may be acknowledged together, if nothing goes the other way before 25 ms are over:
/// they cost no datagram of their own to be acknowledged. Measured: 9 % less processor time for clients that wait for
/// each operation. Between replicas it saves less and costs a tenth of latency.
const ACK_ELICITING_THRESHOLD: VarInt = VarInt::from_u32(10);
/// One stream per lane and direction.
const STREAMS: u32 = 3;

/// The protocol name of a port, offered and demanded in the handshake. Its number is the version of
/// everything below the frames.
pub(crate) fn protocol(port: Port) -> &'static [u8] {
    match port {
        Port::Peer => b"pbft-peer/1",
        Port::Client => b"pbft-client/1",
        Port::User => b"pbft-user/1",
    }
}

/// Users send and get little at a time, and hundreds of them make one process with as many buffers.
fn datagram_bytes_max(port: Port) -> u16 {
    match port {
        Port::Peer | Port::Client => DATAGRAM_BYTES_MAX,
        Port::User => DATAGRAM_BYTES_USUAL,
    }
}

/// An endpoint that accepts the keys of `roster`, and can also dial.
pub(crate) fn listening(
    socket: UdpSocket,
    address: SocketAddr,
    port: Port,
    key: &TlsKey,
    roster: Arc<Roster>,
    limits: &NetLimits,
) -> Result<Endpoint, NetError> {
    let crypto = tls::server_config(key, roster, protocol(port))?;
    let mut server = ServerConfig::with_crypto(Arc::new(crypto));
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0);
    server
        .transport_config(transport(limits, port)?)
        .migration(false)
        .validation_token_config(tokens)
        .max_incoming(limits.handshakes_max)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFER_BYTES_ALL);
    let (reset_key, id_key) = key.reset_keys(protocol(port))?;
    let mut config = EndpointConfig::new(reset_key);
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)));
    start(config, Some(server), socket, address, port)
}

/// An endpoint that only dials.
pub(crate) fn dialling(
    socket: UdpSocket,
    address: SocketAddr,
    port: Port,
) -> Result<Endpoint, NetError> {
    start(EndpointConfig::default(), None, socket, address, port)
}

fn start(
    mut config: EndpointConfig,
    server: Option<ServerConfig>,
    socket: UdpSocket,
    address: SocketAddr,
    port: Port,
) -> Result<Endpoint, NetError> {
    let failed = |source| NetError::Socket { address, source };
    config.max_udp_payload_size(datagram_bytes_max(port)).map_err(|_| NetError::InvalidLimits {
        relation: "datagrams must have 1200 to 65527 bytes",
    })?;
    enlarge_buffers(&socket, address);
    Endpoint::new(config, server, socket, Arc::new(TokioRuntime)).map_err(failed)
}

/// The system may grant less, or refuse: then we run with what there is, and say so.
fn enlarge_buffers(socket: &UdpSocket, address: SocketAddr) {
    let sized = UdpSocketState::new(socket.into()).and_then(|state| {
        state.set_send_buffer_size(socket.into(), SOCKET_BUFFER_BYTES)?;
        state.set_recv_buffer_size(socket.into(), SOCKET_BUFFER_BYTES)?;
        state.recv_buffer_size(socket.into())
    });
    let granted = sized.unwrap_or(0);
    if granted < SOCKET_BUFFER_BYTES {
        tracing::info!(
            target: "pbft::net", %address, granted, wanted = SOCKET_BUFFER_BYTES,
            "small udp buffer; raise net.core.rmem_max and net.core.wmem_max for high rates"
        );
    }
}

/// How to dial one node: its key, and no other.
pub(crate) fn client_config(
    crypto: QuicClientConfig,
    port: Port,
    limits: &NetLimits,
) -> Result<ClientConfig, NetError> {
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport(limits, port)?);
    config.token_store(Arc::new(quinn::NoneTokenStore));
    Ok(config)
}

pub(crate) fn transport(limits: &NetLimits, port: Port) -> Result<Arc<TransportConfig>, NetError> {
    let windows = match port {
        Port::Peer => &limits.peer_windows,
        Port::Client => &limits.client_windows,
        Port::User => &limits.user_windows,
    };
    let idle = IdleTimeout::try_from(limits.idle_timeout)
        .map_err(|_| NetError::InvalidLimits { relation: "idle_timeout must be at most a day" })?;
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(datagram_bytes_max(port));
    let mut congestion = CubicConfig::default();
    congestion.initial_window(INITIAL_WINDOW_BYTES);
    let mut config = TransportConfig::default();
    config
        .congestion_controller_factory(Arc::new(congestion))
        .mtu_discovery_config(Some(discovery))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS))
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0)
        .stream_receive_window(VarInt::from_u32(windows.stream_bytes))
        .receive_window(VarInt::from_u32(windows.receive_bytes))
        .send_window(u64::from(windows.send_bytes))
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(limits.keep_alive))
        .initial_rtt(limits.initial_round_trip)
        .allow_spin(false)
        .enable_segmentation_offload(limits.segmentation_offload);
    if port != Port::Peer {
        let mut acknowledgements = AckFrequencyConfig::default();
        acknowledgements.ack_eliciting_threshold(ACK_ELICITING_THRESHOLD);
        config.ack_frequency_config(Some(acknowledgements));
    }
    Ok(Arc::new(config))
}
