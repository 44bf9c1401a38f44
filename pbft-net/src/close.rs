//! Why a connection ends: the codes in QUIC's close frame, and their meaning in words.

use quinn::{ConnectionError, VarInt};

/// The application close code a connection ends with. The numbers are part of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum CloseCode {
    /// The process ended without saying why, or dropped the network.
    Dropped = 0,
    /// Graceful shutdown.
    Shutdown = 1,
    /// A newer connection from the same replica took over.
    Replaced = 2,
    /// The same replica replaced a connection a moment ago.
    ReplacedTooSoon = 3,
    /// A limit on connections was reached.
    TooManyConnections = 4,
    /// The other end runs another wire version.
    WrongVersion = 5,
    /// The other end belongs to another cluster.
    WrongCluster = 6,
    /// The other end runs another configuration.
    WrongConfiguration = 7,
    /// The HELLO was malformed, or named another node than the TLS key's owner.
    BadHello = 8,
    /// No HELLO in time.
    HelloTimeout = 9,
    /// A frame's length prefix was zero or above the lane's limit.
    BadFrame = 10,
    /// A frame was not complete in time.
    FrameTimeout = 11,
    /// A stream broke the lane rules.
    BadStream = 12,
    /// The node is shut out for a while.
    Penalized = 13,
}

impl CloseCode {
    const ALL: [Self; 14] = [
        Self::Dropped,
        Self::Shutdown,
        Self::Replaced,
        Self::ReplacedTooSoon,
        Self::TooManyConnections,
        Self::WrongVersion,
        Self::WrongCluster,
        Self::WrongConfiguration,
        Self::BadHello,
        Self::HelloTimeout,
        Self::BadFrame,
        Self::FrameTimeout,
        Self::BadStream,
        Self::Penalized,
    ];

    pub(crate) fn wire(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }

    /// The code the other end closed with, if it was the other end and the code is one of ours.
    pub(crate) fn received(error: &ConnectionError) -> Option<Self> {
        let ConnectionError::ApplicationClosed(close) = error else {
            return None;
        };
        Self::ALL.into_iter().find(|code| code.wire() == close.error_code)
    }

    /// Whether this code says that the closing end does not want us, rather than that it goes away.
    pub(crate) fn is_refusal(self) -> bool {
        self as u32 > Self::Replaced as u32
    }
}

/// TLS alerts in QUIC are transport errors 0x100 + alert (RFC 9001, 4.8).
pub(crate) const ALERT_ACCESS_DENIED: u64 = 0x100 + 49;
const ALERT_NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;

/// Why a connection or an attempt ended, with the remedy where we know one.
pub(crate) fn explain(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let code = CloseCode::received(error);
            // The text is the peer's: escaped, and cut, before it reaches a log.
            let reason: String = String::from_utf8_lossy(&close.reason).chars().take(300).collect();
            match code {
                Some(code) => format!("the other end closed with {code:?}: {reason:?}"),
                None => format!("the other end closed with code {}: {reason:?}", close.error_code),
            }
        }
        ConnectionError::ConnectionClosed(close) => match u64::from(close.error_code) {
            ALERT_ACCESS_DENIED => {
                "the other end does not list our TLS key; check that our key is the \
                 one in its cluster.toml"
                    .into()
            }
            ALERT_NO_APPLICATION_PROTOCOL => no_protocol().into(),
            _ => format!("the other end closed the transport: {:?}", close.error_code),
        },
        ConnectionError::TransportError(error) => match u64::from(error.code) {
            ALERT_ACCESS_DENIED => {
                "the other end holds a TLS key we do not expect there; compare the \
                 address and the tls key of that node in cluster.toml"
                    .into()
            }
            ALERT_NO_APPLICATION_PROTOCOL => no_protocol().into(),
            _ => format!("transport error: {error}"),
        },
        ConnectionError::TimedOut => "no answer before the deadline".into(),
        ConnectionError::Reset => {
            "the other end restarted and no longer knows the connection".into()
        }
        ConnectionError::LocallyClosed => "closed here".into(),
        other => other.to_string(),
    }
}

fn no_protocol() -> &'static str {
    "the two ends speak no common protocol; a peer port and a client port were confused, or one \
     end runs an incompatible release"
}
