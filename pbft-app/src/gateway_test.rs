use pbft_core::application::Context;
use pbft_core::message::{Outcome, Refusal};
use pbft_core::wire::Blob;
use pbft_net::{MemberAddress, ReplicaSockets, UserNetworkConfig};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;
use crate::client::{Completed, Refused};
use crate::testing::{ANY, deployment, keys};
use crate::{Node, NodeConfig, Numbers, Service, Store, Typed, UserKey};

/// Far more than anything below takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Adds one and says what was asked and what came of it.
#[derive(Default, Serialize, Deserialize)]
struct Count(u64);

impl Service for Count {
    type Command = u64;
    type Response = (u64, u64);
    fn execute(&mut self, _: &Context, command: u64) -> Result<(u64, u64), Refusal> {
        self.0 += 1;
        Ok((command, self.0))
    }
}

fn user_key(index: u8) -> UserKey {
    let mut seed = [9; 32];
    seed[1] = index;
    UserKey::from_seed(seed)
}

/// A deployment, its replicas if they were started, and a gateway with the key of its only client.
struct World {
    deployment: Deployment,
    sockets: Vec<ReplicaSockets>,
    nodes: Vec<Node>,
}

impl World {
    /// A cluster that answers nobody: what is submitted stays under way.
    fn silent() -> Self {
        let (deployment, sockets) = deployment("gateway");
        World { deployment, sockets, nodes: Vec::new() }
    }

    async fn start() -> Self {
        let mut world = World::silent();
        for (index, sockets) in (0..).zip(std::mem::take(&mut world.sockets)) {
            let config = NodeConfig {
                limits: world.deployment.limits(),
                deployment: world.deployment.clone(),
                id: pbft_core::types::ReplicaId(u32::from(index)),
                keys: keys(1, index),
                evidence: None,
            };
            let service = Box::new(Typed::<Count>::new());
            let node = Node::start(config, sockets, service, Store::memory()).await.unwrap();
            world.nodes.push(node);
        }
        world
    }

    fn gateway(&self, users: u8, limits: GatewayLimits) -> Gateway {
        let users = (0..users)
            .map(|index| UserEntry {
                id: UserId(u32::from(index)),
                tls_key: user_key(index).public(),
            })
            .collect();
        self.try_gateway(users, limits).unwrap()
    }

    fn try_gateway(
        &self,
        users: Vec<UserEntry>,
        limits: GatewayLimits,
    ) -> Result<Gateway, ConfigurationError> {
        let numbers = Numbers::from_clock();
        let client = ClientConfig::new(self.deployment.clone(), keys(2, 0), numbers);
        let socket = GatewaySocket::bind(ANY).unwrap();
        Gateway::start(GatewayConfig { client, users, limits }, socket)
    }

    fn entry(&self, gateway: SocketAddr) -> MemberAddress {
        MemberAddress { tls_key: keys(2, 0).public().tls, address: gateway }
    }

    fn user(&self, gateway: SocketAddr, index: u8) -> User {
        let (id, cluster) = (UserId(u32::from(index)), self.deployment.cluster().id());
        let config = UserConfig::new(id, user_key(index), self.entry(gateway), cluster);
        User::connect(config).unwrap()
    }

    /// A user that can send what no correct one does, and is connected.
    async fn raw(&self, gateway: SocketAddr, index: u8) -> Network {
        let config = UserNetworkConfig {
            id: UserId(u32::from(index)),
            tls_key: TlsKey::from_seed(user_key(index).seed()).unwrap(),
            gateway: self.entry(gateway),
            identity: identity(self.deployment.cluster().id(), keys(2, 0).public().tls),
            limits: NetLimits::default(),
        };
        let network = Network::user(config).unwrap();
        let up = timeout(PATIENCE, network.receive()).await.unwrap();
        assert_eq!(up, Received::Up(Peer::Gateway));
        network
    }
}

fn submit(network: &Network, number: u64, waits: Duration, operation: &[u8]) {
    let operation = Bytes::copy_from_slice(operation);
    let message = UserMessage::submit(SubmissionNumber(number), waits, operation);
    network.send(Peer::Gateway, Lane::Bulk, wire::encode(&message));
}

/// The next `count` endings at a raw user.
async fn endings(network: &Network, count: usize) -> Vec<(u64, Ending)> {
    let mut endings = Vec::new();
    while endings.len() < count {
        let received = timeout(PATIENCE, network.receive()).await.unwrap();
        let Received::Frames { frames, .. } = received else { panic!("{received:?}") };
        for frame in frames {
            let GatewayMessage::Ended { number, ending } = wire::decode(&frame).unwrap();
            endings.push((number.0, ending));
        }
    }
    endings
}

