//! Says a wrong state, to all or to half of the others, or the right state at the wrong slot.

use pbft_core::hook::Deed;
use pbft_core::message::{Checkpoint, Statement};

use super::controller::is_odd;
use super::world::{other_state, said};
use super::{Behaviour, World};

#[derive(Default)]
pub(super) struct CheckpointLiar;

impl Behaviour for CheckpointLiar {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        let Some((statement @ Statement::Checkpoint(checkpoint), _)) = said(&deed) else {
            return world.pass(deed);
        };
        let honest = *checkpoint;
        let interval = world.kit.cluster.constants().checkpoint_interval;
        let way = world.random.below(3);
        world.say_each(statement, None, |_, to| {
            Some(match way {
                0 => other_state(honest),
                1 if is_odd(to) => other_state(honest),
                1 => Statement::Checkpoint(honest),
                _ => Statement::Checkpoint(Checkpoint {
                    sequence: honest.sequence.plus(interval),
                    ..honest
                }),
            })
        });
    }
}
