//! Accepts connections, finds out who calls, and keeps count of what is going on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::api::NodeApi;
use super::handlers;
use super::identity::Caller;

/// The kubelet's port.
pub const DEFAULT_PORT: u16 = 10250;

/// Connections at a time. Each log that is followed and each shell takes one.
const MAX_CONNECTIONS: usize = 1024;
/// How long TLS may take to be agreed on.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may wait for a request, or take to send its head.
const HEAD: Duration = Duration::from_secs(60);
/// How long running requests may take to end after a shutdown was asked for.
const FAREWELL: Duration = Duration::from_secs(3);
/// A peer that is gone without a word is noticed after about this long.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What the requests share.
pub(super) struct Context<A> {
    pub(super) api: Arc<A>,
    /// Streams that left HTTP behind.
    pub(super) sessions: TaskTracker,
    /// Ends them.
    pub(super) shutdown: CancellationToken,
}

/// Serves until `shutdown` is cancelled, then gives running requests a moment to end.
///
/// `tls` holds the node's serving certificate and must require client certificates of the cluster's CA.
/// An error of one connection is logged and ends that connection only.
pub async fn serve<A: NodeApi>(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    api: Arc<A>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    // Upgrades to WebSocket are a thing of HTTP/1.1.
    let mut tls = rustls::ServerConfig::clone(&tls);
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let context = Arc::new(Context { api, sessions: TaskTracker::new(), shutdown: shutdown.child_token() });
    let connections = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted?,
        };
        let (stream, slot) = accepted;
        let (acceptor, context) = (acceptor.clone(), context.clone());
        connections.spawn(async move {
            if let Err(reason) = connection(stream, acceptor, context).await {
                tracing::debug!(reason, "a connection to the node's API ended");
            }
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    context.sessions.close();
    let end = async {
        connections.wait().await;
        context.sessions.wait().await;
    };
    if tokio::time::timeout(FAREWELL, end).await.is_err() {
        tracing::debug!("some requests to the node's API were cut off");
    }
    Ok(())
}

type Slot = tokio::sync::OwnedSemaphorePermit;

/// Waits for a free slot and then for a caller, so that callers queue in the kernel while all slots are taken.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> io::Result<(TcpStream, Slot)> {
    let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Ok((stream, slot)),
            // The caller went away, or there are no descriptors just now; others may still be served.
            Err(error) => {
                tracing::warn!(%error, "a connection to the node's API was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection<A: NodeApi>(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    context: Arc<Context<A>>,
) -> Result<(), String> {
    prepare(&stream).map_err(|error| error.to_string())?;
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
    let stream = stream.map_err(|_| "TLS took too long".to_owned())?.map_err(|error| error.to_string())?;
    let caller = Caller::from_certificates(stream.get_ref().1.peer_certificates());
    let shutdown = context.shutdown.clone();
    let service = service_fn(move |request| {
        let (context, refusal) = (context.clone(), refusal(caller.as_ref()));
        async move {
            match refusal {
                Some((status, words)) => Ok(handlers::text(status, words)),
                None => handlers::answer(context, request).await,
            }
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    ended.map_err(|error| error.to_string())
}

/// What is said to somebody who may not come in.
fn refusal(caller: Option<&Caller>) -> Option<(StatusCode, String)> {
    match caller {
        None => Some((StatusCode::UNAUTHORIZED, "Unauthorized".to_owned())),
        Some(caller) if !caller.is_allowed() => {
            Some((StatusCode::FORBIDDEN, format!("user \"{}\" may not use this node's API", caller.name)))
        }
        Some(_) => None,
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE / 3)?;
    Ok(sockopt::set_tcp_keepcnt(stream, 3)?)
}
