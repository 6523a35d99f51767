//! The server: connections, TLS, and which of them speak gRPC.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

use super::gather::Gathering;
use super::metrics::Counters;
use super::{Config, Face, calls, http as plain};
use crate::store::Store;

/// How long a client may take for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long clients get to end their calls when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// How long to wait when the system has no more file descriptors, or the like.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often an idle connection is asked whether it is still there, and how long it may take to answer.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How much a client may send before its call takes it up. The largest request fits.
const WINDOW_BYTES: u32 = 2 << 20;

/// How much is held for a connection of a client that does not read.
const SEND_BUFFER_BYTES: usize = 1 << 20;

/// How connections are secured.
#[derive(Clone, Debug)]
pub enum Security {
    /// TLS, usually [mutual](super::tls_config).
    Tls(Arc<ServerConfig>),
    /// Plain text: who can connect can do everything. For loopback, tests and benchmarks.
    Plain,
}

/// Where connections come from.
pub trait Listener: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = TcpListener::accept(self).await?;
        // Answers are small and awaited.
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        Ok(UnixListener::accept(self).await?.0)
    }
}

/// Serves etcd's API on `listener` until `shutdown` is done; then ends streams, and lets calls end for a few seconds.
pub async fn serve(
    store: Store,
    listener: impl Listener,
    security: Security,
    config: Config,
    shutdown: impl Future<Output = ()>,
) {
    let (stop, stopping) = watch::channel(false);
    let connections = Arc::new(Semaphore::new(config.max_connections));
    let face = Arc::new(Face { store, config, counters: Counters::new(), stopping });
    let tracker = TaskTracker::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let next = async {
            // Closed never.
            let turn = Arc::clone(&connections).acquire_owned().await.ok();
            (turn, listener.accept().await)
        };
        let (turn, accepted) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            next = next => next,
        };
        match accepted {
            Ok(stream) => {
                let (face, security) = (Arc::clone(&face), security.clone());
                tracker.spawn(async move {
                    connection(&face, stream, security).await;
                    drop(turn);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of a client of the store");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    stop.send_replace(true);
    tracker.close();
    if tokio::time::timeout(GRACE, tracker.wait()).await.is_err() {
        tracing::warn!("clients of the store did not end in time");
    }
}

async fn connection<S>(face: &Arc<Face>, stream: S, security: Security)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    face.counters.connections.fetch_add(1, Relaxed);
    let stream = Counting { stream, face: Arc::clone(face) };
    let ended = match security {
        Security::Plain => http(face, stream).await,
        Security::Tls(config) => {
            let handshake = tokio_rustls::TlsAcceptor::from(config).accept(stream);
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
                Ok(Ok(stream)) => http(face, stream).await,
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err("the client did not finish the TLS handshake".into()),
            }
        }
    };
    face.counters.connections.fetch_sub(1, Relaxed);
    if let Err(error) = ended {
        tracing::debug!(error, "a connection of a client of the store ended");
    }
}

async fn http<S>(face: &Arc<Face>, stream: S) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let for_calls = Arc::clone(face);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let face = Arc::clone(&for_calls);
        async move {
            let is_grpc = request.headers().get(http::header::CONTENT_TYPE);
            let is_grpc = is_grpc.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
            Ok::<_, Infallible>(if is_grpc {
                calls::answer(face, request).await
            } else {
                plain::answer(&face, &request).await
            })
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(face.config.max_streams)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES * 4)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    let mut connection =
        std::pin::pin!(builder.serve_connection(TokioIo::new(Gathering::new(stream)), service));
    tokio::select! {
        ended = &mut connection => return ended,
        () = face.stopped() => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

/// A connection whose bytes are counted.
struct Counting<S> {
    stream: S,
    face: Arc<Face>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counting<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, into);
        count(&self.face.counters.received_bytes, into.filled().len() - before);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counting<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        count_written(&self.face.counters.sent_bytes, &polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        count_written(&self.face.counters.sent_bytes, &polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

fn count(counter: &AtomicU64, bytes: usize) {
    counter.fetch_add(bytes as u64, Relaxed);
}

fn count_written(counter: &AtomicU64, polled: &Poll<io::Result<usize>>) {
    if let Poll::Ready(Ok(bytes)) = polled {
        count(counter, *bytes);
    }
}
