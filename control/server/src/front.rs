//! The TLS front: connections, HTTP/1.1 and HTTP/2, authentication, and an orderly end.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::audit::{self, Peer};
use crate::authn::anonymous;
use crate::authn::notes::{Notes, gathered};
use crate::negotiate::RefusalForm;
use crate::query::Query;
use crate::router::RequestInfo;
use crate::server::{ApiServer, Inner};
use crate::service::{Origin, handle};
use crate::stall::Stalls;
use crate::{ApiError, BoxError, Credentials, ResponseBody, UserInfo, join, respond, used_tokens};

/// Connections at once. Each costs a task and its TLS buffers; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 10_000;
/// How long a client may take to shake hands, and to send the head of a request.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Most headers of a request, and most bytes of them.
const MAX_HEADERS: usize = 128;
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// Requests at once on one HTTP/2 connection; what Go's server allows.
const MAX_STREAMS: u32 = 250;
/// How often a silent HTTP/2 client is asked whether it is there, and how long it may take to answer.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// How long what was sent may stay untaken before the connection is dropped: the end of readers that do not read.
const UNTAKEN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long requests may go on after the shutdown began.
const DRAIN: Duration = Duration::from_secs(10);
/// How long connections that were made before the shutdown are looked for.
const LINGER: Duration = Duration::from_millis(100);
/// How long after it was made a connection is waited for to send its first request, when a shutdown has begun; what Go's
/// server allows. Closed before, it would look to its client like a request that was dropped.
const FIRST_REQUEST: Duration = Duration::from_secs(5);
/// Streams that a client opened and reset before they were looked at: more end the connection (the rapid reset attack).
const MAX_RESETS: usize = 20;
/// Bytes that an HTTP/2 answer is ahead of its client at most.
const SEND_BUFFER: usize = 128 * 1024;
/// Wait after a failed `accept`, which means too few file descriptors or too little memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection that was accepted: its stream, who is there, and its place among all.
type Accepted = (TcpStream, SocketAddr, OwnedSemaphorePermit);

impl ApiServer {
    /// Serves HTTPS on `listener` until `shutdown`: then `/readyz` fails, what waits in the kernel's queue is still
    /// accepted, watches end, requests in flight are answered (for at most ten seconds), and connections are closed.
    /// `tls` has to ask for client certificates without demanding them.
    pub async fn serve(&self, listener: TcpListener, tls: Arc<ServerConfig>, shutdown: CancellationToken) {
        let acceptor = TlsAcceptor::from(tls);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let closing = CancellationToken::new();
        let http = builder();
        let mut connections = JoinSet::new();
        let admit = |connections: &mut JoinSet<()>, (stream, peer, place): Accepted| {
            let (server, acceptor, http) = (self.inner.clone(), acceptor.clone(), http.clone());
            let closing = closing.clone();
            connections.spawn(async move {
                let _place = place;
                converse(server, acceptor, http, stream, Peer(peer.ip()), closing).await;
            });
        };
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = accept(&listener, &places) => match accepted {
                    Ok(accepted) => admit(&mut connections, accepted),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        self.begin_ending();
        // Who connected before would otherwise be reset with his request.
        let until = Instant::now() + LINGER;
        while let Ok(Ok(accepted)) = tokio::time::timeout_at(until, accept(&listener, &places)).await {
            admit(&mut connections, accepted);
        }
        drop(listener);
        self.begin_shutdown();
        closing.cancel();
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, all).await.is_err() {
            tracing::warn!("some connections did not end in {} s; they are dropped", DRAIN.as_secs());
        }
        connections.shutdown().await;
    }
}

/// Everything about one connection.
async fn converse(
    server: Arc<Inner>,
    acceptor: TlsAcceptor,
    http: Builder<TokioExecutor>,
    stream: TcpStream,
    peer: Peer,
    closing: CancellationToken,
) {
    let made = Instant::now();
    let Some(stream) = shake_hands(acceptor, stream).await else {
        server.metrics.failed_handshake();
        return;
    };
    let credentials = certificates(&stream);
    // What was agreed on is not guessed from the first bytes: so a shutdown does not cut off who has sent none yet.
    let http = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => http.http2_only(),
        Some(b"http/1.1") => http.http1_only(),
        _ => http,
    };
    let stalls = Stalls::new(UNTAKEN_TIMEOUT);
    let asked = CancellationToken::new();
    let service = service_fn({
        let (stalls, asked) = (stalls.clone(), asked.clone());
        move |request| {
            asked.cancel();
            let (answer, stalls) =
                (answer(server.clone(), credentials.clone(), peer, request), stalls.clone());
            async move { answer.await.map(|response| stalls.look_after(response)) }
        }
    });
    let mut connection = pin!(http.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let served = async {
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = last_request(closing, asked, made + FIRST_REQUEST) => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    };
    tokio::select! {
        ended = served => {
            if let Err(error) = ended {
                tracing::debug!(error, "a connection ended badly");
            }
        }
        () = stalls.stalled() => {
            tracing::info!(peer = %peer.0, "a client did not read its answers for {} s and is cut off", UNTAKEN_TIMEOUT.as_secs());
        }
    }
}

