//! exec, attach and port-forward: streams over one WebSocket or SPDY connection, as kubectl and the client libraries
//! speak them.
//!
//! The request is upgraded first and the process started then, so that whatever goes wrong is told in the protocol that
//! the client waits for: kubectl takes a refused upgrade for a server that wants SPDY and asks again in vain.

mod channel;
mod channel_forward;
mod forward;
mod session;
mod spdy;
mod status;

use std::sync::Arc;

use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::api::{ApiFailure, Attach, ExecRequest, NodeApi, Streams, Target};
use super::handlers::{Body, full};
use super::server::Context;
use super::spdy as frames;
pub(in crate::http) use channel::Protocol;
pub(super) use forward::Pod;
use session::Session;

/// The largest message from a client. kubectl sends pieces of 32 KiB.
pub(in crate::http) const MAX_MESSAGE: usize = 1 << 20;
/// What may wait between a WebSocket and the SPDY inside of it.
const TUNNEL_BUFFER: usize = 64 << 10;
/// Where SPDY clients name the protocols that they speak.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// What is collected before it is written to the connection; output is flushed whenever it pauses.
const WRITE_BUFFER: usize = 32 << 10;

/// What to connect the client to.
pub(super) enum Wanted {
    Exec(Target, ExecRequest),
    Attach(Target, Attach),
    PortForward(Pod),
}

/// Answers an upgrade, and starts the session that follows.
pub(super) fn start<A: NodeApi>(
    context: Arc<Context<A>>,
    mut request: Request<Incoming>,
    wanted: Wanted,
) -> Result<Response<Body>, ApiFailure> {
    let (carrier, headers) = agree(request.headers(), &wanted)?;
    let upgrade = hyper::upgrade::on(&mut request);
    let shared = context.clone();
    context.sessions.spawn(async move {
        let upgraded = match upgrade.await {
            Ok(upgraded) => TokioIo::new(upgraded),
            Err(error) => {
                tracing::debug!(%error, "a client did not go on to its stream");
                return;
            }
        };
        match carrier {
            Carrier::Channels(protocol) => channels(&shared, upgraded, protocol, wanted).await,
            Carrier::Spdy => spdy_session(&shared, upgraded, wanted).await,
            Carrier::Tunnel => {
                let socket = socket(upgraded).await;
                let (inner, outer) = tokio::io::duplex(TUNNEL_BUFFER);
                let session = async {
                    spdy_session(&shared, inner, wanted).await;
                };
                tokio::join!(session, forward::tunnel(socket, outer));
            }
        }
    });
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    Ok(response)
}

/// What carries the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    /// WebSocket messages that begin with a channel's number.
    Channels(Protocol),
    /// SPDY/3.1.
    Spdy,
    /// SPDY/3.1 inside of WebSocket messages.
    Tunnel,
}

/// Agrees with the client on how its streams are carried; with the headers of the answer.
fn agree(headers: &HeaderMap, wanted: &Wanted) -> Result<(Carrier, HeaderMap), ApiFailure> {
    let forwards = matches!(wanted, Wanted::PortForward(_));
    let (carrier, named) = if holds(headers, &UPGRADE, "SPDY/3.1") {
        let protocol = if forwards { forward::PROTOCOL } else { spdy::PROTOCOL };
        // The first clients of port-forward named no protocol.
        let unnamed = forwards && !headers.contains_key(STREAM_PROTOCOL);
        if !unnamed && !holds(headers, &STREAM_PROTOCOL, protocol) {
            let words = format!("unable to upgrade: over SPDY this node speaks {protocol} only");
            return Err(ApiFailure::BadRequest(words));
        }
        (Carrier::Spdy, Some((STREAM_PROTOCOL, HeaderValue::from_static(protocol))))
    } else if forwards {
        check_websocket(headers)?;
        if holds(headers, &SEC_WEBSOCKET_PROTOCOL, forward::TUNNEL) {
            (Carrier::Tunnel, Some((SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(forward::TUNNEL))))
        } else {
            let (protocol, named) = choose(headers)?;
            (Carrier::Channels(protocol), named.map(|named| (SEC_WEBSOCKET_PROTOCOL, named)))
        }
    } else {
        check_websocket(headers)?;
        let (protocol, named) = choose(headers)?;
        (Carrier::Channels(protocol), named.map(|named| (SEC_WEBSOCKET_PROTOCOL, named)))
    };
    let mut answer = HeaderMap::new();
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if carrier == Carrier::Spdy {
        answer.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    } else {
        answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
        answer.insert(SEC_WEBSOCKET_ACCEPT, accept_key(headers)?);
    }
    answer.extend(named.map(|(name, value)| (Some(name), value)));
    Ok((carrier, answer))
}

async fn channels<A: NodeApi>(
    shared: &Context<A>,
    upgraded: TokioIo<Upgraded>,
    protocol: Protocol,
    wanted: Wanted,
) {
    let streams = match &wanted {
        Wanted::Exec(_, request) => request.streams,
        Wanted::Attach(_, streams) => *streams,
        Wanted::PortForward(pod) => {
            let socket = socket(upgraded).await;
            let session = channel_forward::serve(&*shared.api, pod, socket, protocol);
            tokio::select! {
                () = shared.shutdown.cancelled() => {}
                () = session => {}
            }
            return;
        }
    };
    let session = Session::new(socket(upgraded).await, protocol, streams);
    session.run(connect(&*shared.api, wanted), &shared.shutdown).await;
}

