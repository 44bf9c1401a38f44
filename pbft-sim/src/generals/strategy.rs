//! How traitors lie in oral messages: functions of the way a value went, of who is told, and of what would
//! be true. They need no memory and no chance, so that a lie is named in a few letters and played again
//! anywhere.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use pbft_core::generals::{General, Path, PathError};
use sha2::{Digest as _, Sha256};

/// What a traitor, the last on `path`, says to `receiver` where a loyal general would say `honest`; `None` is silence.
pub trait Strategy<V> {
    /// What is said.
    fn say(&self, path: &Path, receiver: General, honest: &V) -> Option<V>;
}

impl<V, F: Fn(&Path, General, &V) -> Option<V>> Strategy<V> for F {
    fn say(&self, path: &Path, receiver: General, honest: &V) -> Option<V> {
        self(path, receiver, honest)
    }
}

/// The strategies with names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// Says nothing.
    Silent,
    /// 1 - honest: the other one of two orders.
    Flip,
    /// The receiver's number mod 2: half of them hear 0, the others 1.
    Split,
    /// The sum of the path and the receiver, mod 2: another half on each path.
    Parity,
    /// 111 to odd receivers, 222 to even ones: values that no loyal general has.
    Pair,
    /// A different value to everyone on every path: 9, then two digits for each general on the path and the
    /// receiver.
    Garbage,
    /// The lowest bit of the first byte of SHA-256 of `S:1.2>3`: S is this text, then the path, then the
    /// receiver. Chance that everyone can compute.
    Hash(String),
}

/// The names, as [`Named`] reads them, and what they do.
pub const NAMES: [(&str, &str); 7] = [
    ("silent", "says nothing"),
    ("flip", "says 1 - x where x is true"),
    ("split", "says 0 to even receivers and 1 to odd ones"),
    ("parity", "says the sum of path and receiver, mod 2"),
    ("pair", "says 111 to odd receivers and 222 to even ones"),
    ("garbage", "says something else to everyone on every path"),
    ("hash:S", "says 0 or 1 by the hash of S, path and receiver"),
];

/// A name that is no strategy's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownStrategy(String);

impl std::error::Error for UnknownStrategy {}

impl fmt::Display for UnknownStrategy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = NAMES.map(|(name, _)| name).join(", ");
        write!(formatter, "no strategy {:?}: there are {names}", self.0)
    }
}

impl FromStr for Named {
    type Err = UnknownStrategy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "silent" => Named::Silent,
            "flip" => Named::Flip,
            "split" => Named::Split,
            "parity" => Named::Parity,
            "pair" => Named::Pair,
            "garbage" => Named::Garbage,
            _ => match text.strip_prefix("hash:") {
                Some(seed) => Named::Hash(seed.to_owned()),
                None => return Err(UnknownStrategy(text.to_owned())),
            },
        })
    }
}

impl fmt::Display for Named {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Named::Silent => formatter.write_str("silent"),
            Named::Flip => formatter.write_str("flip"),
            Named::Split => formatter.write_str("split"),
            Named::Parity => formatter.write_str("parity"),
            Named::Pair => formatter.write_str("pair"),
            Named::Garbage => formatter.write_str("garbage"),
            Named::Hash(seed) => write!(formatter, "hash:{seed}"),
        }
    }
}

fn garbage(path: &Path, receiver: General) -> i128 {
    let ids = path.generals().chain([receiver]);
    // Ten generals at most are on a path: 23 digits, far below the limit.
    ids.fold(9, |number, id| number * 100 + i128::from(id.0))
}

fn hash(seed: &str, path: &Path, receiver: General) -> i128 {
    let ids: Vec<String> = path.generals().map(|id| id.to_string()).collect();
    let text = format!("{seed}:{}>{receiver}", ids.join("."));
    let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    let [first, ..] = digest;
    i128::from(first & 1)
}

impl Strategy<i128> for Named {
    fn say(&self, path: &Path, receiver: General, honest: &i128) -> Option<i128> {
        let number = |general: General| i128::from(general.0);
        Some(match self {
            Named::Silent => return None,
            // Wraps at the edge of the integers, where there is no such value; twice is the truth everywhere.
            Named::Flip => 1_i128.wrapping_sub(*honest),
            Named::Split => number(receiver) % 2,
            Named::Parity => (path.generals().map(number).sum::<i128>() + number(receiver)) % 2,
            Named::Pair if receiver.0 % 2 == 1 => 111,
            Named::Pair => 222,
            Named::Garbage => garbage(path, receiver),
            Named::Hash(seed) => hash(seed, path, receiver),
        })
    }
}

/// Lies one by one: what is said along a path to a receiver. What is not there is said truly.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Table<V>(pub BTreeMap<(Path, General), Option<V>>);

/// A key of a table that is no `path>receiver`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// Something between the `>` is no number.
    Number(String),
    /// Nobody but a receiver.
    NoSender(String),
    /// The path names nobody's number, or somebody twice.
    Path(String, PathError),
    /// Everyone's number is followed by the receiver's, which is on the path.
    Receiver(String),
}

impl std::error::Error for KeyError {}

impl fmt::Display for KeyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = "such as 1>2>3: 2 says to 3 what 1 said to it";
        match self {
            KeyError::Number(key) => write!(formatter, "{key:?} is no path>receiver, {form}"),
            KeyError::NoSender(key) => write!(formatter, "{key:?} has no sender: {form}"),
            KeyError::Path(key, error) => write!(formatter, "{key:?}: {error}"),
            KeyError::Receiver(key) => write!(formatter, "{key:?}: the receiver is on the path"),
        }
    }
}

/// Reads `1>2>3`: path 1, 2 and receiver 3.
///
/// # Errors
/// What is wrong with it.
pub fn parse_key(key: &str) -> Result<(Path, General), KeyError> {
    let ids: Result<Vec<General>, _> =
        key.split('>').map(|id| id.trim().parse().map(General)).collect();
    let ids = ids.map_err(|_| KeyError::Number(key.to_owned()))?;
    let (receiver, senders) = ids.split_last().ok_or(KeyError::NoSender(key.to_owned()))?;
    if senders.is_empty() {
        return Err(KeyError::NoSender(key.to_owned()));
    }
    let path = |error| KeyError::Path(key.to_owned(), error);
    let way = Path::new(senders.iter().copied()).map_err(path)?;
    match way.then(*receiver) {
        Err(PathError::Repeated(_)) => Err(KeyError::Receiver(key.to_owned())),
        Err(error @ PathError::NotAGeneral(_)) => Err(path(error)),
        _ => Ok((way, *receiver)),
    }
}

impl<V> Table<V> {
    /// The entries, keys as they are written.
    pub fn entries(&self) -> impl Iterator<Item = (String, &Option<V>)> {
        self.0.iter().map(|((path, receiver), value)| (format!("{path}>{receiver}"), value))
    }
}

impl<V: Clone> Strategy<V> for Table<V> {
    fn say(&self, path: &Path, receiver: General, honest: &V) -> Option<V> {
        self.0.get(&(*path, receiver)).cloned().unwrap_or_else(|| Some(honest.clone()))
    }
}

#[cfg(test)]
#[path = "strategy_test.rs"]
mod tests;
