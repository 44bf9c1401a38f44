//! Tries to have honest replicas convicted: relays their statements late and in odd order, alters them, and
//! fabricates evidence.

use std::sync::Arc;

use pbft_core::evidence::Evidence;
use pbft_core::message::{Message, Signed, Vote};
use pbft_core::replica::To;

use super::World;
use super::beat::OnBeat;
use super::world::{flip, revote, vote_in};

pub(super) struct Framer;

/// The statement with another digest under the same signature.
fn altered(signed: &Signed) -> Option<Signed> {
    let vote = vote_in(&signed.statement)?;
    let statement = revote(&signed.statement, Vote { digest: flip(vote.digest), ..vote });
    Some(Signed { statement, ..signed.clone() })
}

impl OnBeat for Framer {
    fn beat(&mut self, world: &mut World<'_>) {
        let count = u64::try_from(world.notes.statements.len()).unwrap_or(0);
        let at = usize::try_from(world.random.below(count)).unwrap_or(0);
        let Some(signed) = world.notes.statements.get(at).cloned() else { return };
        let evidence = match world.random.below(6) {
            0 | 1 => return world.send(To::All, Message::Statement(signed)),
            2 => {
                if let Some(altered) = altered(&signed) {
                    world.send(To::All, Message::Statement(altered));
                }
                return;
            }
            // The statement and an altered copy.
            3 => altered(&signed).and_then(|altered| Evidence::new(signed, altered)),
            // A statement that is not void at all.
            4 => Evidence::of_void(signed, None),
            // Two statements of different replicas.
            _ => {
                let other = world.notes.statements.front().cloned();
                other.and_then(|other| {
                    Evidence::new(Signed { sender: signed.sender, ..other }, signed)
                })
            }
        };
        if let Some(evidence) = evidence {
            world.send(To::All, Message::Evidence(Arc::new(evidence)));
        }
    }
}
