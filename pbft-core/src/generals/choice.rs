//! How many values become one. Both choices are functions of the values alone, never of their order
//! (PITFALLS M1, M4).

use alloc::vec::Vec;

/// The vote at a node of the relay tree of OM(m).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Choice {
    /// The value of strictly more than half, else the default.
    #[default]
    Majority,
    /// The value at index (length - 1) / 2 of the sorted ones, rounded down: for values with a distance, such as
    /// sensor readings. Loyal values on both sides of a lie keep it in between.
    Median,
}

impl Choice {
    /// The choice among `values`; `default` where there is none.
    pub fn of<V: Clone + Ord>(self, values: &[V], default: &V) -> V {
        let mut sorted: Vec<&V> = values.iter().collect();
        sorted.sort_unstable();
        // If one value is more than half of all, it is also the one in the middle.
        let middle = sorted.get(values.len().saturating_sub(1) / 2).copied();
        let chosen = match self {
            Choice::Median => middle,
            Choice::Majority => middle.filter(|candidate| {
                let count = sorted.iter().filter(|value| *value == candidate).count();
                count > values.len() / 2
            }),
        };
        chosen.unwrap_or(default).clone()
    }
}

/// The choice among the set of values heard in SM(m).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum SetChoice {
    /// The only value, else the default: two signed orders convict the commander of lying.
    #[default]
    Single,
    /// The value at index (length - 1) / 2 of the sorted ones, rounded down; the default if there is none.
    Median,
}

impl SetChoice {
    /// The choice among `values`, which are ascending and distinct; `default` where there is none.
    pub fn of<V: Clone>(
        self,
        values: impl ExactSizeIterator<Item = impl core::borrow::Borrow<V>>,
        default: &V,
    ) -> V {
        let mut values = values;
        let count = values.len();
        let chosen = match self {
            SetChoice::Single if count != 1 => None,
            SetChoice::Single => values.next(),
            SetChoice::Median => values.nth(count.saturating_sub(1) / 2),
        };
        chosen.map_or_else(|| default.clone(), |value| value.borrow().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m1_a_majority_is_strictly_more_than_half_and_a_tie_is_the_default() {
        let of = |values: &[i128]| Choice::Majority.of(values, &-9);
        assert_eq!(of(&[1, 0, 1]), 1);
        assert_eq!(of(&[1, 0]), -9);
        assert_eq!(of(&[1, 1, 0, 0]), -9);
        assert_eq!(of(&[0, 1, 1, 1]), 1);
        assert_eq!(of(&[3, 3, 5, 5, 5]), 5);
        assert_eq!(of(&[3, 3, 3, 5, 5]), 3);
        assert_eq!(of(&[1, 2, 3]), -9);
        assert_eq!(of(&[7]), 7);
        assert_eq!(of(&[]), -9);
    }

    #[test]
    fn the_median_is_the_lower_one() {
        let of = |values: &[i128]| Choice::Median.of(values, &-9);
        assert_eq!(of(&[12, 11, 13]), 12);
        assert_eq!(of(&[4, 1, 3, 2]), 2);
        assert_eq!(of(&[2, 1]), 1);
        assert_eq!(of(&[5]), 5);
        assert_eq!(of(&[]), -9);
    }

    #[test]
    fn m4_a_set_of_one_counts_and_an_empty_or_larger_one_is_the_default() {
        let of = |choice: SetChoice, values: &[i128]| choice.of(values.iter(), &-9);
        assert_eq!(of(SetChoice::Single, &[5]), 5);
        assert_eq!(of(SetChoice::Single, &[]), -9);
        assert_eq!(of(SetChoice::Single, &[5, 6]), -9);
        assert_eq!(of(SetChoice::Median, &[5, 6]), 5);
        assert_eq!(of(SetChoice::Median, &[5, 6, 9]), 6);
        assert_eq!(of(SetChoice::Median, &[]), -9);
    }
}
