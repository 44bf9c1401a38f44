//! INV23: IC1, IC2, and the number of rounds and messages. Judged from outside, on what loyal generals decided.

use std::collections::BTreeMap;
use std::fmt;

use pbft_core::generals::{General, Setting, Value};

use super::Traitors;

/// A condition that did not hold, and who shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken<V> {
    /// IC1: two loyal lieutenants decided differently.
    Agreement {
        /// The one with the lowest number, and its decision.
        one: (General, V),
        /// The first who differs.
        other: (General, V),
    },
    /// IC2: the commander is loyal, and a loyal lieutenant does not obey.
    Obedience {
        /// What the commander ordered.
        order: V,
        /// The first who does something else.
        other: (General, V),
    },
}

impl<V: fmt::Debug> fmt::Display for Broken<V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Agreement { one, other } => {
                write!(
                    formatter,
                    "{} decides {:?} and {} decides {:?}",
                    one.0, one.1, other.0, other.1
                )
            }
            Broken::Obedience { order, other } => {
                write!(formatter, "{} decides {:?} and not {order:?}", other.0, other.1)
            }
        }
    }
}

/// IC1: all loyal lieutenants decided the same.
///
/// # Errors
/// Two who did not.
pub fn ic1<V: Value>(decisions: &BTreeMap<General, V>) -> Result<(), Broken<V>> {
    let Some(one) = decisions.iter().next() else { return Ok(()) };
    match decisions.iter().find(|(_, decision)| *decision != one.1) {
        None => Ok(()),
        Some(other) => Err(Broken::Agreement {
            one: (*one.0, one.1.clone()),
            other: (*other.0, other.1.clone()),
        }),
    }
}

/// IC2: if the commander is loyal, all loyal lieutenants decided its `order`. Holds when it is a traitor.
///
/// # Errors
/// One who did not.
pub fn ic2<V: Value>(
    commander: General,
    order: &V,
    traitors: &Traitors,
    decisions: &BTreeMap<General, V>,
) -> Result<(), Broken<V>> {
    if traitors.contains(&commander) {
        return Ok(());
    }
    match decisions.iter().find(|(_, decision)| *decision != order) {
        None => Ok(()),
        Some((id, decision)) => {
            Err(Broken::Obedience { order: order.clone(), other: (*id, decision.clone()) })
        }
    }
}

/// Whether `sent`, the oral messages of each round, is what the definition says: one number for each of m + 1
/// rounds, none above (n-1)(n-2)..., and exactly that if nobody was `silent`.
pub fn counts(setting: &Setting, sent: &[u64], silent: bool) -> bool {
    let most = setting.oral_messages();
    let fits = |(sent, most): (&u64, &u128)| match silent {
        true => u128::from(*sent) <= *most,
        false => u128::from(*sent) == *most,
    };
    sent.len() == most.len() && sent.iter().zip(&most).all(fits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn decisions(list: &[(u8, i128)]) -> BTreeMap<General, i128> {
        list.iter().map(|(id, value)| (General(*id), *value)).collect()
    }

    #[test]
    fn inv23_names_who_breaks_ic1_and_ic2() {
        assert_eq!(ic1(&decisions(&[])), Ok(()));
        assert_eq!(ic1(&decisions(&[(2, 5), (3, 5)])), Ok(()));
        let (one, other) = ((General(2), 5), (General(4), 6));
        assert_eq!(
            ic1(&decisions(&[(2, 5), (3, 5), (4, 6)])),
            Err(Broken::Agreement { one, other })
        );
        let (commander, loyal) = (General(1), Traitors::from([General(3)]));
        assert_eq!(ic2(commander, &5, &loyal, &decisions(&[(2, 5)])), Ok(()));
        let other = (General(2), 6);
        assert_eq!(
            ic2(commander, &5, &loyal, &decisions(&[(2, 6)])),
            Err(Broken::Obedience { order: 5, other })
        );
        let lying = Traitors::from([commander]);
        assert_eq!(ic2(commander, &5, &lying, &decisions(&[(2, 6)])), Ok(()));
    }

    #[test]
    fn inv23_counts_rounds_and_messages() {
        let setting = Setting::new(4, 1, General(1)).unwrap();
        assert!(counts(&setting, &[3, 6], false) && counts(&setting, &[3, 6], true));
        assert!(!counts(&setting, &[3, 5], false) && counts(&setting, &[3, 5], true));
        assert!(!counts(&setting, &[3, 7], true) && !counts(&setting, &[9], true));
    }
}
