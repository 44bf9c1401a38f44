//! The way a value went: the generals who said it, the last one being its sender.

use core::fmt;

use super::{GENERALS_MAX, General, Setting};

/// The most generals on a path. Settings within [`super::MESSAGES_MAX`] have at most ten rounds.
const PATH_MAX: usize = 15;

/// Distinct generals in the order in which they passed a value on, the commander first, the sender last.
///
/// Values are kept under it (PITFALLS M1): "3 says that 2 says that 1 said so" is another statement than
/// "3 says that 1 said so". Shown as `1>2>3`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// Padded with 0, which names nobody, so that the derived order is that of the sequences.
    ids: [u8; PATH_MAX],
    length: u8,
}

/// Why a sequence of generals is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nobody said it.
    #[error("a path names at least its sender")]
    Empty,
    /// Longer than any run has rounds.
    #[error("a path names at most {PATH_MAX} generals")]
    TooLong,
    /// A number that is no general's.
    #[error("{0} is no general: they are numbered from 1 to {GENERALS_MAX}")]
    NotAGeneral(u8),
    /// A general passes on what it has passed on before.
    #[error("general {} is on the path twice", .0.0)]
    Repeated(General),
}

impl Path {
    /// What `general` says of its own.
    ///
    /// # Errors
    /// `general` is no number of a general.
    pub fn of(general: General) -> Result<Self, PathError> {
        Path { ids: [0; PATH_MAX], length: 0 }.then(general)
    }

    /// The path of these generals.
    ///
    /// # Errors
    /// Empty, too long, a number that is no general's, or one that is there twice.
    pub fn new(generals: impl IntoIterator<Item = General>) -> Result<Self, PathError> {
        let mut path = Path { ids: [0; PATH_MAX], length: 0 };
        for general in generals {
            path = path.then(general)?;
        }
        if path.length == 0 { Err(PathError::Empty) } else { Ok(path) }
    }

    /// This path, passed on by `general`.
    ///
    /// # Errors
    /// Too long, no number of a general, or on the path already.
    pub fn then(mut self, general: General) -> Result<Self, PathError> {
        if !(1..=GENERALS_MAX).contains(&general.0) {
            return Err(PathError::NotAGeneral(general.0));
        }
        if self.has(general) {
            return Err(PathError::Repeated(general));
        }
        let slot = self.ids.get_mut(usize::from(self.length)).ok_or(PathError::TooLong)?;
        *slot = general.0;
        self.length += 1;
        Ok(self)
    }

    /// How many generals are on it: the round in which it is said.
    pub fn len(&self) -> u8 {
        self.length
    }

    /// Whether nobody is on it. Never: for symmetry with `len`.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The generals, in order.
    pub fn generals(&self) -> impl DoubleEndedIterator<Item = General> + '_ {
        self.ids.iter().take(usize::from(self.length)).map(|id| General(*id))
    }

    /// Whether `general` is on it.
    pub fn has(&self, general: General) -> bool {
        self.generals().any(|it| it == general)
    }

    /// Who said it first.
    pub fn commander(&self) -> General {
        self.generals().next().unwrap_or(General(0))
    }

    /// Who says it now.
    pub fn sender(&self) -> General {
        self.generals().next_back().unwrap_or(General(0))
    }

    /// The path on which the sender heard it; `None` if the sender is the commander.
    pub fn before(&self) -> Option<Path> {
        let length = self.length.checked_sub(1).filter(|length| *length > 0)?;
        let mut path = *self;
        *path.ids.get_mut(usize::from(length))? = 0;
        path.length = length;
        Some(path)
    }

    /// The paths one general longer that reach `receiver` in `setting`, ascending.
    pub fn children(self, setting: &Setting, receiver: General) -> impl Iterator<Item = Path> {
        let next = setting.generals().filter(move |next| *next != receiver);
        next.filter_map(move |next| self.then(next).ok())
    }

    /// Everyone who can be told: the generals of `setting` that are not on it, ascending.
    pub fn receivers(self, setting: &Setting) -> impl Iterator<Item = General> {
        setting.generals().filter(move |receiver| !self.has(*receiver))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, general) in self.generals().enumerate() {
            if index > 0 {
                formatter.write_str(">")?;
            }
            write!(formatter, "{general}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use super::*;

    fn path(ids: &[u8]) -> Path {
        Path::new(ids.iter().copied().map(General)).unwrap()
    }

    #[test]
    fn only_distinct_generals_make_a_path() {
        let refused = |ids: &[u8]| Path::new(ids.iter().copied().map(General)).unwrap_err();
        assert_eq!(refused(&[]), PathError::Empty);
        assert_eq!(refused(&[1, 0]), PathError::NotAGeneral(0));
        assert_eq!(refused(&[1, 100]), PathError::NotAGeneral(100));
        assert_eq!(refused(&[1, 2, 1]), PathError::Repeated(General(1)));
        assert_eq!(refused(&(1..=16).collect::<Vec<u8>>()), PathError::TooLong);
        assert_eq!(path(&(1..=15).collect::<Vec<u8>>()).len(), 15);
    }

    #[test]
    fn a_path_knows_its_ends_and_its_order() {
        let way = path(&[1, 12, 3]);
        assert_eq!((way.commander(), way.sender()), (General(1), General(3)));
        assert_eq!(way.to_string(), "1>12>3");
        assert_eq!(way.before(), Some(path(&[1, 12])));
        assert_eq!(path(&[1]).before(), None);
        assert!(path(&[1]) < path(&[1, 2]) && path(&[1, 2, 9]) < path(&[1, 3]));
    }

    #[test]
    fn children_lead_to_the_receiver_past_everyone_else() {
        let setting = Setting::new(5, 2, General(2)).unwrap();
        let next: Vec<Path> = path(&[2, 4]).children(&setting, General(3)).collect();
        assert_eq!(next, [path(&[2, 4, 1]), path(&[2, 4, 5])]);
        let receivers: Vec<General> = path(&[2, 4]).receivers(&setting).collect();
        assert_eq!(receivers, [1, 3, 5].map(General));
    }
}
