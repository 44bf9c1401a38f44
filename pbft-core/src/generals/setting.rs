//! How many generals, how many traitors are reckoned with, who commands; and what that costs, before it is
//! paid.

use alloc::vec::Vec;

use super::General;

/// The most generals: two decimal digits name every one of them.
pub const GENERALS_MAX: u8 = 99;
/// The most oral messages of one run, over all rounds. The number grows with n^(m+1), and each message is a
/// value that somebody keeps: more is refused by this count, computed beforehand (PITFALLS M6).
pub const MESSAGES_MAX: u128 = 2_000_000;

/// The shape of one agreement, the same for all of its generals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Setting {
    n: u8,
    m: u8,
    commander: General,
}

/// A setting that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// Fewer than two generals, or more than [`GENERALS_MAX`].
    #[error("n = {0}: there must be 2 to {GENERALS_MAX} generals")]
    Generals(u64),
    /// More rounds than there can be different relays.
    #[error(
        "m = {m}: must be at most n - 2 = {most}, as a message is relayed by a new general each round"
    )]
    Rounds {
        /// What was asked for.
        m: u64,
        /// What n allows.
        most: u64,
    },
    /// The commander is none of the generals.
    #[error("general {0} is not one of the generals 1 to {1}")]
    NotAGeneral(u64, u8),
    /// A lieutenant was wanted, but this one commands.
    #[error("general {0} is the commander, not a lieutenant")]
    Commands(u8),
    /// More messages than [`MESSAGES_MAX`].
    #[error("this takes {predicted} messages, the bound is {bound}: choose a smaller n or m")]
    TooManyMessages {
        /// How many it would be, over all rounds.
        predicted: u128,
        /// [`MESSAGES_MAX`].
        bound: u128,
    },
}

impl Setting {
    /// `n` generals, m + 1 rounds, one commander.
    ///
    /// # Errors
    /// n outside of `2..=99`, m above n - 2, a commander who is not one of them. That n <= 3m is no error:
    /// it is computed, and nothing is promised ([`Setting::is_oral_bound_kept`]).
    pub fn new(n: u64, m: u64, commander: General) -> Result<Self, SettingError> {
        let count = u8::try_from(n).ok().filter(|n| (2..=GENERALS_MAX).contains(n));
        let count = count.ok_or(SettingError::Generals(n))?;
        let most = n.saturating_sub(2);
        let rounds = u8::try_from(m).ok().filter(|_| m <= most);
        let m = rounds.ok_or(SettingError::Rounds { m, most })?;
        let setting = Setting { n: count, m, commander };
        if setting.has(commander) {
            Ok(setting)
        } else {
            Err(SettingError::NotAGeneral(u64::from(commander.0), count))
        }
    }

    /// How many generals there are, the commander included.
    pub fn n(&self) -> u8 {
        self.n
    }

    /// How many traitors are reckoned with.
    pub fn m(&self) -> u8 {
        self.m
    }

    /// Who gives the order.
    pub fn commander(&self) -> General {
        self.commander
    }

    /// m + 1.
    pub fn rounds(&self) -> u8 {
        self.m.saturating_add(1)
    }

    /// The same with another commander.
    ///
    /// # Errors
    /// `commander` is none of the generals.
    pub fn commanded_by(self, commander: General) -> Result<Self, SettingError> {
        Setting::new(u64::from(self.n), u64::from(self.m), commander)
    }

    /// Whether n >= 3m + 1, without which oral messages promise nothing.
    pub fn is_oral_bound_kept(&self) -> bool {
        u16::from(self.n) > 3 * u16::from(self.m)
    }

    /// Whether `general` is one of them.
    pub fn has(&self, general: General) -> bool {
        (1..=self.n).contains(&general.0)
    }

    /// All generals, ascending.
    pub fn generals(&self) -> impl Iterator<Item = General> + use<> {
        (1..=self.n).map(General)
    }

    /// All but the commander, ascending.
    pub fn lieutenants(&self) -> impl Iterator<Item = General> + use<> {
        let commander = self.commander;
        self.generals().filter(move |general| *general != commander)
    }

    /// How many oral messages each round has when everyone speaks: (n-1), (n-1)(n-2), ... m + 1 terms.
    pub fn oral_messages(&self) -> Vec<u128> {
        let factors = (1..=self.rounds()).map(|round| u128::from(self.n.saturating_sub(round)));
        let round = factors.scan(1_u128, |product, factor| {
            *product = product.saturating_mul(factor);
            Some(*product)
        });
        round.collect()
    }

    /// Refuses more than [`MESSAGES_MAX`] oral messages in `agreements` runs at once.
    ///
    /// # Errors
    /// The predicted number and the bound.
    pub fn check_oral_size(&self, agreements: u8) -> Result<(), SettingError> {
        let of_one = self.oral_messages().into_iter().fold(0, u128::saturating_add);
        let predicted = of_one.saturating_mul(u128::from(agreements));
        if predicted > MESSAGES_MAX {
            return Err(SettingError::TooManyMessages { predicted, bound: MESSAGES_MAX });
        }
        Ok(())
    }

    /// Checks that `general` is a lieutenant here.
    ///
    /// # Errors
    /// It is none of the generals, or the commander.
    pub fn check_lieutenant(&self, general: General) -> Result<(), SettingError> {
        if !self.has(general) {
            return Err(SettingError::NotAGeneral(u64::from(general.0), self.n));
        }
        if general == self.commander {
            return Err(SettingError::Commands(general.0));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "setting_test.rs"]
mod tests;
