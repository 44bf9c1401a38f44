//! `--traitor`: replicas that lie. The same behaviours as in the simulator, here over QUIC.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use pbft_app::core::hook::Hook;
use pbft_app::core::types::ReplicaId;
use pbft_app::{Deployment, NodeKeys, Typed};
use pbft_sim::traitor::{Controller, Kit, Spec, Traitor};

use crate::Failure;
use crate::service::Counter;

fn usage(error: impl std::fmt::Display) -> Failure {
    Failure::Usage(format!("--traitor: {error}"))
}

/// Reads NAME[,key=value...].
pub(crate) fn parse(text: &str) -> Result<Spec, Failure> {
    text.parse().map_err(usage)
}

/// Reads I=NAME[,key=value...] of each, in the order of the replicas.
pub(crate) fn parse_each(
    texts: &[String],
    replicas: usize,
) -> Result<Vec<(ReplicaId, Spec)>, Failure> {
    let mut traitors = Vec::new();
    for text in texts {
        let parts = text.split_once('=').and_then(|(id, spec)| Some((id.parse().ok()?, spec)));
        let Some((id, spec)) = parts else {
            return Err(usage(format!("{text}: write it as I=NAME[,key=value...]")));
        };
        if usize::try_from(id).is_ok_and(|id| id >= replicas) {
            let last = replicas.saturating_sub(1);
            return Err(usage(format!("{text}: the replicas are 0 to {last}")));
        }
        if traitors.iter().any(|(other, _)| *other == ReplicaId(id)) {
            return Err(usage(format!("{text}: replica {id} is a traitor already")));
        }
        traitors.push((ReplicaId(id), parse(spec)?));
    }
    traitors.sort_by_key(|(id, _)| *id);
    Ok(traitors)
}

/// One line that nobody overlooks.
pub(crate) fn announcement(id: ReplicaId, spec: &Spec) -> String {
    format!("replica {id} is a TRAITOR: {spec} - {}", spec.does())
}

/// The traitor, to be put between a replica and the world.
pub(crate) fn hook(
    spec: &Spec,
    id: ReplicaId,
    deployment: &Deployment,
    keys: &NodeKeys,
    seed: u64,
    controller: Controller,
) -> Result<Box<dyn Hook>, Failure> {
    let kit = Kit {
        id,
        cluster: Arc::clone(deployment.cluster()),
        signer: Arc::new(keys.signer()),
        edge: None,
        limits: deployment.limits(),
        application: Arc::new(|| Box::new(Typed::<Counter>::new())),
        seed,
        controller,
    };
    Ok(Box::new(Traitor::new(spec, kit).map_err(usage)?))
}

/// A seed that differs from run to run.
pub(crate) fn clock_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or_default()
}
