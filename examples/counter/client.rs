//! `add` and `get`, and what they and `load` and `history` submit through.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use pbft_app::{
    Client, ClientDirectory, Completed, Submit, Submitted, TypedClient, User, UserDirectory,
};

use crate::Failure;
use crate::service::{Command, Counter};

/// With a key of the cluster's, or through a gateway.
#[derive(Clone)]
pub(crate) enum Caller {
    Client(Client),
    User(User),
}

impl Submit for Caller {
    async fn submit(&self, operation: Bytes, timeout: Duration) -> Submitted {
        match self {
            Caller::Client(client) => client.submit(operation, timeout).await,
            Caller::User(user) => user.submit(operation, timeout).await,
        }
    }
}

impl Caller {
    /// Leaves without leaving a gateway to find out.
    pub(crate) async fn close(self) {
        if let Caller::User(user) = self {
            user.close().await;
        }
    }
}

/// Opens the directory of a client or of a user and connects with it.
pub(crate) fn open(directory: &Path) -> Result<Caller, Failure> {
    Ok(if UserDirectory::is_at(directory) {
        Caller::User(User::from_directory(UserDirectory::open(directory)?)?)
    } else {
        Caller::Client(Client::from_directory(ClientDirectory::open(directory)?)?)
    })
}

/// The same for the counter.
pub(crate) fn connect(directory: &Path) -> Result<TypedClient<Counter, Caller>, Failure> {
    open(directory).map(TypedClient::new)
}

pub(crate) async fn add(directory: &Path, amount: i64, timeout: Duration) -> Result<(), Failure> {
    one(directory, Command::Add(amount), timeout).await
}

pub(crate) async fn get(directory: &Path, timeout: Duration) -> Result<(), Failure> {
    one(directory, Command::Get, timeout).await
}

async fn one(directory: &Path, command: Command, timeout: Duration) -> Result<(), Failure> {
    let caller = open(directory)?;
    let client = TypedClient::<Counter, _>::new(caller.clone());
    let completed = client.submit(&command, timeout).await;
    caller.close().await;
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