#[tokio::test]
async fn fifty_users_at_once_each_hear_of_their_own_operations_only() {
    const EACH: u64 = 10;
    let world = World::start().await;
    let gateway = world.gateway(50, GatewayLimits::default());
    let mut users = JoinSet::new();
    for index in 0..50 {
        let user = world.user(gateway.address(), index).typed::<Count>();
        users.spawn(async move {
            let mut counts = Vec::new();
            for turn in 0..EACH {
                let command = u64::from(index) * EACH + turn;
                let completed = user.submit(&command, PATIENCE).await.unwrap();
                let Completed::Committed((asked, count)) = completed else {
                    panic!("{completed:?}")
                };
                assert_eq!(asked, command);
                counts.push(count);
            }
            counts
        });
    }
    let mut counts: Vec<u64> = users.join_all().await.concat();
    counts.sort_unstable();
    assert_eq!(counts, (1..=50 * EACH).collect::<Vec<_>>(), "each executed once");
    gateway.stop().await;
}

#[tokio::test]
async fn a_gateway_that_dies_leaves_what_is_under_way_unknown_and_nothing_is_sent_again() {
    let world = World::silent();
    let limits = GatewayLimits { operations_per_user_max: 2, ..GatewayLimits::default() };
    let gateway = world.gateway(1, limits);
    let address = gateway.address();
    let user = world.user(address, 0);
    let mut calls = JoinSet::new();
    for _ in 0..3 {
        let user = user.clone();
        calls.spawn(async move { user.submit(&b"once"[..], 2 * PATIENCE).await });
    }
    // The refusal of the third says that the gateway has taken the first two.
    let busy = Submitted::Refused(Refused::Gateway(GatewayRefusal::Busy));
    assert_eq!(calls.join_next().await.unwrap().unwrap(), busy);
    drop(gateway);
    assert_eq!(timeout(PATIENCE, calls.join_all()).await.unwrap(), vec![Submitted::Unknown; 2]);

    // Another one at the same address hears nothing of them.
    let entry = UserEntry { id: UserId(0), tls_key: user_key(0).public() };
    let socket = loop {
        match GatewaySocket::bind(address) {
            Ok(socket) => break socket,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let next = Network::gateway(
        socket,
        GatewayNetworkConfig {
            tls_key: TlsKey::from_seed(keys(2, 0).tls_seed()).unwrap(),
            users: vec![entry],
            identity: identity(world.deployment.cluster().id(), keys(2, 0).public().tls),
            limits: net_limits(&[entry], &limits),
        },
    )
    .unwrap();
    let again = tokio::spawn(async move { user.submit(&b"new"[..], PATIENCE).await });
    let up = timeout(PATIENCE, next.receive()).await.unwrap();
    assert_eq!(up, Received::Up(Peer::User(UserId(0))));
    let Received::Frames { frames, .. } = timeout(PATIENCE, next.receive()).await.unwrap() else {
        panic!("not a frame")
    };
    let UserMessage::Submit { number, operation, .. } = wire::decode(&frames[0]).unwrap();
    assert_eq!((frames.len(), operation), (1, Blob(Bytes::from("new"))));

    // An outcome under a number that the user did not ask under is not taken for its own.
    let tell = |number, result| {
        let ending = Ending::Ordered(Outcome::Done(Bytes::from(result)));
        let frame = wire::encode(&GatewayMessage::Ended { number, ending });
        next.send(Peer::User(UserId(0)), Lane::Urgent, frame);
    };
    tell(SubmissionNumber(number.0.wrapping_sub(1)), "of another");
    tell(number, "its own");
    let submitted = timeout(PATIENCE, again).await.unwrap().unwrap();
    assert_eq!(submitted, Submitted::Committed(Bytes::from("its own")));
}

#[tokio::test]
async fn what_never_left_is_refused_and_not_unknown() {
    let world = World::silent();
    let nobody = GatewaySocket::bind(ANY).unwrap();
    let user = world.user(nobody.address(), 0);
    let submitted = user.submit(&b"op"[..], Duration::from_millis(100)).await;
    assert_eq!(submitted, Submitted::Refused(Refused::Unreachable));
}

#[tokio::test]
async fn a_user_that_sends_garbage_is_shut_out_and_others_go_on() {
    let world = World::start().await;
    let gateway = world.gateway(2, GatewayLimits::default());
    let bad = world.raw(gateway.address(), 0).await;
    bad.send(Peer::Gateway, Lane::Bulk, Bytes::from("garbage"));
    let down = timeout(PATIENCE, bad.receive()).await.unwrap();
    assert_eq!(down, Received::Down(Peer::Gateway));
    assert_eq!(bad.counters().refused_by_peer, 1);
    let good = world.user(gateway.address(), 1).typed::<Count>();
    assert_eq!(good.submit(&7, PATIENCE).await.unwrap(), Completed::Committed((7, 1)));
}

#[tokio::test]
async fn a_flood_of_one_user_is_refused_beyond_its_bound_and_takes_nothing_of_anothers() {
    let world = World::silent();
    let limits = GatewayLimits { operations_per_user_max: 8, ..GatewayLimits::default() };
    let gateway = world.gateway(2, limits);
    let flooder = world.raw(gateway.address(), 0).await;
    let other = world.raw(gateway.address(), 1).await;
    for number in 0..200 {
        submit(&flooder, number, PATIENCE, b"x");
    }
    let expected = |from, to| -> Vec<(u64, Ending)> {
        (from..to).map(|number| (number, Ending::Refused(GatewayRefusal::Busy))).collect()
    };
    assert_eq!(endings(&flooder, 192).await, expected(8, 200));
    for number in 0..9 {
        submit(&other, number, PATIENCE, b"x");
    }
    assert_eq!(endings(&other, 1).await, expected(8, 9));
    // Coming back is no way around it.
    drop(flooder);
    let again = world.raw(gateway.address(), 0).await;
    submit(&again, 1000, PATIENCE, b"x");
    assert_eq!(endings(&again, 1).await, expected(1000, 1001));
}

#[tokio::test]
async fn while_too_much_is_under_way_no_user_is_read() {
    let world = World::silent();
    let too_long = Ending::Refused(GatewayRefusal::TooLong);
    let waits = Duration::from_millis(500);
    for limits in [
        GatewayLimits { operations_max: 2, ..GatewayLimits::default() },
        GatewayLimits { operation_bytes_max: 2, ..GatewayLimits::default() },
    ] {
        let gateway = world.gateway(2, limits);
        let first = world.raw(gateway.address(), 0).await;
        let second = world.raw(gateway.address(), 1).await;
        submit(&first, 0, waits, b"x");
        submit(&first, 1, waits, b"x");
        // Read at once it would be refused at once, before the others end.
        submit(&first, 2, waits, &[0; 70_000]);
        let ended = endings(&first, 3).await;
        assert_eq!(ended.first(), Some(&(0, Ending::Unknown)));
        assert!(ended.contains(&(2, too_long.clone())), "{ended:?}");
        submit(&second, 3, waits, &[0; 70_000]);
        assert_eq!(endings(&second, 1).await, [(3, too_long.clone())]);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn an_operation_too_long_is_refused_alone() {
    let world = World::start().await;
    let gateway = world.gateway(2, GatewayLimits::default());
    let raw = world.raw(gateway.address(), 0).await;
    let other = world.user(gateway.address(), 1).typed::<Count>();
    assert_eq!(other.submit(&1, PATIENCE).await.unwrap(), Completed::Committed((1, 1)));
    // One lane, one group: all three would share an envelope.
    submit(&raw, 0, PATIENCE, &2_u64.to_le_bytes());
    submit(&raw, 1, PATIENCE, &[0; 65 << 10]);
    submit(&raw, 2, PATIENCE, &3_u64.to_le_bytes());
    let mut ended = endings(&raw, 3).await;
    ended.sort_unstable_by_key(|(number, _)| *number);
    assert_eq!(ended[1], (1, Ending::Refused(GatewayRefusal::TooLong)));
    for (_, ending) in [&ended[0], &ended[2]] {
        assert!(matches!(ending, Ending::Ordered(Outcome::Done(_))), "{ending:?}");
    }
}

#[tokio::test]
async fn nobody_waits_longer_than_the_gateway_allows() {
    let world = World::silent();
    let timeout_max = Duration::from_millis(200);
    let gateway = world.gateway(1, GatewayLimits { timeout_max, ..GatewayLimits::default() });
    let raw = world.raw(gateway.address(), 0).await;
    submit(&raw, 5, Duration::MAX, b"x");
    assert_eq!(endings(&raw, 1).await, [(5, Ending::Unknown)]);
}

#[tokio::test]
async fn a_short_wait_ends_in_time_behind_long_ones_that_wait_for_an_envelope() {
    let world = World::silent();
    let mut config = ClientConfig::new(world.deployment.clone(), keys(2, 0), Numbers::from_clock());
    config.envelopes_in_flight_max = 1;
    let client = Client::connect(config).unwrap();
    let (ended, mut endings) = mpsc::unbounded_channel();
    let now = Instant::now();
    for (number, waits) in [(0, PATIENCE), (1, PATIENCE), (2, Duration::from_millis(50))] {
        let ticket = Ticket { user: UserId(0), number: SubmissionNumber(number), bytes: 0 };
        assert!(client.submit_for(ticket, Bytes::new(), now + waits, &ended).await);
        // The first goes into an envelope alone.
        tokio::task::yield_now().await;
    }
    let (ticket, submitted) = timeout(PATIENCE / 2, endings.recv()).await.unwrap().unwrap();
    assert_eq!((ticket.number.0, submitted), (2, Submitted::Unknown));
}

#[tokio::test]
async fn a_key_of_the_cluster_is_no_users_key() {
    let world = World::silent();
    for key in [keys(1, 3).public().tls, keys(2, 0).public().signing, keys(2, 0).public().tls] {
        let users = vec![UserEntry { id: UserId(0), tls_key: key }];
        let error = world.try_gateway(users, GatewayLimits::default()).unwrap_err().to_string();
        assert!(error.contains("user 0 has a key of the cluster"), "{error}");
    }
}
