//! Gives out wrong, endless or no parts of snapshots, and claims a checkpoint far ahead.

use bytes::Bytes;
use pbft_core::hook::Deed;
use pbft_core::message::Statement;
use pbft_core::replica::Action;
use pbft_core::transfer::{Part, PartOf};

use super::world::flip;
use super::{Behaviour, World};

#[derive(Default)]
pub(super) struct PoisonedDonor;

fn poison(part: &mut Part) {
    match &mut part.what {
        PartOf::Head { sessions, .. } => sessions.top = flip(sessions.top),
        PartOf::Nodes { digests, .. } => {
            if let Some(first) = digests.first_mut() {
                *first = flip(*first);
            }
        }
        PartOf::Pages { pages, .. } => {
            if let Some((_, page)) = pages.first_mut() {
                let mut bytes = page.to_vec();
                bytes.push(0xff);
                *page = Bytes::from(bytes);
            }
        }
        _ => {}
    }
}

impl Behaviour for PoisonedDonor {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        match deed {
            Deed::Hand { to, mut part } => match world.random.below(4) {
                0 => {}
                1 => {
                    for _ in 0..3 {
                        world.pass(Deed::Hand { to, part: part.clone() });
                    }
                }
                _ => {
                    poison(&mut part);
                    world.pass(Deed::Hand { to, part });
                }
            },
            Deed::Act(Action::Say { to, statement: Statement::Status(mut status), batch }) => {
                let interval = world.kit.cluster.constants().checkpoint_interval;
                status.stable = status.stable.plus(100 * interval);
                status.executed = status.executed.plus(100 * interval);
                status.slots.clear();
                world.say(to, Statement::Status(status), batch);
            }
            deed => world.pass(deed),
        }
    }
}
