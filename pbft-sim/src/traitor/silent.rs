//! Says nothing to anyone, and keeps its links alive.

use pbft_core::hook::Deed;
use pbft_core::replica::{Action, To};

use super::{Behaviour, World};

#[derive(Default)]
pub(super) struct Silent;

impl Behaviour for Silent {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        match deed {
            // Its own replica goes on, so that it has something to keep to itself.
            Deed::Act(Action::Say { to: To::All, statement, batch }) => {
                world.say(To::One(world.me()), statement, batch);
            }
            Deed::Act(Action::Say { .. } | Action::Relay { .. })
            | Deed::Tell { .. }
            | Deed::Hand { .. } => {}
            deed => world.pass(deed),
        }
    }
}
