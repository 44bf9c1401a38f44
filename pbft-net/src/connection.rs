//! The life of one connection after its TLS handshake: HELLO, lanes, end.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use quinn::{ConnectionError, SendStream, StoppedError, WriteError};
use tokio::time::timeout;

use crate::Node;
use crate::close::{CloseCode, explain};
use crate::frame::prefix;
use crate::hello::{self, HelloError};
use crate::lane::Lane;
use crate::limits::Port;
use crate::reader::LaneReader;
use crate::registry::Admitted;
use crate::shared::Shared;

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The other end closed it, the path broke, or another part of ours closed it.
    Lost(ConnectionError),
    /// We close it.
    Ours(CloseCode, String),
    /// We close it: the HELLO does not agree with ours.
    Hello(HelloError),
}

impl From<ConnectionError> for Fault {
    fn from(error: ConnectionError) -> Self {
        Self::Lost(error)
    }
}

impl From<WriteError> for Fault {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(error) => Self::Lost(error),
            other => Self::Ours(CloseCode::BadStream, other.to_string()),
        }
    }
}

impl From<StoppedError> for Fault {
    fn from(error: StoppedError) -> Self {
        match error {
            StoppedError::ConnectionLost(error) => Self::Lost(error),
            other => Self::Ours(CloseCode::BadStream, other.to_string()),
        }
    }
}

/// What a dialler needs to know about a connection that ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// It was up.
    pub(crate) up: bool,
    /// One end did not want the other, so that coming back at once is no use.
    pub(crate) refused: bool,
}

/// Runs a connection whose other end TLS has proven to be `node`, until it ends. `slot` is let go
/// of once the HELLO is accepted. Dropping the future drops the connection.
pub(crate) async fn run<S>(
    shared: &Arc<Shared>,
    connection: quinn::Connection,
    node: Node,
    port: Port,
    slot: S,
) -> Ended {
    if shared.registry.penalized_until(node).is_some() {
        shared.counters.connections_penalized.bump();
        connection.close(CloseCode::Penalized.wire(), b"shut out for a while");
        return Ended { up: false, refused: true };
    }
    let deadline = shared.limits.hello_deadline;
    let exchanged = tokio::select! {
        exchanged = timeout(deadline, exchange(shared, &connection)) => exchanged,
        () = shared.closing() => {
            connection.close(CloseCode::Shutdown.wire(), b"shutdown");
            return Ended { up: false, refused: false };
        }
    };
    let exchanged = exchanged.unwrap_or_else(|_| {
        let reason = format!("no HELLO within {deadline:?}");
        Err(Fault::Ours(CloseCode::HelloTimeout, reason))
    });
    // The streams live on until a refusal is sent: dropping one would reset it, and the other end
    // would take that for a fault of ours.
    let (writer, reader) = match exchanged {
        Ok((writer, reader, hello)) => match hello::judge(&shared.identity, node, &hello) {
            Ok(()) => (writer, reader),
            Err(error) => return refuse(shared, &connection, node, Fault::Hello(error)),
        },
        Err(fault) => return refuse(shared, &connection, node, fault),
    };
    let admitted = match shared.admit(node, port, &connection) {
        Ok(admitted) => admitted,
        Err(code) => {
            connection.close(code.wire(), format!("{code:?}").as_bytes());
            return Ended { up: false, refused: code.is_refusal() };
        }
    };
    drop(slot);
    tracing::info!(target: "pbft::net", own = %shared.own, %node, "up");
    serve(admitted, port, writer, reader).await
}

/// Sends our HELLO and reads theirs, each the first frame of the urgent lane.
async fn exchange(
    shared: &Shared,
    connection: &quinn::Connection,
) -> Result<(SendStream, LaneReader, Bytes), Fault> {
    let send = async {
        let mut stream = open(connection, Lane::Urgent).await?;
        let hello = hello::encode(&shared.identity, shared.own);
        let prefix = prefix(&hello).unwrap_or_default();
        stream.write_all(&[&prefix[..], &hello].concat()).await?;
        Ok::<_, Fault>(stream)
    };
    let receive = async {
        let stream = connection.accept_uni().await?;
        let malformed = |fault| match fault {
            Fault::Ours(..) => Fault::Hello(HelloError::Malformed),
            lost => lost,
        };
        let mut reader = LaneReader::begin(stream, Lane::Urgent).await.map_err(malformed)?;
        let hello = reader.hello().await.map_err(malformed)?;
        Ok::<_, Fault>((reader, hello))
    };
    let (writer, (reader, hello)) = tokio::try_join!(send, receive)?;
    Ok((writer, reader, hello))
}

