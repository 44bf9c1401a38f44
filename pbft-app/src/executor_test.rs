use pbft_core::application::{Application, Context};
use pbft_core::cluster::ClusterConfig;
use pbft_core::limits::Constants;
use pbft_core::message::{Operations, Refusal, Request, RequestBody};
use pbft_core::pages::Pages;
use pbft_core::types::{PublicKey, Signature, WallTime};

use super::*;
use crate::storage::Changed;

/// Waits for a word before each operation, and panics on demand.
struct Slow(mpsc::Receiver<()>);

impl Application for Slow {
    fn execute(&mut self, _: &Context, operation: &[u8]) -> Result<Bytes, Refusal> {
        assert!(operation != b"panic", "as asked");
        let _ = self.0.recv();
        Ok(Bytes::new())
    }
    fn query(&self, _: &[u8]) -> Result<Bytes, Refusal> {
        Ok(Bytes::new())
    }
    fn checkpoint(&mut self, _: &mut Pages) {}
    fn restore(&mut self, _: &Pages) {}
}

fn start() -> (Executor, async_mpsc::UnboundedReceiver<Event>, mpsc::Sender<()>) {
    let cluster = Cluster::new(ClusterConfig {
        name: "test".to_owned(),
        members: vec![PublicKey([1; 32])],
        clients: vec![PublicKey([2; 32])],
        constants: Constants::default(),
        development: true,
    });
    let (go, wait) = mpsc::channel();
    // The receiver is not Sync, and need not be: the executor's thread owns it.
    let cluster = Arc::new(cluster.unwrap());
    let state = ReplicatedState::new(Arc::clone(&cluster), Box::new(Slow(wait)));
    let (events, outgoing) = async_mpsc::unbounded_channel();
    let (archive, shelf) = (
        Archive::new(Arc::clone(&cluster)),
        Shelf::new(ReplicaId(0), None, None, Changed::default()),
    );
    let executor = Executor::start(ReplicaId(0), &cluster, state, archive, shelf, events).unwrap();
    (executor, outgoing, go)
}

fn execute(operation: &[u8]) -> Command {
    let operations = Operations::new([operation]).unwrap();
    let body = RequestBody { client: ClientId(0), number: RequestNumber(1), operations };
    let request = Request::new(body, Signature([0; 64]));
    let batch = Arc::new(Batch::new(WallTime(1), vec![request]));
    Command::Execute { sequence: Sequence(1), batch: Some(batch), view: View(0) }
}

#[test]
fn what_clients_ask_for_behind_a_slow_operation_is_bounded() {
    let (executor, mut events, go) = start();
    executor.give(execute(b"slow"));
    for _ in 0..10 * FAVOURS_MAX {
        executor.give(Command::Report { client: ClientId(0) });
    }
    go.send(()).unwrap();
    let mut reports = 0;
    while reports < FAVOURS_MAX {
        let event = events.blocking_recv().unwrap();
        reports += usize::from(matches!(event, Event::Digest { .. }));
    }
    drop(executor);
    while let Some(event) = events.blocking_recv() {
        assert!(!matches!(event, Event::Digest { .. }), "more than the bound");
    }
}

#[test]
fn l2_a_panic_of_the_application_ends_the_node_with_its_words() {
    let (executor, mut events, _go) = start();
    executor.give(execute(b"panic"));
    match events.blocking_recv() {
        Some(Event::Failed(NodeError::ApplicationPanicked { slot: 1, message })) => {
            assert!(message.contains("as asked"), "{message}");
        }
        _ => panic!("no failure was reported"),
    }
}
