//! SPDY/3.1 from the server's side, as far as Kubernetes' clients use it: kubectl up to 1.29 for exec and attach, up to
//! 1.30 for port-forward, later ones as a fallback, and inside of WebSocket messages.
//!
//! The client opens streams; each carries bytes both ways until both sides have said their last. Clients do not keep
//! windows, so that a stream that nobody reads holds up the whole connection, as it does upstream.
//! Protocol: `SPDY Protocol - Draft 3.1`, <https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/>.

mod frame;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod headers;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use frame::{Frame, FrameReader, FrameWriter};
use headers::Headers;

use super::room::{Piece, Room};

/// The most streams that are open at once.
const MAX_STREAMS: usize = 256;
/// Pieces that may wait for the reader of a stream, for the connection, and streams that may wait to be taken up.
const QUEUE: usize = 8;
/// The status of a stream that is refused.
const REFUSED: u32 = 3;
/// How long the client has to take what is still to be sent at the end.
const FAREWELL: Duration = Duration::from_secs(5);
/// About how many bytes are written at once.
const BATCH: usize = 64 << 10;

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SpdyError {
    #[error("a frame of another version of SPDY than 3")]
    Version,
    #[error("a frame that is too short")]
    Malformed,
    #[error("a header block that cannot be read")]
    Headers,
    #[error("a frame or header block that is too large")]
    TooLarge,
    #[error("the connection broke: {0}")]
    Io(std::io::ErrorKind),
}

/// A stream that the client opened.
pub(super) struct Stream {
    headers: Headers,
    /// What the client says; ends with its side of the stream.
    pub(super) input: mpsc::Receiver<Piece>,
    /// What is said to the client.
    pub(super) output: Output,
}

impl Stream {
    /// A header, by its name in lower case.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// The server's side of a stream.
pub(super) struct Output {
    id: u32,
    queue: mpsc::Sender<Outgoing>,
}

impl Output {
    /// Sends a piece; `Err` when the connection is gone.
    pub(super) async fn send(&self, data: Bytes) -> Result<(), Gone> {
        self.queue.send(Outgoing::Data { id: self.id, data, last: false }).await.map_err(|_| Gone)
    }

    /// Ends the server's side.
    pub(super) async fn finish(self) -> Result<(), Gone> {
        let last = Outgoing::Data { id: self.id, data: Bytes::new(), last: true };
        self.queue.send(last).await.map_err(|_| Gone)
    }
}

/// The connection is gone.
#[derive(Debug)]
pub(super) struct Gone;

enum Outgoing {
    Reply(u32),
    Data { id: u32, data: Bytes, last: bool },
    Refuse(u32),
    Pong(u32),
}

/// Serves a connection: hands each new stream to `serve`'s receiver, until the client goes away, breaks the protocol, or
/// `serve` is done; then what is still to be sent is sent.
pub(super) async fn run<S, F>(io: S, serve: impl FnOnce(mpsc::Receiver<Stream>) -> F) -> Result<(), SpdyError>
where
    S: AsyncRead + AsyncWrite,
    F: Future<Output = ()>,
{
    let (from, to) = tokio::io::split(io);
    let (queue, outgoing) = mpsc::channel(QUEUE);
    let (accepted, streams) = mpsc::channel(QUEUE);
    let write = write(to, outgoing);
    let read = read(FrameReader::new(from), queue, accepted);
    let serve = serve(streams);
    let mut read = Box::pin(read);
    tokio::pin!(write, serve);
    tokio::select! {
        written = &mut write => return written,
        outcome = &mut read => return outcome,
        () = &mut serve => {}
    }
    // With the reader the last who may send goes, so that the writer ends when all is sent.
    drop(read);
    tokio::time::timeout(FAREWELL, write).await.unwrap_or(Err(SpdyError::Io(std::io::ErrorKind::TimedOut)))
}

async fn read<R: AsyncRead + Unpin>(
    mut reader: FrameReader<R>,
    queue: mpsc::Sender<Outgoing>,
    accepted: mpsc::Sender<Stream>,
) -> Result<(), SpdyError> {
    let mut open: HashMap<u32, mpsc::Sender<Piece>> = HashMap::new();
    let room = Room::new();
    while let Some(frame) = reader.next().await? {
        match frame {
            Frame::Open { id, headers, last } => {
                open.retain(|_, input| !input.is_closed());
                if open.len() >= MAX_STREAMS || open.contains_key(&id) {
                    _ = queue.send(Outgoing::Refuse(id)).await;
                    continue;
                }
                _ = queue.send(Outgoing::Reply(id)).await;
                let (input, receiver) = mpsc::channel(QUEUE);
                if !last {
                    open.insert(id, input);
                }
                let output = Output { id, queue: queue.clone() };
                // Nobody takes up streams any more when the session is over.
                _ = accepted.send(Stream { headers, input: receiver, output }).await;
            }
            Frame::Data { id, data, last } => {
                if let Some(input) = open.get(&id)
                    && !data.is_empty()
                    && let Some(piece) = room.take(data).await
                {
                    // What nobody reads any more is lost, as in a pipe.
                    _ = input.send(piece).await;
                }
                if last {
                    open.remove(&id);
                }
            }
            Frame::Reset { id } => drop(open.remove(&id)),
            Frame::Ping { id } => _ = queue.send(Outgoing::Pong(id)).await,
            Frame::GoAway => return Ok(()),
            Frame::Other => {}
        }
    }
    Ok(())
}

async fn write(
    mut to: impl AsyncWrite + Unpin,
    mut outgoing: mpsc::Receiver<Outgoing>,
) -> Result<(), SpdyError> {
    let broke = |error: std::io::Error| SpdyError::Io(error.kind());
    let mut writer = FrameWriter::default();
    let mut out = BytesMut::new();
    let mut newest = 0;
    while let Some(first) = outgoing.recv().await {
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Outgoing::Reply(id) => {
                    newest = newest.max(id);
                    writer.reply(&mut out, id);
                }
                Outgoing::Data { id, data, last } => frame::data(&mut out, id, &data, last),
                Outgoing::Refuse(id) => frame::reset(&mut out, id, REFUSED),
                Outgoing::Pong(id) => frame::pong(&mut out, id),
            }
            next = if out.len() < BATCH { outgoing.try_recv().ok() } else { None };
        }
        to.write_all(&out).await.map_err(broke)?;
        to.flush().await.map_err(broke)?;
        out.clear();
    }
    frame::go_away(&mut out, newest);
    to.write_all(&out).await.map_err(broke)?;
    to.shutdown().await.map_err(broke)
}
