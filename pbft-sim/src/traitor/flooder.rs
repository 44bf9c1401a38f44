//! Sends valid signed junk as fast as it may: votes for slots to come, checkpoints, statuses, fetches.

use pbft_core::message::{BodyName, Checkpoint, Fetch, Held, ReplicaSet, Statement, Status, Vote};
use pbft_core::types::Sequence;

use super::World;
use super::beat::OnBeat;
use super::spec::{Settings, SpecError};

pub(super) struct Flooder {
    burst: u64,
}

impl Flooder {
    pub(super) fn new(settings: &mut Settings) -> Result<Flooder, SpecError> {
        Ok(Flooder { burst: settings.number("burst", 20)? })
    }

    fn junk(world: &mut World<'_>) -> Statement {
        let constants = world.kit.cluster.constants().clone();
        let ahead = world.random.between(1, 4 * constants.window);
        let sequence = world.executed().plus(ahead);
        let vote = Vote { view: world.view(), sequence, digest: world.digest() };
        match world.random.below(5) {
            0 if !world.is_primary() => Statement::Prepare(vote),
            0 | 1 => Statement::Commit(vote),
            2 => {
                let interval = constants.checkpoint_interval;
                let sequence = Sequence(sequence.0.div_ceil(interval).saturating_mul(interval));
                Statement::Checkpoint(Checkpoint { sequence, digest: vote.digest })
            }
            3 => {
                let first = Sequence(1);
                let slots = (0..constants.window).map(|at| Held {
                    sequence: first.plus(at),
                    pre_prepare: false,
                    body: false,
                    committed: false,
                    prepares: ReplicaSet::default(),
                    commits: ReplicaSet::default(),
                });
                Statement::Status(Status { slots: slots.collect(), ..Status::default() })
            }
            _ => Statement::Fetch(Fetch {
                bodies: (0..16)
                    .map(|at| BodyName { sequence: world.executed().plus(at), digest: vote.digest })
                    .collect(),
            }),
        }
    }
}

impl OnBeat for Flooder {
    fn beat(&mut self, world: &mut World<'_>) {
        for _ in 0..self.burst {
            let junk = Self::junk(world);
            world.tell_others(&junk, None);
        }
    }
}