/// Returns once a connection is to take no further requests: in a shutdown, when there was one or it is past `until`.
async fn last_request(closing: CancellationToken, asked: CancellationToken, until: Instant) {
    closing.cancelled().await;
    // Who has asked nothing by then is not about to.
    let _ = tokio::time::timeout_at(until, asked.cancelled()).await;
}

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<Accepted> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

/// How HTTP is spoken.
fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEADER_BYTES as u32)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// The TLS handshake; `None` when it fails or takes too long.
async fn shake_hands(acceptor: TlsAcceptor, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
    if let Err(error) = tune(&stream) {
        tracing::debug!(%error, "cannot set options of a connection");
    }
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

/// Answers go out at once, and peers that are gone or do not read are noticed.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PING_EVERY).with_interval(PING_TIMEOUT))?;
    socket.set_tcp_user_timeout(Some(UNTAKEN_TIMEOUT))
}

/// The client's certificates, which TLS has checked.
fn certificates(stream: &TlsStream<TcpStream>) -> Credentials {
    let sent = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificates = sent.iter().map(|c| c.clone().into_owned()).collect();
    Credentials { certificates, ..Credentials::default() }
}

/// Answers one request of a connection.
async fn answer(
    server: Arc<Inner>,
    connection: Credentials,
    peer: Peer,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, std::convert::Infallible> {
    if join::is_about(request.uri().path()) {
        let request = request.map(|body| body.map_err(BoxError::from).boxed_unsync());
        return Ok(join::answer(server, request).await);
    }
    request.extensions_mut().insert(peer);
    let credentials = Credentials {
        bearer: bearer(request.headers()),
        headers: std::mem::take(request.headers_mut()),
        ..connection
    };
    let path = request.uri().path();
    let (user, learned) = gathered(authenticate(&server, &credentials, path)).await;
    *request.headers_mut() = credentials.headers;
    if let Some(used) = &learned.used {
        used_tokens::mark(&server, used.clone());
    }
    let user = match user {
        Ok(user) => user,
        Err(error) => return Ok(unknown(&server, &request, &error, &learned)),
    };
    if learned != Notes::default() {
        request.extensions_mut().insert(learned);
    }
    forget_credentials(&server, request.headers_mut());
    let request = request.map(|body| body.map_err(BoxError::from).boxed_unsync());
    Ok(handle(server, user, request, Origin::Network).await)
}

/// The answer to who cannot say who he is.
fn unknown(
    server: &Inner,
    request: &Request<Incoming>,
    error: &ApiError,
    learned: &Notes,
) -> Response<ResponseBody> {
    let id = audit::id(request.headers());
    if let Some(audit) = server.audit.get() {
        let query = Query::parse(request.uri().query().unwrap_or_default()).unwrap_or_default();
        if let Ok(info) = RequestInfo::parse(request.method(), request.uri().path(), &query) {
            audit.refused(request, &info, &id, error, learned);
        }
    }
    let form = RefusalForm::of(request).representation();
    let mut response = respond::refusal_as(error, &form);
    response.headers_mut().insert(audit::ID, id);
    response
}

/// Who sent the request. Without credentials only a few paths are answered.
async fn authenticate(server: &Inner, credentials: &Credentials, path: &str) -> Result<UserInfo, ApiError> {
    match server.config.authenticator.authenticate(credentials).await? {
        Some(user) => Ok(user),
        None if server.config.authenticator.allows_anonymous(path) => Ok(anonymous()),
        None => Err(ApiError::unauthorized()),
    }
}

/// Takes out what proved the identity: whoever the request is passed on to could use it.
fn forget_credentials(server: &Inner, headers: &mut HeaderMap) {
    headers.remove(AUTHORIZATION);
    let authenticator = &server.config.authenticator;
    let secret: Vec<_> =
        headers.keys().filter(|name| authenticator.credential_headers(name)).cloned().collect();
    for name in secret {
        headers.remove(name);
    }
}

/// The token of `Authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Option<String> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
}
