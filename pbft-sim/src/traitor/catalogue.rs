//! All traitors by name (docs/traitors.md).

use std::fmt::Write as _;

use super::spec::{Settings, SpecError};
use super::{Behaviour, Kit};
use super::{
    amnesiac::Amnesiac, beat::Beating, body_swapper::BodySwapper, censor::Censor,
    checkpoint_liar::CheckpointLiar, double_voter::DoubleVoter,
    equivocating_backup::EquivocatingBackup, equivocating_primary::EquivocatingPrimary,
    flooder::Flooder, forging_primary::ForgingPrimary, framer::Framer,
    garbage_sender::GarbageSender, hole_maker::HoleMaker, nv_partial::NvPartial,
    nv_rewriter::NvRewriter, nv_staller::NvStaller, one_per_timeout::OnePerTimeout,
    poisoned_donor::PoisonedDonor, premature_committer::PrematureCommitter, read_liar::ReadLiar,
    replaying_primary::ReplayingPrimary, reply_liar::ReplyLiar, selective_sender::SelectiveSender,
    seq_exhauster::SeqExhauster, sig_edge::SigEdge, silent::Silent, silent_primary::SilentPrimary,
    slow_primary::SlowPrimary, stale_view_voter::StaleViewVoter, twin::Twin,
    two_faced_mutator::TwoFacedMutator, vc_liar_forges::VcLiarForges, vc_liar_omits::VcLiarOmits,
    vc_spammer::VcSpammer, vc_two_faces::VcTwoFaces,
};

/// How one is made from its settings, of which it takes its own.
type Make = fn(&Kit, &mut Settings) -> Result<Box<dyn Behaviour>, SpecError>;

/// One way of being a traitor.
pub(super) struct Entry {
    name: &'static str,
    does: &'static str,
    /// Whether it needs a view change to lie about, and so starves its own view.
    pub(super) provokes: bool,
    pub(super) make: Make,
}

/// The names, in the order of the catalogue.
pub fn names() -> impl Iterator<Item = &'static str> {
    ENTRIES.iter().map(|entry| entry.name)
}

const fn plain<T: Behaviour + Default + 'static>(name: &'static str, does: &'static str) -> Entry {
    Entry { name, does, provokes: false, make: |_, _| Ok(Box::<T>::default()) }
}

/// One that lies about view changes, and sees to it that there is one.
const fn provoking<T: Behaviour + Default + 'static>(
    name: &'static str,
    does: &'static str,
) -> Entry {
    Entry { provokes: true, ..plain::<T>(name, does) }
}

const fn made(name: &'static str, does: &'static str, make: Make) -> Entry {
    Entry { name, does, provokes: false, make }
}

static ENTRIES: [Entry; 34] = [
    plain::<EquivocatingPrimary>(
        "equivocating_primary",
        "proposes one batch to the even replicas and another to the odd",
    ),
    plain::<EquivocatingBackup>(
        "equivocating_backup",
        "votes for one digest towards the even replicas and for another towards the odd",
    ),
    plain::<DoubleVoter>("double_voter", "votes for every digest it sees, many times"),
    made("twin", "two correct copies of itself behind different links", |kit, _| {
        Ok(Box::new(Twin::new(kit)?))
    }),
    plain::<Silent>("silent", "says nothing, keeps its links alive"),
    plain::<SilentPrimary>("silent_primary", "proposes nothing as primary"),
    plain::<SelectiveSender>(
        "selective_sender",
        "sends each statement to a random minimal quorum only",
    ),
    made("censor", "as primary never orders one client (client=0)", |_, settings| {
        Ok(Box::new(Censor::new(settings)?))
    }),
    made("slow_primary", "proposes just before each time-out (delay_ms)", |kit, settings| {
        Ok(Box::new(SlowPrimary::new(kit, settings)?))
    }),
    made("one_per_timeout", "orders one request per period (period_ms)", |kit, settings| {
        Ok(Box::new(OnePerTimeout::new(kit, settings)?))
    }),
    plain::<HoleMaker>("hole_maker", "leaves slots out, proposes later ones only"),
    plain::<SeqExhauster>(
        "seq_exhauster",
        "proposes at the end of the window, beyond it, at the end of all numbers",
    ),
    plain::<ForgingPrimary>("forging_primary", "orders requests that no client made"),
    plain::<ReplayingPrimary>(
        "replaying_primary",
        "orders old requests, old batches, one request many times",
    ),
    plain::<BodySwapper>("body_swapper", "names the right digest with another body for each"),
    plain::<PrematureCommitter>(
        "premature_committer",
        "commits without being prepared, prepares what nobody proposed, proposes as a backup",
    ),
    plain::<StaleViewVoter>("stale_view_voter", "votes in old views and in views to come"),
    made("vc_spammer", "votes for ever higher views (every_ms)", |_, settings| {
        Ok(Box::new(Beating::new(settings, 20, VcSpammer::default())?))
    }),
    provoking::<VcLiarOmits>("vc_liar_omits", "leaves its certificates out of its view-change"),
    provoking::<VcLiarForges>("vc_liar_forges", "puts forged certificates into its view-change"),
    provoking::<VcTwoFaces>("vc_two_faces", "says two view-changes for one view"),
    provoking::<NvRewriter>("nv_rewriter", "starts its view with something else than follows"),
    provoking::<NvPartial>(
        "nv_partial",
        "starts its view towards f + 1 replicas, otherwise towards others",
    ),
    provoking::<NvStaller>("nv_staller", "never starts its view"),
    plain::<CheckpointLiar>(
        "checkpoint_liar",
        "says a wrong state, or the right one at the wrong slot",
    ),
    plain::<PoisonedDonor>(
        "poisoned_donor",
        "gives out wrong parts of snapshots, claims a checkpoint far ahead",
    ),
    plain::<ReplyLiar>("reply_liar", "tells clients wrong results"),
    plain::<ReadLiar>("read_liar", "answers clients from an older state"),
    made("amnesiac", "forgets part of its journal now and then (every_ms)", |_, settings| {
        Ok(Box::new(Beating::new(settings, 700, Amnesiac)?))
    }),
    made("flooder", "valid signed junk, as fast as it may (every_ms, burst)", |_, settings| {
        let flooder = Flooder::new(settings)?;
        Ok(Box::new(Beating::new(settings, 10, flooder)?))
    }),
    made("garbage_sender", "bytes that are no message (every_ms)", |_, settings| {
        Ok(Box::new(Beating::new(settings, 5, GarbageSender)?))
    }),
    made("sig_edge", "signatures at the edge, and of other kinds and clusters", |kit, _| {
        Ok(Box::new(SigEdge::new(kit)))
    }),
    made("framer", "tries to have honest replicas convicted (every_ms)", |_, settings| {
        Ok(Box::new(Beating::new(settings, 10, Framer)?))
    }),
    plain::<TwoFacedMutator>(
        "two_faced_mutator",
        "small mutations of its statements, another for each receiver",
    ),
];

pub(super) fn find(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name == name)
}

/// What the traitor of this name does.
pub fn does(name: &str) -> Option<&'static str> {
    find(name).map(|entry| entry.does)
}

/// A list of all traitors and what they do, for people.
pub fn describe() -> String {
    let mut text = String::new();
    for entry in &ENTRIES {
        let _ = writeln!(text, "  {:<22} {}", entry.name, entry.does);
    }
    text
}
