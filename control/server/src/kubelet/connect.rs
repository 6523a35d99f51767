//! Connections to nodes: TCP, then TLS that checks the node's certificate, then HTTP/1.1.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::target::Endpoint;
use crate::RequestBody;
use crate::outbound::{DialError, dial};

/// How long for TLS and HTTP on it.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Why a node could not be reached, in the words that people know from Go.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("tls: failed to verify or agree with node {node:?} at {to}: {source}")]
    Tls { node: String, to: String, source: io::Error },
    #[error("net/http: TLS handshake timeout with {to}")]
    TlsTimeout { to: String },
    #[error("HTTP with {to}: {source}")]
    Http { to: String, source: hyper::Error },
}

/// A connection of its own: streams live as long as their client, so that there is little to share.
pub(super) async fn connect(
    endpoint: &Endpoint,
    tls: Arc<ClientConfig>,
) -> Result<SendRequest<RequestBody>, ConnectError> {
    let to = endpoint.authority();
    let tcp = dial(SocketAddr::new(endpoint.address, endpoint.port)).await?;
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
