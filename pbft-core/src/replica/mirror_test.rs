use alloc::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

proptest! {
    /// Any numbers in any order, with jumps beyond the window: what a plain set of all of them says.
    #[test]
    fn the_mirror_says_what_a_set_of_all_numbers_would(
        window in 1_u64..200,
        steps in prop::collection::vec((any::<bool>(), 0_u64..500), 1..80),
    ) {
        let client = ClientId(3);
        let mut mirror = Mirror::new(window);
        let (mut all, mut top) = (BTreeSet::new(), 0_u64);
        for (onwards, by) in steps {
            let number = if onwards { top + by + 1 } else { top.saturating_sub(by).max(1) };
            mirror.consume(client, RequestNumber(number));
            top = top.max(number);
            all.insert(number);
            for asked in top.saturating_sub(2 * window)..=top + window {
                let stale = asked + window <= top;
                let expected = stale || all.contains(&asked);
                let found = mirror.is_consumed(client, RequestNumber(asked));
                prop_assert_eq!(found, expected, "{} of top {} window {}", asked, top, window);
            }
        }
        prop_assert!(!mirror.is_consumed(ClientId(4), RequestNumber(1)));
    }
}