/// Opens our stream of a lane and writes its tag.
async fn open(connection: &quinn::Connection, lane: Lane) -> Result<SendStream, Fault> {
    let mut stream = connection.open_uni().await?;
    // Fails only if the stream is gone, and then so does the write.
    let _ = stream.set_priority(lane.priority());
    stream.write_all(&[lane.tag()]).await?;
    Ok(stream)
}

/// Ends a connection that never came up.
fn refuse(shared: &Shared, connection: &quinn::Connection, node: Node, fault: Fault) -> Ended {
    let own = shared.own;
    let counters = &shared.counters;
    let (code, reason) = match fault {
        Fault::Lost(error) => return lost(shared, node, false, &error),
        Fault::Ours(code, reason) => (code, reason),
        Fault::Hello(error) => (error.close_code(), {
            let reason = error.explain(own, node);
            if let Some((field, ours, theirs)) = error.mismatch() {
                counters.hello_mismatches.bump();
                if shared.registry.may_log(node, &reason) {
                    let remedy = hello::remedy(own, node);
                    tracing::warn!(
                        target: "pbft::net", %own, %node, field, ours, theirs, remedy,
                        "HELLO mismatch, connection refused"
                    );
                }
            }
            reason
        }),
    };
    match code {
        CloseCode::BadHello => counters.hello_malformed.bump(),
        CloseCode::HelloTimeout => counters.hello_timeouts.bump(),
        CloseCode::BadStream => counters.streams_invalid.bump(),
        _ => {}
    }
    if shared.registry.may_log(node, &reason) {
        tracing::warn!(target: "pbft::net", %own, %node, ?code, reason, "connection refused");
    }
    connection.close(code.wire(), reason.as_bytes());
    Ended { up: false, refused: true }
}

/// Moves frames both ways until the connection ends.
async fn serve(admitted: Admitted, port: Port, writer: SendStream, reader: LaneReader) -> Ended {
    let Admitted { shared, link } = &admitted;
    let connection = &link.connection;
    let mut reading = pin!(read(&admitted, port, reader));
    let (fault, has_read_all) = tokio::select! {
        fault = &mut reading => (fault, true),
        fault = write(&admitted, port, writer) => (fault, false),
        error = connection.closed() => (Fault::Lost(error), false),
    };
    admitted.stop_sending();
    match fault {
        Fault::Lost(error) => {
            if !has_read_all && !matches!(error, ConnectionError::LocallyClosed) {
                // What had arrived before the end is still handed over, if the consumer keeps up.
                let _ = timeout(shared.limits.close_deadline, reading).await;
            }
            lost(shared, link.node, true, &error)
        }
        Fault::Hello(error) => {
            connection.close(error.close_code().wire(), b"");
            Ended { up: true, refused: true }
        }
        Fault::Ours(CloseCode::Shutdown, reason) => {
            connection.close(CloseCode::Shutdown.wire(), reason.as_bytes());
            Ended { up: true, refused: false }
        }
        Fault::Ours(code, reason) => {
            if code == CloseCode::BadStream {
                shared.counters.streams_invalid.bump();
            }
            connection.close(code.wire(), reason.as_bytes());
            // Only a faulty program sends such bytes, so it is kept away for a while.
            shared.penalize(link.node, &reason);
            Ended { up: true, refused: true }
        }
    }
}

