//! Honest code that forgets a part of its journal now and then.

use pbft_core::hook::Deed;
use pbft_core::replica::Record;

use super::World;
use super::beat::OnBeat;

pub(super) struct Amnesiac;

impl OnBeat for Amnesiac {
    fn beat(&mut self, world: &mut World<'_>) {
        // Before the first stable checkpoint there is no snapshot to start from.
        if world.notes.stable.is_none() {
            return;
        }
        let forgets = world.random.pick(&[200, 500, 1000], 500);
        let mut kept = Vec::new();
        for record in &world.notes.journal {
            let proof = matches!(record, Record::Stable(_));
            if proof || !world.random.chance(forgets) {
                kept.push(record.clone());
            }
        }
        world.pass(Deed::Forget(kept));
    }
}
