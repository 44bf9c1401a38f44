//! `add` and `get`.

use std::path::Path;
use std::time::Duration;

use pbft_app::{Client, ClientDirectory, Completed, TypedClient};

use crate::Failure;
use crate::service::{Command, Counter};

/// Opens a client directory and connects with it.
pub(crate) fn connect(directory: &Path) -> Result<TypedClient<Counter>, Failure> {
    Ok(Client::from_directory(ClientDirectory::open(directory)?)?.typed())
}

pub(crate) async fn add(directory: &Path, amount: i64, timeout: Duration) -> Result<(), Failure> {
    one(directory, Command::Add(amount), timeout).await
}

pub(crate) async fn get(directory: &Path, timeout: Duration) -> Result<(), Failure> {
    one(directory, Command::Get, timeout).await
}

async fn one(directory: &Path, command: Command, timeout: Duration) -> Result<(), Failure> {
    let client = connect(directory)?;
    let completed = client.submit(&command, timeout).await;
    match completed.map_err(|error| Failure::Failed(error.to_string()))? {
        Completed::Committed(value) => {
            println!("{value}");
            Ok(())
        }
        Completed::Refused(refused) => Err(Failure::Failed(refused.to_string())),
        Completed::Unknown => Err(Failure::Unknown(format!(
            "no answer from enough replicas within {timeout:?}: whether it was done is unknown"
        ))),
    }
}
