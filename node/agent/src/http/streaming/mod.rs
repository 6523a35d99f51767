//! exec and attach: a process's streams over one WebSocket, as kubectl and the client libraries speak it.
//!
//! The request is upgraded first and the process started then, so that whatever goes wrong is told in the protocol that
//! the client waits for: kubectl takes a refused upgrade for a server that wants SPDY and asks again in vain.

mod channel;
mod session;
mod status;

use std::sync::Arc;

use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::api::{ApiFailure, Attach, ExecRequest, NodeApi, Streams, Target};
use super::handlers::{Body, full};
use super::server::Context;
use channel::Protocol;
use session::Session;

/// The largest message from a client. kubectl sends pieces of 32 KiB.
const MAX_MESSAGE: usize = 1 << 20;
/// What is collected before it is written to the connection; output is flushed whenever it pauses.
const WRITE_BUFFER: usize = 32 << 10;

/// What to connect the client to.
pub(super) enum Wanted {
    Exec(Target, ExecRequest),
    Attach(Target, Attach),
}

impl Wanted {
    fn streams(&self) -> Attach {
        match self {
            Wanted::Exec(_, request) => request.streams,
            Wanted::Attach(_, streams) => *streams,
        }
    }
}

/// Answers an upgrade, and starts the session that follows.
pub(super) fn start<A: NodeApi>(
    context: Arc<Context<A>>,
    mut request: Request<Incoming>,
    wanted: Wanted,
) -> Result<Response<Body>, ApiFailure> {
    let (key, protocol, named) = negotiate(request.headers())?;
    let upgrade = hyper::upgrade::on(&mut request);
    let shared = context.clone();
    context.sessions.spawn(async move {
        let upgraded = match upgrade.await {
            Ok(upgraded) => TokioIo::new(upgraded),
            Err(error) => {
                tracing::debug!(%error, "a client did not go on to WebSocket");
                return;
            }
        };
        let config = WebSocketConfig::default()
            .read_buffer_size(WRITE_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_write_buffer_size(16 * WRITE_BUFFER)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, Some(config)).await;
        let session = Session::new(socket, protocol, wanted.streams());
        session.run(connect(&*shared.api, wanted), &shared.shutdown).await;
    });
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, key);
    headers.extend(named.map(|named| (SEC_WEBSOCKET_PROTOCOL, named)));
    Ok(response)
}

async fn connect<A: NodeApi>(api: &A, wanted: Wanted) -> Result<Streams, ApiFailure> {
    match wanted {
        Wanted::Exec(target, request) => api.exec(&target, request).await,
        Wanted::Attach(target, streams) => api.attach(&target, streams).await,
    }
}

/// The accept key, the protocol, and its name as the client wrote it, if it wrote any.
type Agreed = (HeaderValue, Protocol, Option<HeaderValue>);

/// Checks that the request is a WebSocket upgrade, and takes the first protocol of the client's that is known here.
fn negotiate(headers: &HeaderMap) -> Result<Agreed, ApiFailure> {
    let holds = |name: HeaderName, wanted: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(wanted))
    };
    if holds(UPGRADE, "SPDY/3.1") {
        let words = "this node speaks WebSocket (v5.channel.k8s.io), not SPDY/3.1: kubectl does from 1.30 on";
        return Err(ApiFailure::NotImplemented(words.to_owned()));
    }
    if !holds(CONNECTION, "upgrade") || !holds(UPGRADE, "websocket") {
        return Err(ApiFailure::BadRequest("you must upgrade the connection to WebSocket".to_owned()));
    }
    if !holds(SEC_WEBSOCKET_VERSION, "13") {
        return Err(ApiFailure::BadRequest("only version 13 of WebSocket is supported".to_owned()));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY);
    let key = key.ok_or_else(|| ApiFailure::BadRequest("Sec-WebSocket-Key is missing".to_owned()))?;
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()))
        .map_err(|error| ApiFailure::Internal(error.to_string()))?;
    let (protocol, named) = choose(headers)?;
    Ok((accept, protocol, named))
}

fn choose(headers: &HeaderMap) -> Result<(Protocol, Option<HeaderValue>), ApiFailure> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|value| value.to_str().ok());
    let offered: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    if offered.is_empty() {
        return Ok((Protocol::UNNAMED, None));
    }
    let known =
        offered.iter().find_map(|name| Some((Protocol::named(name)?, HeaderValue::from_str(name).ok()?)));
    match known {
        Some((protocol, name)) => Ok((protocol, Some(name))),
        None => {
            let offered = offered.join(", ");
            let known = Protocol::NAMES.join(", ");
            Err(ApiFailure::BadRequest(format!("unable to upgrade: {offered} is not known; {known} are")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    const UPGRADES: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn takes_the_clients_first_known_protocol() {
        let mut given = headers(&UPGRADES);
        let (key, protocol, name) = negotiate(&given).unwrap();
        assert_eq!(
            (key, protocol, name),
            (HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), Protocol::UNNAMED, None)
        );
        let offered = HeaderValue::from_static("v6.channel.k8s.io, v4.channel.k8s.io,v5.channel.k8s.io");
        given.insert(SEC_WEBSOCKET_PROTOCOL, offered);
        let (_, protocol, name) = negotiate(&given).unwrap();
        assert_eq!(name, Some(HeaderValue::from_static("v4.channel.k8s.io")));
        assert_eq!(Protocol::named("v4.channel.k8s.io"), Some(protocol));
    }

    #[test]
    fn says_why_there_is_no_upgrade() {
        let words = |given: &HeaderMap| negotiate(given).unwrap_err().to_string();
        let spdy = headers(&[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")]);
        assert!(words(&spdy).contains("not SPDY/3.1"));
        assert!(words(&HeaderMap::new()).contains("you must upgrade"));
        let mut given = headers(&UPGRADES);
        given.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("chat"));
        assert!(words(&given).contains("chat is not known"));
        given.remove(SEC_WEBSOCKET_KEY);
        assert!(words(&given).contains("Key is missing"));
    }
}
