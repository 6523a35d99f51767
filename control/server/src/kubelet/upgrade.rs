//! Requests that turn a connection into a stream of bytes (RFC 9110, 7.8): WebSocket and SPDY alike. What is said
//! on the stream is between the client and the node; here bytes are copied. Frames of a WebSocket are kept apart on their way
//! to the client: some clients (the Python client) wait for their socket to become readable while a frame that came in the same
//! TLS record as the one before lies in their TLS library.

use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How long the client has to take up the stream after the answer was handed over.
const HANDOVER: Duration = Duration::from_secs(10);
/// Once one side has said all, how long the other may still talk. Neither protocol goes on after that; the time
/// is for what is on its way.
const LINGER: Duration = Duration::from_secs(10);
/// Bytes copied at once.
const BUFFER: usize = 16 << 10;

/// Whether the request asks for an upgrade.
pub(crate) fn wanted(headers: &HeaderMap) -> bool {
    let connection = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let tokens = connection.flat_map(|value| value.split(','));
    headers.contains_key(UPGRADE)
        && tokens.into_iter().any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

/// The head of a 101 answer with the node's headers, which name the protocol agreed upon.
pub(super) fn answer<B>(from: &http::Response<B>) -> http::Response<crate::ResponseBody> {
    let mut response = http::Response::new(crate::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in from.headers() {
        response.headers_mut().append(name.clone(), value.clone());
    }
    response
}

/// Copies between the two once both are there, until both are done or one is lost. `agreed` are the headers of the answer that
/// agreed on the upgrade.
pub(crate) fn splice(
    client: OnUpgrade,
    node: Upgraded,
    agreed: &HeaderMap,
) -> impl Future<Output = ()> + Send + use<> {
    let is_websocket =
        agreed.get(UPGRADE).is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b"websocket"));
    join(client, node, is_websocket.then(Frames::default))
}

async fn join(client: OnUpgrade, node: Upgraded, frames: Option<Frames>) {
    let client = match tokio::time::timeout(HANDOVER, client).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return tracing::debug!(%error, "the client left before its stream began"),
        Err(_) => return tracing::debug!("the client did not take up its stream"),
    };
    let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
    let (from_node, to_node) = tokio::io::split(TokioIo::new(node));
    let up = copy(from_client, to_node, None);
    let down = copy(from_node, to_client, frames);
    tokio::pin!(up, down);
    // Dropping what is left closes both connections.
    tokio::select! {
        () = &mut up => { let _ = tokio::time::timeout(LINGER, down).await; }
        () = &mut down => { let _ = tokio::time::timeout(LINGER, up).await; }
    }
}

/// Copies until the end of input, then ends the output. Each piece is flushed: somebody waits for it.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut frames: Option<Frames>) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let mut rest = match from.read(&mut buffer).await {
            Ok(0) => break,
            Ok(count) => &buffer[..count],
            Err(error) => {
                tracing::debug!(%error, "a stream broke");
                return;
            }
        };
        while !rest.is_empty() {
            let end = frames.as_mut().map_or(rest.len(), |frames| frames.end(rest));
            let (piece, more) = rest.split_at(end);
            if to.write_all(piece).await.is_err() || to.flush().await.is_err() {
                return;
            }
            rest = more;
        }
    }
    // The other side may be gone already.
    let _ = to.shutdown().await;
}

/// Finds where the frames of a WebSocket end (RFC 6455, 5.2).
#[derive(Default)]
struct Frames {
    /// What there is of the header of a frame, until it is complete.
    header: Vec<u8>,
    /// Bytes of the frame that are still to come behind its header.
    payload: u64,
}

impl Frames {
    /// How much of these bytes, of which there are some, belongs to the frame that they begin in.
    fn end(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while self.payload == 0 {
            let Some(byte) = bytes.get(at) else { return at };
            self.header.push(*byte);
            at += 1;
            if let Some(payload) = payload(&self.header) {
                self.header.clear();
                self.payload = payload;
                if payload == 0 {
                    return at;
                }
            }
        }
        let here = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len() - at);
        self.payload -= here as u64;
        at + here
    }
}

/// The length of a frame's payload, once its header is complete.
fn payload(header: &[u8]) -> Option<u64> {
    let (first, rest) = (*header.get(1)?, &header[2..]);
    let mask = if first & 0x80 == 0 { 0 } else { 4 };
    let (extended, length) = match first & 0x7f {
        126 => (2, u64::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (8, u64::from_be_bytes(*rest.first_chunk()?)),
        short => (0, u64::from(short)),
    };
    (rest.len() == extended + mask).then_some(length)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::*;

    /// Each write by itself.
    #[derive(Default)]
    struct Writes(Vec<Vec<u8>>);

    impl AsyncWrite for &mut Writes {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push(bytes.to_vec());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn frame(length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x82];
        match length {
            0..126 => frame.push(mask | length as u8),
            126..65536 => {
                frame.push(mask | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.resize(frame.len() + length + if masked { 4 } else { 0 }, 7);
        frame
    }

    #[tokio::test]
    async fn each_frame_is_a_write_of_its_own() {
        let frames =
            [frame(0, false), frame(5, false), frame(125, true), frame(126, false), frame(300, true)];
        let mut writes = Writes::default();
        copy(&*frames.concat(), &mut writes, Some(Frames::default())).await;
        assert_eq!(writes.0, frames);
    }

    #[tokio::test]
    async fn without_frames_bytes_are_copied_as_they_come() {
        let bytes = [frame(5, false), frame(6, false)].concat();
        let mut writes = Writes::default();
        copy(&*bytes, &mut writes, None).await;
        assert_eq!(writes.0, [bytes]);
    }

    #[test]
    fn frames_end_where_they_end_however_they_are_cut() {
        let frames =
            [frame(70_000, false), frame(0, true), frame(1, false), frame(1000, true), frame(0, false)];
        let bytes = frames.concat();
        let mut ends: Vec<usize> = Vec::new();
        for frame in &frames {
            ends.push(ends.last().unwrap_or(&0) + frame.len());
        }
        for step in [1, 2, 3, 7, 1000, 69_000, bytes.len()] {
            let (mut finder, mut at, mut found) = (Frames::default(), 0, Vec::new());
            while at < bytes.len() {
                at += finder.end(&bytes[at..bytes.len().min(at + step)]);
                if finder.payload == 0 && finder.header.is_empty() {
                    found.push(at);
                }
            }
            assert_eq!(found, ends, "{step}");
        }
    }
}
