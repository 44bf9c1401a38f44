//! A hook on a running node: it sees what the replica would hear and do, and what it swallows does not happen.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use pbft_app::core::cluster::{Cluster, ClusterConfig};
use pbft_app::core::crypto::Ed25519Signer;
use pbft_app::core::hook::{Deed, Hook, Scene};
use pbft_app::core::limits::Constants;
use pbft_app::core::message::{Batch, Message, Operations, RequestBody, Statement, Vote};
use pbft_app::core::replica::{Action, Input, Summary, To};
use pbft_app::core::signed::sign_message;
use pbft_app::core::types::{
    ClientId, Instant, ReplicaId, RequestNumber, Sequence, View, WallTime,
};
use pbft_app::core::wire;
use pbft_app::{
    Client, ClientConfig, Deployment, Node, NodeConfig, NodeKeys, Numbers, Refusal, ReplicaEntry,
    ReplicaSockets, Service, Store, Submitted, Timeouts, Typed,
};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Sum(i64);

impl Service for Sum {
    type Command = i64;
    type Response = i64;
    fn execute(&mut self, _: &pbft_app::Context, amount: i64) -> Result<i64, Refusal> {
        self.0 += amount;
        Ok(self.0)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    connected: u64,
    by_peers: u64,
    requests: u64,
    own: u64,
    acts: u64,
    replies: u64,
    woken: u64,
}

/// Counts everything, wants to be woken at once always, and tells clients nothing if it is `mute`.
struct Spy {
    seen: Arc<Mutex<Seen>>,
    mute: bool,
}

impl Hook for Spy {
    fn hear(
        &mut self,
        scene: Scene<'_>,
        from: Option<ReplicaId>,
        input: Input,
        inputs: &mut Vec<Input>,
        _: &mut Vec<Deed>,
    ) {
        let mut seen = self.seen.lock().unwrap();
        match &input {
            Input::Connected(peer) => {
                assert_eq!(from, Some(*peer));
                seen.connected += 1;
            }
            Input::Deliver(verified) => match (from, verified.message()) {
                (None, Message::Request(_)) => seen.requests += 1,
                (
                    None,
                    Message::Statement(signed) | Message::Proposal { pre_prepare: signed, .. },
                ) => {
                    assert_eq!(signed.sender, scene.replica.id());
                    seen.own += 1;
                }
                (None, other) => panic!("{other:?} came from nowhere"),
                (Some(peer), _) => {
                    assert_ne!(peer, scene.replica.id());
                    seen.by_peers += 1;
                }
            },
            _ => assert_eq!(from, None),
        }
        inputs.push(input);
    }

    fn act(&mut self, scene: Scene<'_>, deed: Deed, deeds: &mut Vec<Deed>) {
        let mut seen = self.seen.lock().unwrap();
        match &deed {
            Deed::Act(action) => {
                seen.acts += 1;
                // To everyone, one by one, itself included: comes to the same.
                if let Action::Say { to: To::All, statement, batch } = action {
                    for to in (0..4).map(|id| To::One(ReplicaId(id))) {
                        let (statement, batch) = (statement.clone(), batch.clone());
                        deeds.push(Deed::Act(Action::Say { to, statement, batch }));
                    }
                    return;
                }
            }
            Deed::Tell { .. } => {
                seen.replies += 1;
                if self.mute {
                    // Bytes that are no message close a connection at most.
                    let to = ReplicaId((scene.replica.id().0 + 1) % 4);
                    deeds.push(Deed::Bytes { to, frame: Bytes::from_static(b"no message") });
                    return;
                }
            }
            _ => {}
        }
        deeds.push(deed);
    }

    fn deadline(&self) -> Option<Instant> {
        Some(Instant(0))
    }

    fn wake(&mut self, _: Scene<'_>, _: &mut Vec<Deed>) {
        self.seen.lock().unwrap().woken += 1;
    }
}

/// Proposes nothing in its view, and sends a long proposal of a view to come, which nobody needs, again and again:
/// more than anyone can read.
struct LoudCensor(Bytes);

impl LoudCensor {
    fn new(cluster: &Cluster) -> Self {
        // Nobody comes to look at a signature.
        let (client, view, sequence) = (ClientId(0), View(4), Sequence(1));
        let signer = Ed25519Signer::from_seed(&[1; 32]);
        let operations = Operations::new([b"x"]).unwrap();
        let body = RequestBody { client, number: RequestNumber(1), operations };
        let requests = vec![body.sign(cluster, &signer); 1000];
        let batch = Arc::new(Batch::new(WallTime(0), requests));
        let vote = Vote { view, sequence, digest: batch.digest() };
        let statement = Statement::PrePrepare(vote);
        let message = sign_message(cluster, &signer, ReplicaId(0), statement, Some(batch));
        LoudCensor(wire::encode(message.message()))
    }
}

impl Hook for LoudCensor {
    fn hear(
        &mut self,
        _: Scene<'_>,
        _: Option<ReplicaId>,
        input: Input,
        inputs: &mut Vec<Input>,
        _: &mut Vec<Deed>,
    ) {
        inputs.push(input);
    }

