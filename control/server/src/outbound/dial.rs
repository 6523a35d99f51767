//! Opens connections: to a host by its name, or to a ready endpoint of a Service.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::Uri;
use http::uri::Scheme;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::failure::words;
use super::resolve::{Endpoints, ResolveError, Resolver};
use super::trust::Trust;
use crate::{BoxError, RequestBody};

/// How long to wait for a connection to one address.
const DIAL: Duration = Duration::from_secs(10);
/// How long for TLS on it, where no request's own limit is at work.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many addresses are tried before a connection is given up.
const ATTEMPTS: usize = 3;
/// A stream may be silent for days: an other side that is gone is noticed by keep-alive probes, after about two
/// minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 6;

/// Why there is no connection, in the words that people know from Go.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("dial tcp: lookup {host}: {}", if source.kind() == io::ErrorKind::TimedOut { "i/o timeout" } else { "no such host" })]
    LookUp { host: String, source: io::Error },
    #[error("dial tcp: lookup {host}: no such host")]
    Nowhere { host: String },
    #[error("dial tcp {to}: {}", dial_words(source))]
    Tcp { to: SocketAddr, source: io::Error },
}

fn dial_words(error: &io::Error) -> String {
    let words = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset => "connection reset by peer",
        io::ErrorKind::HostUnreachable => "no route to host",
        io::ErrorKind::NetworkUnreachable => "network is unreachable",
        io::ErrorKind::TimedOut => return "i/o timeout".into(),
        _ => return format!("connect: {error}"),
    };
    format!("connect: {words}")
}

/// Opens TCP connections for URLs.
#[derive(Clone)]
pub(super) enum Dialer {
    /// To the host of the URL.
    Dns,
    /// To an endpoint of a Service, whatever the URL says.
    Service { resolver: Arc<Resolver>, namespace: String, name: String, port: u16 },
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = self.clone();
        async move { Ok(TokioIo::new(dialer.open(&uri).await?)) }.boxed()
    }
}

impl Dialer {
    async fn open(&self, uri: &Uri) -> Result<TcpStream, DialError> {
        let addresses = match self {
            Dialer::Dns => look_up(host(uri), uri.port_u16().unwrap_or(usual_port(uri))).await?,
            Dialer::Service { resolver, namespace, name, port } => {
                match resolver.resolve(namespace, name, *port).await? {
                    Endpoints::Addresses(addresses) => addresses,
                    Endpoints::Name(host, port) => look_up(&host, port).await?,
                }
            }
        };
        let mut last = DialError::Nowhere { host: host(uri).to_owned() };
        for address in addresses.into_iter().take(ATTEMPTS) {
            match dial(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// The host without the brackets of an IPv6 address.
fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

fn usual_port(uri: &Uri) -> u16 {
    if uri.scheme() == Some(&Scheme::HTTP) { 80 } else { 443 }
}

async fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
    let failed = |source: io::Error| DialError::LookUp { host: host.to_owned(), source };
    let found = timeout(DIAL, tokio::net::lookup_host((host, port))).await;
    let found = found.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?.map_err(failed)?;
    Ok(found.collect())
}

/// Opens a connection to an address.
pub(crate) async fn dial(to: SocketAddr) -> Result<TcpStream, DialError> {
    let stream = match timeout(DIAL, TcpStream::connect(to)).await {
        Err(_) => return Err(DialError::Tcp { to, source: io::ErrorKind::TimedOut.into() }),
        Ok(Err(source)) => return Err(DialError::Tcp { to, source }),
        Ok(Ok(stream)) => stream,
    };
    // Keystrokes are to go out at once. Neither setting can fail on a fresh socket, and without them things are
    // later, not wrong.
    let _ = stream.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    Ok(stream)
}

/// A connection that speaks HTTP/1.1 and can be upgraded.
pub(super) async fn connect(
    dialer: Dialer,
    trust: &Trust,
    uri: &Uri,
) -> Result<SendRequest<RequestBody>, String> {
    let tcp = dialer.open(uri).await.map_err(|error| error.to_string())?;
    if uri.scheme() == Some(&Scheme::HTTP) {
        return converse(tcp).await;
    }
    let mut config = trust.config().map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = match trust.name() {
        Some(name) => name.clone(),
        None => ServerName::try_from(host(uri).to_owned()).map_err(|error| error.to_string())?,
    };
    let shaken = timeout(HANDSHAKE, TlsConnector::from(Arc::new(config)).connect(name, tcp)).await;
    let stream = shaken.map_err(|_| "net/http: TLS handshake timeout".to_owned())?.map_err(|e| words(&e))?;
    converse(stream).await
}

async fn converse<S>(stream: S) -> Result<SendRequest<RequestBody>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| words(&e))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection that this server opened ended");
        }
    });
    Ok(sender)
}
