//! The receiving half of a lane: a stream cut into frames, within deadlines.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use quinn::{ReadError, RecvStream};
use tokio::task::coop;
use tokio::time::{Instant, timeout_at};

use crate::close::CloseCode;
use crate::connection::Fault;
use crate::counters::Counters;
use crate::frame::{FrameDecoder, FrameError};
use crate::hello::HELLO_BYTES_MAX;
use crate::lane::Lane;
use crate::registry::Admitted;

/// Most bytes taken from a stream at once.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// One inbound lane.
pub(crate) struct LaneReader {
    stream: RecvStream,
    decoder: FrameDecoder,
    /// Bytes received and not yet decoded.
    rest: Bytes,
}

impl LaneReader {
    /// Reads the tag of a stream the other end opened, which must be that of `lane`.
    pub(crate) async fn begin(stream: RecvStream, lane: Lane) -> Result<Self, Fault> {
        let decoder = FrameDecoder::new(HELLO_BYTES_MAX);
        let mut reader = Self { stream, decoder, rest: Bytes::new() };
        if !reader.fill().await? {
            return Err(bad_stream("a stream ended before its first byte"));
        }
        if reader.rest.first() != Some(&lane.tag()) {
            return Err(bad_stream("a stream of another kind than expected"));
        }
        let _ = reader.rest.split_to(1);
        Ok(reader)
    }

    /// Reads one frame of at most [`HELLO_BYTES_MAX`] bytes. The caller sets the deadline.
    pub(crate) async fn hello(&mut self) -> Result<Bytes, Fault> {
        let malformed = || Fault::Ours(CloseCode::BadHello, "malformed HELLO".into());
        loop {
            if self.rest.is_empty() && !self.fill().await? {
                return Err(malformed());
            }
            if let Some(frame) = self.decode().map_err(|_| malformed())? {
                return Ok(frame);
            }
        }
    }

    /// Reads frames into the inbox until the stream ends.
    pub(crate) async fn run(
        mut self,
        lane: Lane,
        frame_bytes_max: usize,
        message_deadline: Duration,
        admitted: &Admitted,
    ) -> Result<(), Fault> {
        let Admitted { shared, link } = admitted;
        let counters = &shared.counters;
        self.decoder.set_frame_bytes_max(frame_bytes_max);
        let mut frames = VecDeque::new();
        // Set while a frame is incomplete. Time in which we did not read does not count.
        let mut deadline: Option<Instant> = None;
        loop {
            while let Some(frame) = self.decode().map_err(|error| framing(error, counters))? {
                counters.frames_received.bump();
                counters.bytes_received.add(frame.len());
                frames.push_back(frame);
            }
            if !frames.is_empty() {
                deadline = None;
                if !shared.inbox.push(link.serial, lane, &mut frames).await {
                    // The connection was replaced or closed: nobody wants the rest.
                    return Ok(());
                }
            }
            if !self.decoder.is_partial() {
                deadline = None;
            } else if deadline.is_none() {
                deadline = Some(Instant::now() + message_deadline);
            }
            // A stream that always has something must not keep the thread to itself.
            coop::consume_budget().await;
            let filled = match deadline {
                None => self.fill().await?,
                Some(deadline) => match timeout_at(deadline, self.fill()).await {
                    Ok(filled) => filled?,
                    Err(_) => {
                        counters.frames_timed_out.bump();
                        let reason = format!("a frame not complete within {message_deadline:?}");
                        return Err(Fault::Ours(CloseCode::FrameTimeout, reason));
                    }
                },
            };
            if !filled {
                if self.decoder.is_partial() {
                    return Err(bad_stream("a stream ended inside a frame"));
                }
                return Ok(());
            }
        }
    }

    fn decode(&mut self) -> Result<Option<Bytes>, FrameError> {
        let mut input = &*self.rest;
        let result = self.decoder.next(&mut input);
        let used = self.rest.len() - input.len();
        // An emptied slice would still hold on to the datagrams it was cut from.
        if used == self.rest.len() {
            self.rest = Bytes::new();
        } else {
            let _ = self.rest.split_to(used);
        }
        result
    }

    /// Waits for bytes. `false` at the end of the stream. Requires: `rest` is empty.
    async fn fill(&mut self) -> Result<bool, Fault> {
        match self.stream.read_chunk(CHUNK_BYTES_MAX, true).await {
            Ok(Some(chunk)) => {
                self.rest = chunk.bytes;
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(ReadError::ConnectionLost(error)) => Err(Fault::Lost(error)),
            Err(error) => Err(bad_stream(&error.to_string())),
        }
    }
}

fn bad_stream(reason: &str) -> Fault {
    Fault::Ours(CloseCode::BadStream, reason.into())
}

fn framing(error: FrameError, counters: &Counters) -> Fault {
    let reason = match error {
        FrameError::TooLong(length, limit) => {
            counters.frames_oversized.bump();
            format!("a frame of {length} bytes, above the limit of {limit}")
        }
        FrameError::Empty => {
            counters.frames_empty.bump();
            "a frame of length zero".into()
        }
    };
    Fault::Ours(CloseCode::BadFrame, reason)
}
