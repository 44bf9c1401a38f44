use pbft_core::message::{Answer, Outcome, ReplicaMessage, Reply};
use pbft_core::types::{ClientId, Digest, RequestNumber, View};
use pbft_core::wire;
use pbft_net::{Lane, NetLimits, Network, Node, ReplicaNetworkConfig, ReplicaSockets, TlsKey};
use tokio::runtime::Builder;
use tokio::time::timeout;

use super::*;
use crate::testing::{deployment, keys};

/// Far more than anything below takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn connect(deployment: &Deployment) -> Client {
    let numbers = Numbers::from_clock();
    Client::connect(ClientConfig::new(deployment.clone(), keys(2, 0), numbers)).unwrap()
}

/// Replica 0 of a cluster without others, on a thread of its own: tells its client what costs it more to read than
/// to carry, as fast as the client takes it. Ends when what is returned is dropped.
fn flood(deployment: &Deployment, sockets: ReplicaSockets) -> oneshot::Sender<()> {
    let config = ReplicaNetworkConfig {
        id: ReplicaId(0),
        tls_key: TlsKey::from_seed(keys(1, 0).tls_seed()).unwrap(),
        members: deployment.peer_members(),
        clients: deployment.clients().iter().map(|keys| keys.tls).collect(),
        identity: deployment.identity(),
        limits: NetLimits::default(),
    };
    let reply = Reply {
        client: ClientId(0),
        number: RequestNumber(1),
        digest: Digest([1; 32]),
        answer: Answer::Executed((0..100_000).map(|_| Outcome::ResultTooLong).collect()),
        view: View(0),
    };
    let frame = wire::encode(&ReplicaMessage::Reply(reply));
    let (stop, mut stopped) = oneshot::channel();
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let network = Network::replica(sockets, config).unwrap();
            while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
                for _ in 0..8 {
                    network.send(Node::Client(ClientId(0)), Lane::Urgent, frame.clone());
                }
                tokio::task::yield_now().await;
            }
        });
    });
    stop
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_a_replica_that_floods_its_client_puts_off_neither_submits_nor_deadlines() {
    let (deployment, mut sockets) = deployment("client");
    let client = connect(&deployment);
    let stop = flood(&deployment, sockets.remove(0));
    for _ in 0..5 {
        let submitted = client.submit(&b"op"[..], Duration::from_secs(1));
        assert_eq!(timeout(PATIENCE, submitted).await, Ok(Submitted::Unknown));
    }
    drop(stop);
}

#[tokio::test]
async fn a_wait_of_any_length_is_no_panic() {
    let (deployment, _sockets) = deployment("client");
    let client = connect(&deployment);
    let forever = client.submit(&b"op"[..], Duration::MAX);
    assert!(timeout(Duration::from_millis(50), forever).await.is_err());
    let forever = client.submit_all(vec![Bytes::from("op")], Duration::MAX);
    assert!(timeout(Duration::from_millis(50), forever).await.is_err());
    assert!(timeout(Duration::from_millis(50), client.status(Duration::MAX)).await.is_err());
}
