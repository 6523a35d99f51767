//! Accepts connections, checks who calls, and routes.

use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::api::NodeApi;

/// The kubelet's port.
pub const DEFAULT_PORT: u16 = 10250;

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
    let _ = (listener, tls, api, shutdown);
    Err(io::Error::new(io::ErrorKind::Unsupported, "not built yet"))
}
