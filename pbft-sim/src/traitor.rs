//! Traitors: honest replicas with a function on what they hear and do.
//!
//! Every behaviour has a name and a file of its own under `traitor/`; [`names`] lists them. The same objects
//! run in the simulator ([`crate::Options::with_traitors`]) and on real nodes over QUIC (`pbft-app` with
//! its feature `fault-injection`), because all they touch is the hook between a replica and its host.
//!
//! ```
//! use pbft_core::types::ReplicaId;
//! use pbft_sim::{Options, Simulation, Verdict};
//!
//! let spec = "equivocating_primary,from_sequence=3".parse()?;
//! let options = Options::fault_free(7, 4).with_traitors(vec![(ReplicaId(0), spec)]);
//! let report = Simulation::new(options)?.run();
//! assert_eq!(report.verdict, Verdict::Pass);
//! assert!(report.evidence > 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::Arc;
use std::time::Duration;

use pbft_core::application::Application;
use pbft_core::cluster::Cluster;
use pbft_core::crypto::Signer;
use pbft_core::hook::{Deed, Hook, Scene};
use pbft_core::limits::Limits;
use pbft_core::message::Message;
use pbft_core::replica::{Action, Input, Record, To};
use pbft_core::signed::Verified;
use pbft_core::types::{Instant, ReplicaId, Sequence};

use crate::keys::EdgeSigner;
use crate::random::Random;

mod catalogue;
mod controller;
mod notes;
mod spec;
mod world;

mod amnesiac;
mod beat;
mod body_swapper;
mod censor;
mod checkpoint_liar;
mod double_voter;
mod equivocating_backup;
mod equivocating_primary;
mod flooder;
mod forging_primary;
mod framer;
mod garbage_sender;
mod hole_maker;
mod nv_partial;
mod nv_rewriter;
mod nv_staller;
mod one_per_timeout;
mod poisoned_donor;
mod premature_committer;
mod read_liar;
mod replaying_primary;
mod reply_liar;
mod selective_sender;
mod seq_exhauster;
mod sig_edge;
mod silent;
mod silent_primary;
mod slow_primary;
mod stale_view_voter;
mod twin;
mod two_faced_mutator;
mod vc_liar_forges;
mod vc_liar_omits;
mod vc_spammer;
mod vc_two_faces;

pub use catalogue::{describe, does, names};
pub use controller::Controller;
pub use notes::Notes;
pub use spec::{Spec, SpecError};
pub use world::World;

use spec::{Role, Trigger};
use world::proposal;

/// So long all traitors are honest, unless they have heard from everyone sooner.
const GATHERING: Duration = Duration::from_secs(1);

/// Makes an empty application, for behaviours that run a second replica.
pub type MakeApplication = Arc<dyn Fn() -> Box<dyn Application> + Send + Sync>;

/// What a traitor has at hand: its own key and nobody else's.
#[derive(Clone)]
pub struct Kit {
    /// Who it is.
    pub id: ReplicaId,
    /// Where.
    pub cluster: Arc<Cluster>,
    /// Its key.
    pub signer: Arc<dyn Signer>,
    /// The same key, for signatures that no correct signer makes; none where signatures are not ed25519.
    pub edge: Option<Arc<EdgeSigner>>,
    /// The bounds its replica runs under.
    pub limits: Limits,
    /// Its application, empty.
    pub application: MakeApplication,
    /// Everything random it does follows from this.
    pub seed: u64,
    /// What it shares with the other traitors.
    pub controller: Controller,
}

/// One way of being a traitor. The default of every method is honest.
pub trait Behaviour: Send {
    /// Sees an input; pushes what the replica is to be given.
    fn hear(
        &mut self,
        _world: &mut World<'_>,
        _from: Option<ReplicaId>,
        input: Input,
        inputs: &mut Vec<Input>,
    ) {
        inputs.push(input);
    }

    /// Sees what the replica wants done; does that or something else through the world.
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        world.pass(deed);
    }

    /// When it wants to be woken.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The time has come.
    fn wake(&mut self, _world: &mut World<'_>) {}
}

/// A traitor: one behaviour, or several by turns, under a trigger.
pub struct Traitor {
    kit: Kit,
    behaviours: Vec<Box<dyn Behaviour>>,
    current: usize,
    switch: Option<(u64, Instant)>,
    trigger: Trigger,
    /// Proposals in its own view after which it falls silent, so that others leave the view.
    provoke: Option<u64>,
    proposed: (u64, u64),
    random: Random,
    notes: Notes,
}

impl Traitor {
    /// The traitor that `spec` describes.
    ///
    /// # Errors
    /// An unknown name or setting.
    pub fn new(spec: &Spec, kit: Kit) -> Result<Traitor, SpecError> {
        let mut settings = spec.settings();
        let mut behaviours = Vec::new();
        let mut provokes = false;
        for name in spec.names() {
            let entry = catalogue::find(name).ok_or_else(|| SpecError::name(name))?;
            provokes |= entry.provokes;
            behaviours.push((entry.make)(&kit, &mut settings)?);
        }
        let trigger = Trigger::new(&mut settings)?;
        let switch_ms = settings.number("switch_ms", 300)?;
        let provoke = settings.number("provoke", if provokes { 11 } else { 0 })?;
        settings.finish()?;
        kit.controller.enlist(kit.id);
        let several = behaviours.len() > 1;
        Ok(Traitor {
            behaviours,
            current: 0,
            switch: several.then_some((switch_ms.max(1) * 1000, Instant(0))),
            trigger,
            provoke: (provoke > 0).then_some(provoke),
            proposed: (0, 0),
            random: Random::new(kit.seed ^ u64::from(kit.id.0).wrapping_mul(0x51_7cc1_b727)),
            notes: Notes::default(),
            kit,
        })
    }

