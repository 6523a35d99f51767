//! What the store of a cluster on this host does beside serving its API server: etcd's API on a socket of this host, for
//! `carrack ctl`, the same for other members over TLS, and backups.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use carrack_server::pki::Pki;
use carrack_store::Store;
use carrack_store::etcd::{self, Security};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::backup;
use crate::ctl::SOCKET;
use crate::parts::Settings;

type Task = tokio::task::JoinHandle<()>;

/// Starts all; they end with `shutdown`.
pub(crate) async fn start(
    settings: &Settings,
    pki: &Pki,
    store: &Store,
    shutdown: &CancellationToken,
) -> Result<Vec<Task>> {
    let options = settings.store(pki)?;
    let path = settings.dirs.run_dir.join(SOCKET);
    let listener = listen(&path).with_context(|| path.display().to_string())?;
    let ended = shutdown.clone().cancelled_owned();
    // Who may open the socket is root, who may read the data directory as well.
    let face = etcd::serve(store.clone(), listener, Security::Plain, etcd::Config::default(), ended);
    let mut tasks = vec![tokio::spawn(face)];
    if settings.cluster.peer_port.is_some() {
        let address = SocketAddr::new(settings.server.bind, settings.server.join.store_port);
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("the store can not listen on {address}"))?;
        // Members alone have certificates of its authority.
        let security = Security::Tls(pki.store_tls()?.server);
        let ended = shutdown.clone().cancelled_owned();
        tasks.push(tokio::spawn(etcd::serve(
            store.clone(),
            listener,
            security,
            etcd::Config::default(),
            ended,
        )));
    }
    if let Some(keeper) = settings.server.backups.keeper(&options.cluster_name, &options.dir)? {
        tasks.push(tokio::spawn(backup::run(store.clone(), keeper, shutdown.clone())));
    }
    Ok(tasks)
}

/// A socket that root alone may connect to, in place of what an earlier process left.
fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
