//! The small types everything else is made of: no bare integers cross a function boundary.

use alloc::string::String;
use core::fmt;
use core::time::Duration;

use bincode::{Decode, Encode};

/// Index of a replica in the member list: `0..n`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ReplicaId(pub u32);

/// Index of a client in the configuration's list of admitted client keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ClientId(pub u32);

/// Number of a view. The primary of view `v` is replica `v mod n`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct View(pub u64);

/// Position of a batch in the agreed order. The first ordered slot is 1; 0 is the state before any.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Sequence(pub u64);

/// The number a client gives a request, unique per client key. Valid numbers are `1..2^63`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct RequestNumber(pub u64);

/// Configuration epoch. Constant 0 until reconfiguration exists; any other is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Epoch(pub u64);

/// Number of a durable write. `Durable(id)` covers every write with a number at or below `id`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WriteId(pub u64);

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Digest(pub [u8; 32]);

/// An ed25519 signature (or, in the simulator, as many bytes of a keyed hash).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Signature(pub [u8; 64]);

/// An ed25519 public key in its 32-byte encoding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct PublicKey(pub [u8; 32]);

/// Whether a replica may vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Standing {
    /// A full member.
    Voting,
    /// Its store is lost, so it may have promised what it no longer knows: it executes what others
    /// decide and promises nothing (PROTOCOL section 9; PITFALLS G10). It counts towards f, until nothing new
    /// can contradict what it forgot.
    NonVoting,
    /// It has started again, and in this view it may have voted on the slots to come: it prepares none of them. It
    /// votes again in the next view, or two windows of slots later.
    Abstaining,
    /// The loss of its store is over, but it may have promised things of this view and forgotten them: it votes
    /// again in a later one.
    Silent,
    /// Its key was used elsewhere, so it promises nothing for the rest of this run (PITFALLS L6).
    Impersonated,
}

/// Microseconds on the host's monotonic clock, from an origin of the host's choosing. For timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(pub u64);

/// Microseconds since the Unix epoch. For the agreed time, never for timers (PITFALLS E10).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Encode, Decode)]
pub struct WallTime(pub u64);

/// What the host's two clocks showed when it called `step`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time {
    /// The monotonic clock: every timer is measured with it.
    pub instant: Instant,
    /// The wall clock: read only to propose, and to judge, the agreed time of a fresh batch, and to tell one
    /// run's questions from an earlier one's.
    pub wall: WallTime,
}

impl View {
    /// The highest view ever used: a view change or vote near the integer limit is refused (PITFALLS D14).
    pub const MAX: View = View(1 << 62);

    /// The view after this one, or `None` at the integer limit.
    pub fn next(self) -> Option<View> {
        self.0.checked_add(1).map(View)
    }
}

impl Sequence {
    /// The highest sequence number ever used; proposals near the integer limit are refused (PITFALLS C1).
    pub const MAX: Sequence = Sequence(1 << 62);

    /// The next position. Saturates far above [`Sequence::MAX`], where nothing is accepted any more.
    pub fn next(self) -> Sequence {
        Sequence(self.0.saturating_add(1))
    }

    /// This position moved up by `slots`, saturating.
    pub fn plus(self, slots: u64) -> Sequence {
        Sequence(self.0.saturating_add(slots))
    }

    /// This position moved down by `slots`, stopping at 0.
    pub fn minus(self, slots: u64) -> Sequence {
        Sequence(self.0.saturating_sub(slots))
    }

    /// How many slots lie between `earlier` and this position; 0 if it is not earlier.
    pub fn since(self, earlier: Sequence) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whether a checkpoint is taken after this slot, for a checkpoint interval of `interval` slots.
    pub fn is_checkpoint(self, interval: u64) -> bool {
        self.0 != 0 && self.0.checked_rem(interval) == Some(0)
    }

    /// The last checkpoint slot at or below this one, 0 if there is none.
    pub fn checkpoint_at_or_below(self, interval: u64) -> Sequence {
        Sequence(self.0 - self.0.checked_rem(interval).unwrap_or(0))
    }
}

impl RequestNumber {
    /// Numbers are below this bound, so that arithmetic on them cannot overflow (PROTOCOL section 2).
    pub const BOUND: RequestNumber = RequestNumber(1 << 63);

    /// Whether a client may use this number at all: `1..2^63`.
    pub fn is_valid(self) -> bool {
        self.0 != 0 && self < Self::BOUND
    }
}

impl Digest {
    /// The digest of the null request, which only a new view may name. No batch hashes to it.
    pub const NULL: Digest = Digest([0; 32]);

    /// The first eight bytes in hexadecimal, for logs.
    pub fn short(&self) -> String {
        hex(self.0.get(..8).unwrap_or_default())
    }

    /// All 32 bytes in lower-case hexadecimal.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }
}

impl PublicKey {
    /// All 32 bytes in lower-case hexadecimal.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }
}

impl Instant {
    /// The instant `delay` later, saturating.
    pub fn after(self, delay: Duration) -> Instant {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_add(micros))
    }

    /// Time elapsed since `earlier`; zero if that is later.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl WallTime {
    /// Distance between two wall times, whichever is the later.
    pub fn distance(self, other: WallTime) -> Duration {
        Duration::from_micros(self.0.abs_diff(other.0))
    }
}

/// Lower-case hexadecimal of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        for nibble in [byte >> 4, byte & 0x0f] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('?'));
        }
    }
    text
}

/// The 32 bytes that 64 hexadecimal digits stand for, or `None` if the text is anything else.
pub fn unhex32(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0_u8; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let mut value = 0;
        for digit in pair {
            value = value * 16 + char::from(*digit).to_digit(16)?;
        }
        *byte = u8::try_from(value).ok()?;
    }
    Some(bytes)
}

macro_rules! show {
    ($type:ident, $prefix:literal) => {
        impl fmt::Debug for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!($prefix, "{}"), self.0)
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}", self.0)
            }
        }
    };
}
show!(ReplicaId, "r");
show!(ClientId, "c");
show!(View, "v");
show!(Sequence, "s");
show!(RequestNumber, "#");
show!(Epoch, "e");
show!(WriteId, "w");

macro_rules! show_bytes {
    ($type:ident) => {
        impl fmt::Debug for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&hex(self.0.get(..4).unwrap_or_default()))
            }
        }
    };
}
show_bytes!(Digest);
show_bytes!(Signature);
show_bytes!(PublicKey);

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.to_hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_round_trip() {
        let bytes = core::array::from_fn(|index| u8::try_from(index * 7 % 256).unwrap());
        assert_eq!(unhex32(&hex(&bytes)), Some(bytes));
        assert_eq!(unhex32("zz"), None);
        assert_eq!(unhex32(&"g".repeat(64)), None);
        assert_eq!(unhex32(&"é".repeat(32)), None);
    }

    #[test]
    fn checkpoints_fall_on_multiples_of_the_interval_only() {
        let taken: alloc::vec::Vec<u64> =
            (0..=9).filter(|&s| Sequence(s).is_checkpoint(4)).collect();
        assert_eq!(taken, [4, 8]);
        assert!(!Sequence(8).is_checkpoint(0));
    }
}
