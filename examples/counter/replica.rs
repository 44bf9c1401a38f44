//! `init` and `replica`.

use std::io::Write;
use std::path::Path;

use pbft_app::{
    History, Node, NodeConfig, NodeKeys, Plan, ReplicaDirectory, ReplicaSockets, Typed,
};
use pbft_sim::traitor::Controller;
use tokio::signal::unix::{SignalKind, signal};

use crate::service::Counter;
use crate::{Failure, Init, Storage};

pub(crate) fn init(init: &Init) -> Result<(), Failure> {
    let plan = Plan {
        name: "counter".to_owned(),
        replicas: init.replicas,
        clients: init.clients,
        users: init.users,
        base_port: init.base_port,
        development: init.development,
    };
    let deployment = pbft_app::init(&init.directory, &plan)?;
    let cluster = deployment.cluster();
    let directory = init.directory.display();
    println!(
        "cluster {} of n = {} replicas: {} may be faulty",
        cluster.id().short(),
        cluster.n(),
        cluster.f()
    );
    println!("\nstart every replica, each in a terminal of its own:");
    for id in cluster.replicas() {
        println!("  counter replica {directory}/replica-{id}");
    }
    if init.clients > 0 {
        println!("\nthen use it:");
        println!("  counter add {directory}/client-0 5");
        println!("  counter get {directory}/client-0");
        println!("  counter status {directory}/client-0");
    }
    if init.users > 0 {
        println!("\nor through a gateway:");
        println!("  counter gateway {directory}/gateway");
        println!("  counter add {directory}/user-0 5");
    }
    Ok(())
}

pub(crate) async fn run(
    directory: &Path,
    storage: Storage,
    traitor: Option<&str>,
) -> Result<(), Failure> {
    let spec = traitor.map(crate::traitor::parse).transpose()?;
    let opened = ReplicaDirectory::open(directory)?;
    let failed =
        |error: std::io::Error| Failure::Failed(format!("cannot wait for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;

    let id = opened.id();
    let deployment = opened.deployment().clone();
    let entry = usize::try_from(id.0).ok().and_then(|index| deployment.replicas().get(index));
    let entry = *entry.ok_or_else(|| Failure::Usage(format!("replica {id} is not listed")))?;
    let sockets = ReplicaSockets::bind(entry.peer_address, entry.client_address)
        .map_err(pbft_app::ConfigurationError::from)?;
    let hook = match &spec {
        Some(spec) => {
            let (seed, alone) = (crate::traitor::clock_seed(), Controller::default());
            let hook = crate::traitor::hook(spec, id, &deployment, opened.keys(), seed, alone)?;
            eprintln!("{}", crate::traitor::announcement(id, spec));
            Some(hook)
        }
        None => None,
    };
    let store = match storage {
        Storage::Disk => opened.open_store()?,
        Storage::Memory => opened.memory_store()?,
    };
    if store.history() == History::Lost {
        eprintln!(
            "warning: replica {id} ran before and its store is lost: it takes part without voting and counts as \
             one of the {} that may be faulty",
            deployment.cluster().f()
        );
    }
    let config = NodeConfig {
        limits: deployment.limits(),
        deployment,
        id,
        keys: NodeKeys::load(directory)?,
        evidence: Some(opened.evidence_path()),
    };
    let application = Box::new(Typed::<Counter>::new());
    let mut node = match hook {
        None => Node::start(config, sockets, application, store).await?,
        Some(hook) => Node::start_with_hook(config, sockets, application, store, hook).await?,
    };
    println!("ready {}", node.client_address());
    // Somebody may be waiting for this line on a pipe.
    let _ = std::io::stdout().flush();
    tokio::select! {
        outcome = node.wait() => return Ok(outcome?),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    node.stop().await?;
    drop(opened);
    Ok(())
}