/// A session over SPDY, until its end or the node's.
async fn spdy_session<A: NodeApi, S: AsyncRead + AsyncWrite>(shared: &Context<A>, io: S, wanted: Wanted) {
    let api = shared.api.clone();
    let session = frames::run(io, |streams| async move {
        match wanted {
            Wanted::PortForward(pod) => forward::serve(api, pod, streams).await,
            Wanted::Exec(_, ExecRequest { streams: asked, .. }) | Wanted::Attach(_, asked) => {
                spdy::carry(streams, asked, connect(&*api, wanted)).await;
            }
        }
    });
    tokio::select! {
        () = shared.shutdown.cancelled() => {}
        ended = session => if let Err(error) = ended {
            tracing::debug!(%error, "a SPDY session ended");
        },
    }
}

/// The server's side of a WebSocket on a connection that has been upgraded.
pub(in crate::http) async fn socket<S: AsyncRead + AsyncWrite + Unpin>(upgraded: S) -> WebSocketStream<S> {
    let config = WebSocketConfig::default()
        .read_buffer_size(WRITE_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(16 * WRITE_BUFFER)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(upgraded, Role::Server, Some(config)).await
}

async fn connect<A: NodeApi>(api: &A, wanted: Wanted) -> Result<Streams, ApiFailure> {
    match wanted {
        Wanted::Exec(target, request) => api.exec(&target, request).await,
        Wanted::Attach(target, streams) => api.attach(&target, streams).await,
        Wanted::PortForward(_) => Err(ApiFailure::Internal("port-forward has no process".to_owned())),
    }
}

/// Whether a list in a header has an entry, in any case.
fn holds(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(wanted))
}

/// Checks that the request is a WebSocket upgrade.
fn check_websocket(headers: &HeaderMap) -> Result<(), ApiFailure> {
    if !holds(headers, &CONNECTION, "upgrade") || !holds(headers, &UPGRADE, "websocket") {
        let words = "you must upgrade the connection to WebSocket or SPDY/3.1";
        return Err(ApiFailure::BadRequest(words.to_owned()));
    }
    if !holds(headers, &SEC_WEBSOCKET_VERSION, "13") {
        return Err(ApiFailure::BadRequest("only version 13 of WebSocket is supported".to_owned()));
    }
    Ok(())
}

fn accept_key(headers: &HeaderMap) -> Result<HeaderValue, ApiFailure> {
    let key = headers.get(SEC_WEBSOCKET_KEY);
    let key = key.ok_or_else(|| ApiFailure::BadRequest("Sec-WebSocket-Key is missing".to_owned()))?;
    HeaderValue::try_from(derive_accept_key(key.as_bytes()))
        .map_err(|error| ApiFailure::Internal(error.to_string()))
}

/// Takes the first protocol of the client's that is known here, with its name as the client wrote it, if it wrote any.
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

    fn target() -> Target {
        Target { namespace: "n".to_owned(), pod: "p".to_owned(), uid: None, container: "c".to_owned() }
    }

    fn attach() -> Wanted {
        Wanted::Attach(target(), Attach { tty: false, stdin: true, stdout: true, stderr: true })
    }

    fn forward() -> Wanted {
        Wanted::PortForward(Pod { namespace: "n".to_owned(), name: "p".to_owned(), ports: vec![80] })
    }

    #[test]
    fn takes_the_clients_first_known_protocol() {
        let mut given = headers(&UPGRADES);
        let (carrier, answer) = agree(&given, &attach()).unwrap();
        assert_eq!(carrier, Carrier::Channels(Protocol::UNNAMED));
        assert_eq!(answer[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer.get(SEC_WEBSOCKET_PROTOCOL), None);
        let offered = HeaderValue::from_static("v6.channel.k8s.io, v4.channel.k8s.io,v5.channel.k8s.io");
        given.insert(SEC_WEBSOCKET_PROTOCOL, offered);
        let (carrier, answer) = agree(&given, &attach()).unwrap();
        assert_eq!(answer[SEC_WEBSOCKET_PROTOCOL], "v4.channel.k8s.io");
        assert_eq!(Protocol::named("v4.channel.k8s.io").map(Carrier::Channels), Some(carrier));
    }

    #[test]
    fn spdy_by_itself_and_inside_of_websocket() {
        let mut given = headers(&[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")]);
        let (carrier, answer) = agree(&given, &forward()).unwrap();
        assert_eq!(
            (carrier, &answer[STREAM_PROTOCOL]),
            (Carrier::Spdy, &HeaderValue::from_static("portforward.k8s.io"))
        );
        assert!(agree(&given, &attach()).unwrap_err().to_string().contains("v4.channel.k8s.io only"));
        for offered in ["v4.channel.k8s.io", "channel.k8s.io"] {
            given.append(STREAM_PROTOCOL, HeaderValue::from_static(offered));
        }
        let (carrier, answer) = agree(&given, &attach()).unwrap();
        assert_eq!(
            (carrier, &answer[STREAM_PROTOCOL]),
            (Carrier::Spdy, &HeaderValue::from_static("v4.channel.k8s.io"))
        );
        let mut given = headers(&UPGRADES);
        given.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(forward::TUNNEL));
        assert_eq!(agree(&given, &forward()).unwrap().0, Carrier::Tunnel);
    }

    #[test]
    fn says_why_there_is_no_upgrade() {
        let words = |given: &HeaderMap| agree(given, &attach()).unwrap_err().to_string();
        assert!(words(&HeaderMap::new()).contains("you must upgrade"));
        let mut given = headers(&UPGRADES);
        given.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("chat"));
        assert!(words(&given).contains("chat is not known"));
        assert!(agree(&given, &forward()).unwrap_err().to_string().contains("chat is not known"));
        given.remove(SEC_WEBSOCKET_PROTOCOL);
        given.remove(SEC_WEBSOCKET_KEY);
        assert!(words(&given).contains("Key is missing"));
    }
}
