//! Connections to nodes: TCP, then TLS that checks the node's certificate, then HTTP/1.1.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::target::Endpoint;
use crate::RequestBody;

/// How long to wait for a connection; a node on the same network answers in milliseconds.
const DIAL: Duration = Duration::from_secs(10);
/// How long for TLS and HTTP on it.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A followed log may be silent for days: a dead node is noticed by keep-alive probes, after about two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 6;

/// Why a node could not be reached, in the words that people know from Go.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("dial tcp {to}: {}", dial_words(source))]
    Dial { to: String, source: io::Error },
    #[error("dial tcp {to}: i/o timeout")]
    DialTimeout { to: String },
    #[error("tls: failed to verify or agree with node {node:?} at {to}: {source}")]
    Tls { node: String, to: String, source: io::Error },
    #[error("net/http: TLS handshake timeout with {to}")]
    TlsTimeout { to: String },
    #[error("HTTP with {to}: {source}")]
    Http { to: String, source: hyper::Error },
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

/// A connection of its own: streams live as long as their client, so that there is little to share.
pub(super) async fn connect(
    endpoint: &Endpoint,
    tls: Arc<ClientConfig>,
) -> Result<SendRequest<RequestBody>, ConnectError> {
    let to = endpoint.authority();
    let tcp = match timeout(DIAL, TcpStream::connect((endpoint.address, endpoint.port))).await {
        Err(_) => return Err(ConnectError::DialTimeout { to }),
        Ok(Err(source)) => return Err(ConnectError::Dial { to, source }),
        Ok(Ok(tcp)) => tcp,
    };
    // Keystrokes are to go out at once. Neither setting can fail on a fresh socket, and without them things are
    // slower, not wrong.
    let _ = tcp.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    let _ = socket2::SockRef::from(&tcp).set_tcp_keepalive(&keepalive);

    let name = ServerName::IpAddress(endpoint.address.into());
    let stream = match timeout(HANDSHAKE, TlsConnector::from(tls).connect(name, tcp)).await {
        Err(_) => return Err(ConnectError::TlsTimeout { to }),
        Ok(Err(source)) => return Err(ConnectError::Tls { node: endpoint.node.clone(), to, source }),
        Ok(Ok(stream)) => stream,
    };
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|source| ConnectError::Http { to: to.clone(), source })?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, node = to, "connection to a node ended");
        }
    });
    Ok(sender)
}
