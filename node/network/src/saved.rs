//! The table of services on disk, so that DNS answers after a restart although the control plane may be away.
//!
//! Written at most once a second, and not waited for: the kernel's maps hold what connections need.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::host::write_synced;
use crate::types::Service;

/// How long changes are gathered before they are written.
const GATHER: Duration = Duration::from_secs(1);

/// A table of services that is shared with the task that writes it.
pub(crate) type Table = Arc<Vec<Service>>;

pub(crate) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("services.json")
}

/// The table of an earlier process, if there is a readable one.
pub(crate) fn read(state_dir: &Path) -> Option<Vec<Service>> {
    let path = path(state_dir);
    let bytes = fs::read(&path).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(services) => Some(services),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the saved services are of no use; waiting for the API");
            None
        }
    }
}

/// Writes every table that comes, skipping those that are replaced within a second. Ends, after a last write, when the sender
/// is gone.
pub(crate) async fn keep_writing(state_dir: PathBuf, mut tables: watch::Receiver<Option<Table>>) {
    let path = path(&state_dir);
    while tables.changed().await.is_ok() {
        // Either a second passes or the sender goes; a change in between only makes the table newer.
        let gone = async { while tables.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(GATHER, gone).await;
        let Some(table) = tables.borrow_and_update().clone() else { continue };
        let path = path.clone();
        let written = tokio::task::spawn_blocking(move || {
            let bytes = serde_json::to_vec(table.as_slice())?;
            write_synced(&path, &bytes)
        });
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "services were not saved"),
            Err(error) => tracing::warn!(%error, "services were not saved"),
        }
    }
}
