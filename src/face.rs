//! What the store of a cluster on this host does beside serving its API server: etcd's API on a socket of this host, for
//! `carrack ctl`, and backups.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use carrack_store::Store;
use carrack_store::etcd::{self, Security};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::backup;
use crate::ctl::SOCKET;
use crate::parts::Settings;
use crate::server::store_options;

type Task = tokio::task::JoinHandle<()>;

/// Starts both; they end with `shutdown`.
pub(crate) fn start(settings: &Settings, store: &Store, shutdown: &CancellationToken) -> Result<Vec<Task>> {
    let options = store_options(settings);
    let path = settings.up.place.run_dir.join(SOCKET);
    let listener = listen(&path).with_context(|| path.display().to_string())?;
    let ended = shutdown.clone().cancelled_owned();
    // Who may open the socket is root, who may read the data directory as well.
    let face = etcd::serve(store.clone(), listener, Security::Plain, etcd::Config::default(), ended);
    let mut tasks = vec![tokio::spawn(face)];
    if let Some(keeper) = settings.up.backups.keeper(&options.cluster_name, &options.dir)? {
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
