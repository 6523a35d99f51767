//! Requests that turn a connection into a stream of bytes (RFC 9110, 7.8): WebSocket and SPDY alike. What is said
//! on the stream is between the client and the node; here bytes are copied.

use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

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

/// Copies between the two once both are there, until both are done or one is lost.
pub(crate) async fn splice(client: OnUpgrade, node: Upgraded) {
    let client = match tokio::time::timeout(HANDOVER, client).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return tracing::debug!(%error, "the client left before its stream began"),
        Err(_) => return tracing::debug!("the client did not take up its stream"),
    };
    let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
    let (from_node, to_node) = tokio::io::split(TokioIo::new(node));
    let up = copy(from_client, to_node);
    let down = copy(from_node, to_client);
    tokio::pin!(up, down);
    // Dropping what is left closes both connections.
    tokio::select! {
        () = &mut up => { let _ = tokio::time::timeout(LINGER, down).await; }
        () = &mut down => { let _ = tokio::time::timeout(LINGER, up).await; }
    }
}

/// Copies until the end of input, then ends the output. Each piece is flushed: somebody waits for it.
async fn copy(mut from: ReadHalf<TokioIo<Upgraded>>, mut to: WriteHalf<TokioIo<Upgraded>>) {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) => break,
            Ok(count) => {
                if to.write_all(&buffer[..count]).await.is_err() || to.flush().await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a stream broke");
                return;
            }
        }
    }
    // The other side may be gone already.
    let _ = to.shutdown().await;
}