/// Reads all lanes for ever, or until one is at fault.
async fn read(admitted: &Admitted, port: Port, urgent: LaneReader) -> Fault {
    let Admitted { shared, link } = admitted;
    let connection = &link.connection;
    let run = |reader: LaneReader, lane| {
        let bytes_max = shared.limits.lane(port, lane).frame_bytes_max;
        reader.run(lane, bytes_max, shared.limits.message_deadline, admitted)
    };
    let begin = async |lane| match connection.accept_uni().await {
        Ok(stream) => LaneReader::begin(stream, lane).await,
        Err(error) => Err(Fault::Lost(error)),
    };
    // The last lane of the port, and nothing after it.
    let last = async |reader: LaneReader, lane| {
        let extra = async {
            match connection.accept_uni().await {
                Ok(_) => Err(Fault::Ours(CloseCode::BadStream, "one stream too many".into())),
                // The reader finds the same once it has read what is left.
                Err(_) => pending().await,
            }
        };
        tokio::select! {
            ended = run(reader, lane) => ended,
            ended = extra => ended,
        }
    };
    let urgent = async { drained(run(urgent, Lane::Urgent).await) };
    let others = async {
        let bulk = match begin(Lane::Bulk).await {
            Ok(reader) => reader,
            Err(fault) => return drained(Err(fault)),
        };
        if !port.has_transfer() {
            return drained(last(bulk, Lane::Bulk).await);
        }
        let transfer = async {
            match begin(Lane::Transfer).await {
                Ok(reader) => drained(last(reader, Lane::Transfer).await),
                Err(fault) => drained(Err(fault)),
            }
        };
        let bulk = async { drained(run(bulk, Lane::Bulk).await) };
        let (bulk, transfer) = tokio::try_join!(bulk, transfer)?;
        Ok(bulk.or(transfer))
    };
    match tokio::try_join!(urgent, others) {
        Ok((Some(error), _) | (_, Some(error))) => Fault::Lost(error),
        // All lanes ended: the other end shuts down, and closes when it is done.
        Ok((None, None)) => Fault::Lost(connection.closed().await),
        Err(fault) => fault,
    }
}

/// The loss of the connection ends a lane without a fault, so that the other lane is read to its
/// end as well.
fn drained(ended: Result<(), Fault>) -> Result<Option<ConnectionError>, Fault> {
    match ended {
        Ok(()) => Ok(None),
        Err(Fault::Lost(error)) => Ok(Some(error)),
        Err(fault) => Err(fault),
    }
}

/// Writes all lanes until one is at fault, or our network closes and everything has arrived.
async fn write(admitted: &Admitted, port: Port, urgent: SendStream) -> Fault {
    let Admitted { shared, link } = admitted;
    let counters = &shared.counters;
    let written = async {
        let bulk = open(&link.connection, Lane::Bulk).await?;
        let transfer = async {
            if !port.has_transfer() {
                return Ok(());
            }
            let stream = open(&link.connection, Lane::Transfer).await?;
            // What is left of a transfer at the end may be lost: it is asked for again.
            link.queues.transfer.write_to(stream, counters).await?;
            Ok::<(), Fault>(())
        };
        let both = async {
            let (urgent, bulk) = tokio::try_join!(
                link.queues.urgent.write_to(urgent, counters),
                link.queues.bulk.write_to(bulk, counters),
            )?;
            // A close would discard what is under way, so the acknowledgements are awaited.
            tokio::try_join!(urgent.stopped(), bulk.stopped())?;
            Ok(())
        };
        tokio::try_join!(both, transfer)?;
        Ok(())
    };
    match written.await {
        Ok(()) => Fault::Ours(CloseCode::Shutdown, "shutdown".into()),
        Err(fault) => fault,
    }
}

/// The connection is gone: says so, once in a while.
fn lost(shared: &Shared, node: Node, up: bool, error: &ConnectionError) -> Ended {
    let refused = CloseCode::received(error).is_some_and(CloseCode::is_refusal);
    if refused {
        shared.counters.refused_by_peer.bump();
    }
    let reason = explain(error);
    let own = shared.own;
    if matches!(error, ConnectionError::LocallyClosed) {
        tracing::debug!(target: "pbft::net", %own, %node, reason, "down");
    } else if shared.registry.may_log(node, &reason) {
        if refused || !up {
            tracing::warn!(target: "pbft::net", %own, %node, reason, "connection refused");
        } else {
            tracing::info!(target: "pbft::net", %own, %node, reason, "down");
        }
    }
    Ended { up, refused }
}
