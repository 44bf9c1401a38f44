//! `gateway`: serves users under one client key.

use std::io::Write;
use std::path::Path;

use pbft_app::{ConfigurationError, Gateway, GatewayDirectory, GatewaySocket};
use tokio::signal::unix::{SignalKind, signal};

use crate::Failure;

pub(crate) async fn run(directory: &Path) -> Result<(), Failure> {
    let opened = GatewayDirectory::open(directory)?;
    let failed =
        |error: std::io::Error| Failure::Failed(format!("cannot wait for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let socket = GatewaySocket::bind(opened.address()).map_err(ConfigurationError::from)?;
    let gateway = Gateway::start(opened.into_config()?, socket)?;
    println!("ready {}", gateway.address());
    // Somebody may be waiting for this line on a pipe.
    let _ = std::io::stdout().flush();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    gateway.stop().await;
    Ok(())
}
