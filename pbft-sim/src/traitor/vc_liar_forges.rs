//! Puts certificates and checkpoints into its ViewChange that nobody signed (PITFALLS D3).

use std::sync::Arc;

use pbft_core::certificate::{PreparedCertificate, Signatures, StableProof};
use pbft_core::hook::Deed;
use pbft_core::message::{Checkpoint, Statement, ViewChange, Vote};
use pbft_core::types::{ReplicaId, Sequence, Signature, View};

use super::world::said;
use super::{Behaviour, World};

#[derive(Default)]
pub(super) struct VcLiarForges;

/// A certificate for a digest of nothing, with `signers` under it.
fn invented(
    world: &mut World<'_>,
    sequence: Sequence,
    view: View,
    signers: Vec<ReplicaId>,
) -> PreparedCertificate {
    let vote = Vote { view, sequence, digest: world.digest() };
    let own = world.sign(Statement::Prepare(vote)).signature;
    let pre_prepare = world.sign(Statement::PrePrepare(vote)).signature;
    let prepares = Signatures::raw(signers.into_iter().map(|signer| (signer, own)).collect());
    PreparedCertificate { vote, pre_prepare, prepares }
}

impl VcLiarForges {
    fn forge(world: &mut World<'_>, honest: &ViewChange) -> ViewChange {
        let mut lie = honest.clone();
        let cluster = Arc::clone(&world.kit.cluster);
        let needed = cluster.quorum() - 1;
        let sequence = lie.stable_sequence().next();
        let before = View(lie.view.0.saturating_sub(1));
        let primary = cluster.primary(before);
        let backups: Vec<_> = cluster.replicas().filter(|it| *it != primary).take(needed).collect();
        lie.prepared.retain(|certificate| certificate.vote.sequence != sequence);
        match world.random.below(5) {
            // One signer many times.
            0 => {
                lie.prepared.insert(0, invented(world, sequence, before, vec![world.me(); needed]));
            }
            // Others' names under the own signature.
            1 => lie.prepared.insert(0, invented(world, sequence, before, backups)),
            // A certificate of the view voted for.
            2 => lie.prepared.insert(0, invented(world, sequence, lie.view, backups)),
            // A certificate with a digest exchanged after it was signed.
            3 => match lie.prepared.pop() {
                Some(mut certificate) => {
                    certificate.vote.digest = world.digest();
                    lie.prepared.push(certificate);
                }
                None => lie.prepared.push(invented(world, sequence, before, backups)),
            },
            // A stable checkpoint that never was.
            _ => {
                let interval = cluster.constants().checkpoint_interval;
                let sequence = lie.stable_sequence().plus(10 * interval);
                let checkpoint = Checkpoint { sequence, digest: world.digest() };
                let own = world.sign(Statement::Checkpoint(checkpoint)).signature;
                let all = cluster.replicas().take(cluster.quorum());
                let signatures = Signatures::new(all.map(|signer| (signer, own)));
                lie = ViewChange {
                    view: lie.view,
                    stable: Some(StableProof { checkpoint, signatures }),
                    prepared: Vec::new(),
                };
            }
        }
        lie
    }
}

impl Behaviour for VcLiarForges {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        let Some((statement @ Statement::ViewChange(change), _)) = said(&deed) else {
            return world.pass(deed);
        };
        let lie = Arc::new(Self::forge(world, change));
        world.say_each(statement, None, |_, _| Some(Statement::ViewChange(Arc::clone(&lie))));
    }
}

/// Nobody's signature, for tests of what is refused.
pub(super) const NOBODYS: Signature = Signature([0; 64]);