    /// Another behaviour takes over when its time has come.
    fn turn(&mut self, now: Instant) {
        if let Some((period, due)) = &mut self.switch
            && now >= *due
        {
            *due = Instant(now.0.saturating_add(*period));
            let count = u64::try_from(self.behaviours.len()).unwrap_or(1);
            self.current = usize::try_from(self.random.below(count)).unwrap_or(0);
        }
    }

    fn is_on(&mut self, scene: Scene<'_>) -> bool {
        let replica = scene.replica;
        let primary = self.kit.cluster.primary(replica.view()) == self.kit.id;
        let Trigger { role, per_mille, from_sequence, from_view, from_micros } = self.trigger;
        let begun = *self.notes.begun.get_or_insert(scene.now.instant);
        let up = scene.now.instant.since(begun);
        if up < GATHERING && !self.kit.controller.is_ready() {
            return false;
        }
        (match role {
            Role::Any => true,
            Role::Primary => primary,
            Role::Backup => !primary,
        }) && replica.summary().executed.next() >= Sequence(from_sequence)
            && replica.view().0 >= from_view
            && up.as_micros() >= u128::from(from_micros)
            && (per_mille >= 1000 || self.random.chance(per_mille))
    }

    /// Whether it lets its own view starve, so that there is a view change to lie about.
    fn starves(&mut self, scene: Scene<'_>, deed: &Deed) -> bool {
        let Some(most) = self.provoke else { return false };
        if proposal(deed).is_none() {
            return false;
        }
        let view = scene.replica.view().0;
        if self.proposed.0 != view {
            self.proposed = (view, 0);
        }
        self.proposed.1 += 1;
        self.proposed.1 > most
    }

    fn with(
        &mut self,
        scene: Scene<'_>,
        deeds: &mut Vec<Deed>,
        act: impl FnOnce(&mut dyn Behaviour, &mut World<'_>),
    ) {
        let Traitor { behaviours, current, kit, notes, random, .. } = self;
        let mut world = World::new(scene, kit, notes, random, deeds);
        if let Some(behaviour) = behaviours.get_mut(*current) {
            act(&mut **behaviour, &mut world);
        }
    }
}

/// Whether others bring something that bears the key of `me`.
pub(crate) fn is_own_word(me: ReplicaId, verified: &Verified) -> bool {
    let own = match verified.message() {
        Message::Evidence(evidence) => evidence.subject().replica == me,
        message => message.signed().is_some_and(|signed| signed.sender == me),
    };
    own && !verified.is_own_hand()
}

impl Hook for Traitor {
    fn hear(
        &mut self,
        scene: Scene<'_>,
        from: Option<ReplicaId>,
        input: Input,
        inputs: &mut Vec<Input>,
        deeds: &mut Vec<Deed>,
    ) {
        self.turn(scene.now.instant);
        // An honest replica that heard of its own lies would take its key for stolen, and fall silent.
        if matches!(&input, Input::Deliver(verified) if is_own_word(self.kit.id, verified)) {
            return;
        }
        self.notes.hear(self.kit.id, &input);
        self.notes.links.extend(from);
        if self.notes.links.len() + 1 >= self.kit.cluster.n() {
            self.kit.controller.note_ready(self.kit.id);
        }
        if self.is_on(scene) {
            self.with(scene, deeds, |behaviour, world| behaviour.hear(world, from, input, inputs));
        } else {
            inputs.push(input);
        }
    }

    fn act(&mut self, scene: Scene<'_>, deed: Deed, deeds: &mut Vec<Deed>) {
        self.turn(scene.now.instant);
        self.notes.act(&deed);
        if self.starves(scene, &deed) || betrays_an_ally(&self.kit.controller, self.kit.id, &deed) {
            return;
        }
        if self.is_on(scene) {
            self.with(scene, deeds, |behaviour, world| behaviour.act(world, deed));
        } else {
            deeds.push(deed);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.behaviours.iter().filter_map(|behaviour| behaviour.deadline()).min()
    }

    fn wake(&mut self, scene: Scene<'_>, deeds: &mut Vec<Deed>) {
        // All of them: what one holds back must come out, whoever's turn it is.
        let Traitor { behaviours, kit, notes, random, .. } = self;
        for behaviour in behaviours {
            if behaviour.deadline().is_some_and(|due| due <= scene.now.instant) {
                let mut world = World::new(scene, kit, notes, random, deeds);
                behaviour.wake(&mut world);
            }
        }
    }
}

/// Whether the honest replica behind a traitor would pass on what convicts one of its allies.
fn betrays_an_ally(controller: &Controller, me: ReplicaId, deed: &Deed) -> bool {
    let ally = |replica| replica != me && controller.is_ally(replica);
    match deed {
        Deed::Act(Action::Relay { to: To::All, message: Message::Evidence(evidence) }) => {
            ally(evidence.subject().replica)
        }
        Deed::Act(Action::Relay { to: To::All, message: Message::Statement(signed) }) => {
            ally(signed.sender)
        }
        _ => false,
    }
}

/// What a store keeps of a journal when slots at or below `below` may go.
pub(crate) fn prune(journal: &mut Vec<Record>, below: Sequence) {
    journal.retain(|record| match record {
        Record::Prepared { certificate, .. } => certificate.vote.sequence > below,
        Record::Checkpoint(checkpoint) => checkpoint.sequence > below,
        Record::Stable(proof) => proof.sequence() >= below,
        Record::ViewChange(_) | Record::NewView { .. } => true,
        Record::Lost | Record::Reinstated { .. } => true,
    });
}
