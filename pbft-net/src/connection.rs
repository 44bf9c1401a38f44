//! One connection, from the end of its TLS handshake to its close.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{Connection, ReadError, RecvStream, SendStream};
use tokio::time::timeout;

use crate::Node;
use crate::close::{CloseCode, explain};
use crate::frame::{FrameDecoder, FrameError, prefix};
use crate::hello::{self, HELLO_BYTES_MAX};
use crate::inbox::Serial;
use crate::lane::{Lane, LaneQueue, PerLane};
use crate::limits::Port;
use crate::registry::{Shared, close};

/// Bytes taken from a stream at a time.
const READ_BYTES_MAX: usize = 64 * 1024;

/// Runs a connection to `node` until it ends. Returns whether it ever was up.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    connection: Connection,
    node: Node,
    port: Port,
) -> bool {
    let greeted = timeout(shared.limits.hello_deadline, greet(shared, &connection, node, port));
    let streams = match greeted.await {
        Ok(Ok(streams)) => streams,
        Ok(Err(code)) => {
            refuse(shared, &connection, node, code);
            return false;
        }
        Err(_) => {
            shared.counters.hello_timeouts.bump();
            refuse(shared, &connection, node, CloseCode::HelloTimeout);
            return false;
        }
    };
    let (serial, queues) = match shared.admit(node, port, &connection) {
        Ok(admitted) => admitted,
        Err(code) => {
            refuse(shared, &connection, node, code);
            return false;
        }
    };
    let code = serve(shared, &connection, serial, port, &queues, streams).await;
    if let Some(code) = code {
        if code.is_refusal() {
            tracing::warn!(here = %shared.me, %node, ?code, "connection closed");
            shared.penalize(node, "broken framing");
        }
        close(&connection, code, "");
    } else if let Some(reason) = connection.close_reason() {
        tracing::debug!(here = %shared.me, %node, reason = explain(&reason), "connection ended");
    }
    shared.forget(node, serial);
    true
}

/// The streams of a connection whose HELLO agreed.
struct Streams {
    urgent_out: SendStream,
    bulk_out: SendStream,
    urgent_in: RecvStream,
    /// What came behind the HELLO already.
    rest: Bytes,
    decoder: FrameDecoder,
}

/// Sends our HELLO and judges theirs.
async fn greet(
    shared: &Shared,
    connection: &Connection,
    node: Node,
    port: Port,
) -> Result<Streams, CloseCode> {
    // An error here means that the connection has ended; why, its close reason says.
    let lost = |_| CloseCode::Dropped;
    let mut urgent_out = connection.open_uni().await.map_err(lost)?;
    let mut bulk_out = connection.open_uni().await.map_err(lost)?;
    for (lane, stream) in [(Lane::Urgent, &mut urgent_out), (Lane::Bulk, &mut bulk_out)] {
        let _ = stream.set_priority(lane.priority());
    }
    let greeting = hello::encode(&shared.identity, shared.me);
    let length = prefix(&greeting).unwrap_or_default();
    let opening = [&[Lane::Urgent.tag()][..], &length[..], &greeting[..]].concat();
    urgent_out.write_all(&opening).await.map_err(|_| CloseCode::Dropped)?;
    bulk_out.write_all(&[Lane::Bulk.tag()]).await.map_err(|_| CloseCode::Dropped)?;

    let mut urgent_in = connection.accept_uni().await.map_err(lost)?;
    let mut tag = [0];
    urgent_in.read_exact(&mut tag).await.map_err(|_| CloseCode::BadStream)?;
    if tag != [Lane::Urgent.tag()] {
        shared.counters.streams_invalid.bump();
        return Err(CloseCode::BadStream);
    }
    let mut decoder = FrameDecoder::new(HELLO_BYTES_MAX);
    loop {
        let chunk = urgent_in.read_chunk(READ_BYTES_MAX, true).await;
        let Ok(Some(chunk)) = chunk else {
            return Err(CloseCode::BadStream);
        };
        let mut input: &[u8] = &chunk.bytes;
        match decoder.next(&mut input) {
            Ok(None) => {}
            Ok(Some(frame)) => {
                judge(shared, node, &frame)?;
                let rest = chunk.bytes.slice_ref(input);
                decoder.set_frame_bytes_max(shared.limits.lane(port, Lane::Urgent).frame_bytes_max);
                return Ok(Streams { urgent_out, bulk_out, urgent_in, rest, decoder });
            }
            Err(_) => {
                shared.counters.hello_malformed.bump();
                return Err(CloseCode::BadHello);
            }
        }
    }
}

fn judge(shared: &Shared, node: Node, frame: &[u8]) -> Result<(), CloseCode> {
    hello::judge(&shared.identity, node, frame).map_err(|error| {
        let counters = &shared.counters;
        let counter = if error.is_mismatch() {
            &counters.hello_mismatches
        } else {
            &counters.hello_malformed
        };
        counter.bump();
        tracing::warn!("{}", error.explain(shared.me, node));
        error.close_code()
    })
}