    fn act(&mut self, _: Scene<'_>, deed: Deed, deeds: &mut Vec<Deed>) {
        let proposes = |statement: &Statement| matches!(statement, Statement::PrePrepare(_));
        if !matches!(&deed, Deed::Act(Action::Say { statement, .. }) if proposes(statement)) {
            deeds.push(deed);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        Some(Instant(0))
    }

    fn wake(&mut self, _: Scene<'_>, deeds: &mut Vec<Deed>) {
        for to in (1..4).map(ReplicaId) {
            deeds.push(Deed::Bytes { to, frame: self.0.clone() });
        }
    }
}

struct Running {
    nodes: Vec<Node>,
    client: Client,
    seen: Vec<Arc<Mutex<Seen>>>,
}

async fn start(mute: [bool; 4]) -> Running {
    let seen: Vec<_> = mute.iter().map(|_| Arc::default()).collect();
    let spy = |(seen, mute): (&Arc<_>, _)| -> Box<dyn Hook> {
        Box::new(Spy { seen: Arc::clone(seen), mute })
    };
    let (nodes, client) = start_with(seen.iter().zip(mute).map(spy).map(Some).collect()).await;
    Running { nodes, client, seen }
}

async fn start_with(hooks: Vec<Option<Box<dyn Hook>>>) -> (Vec<Node>, Client) {
    let keys = |kind: u8, id: u8| NodeKeys::from_seeds([kind + id; 32], [kind + 100 + id; 32]);
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let sockets: Vec<_> = (0..4).map(|_| ReplicaSockets::bind(local, local).unwrap()).collect();
    let entries = (0..).zip(&sockets).map(|(id, sockets)| ReplicaEntry {
        keys: keys(1, id).public(),
        peer_address: sockets.peer_address(),
        client_address: sockets.client_address(),
    });
    let deployment = Deployment::new(
        "hooks",
        entries.collect(),
        vec![keys(50, 0).public()],
        Constants::default(),
        Timeouts::default(),
        false,
    )
    .unwrap();
    let mut nodes = Vec::new();
    for ((id, sockets), hook) in (0_u8..).zip(sockets).zip(hooks) {
        let config = NodeConfig {
            limits: deployment.limits(),
            deployment: deployment.clone(),
            id: ReplicaId(u32::from(id)),
            keys: keys(1, id),
            evidence: None,
        };
        let (application, storage) = (Box::new(Typed::<Sum>::new()), Store::memory());
        let started = match hook {
            Some(hook) => Node::start_with_hook(config, sockets, application, storage, hook).await,
            None => Node::start(config, sockets, application, storage).await,
        };
        nodes.push(started.unwrap());
    }
    let config = ClientConfig::new(deployment, keys(50, 0), Numbers::from_clock());
    (nodes, Client::connect(config).unwrap())
}

#[tokio::test]
async fn a_hook_sees_everything_and_one_that_never_rests_holds_nobody_up() {
    let Running { nodes, client, seen } = start([false; 4]).await;
    for _ in 0..100 {
        let operation = pbft_app::application::encode_command::<Sum>(&1).unwrap();
        let submitted = client.submit(operation, Duration::from_secs(10)).await;
        assert!(matches!(submitted, Submitted::Committed(_)), "{submitted:?}");
    }
    for (id, seen) in seen.iter().enumerate() {
        let seen = *seen.lock().unwrap();
        assert!(seen.connected >= 3 && seen.by_peers >= 100 && seen.own >= 100, "{id}: {seen:?}");
        assert!(seen.acts >= 300 && seen.replies >= 90 && seen.woken >= 10, "{id}: {seen:?}");
    }
    assert!(seen[0].lock().unwrap().requests >= 100);
    for node in nodes {
        assert!(node.evidence().is_empty());
        node.stop().await.unwrap();
    }
}

#[tokio::test]
async fn what_a_hook_swallows_does_not_happen() {
    let Running { nodes, client, seen } = start([true, true, true, false]).await;
    let operation = pbft_app::application::encode_command::<Sum>(&1).unwrap();
    let submitted = client.submit(operation, Duration::from_secs(2)).await;
    assert_eq!(submitted, Submitted::Unknown, "one reply is not enough");
    assert!(seen.iter().all(|seen| seen.lock().unwrap().replies >= 1));
    for node in nodes {
        node.stop().await.unwrap();
    }
}

/// What is due may wait for what has arrived, and not for ever: something always arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn f3_a_primary_that_floods_and_proposes_nothing_is_suspected() {
    // Any cluster will do.
    let config = ClusterConfig {
        name: "loud".to_owned(),
        members: vec![Ed25519Signer::from_seed(&[1; 32]).public()],
        clients: vec![Ed25519Signer::from_seed(&[2; 32]).public()],
        constants: Constants::default(),
        development: true,
    };
    let loud = LoudCensor::new(&Cluster::new(config).unwrap());
    let hooks: Vec<Option<Box<dyn Hook>>> = vec![Some(Box::new(loud)), None, None, None];
    let (nodes, client) = start_with(hooks).await;
    let operation = pbft_app::application::encode_command::<Sum>(&1).unwrap();
    let submitted = client.submit(operation, Duration::from_secs(120));
    let suspected = async {
        for node in &nodes[1..] {
            let mut summary = node.watch();
            let voted = |it: &Option<Summary>| it.as_ref().is_some_and(|it| it.voted_view.0 > 0);
            summary.wait_for(voted).await.unwrap();
        }
    };
    tokio::select! {
        () = suspected => {}
        submitted = submitted => assert!(matches!(submitted, Submitted::Committed(_))),
    }
    for node in nodes {
        node.crash().await;
    }
}
