//! Gives out wrong, endless or no parts of snapshots, or a whole other state that is consistent in itself, and
//! claims a checkpoint far ahead.

use std::collections::BTreeMap;

use bytes::Bytes;
use pbft_core::hook::Deed;
use pbft_core::message::Statement;
use pbft_core::pages::PageChanges;
use pbft_core::replica::Action;
use pbft_core::transfer::{Part, PartOf, TreeName};
use pbft_core::tree::PageTree;
use pbft_core::types::{ReplicaId, Sequence};

use super::world::flip;
use super::{Behaviour, World};

/// Transfers remembered.
const LIES_MAX: usize = 64;

/// How it lies to one replica about one snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Parts are spoilt, repeated or left out one by one.
    Spoil,
    /// The application's state is another one, of a single page, and all parts agree on it (PITFALLS G1).
    Forge,
    /// No client ever asked for anything: the sessions are empty (PITFALLS B2).
    Forget,
}

#[derive(Default)]
pub(super) struct PoisonedDonor {
    ways: BTreeMap<(Sequence, ReplicaId), Way>,
}

impl PoisonedDonor {
    fn way(&mut self, world: &mut World<'_>, sequence: Sequence, to: ReplicaId) -> Way {
        if self.ways.len() >= LIES_MAX {
            self.ways.pop_first();
        }
        let ways = [Way::Spoil, Way::Forge, Way::Forget];
        *self.ways.entry((sequence, to)).or_insert_with(|| world.random.pick(&ways, Way::Spoil))
    }
}

/// The page of the forged state.
const FORGED: &[u8] = b"everything belongs to the donor";

fn forged() -> PageTree {
    let mut tree = PageTree::new();
    let page = Bytes::from_static(FORGED);
    let total_bytes = u64::try_from(page.len()).unwrap_or(0);
    tree.apply(PageChanges { count: 1, total_bytes, pages: vec![(0, page)] });
    tree
}

fn forge(part: &mut Part) {
    match &mut part.what {
        PartOf::Head { application, .. } => *application = forged().head(),
        PartOf::Pages { tree: TreeName::Application, pages } => {
            pages.iter_mut().for_each(|(_, page)| *page = Bytes::from_static(FORGED));
        }
        _ => {}
    }
}

fn forget(part: &mut Part) {
    if let PartOf::Head { sessions, .. } = &mut part.what {
        *sessions = PageTree::new().head();
    }
}

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
            Deed::Hand { to, mut part } => {
                match self.way(world, part.sequence, to) {
                    Way::Forge => forge(&mut part),
                    Way::Forget => forget(&mut part),
                    Way::Spoil => match world.random.below(4) {
                        0 => return,
                        1 => {
                            for _ in 0..2 {
                                world.pass(Deed::Hand { to, part: part.clone() });
                            }
                        }
                        _ => poison(&mut part),
                    },
                }
                world.pass(Deed::Hand { to, part });
            }
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