fn refuse(shared: &Shared, connection: &Connection, node: Node, code: CloseCode) {
    if let Some(reason) = connection.close_reason() {
        if CloseCode::received(&reason).is_some_and(CloseCode::is_refusal) {
            shared.counters.refused_by_peer.bump();
            tracing::warn!(here = %shared.me, %node, "{}", explain(&reason));
        }
        return;
    }
    tracing::debug!(here = %shared.me, %node, ?code, "connection refused");
    close(connection, code, &format!("{} refuses {node}: {code:?}", shared.me));
}

/// Moves frames until the connection ends. Returns the code to close it with, if it is for us to close.
async fn serve(
    shared: &Arc<Shared>,
    connection: &Connection,
    serial: Serial,
    port: Port,
    queues: &PerLane<LaneQueue>,
    streams: Streams,
) -> Option<CloseCode> {
    let Streams { urgent_out, bulk_out, urgent_in, rest, decoder } = streams;
    let writing = async {
        let urgent = queues.get(Lane::Urgent).write_to(urgent_out, &shared.counters);
        let bulk = queues.get(Lane::Bulk).write_to(bulk_out, &shared.counters);
        let (urgent, bulk) = tokio::try_join!(urgent, bulk).ok()?;
        // Everything is written; `stopped` ends when it is acknowledged.
        let _ = timeout(shared.limits.close_deadline, async {
            let _ = urgent.stopped().await;
            let _ = bulk.stopped().await;
        })
        .await;
        Some(CloseCode::Shutdown)
    };
    let reading = async {
        let mut urgent = Reader { shared, serial, lane: Lane::Urgent, decoder };
        let bulk = async {
            let stream = second_stream(shared, connection).await?;
            let limits = shared.limits.lane(port, Lane::Bulk);
            let decoder = FrameDecoder::new(limits.frame_bytes_max);
            let mut bulk = Reader { shared, serial, lane: Lane::Bulk, decoder };
            bulk.read(Bytes::new(), stream).await
        };
        match tokio::try_join!(urgent.read(rest, urgent_in), bulk) {
            Err(code) => code,
            // The other end has finished both streams: it is shutting down and waits for our word.
            Ok(((), ())) => CloseCode::Finished,
        }
    };
    let code = tokio::select! {
        code = reading => Some(code),
        code = writing => code,
        _ = connection.closed() => None,
    };
    code.filter(|_| connection.close_reason().is_none())
}

async fn second_stream(shared: &Shared, connection: &Connection) -> Result<RecvStream, CloseCode> {
    let mut stream = connection.accept_uni().await.map_err(|_| CloseCode::Dropped)?;
    let mut tag = [0];
    let read = timeout(shared.limits.message_deadline, stream.read_exact(&mut tag)).await;
    if !matches!(read, Ok(Ok(()))) || tag != [Lane::Bulk.tag()] {
        shared.counters.streams_invalid.bump();
        return Err(CloseCode::BadStream);
    }
    Ok(stream)
}

struct Reader<'a> {
    shared: &'a Shared,
    serial: Serial,
    lane: Lane,
    decoder: FrameDecoder,
}

impl Reader<'_> {
    /// Cuts the stream into frames and hands them over, waiting while the inbox has no room.
    async fn read(&mut self, first: Bytes, mut stream: RecvStream) -> Result<(), CloseCode> {
        let mut frames = VecDeque::new();
        let mut waited = Duration::ZERO;
        let mut bytes = first;
        loop {
            let mut input: &[u8] = &bytes;
            loop {
                match self.decoder.next(&mut input) {
                    Ok(Some(frame)) => {
                        waited = Duration::ZERO;
                        self.shared.counters.frames_received.bump();
                        self.shared.counters.bytes_received.add(frame.len());
                        frames.push_back(frame);
                    }
                    Ok(None) => break,
                    Err(error) => return Err(self.bad_frame(error)),
                }
            }
            if !frames.is_empty()
                && !self.shared.inbox.push(self.serial, self.lane, &mut frames).await
            {
                return Err(CloseCode::Dropped);
            }
            // Only the time spent waiting for the peer counts against a frame that has begun.
            let chunk = if self.decoder.is_partial() {
                let left = self.shared.limits.message_deadline.saturating_sub(waited);
                let since = Instant::now();
                let read = timeout(left, stream.read_chunk(READ_BYTES_MAX, true)).await;
                waited += since.elapsed();
                let Ok(read) = read else {
                    self.shared.counters.frames_timed_out.bump();
                    return Err(CloseCode::FrameTimeout);
                };
                read
            } else {
                stream.read_chunk(READ_BYTES_MAX, true).await
            };
            bytes = match chunk {
                Ok(Some(chunk)) => chunk.bytes,
                Ok(None) => return Ok(()),
                Err(ReadError::ConnectionLost(_)) => return Err(CloseCode::Dropped),
                Err(_) => {
                    self.shared.counters.streams_invalid.bump();
                    return Err(CloseCode::BadStream);
                }
            };
        }
    }

    fn bad_frame(&self, error: FrameError) -> CloseCode {
        match error {
            FrameError::TooLong(..) => self.shared.counters.frames_oversized.bump(),
            FrameError::Empty => self.shared.counters.frames_empty.bump(),
        }
        tracing::warn!(here = %self.shared.me, lane = ?self.lane, ?error, "bad frame");
        CloseCode::BadFrame
    }
}
