//! The baseline: one server of one thread that verifies, applies and answers, over the same QUIC with the same
//! client signatures and the same state machine, and nobody to agree with.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use pbft_app::{Deployment, ReplicaSockets};
use pbft_core::message::{Batch, ClientMessage, Message, ReplicaMessage};
use pbft_core::signed::{Cache, Scrutiny, verify};
use pbft_core::state::ReplicatedState;
use pbft_core::types::{ReplicaId, Sequence, View, WallTime};
use pbft_core::wire;
use pbft_net::{
    Lane, MemberAddress, NetLimits, Network, Node as Peer, Received, ReplicaNetworkConfig, TlsKey,
};

use crate::deployment::{replica_keys, replica_tls_seed};
use crate::failure::Failure;
use crate::replica::{Counted, Counts};

/// Serves for ever; the future ends only with a failure.
///
/// # Errors
/// The network cannot be set up.
pub(crate) fn serve(
    deployment: &Deployment,
    sockets: ReplicaSockets,
    counts: Arc<Counts>,
) -> Result<impl Future<Output = Failure> + use<>, Failure> {
    let network = open(deployment, sockets)?;
    let cluster = Arc::clone(deployment.cluster());
    let verifier = deployment.verifier().clone();
    let mut state = ReplicatedState::new(Arc::clone(&cluster), Box::new(Counted::new(counts)));
    Ok(async move {
        let mut cache = Cache::default();
        let mut sequence = Sequence(0);
        loop {
            let Received::Frames { from, frames } = network.receive().await else { continue };
            for frame in frames {
                let Ok(ClientMessage::Request(request)) = wire::decode(&frame) else { continue };
                let message = Message::Request(request);
                let checked = verify(&cluster, &verifier, &mut cache, message, Scrutiny::Whole);
                let Ok(Message::Request(request)) = checked.map(|it| it.into_message()) else {
                    continue;
                };
                sequence = sequence.next();
                let batch = Batch::new(now(), vec![request]);
                let applied = match state.apply(sequence, Some(&batch), View(0)) {
                    Ok(applied) => applied,
                    Err(error) => return Failure::of("the server's state", error),
                };
                for reply in applied.replies {
                    let frame = wire::encode(&ReplicaMessage::Reply(reply));
                    if let Peer::Client(_) = from {
                        network.send(from, Lane::Urgent, frame);
                    }
                }
            }
        }
    })
}

fn open(deployment: &Deployment, sockets: ReplicaSockets) -> Result<Network, Failure> {
    let keys = replica_keys(0);
    let failed = |error: pbft_net::NetError| Failure::of("the server's network", error);
    let config = ReplicaNetworkConfig {
        id: ReplicaId(0),
        tls_key: TlsKey::from_seed(&replica_tls_seed(0)).map_err(failed)?,
        members: vec![MemberAddress {
            tls_key: keys.public().tls,
            address: sockets.peer_address(),
        }],
        clients: deployment.clients().iter().map(|keys| keys.tls).collect(),
        identity: deployment.identity(),
        limits: NetLimits::default(),
    };
    Network::replica(sockets, config).map_err(failed)
}

fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
