//! Sends each statement to just enough others for a quorum, chosen at random.

use pbft_core::hook::Deed;

use super::world::said;
use super::{Behaviour, World};

#[derive(Default)]
pub(super) struct SelectiveSender;

impl Behaviour for SelectiveSender {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        let Some((statement, batch)) = said(&deed) else { return world.pass(deed) };
        let mut left_out = world.kit.cluster.n() - world.kit.cluster.quorum();
        let mut rest = world.others().count();
        world.say_each(statement, batch, |random, _| {
            let odds = u64::try_from(left_out * 1000).unwrap_or(0);
            let skip =
                random.chance(odds.checked_div(u64::try_from(rest).unwrap_or(1)).unwrap_or(0));
            rest = rest.saturating_sub(1);
            left_out -= usize::from(skip);
            (!skip).then(|| statement.clone())
        });
    }
}
