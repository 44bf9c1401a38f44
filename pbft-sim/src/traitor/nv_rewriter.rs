//! Starts its view with something else than follows from the ViewChanges (PITFALLS D2).

use std::sync::Arc;

use pbft_core::hook::Deed;
use pbft_core::message::{NewView, Statement, ViewChange, Vote};
use pbft_core::types::{Digest, View};

use super::vc_liar_forges::NOBODYS;
use super::world::{flip, said};
use super::{Behaviour, World};

/// How it rewrites in one view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The NewView is right and the proposals are not: other digests.
    Replace,
    /// The NewView is right and nothing is proposed again: null, which needs no body, in every slot.
    Erase,
    /// The proposals come one slot off.
    Reorder,
    /// One ViewChange too few.
    Fewer,
    /// One ViewChange twice.
    Twice,
    /// One ViewChange without its certificates, under the signature of the whole.
    Strip,
    /// One ViewChange that nobody signed.
    Invent,
}

pub(super) struct NvRewriter {
    way: Way,
    decided: View,
}

impl Default for NvRewriter {
    fn default() -> Self {
        NvRewriter { way: Way::Replace, decided: View(0) }
    }
}

impl NvRewriter {
    fn choose(&mut self, world: &mut World<'_>, view: View) {
        if self.decided != view {
            self.decided = view;
            let ways = [
                Way::Replace,
                Way::Erase,
                Way::Reorder,
                Way::Fewer,
                Way::Twice,
                Way::Strip,
                Way::Invent,
            ];
            self.way = world.random.pick(&ways, Way::Replace);
        }
    }

    fn rewrite(&self, honest: &NewView) -> NewView {
        let mut lie = honest.clone();
        match self.way {
            Way::Replace | Way::Erase | Way::Reorder => {}
            Way::Fewer => drop(lie.changes.pop()),
            Way::Twice => {
                lie.changes.pop();
                lie.changes.extend(lie.changes.first().cloned());
            }
            Way::Strip => {
                if let Some(change) = lie.changes.last_mut() {
                    let stripped =
                        ViewChange { prepared: Vec::new(), ..ViewChange::clone(&change.change) };
                    change.change = Arc::new(stripped);
                }
            }
            Way::Invent => {
                if let Some(change) = lie.changes.last_mut() {
                    change.signature = NOBODYS;
                }
            }
        }
        lie
    }
}

impl Behaviour for NvRewriter {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        match said(&deed) {
            Some((statement @ Statement::NewView(new_view), _)) => {
                self.choose(world, new_view.view);
                let lie = Arc::new(self.rewrite(new_view));
                world.say_each(statement, None, |_, _| Some(Statement::NewView(Arc::clone(&lie))));
            }
            // A proposal without a body belongs to the start of a view.
            Some((statement @ Statement::PrePrepare(vote), None)) => {
                let vote = match self.way {
                    Way::Replace => Vote { digest: flip(vote.digest), ..*vote },
                    Way::Erase => Vote { digest: Digest::NULL, ..*vote },
                    Way::Reorder => Vote { sequence: vote.sequence.next(), ..*vote },
                    _ => *vote,
                };
                world.say_each(statement, None, |_, _| Some(Statement::PrePrepare(vote)));
            }
            _ => world.pass(deed),
        }
    }
}
