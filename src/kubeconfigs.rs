//! The administrator's kubeconfig: this server first, and a context for each of the others. It follows the cluster.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use carrack_server::pki::Pki;
use carrack_server::{ListedServer, SERVERS, server_key};
use carrack_store::{Range, Store, Watch};
use tokio_util::sync::CancellationToken;

use crate::parts::Settings;

/// What is written, and where.
struct File {
    path: PathBuf,
    url: String,
    pki: Arc<Pki>,
}

/// Writes it for this server alone; gives its path.
pub(crate) fn write(settings: &Settings, pki: &Arc<Pki>) -> Result<PathBuf> {
    let file = File::of(settings, pki);
    Pki::write_secret(&file.path, &pki.admin_kubeconfig(&file.url, &[]))?;
    Ok(file.path)
}

/// Writes it anew whenever servers come and go, until `shutdown`.
pub(crate) fn keep(
    settings: &Settings,
    pki: &Arc<Pki>,
    store: &Store,
    shutdown: &CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let (file, store, shutdown) = (File::of(settings, pki), store.clone(), shutdown.clone());
    async move {
        let Ok(mut changes) = store.watch(Watch::prefix(SERVERS)) else { return };
        loop {
            if let Err(error) = file.update(&store).await {
                tracing::warn!("the administrator's kubeconfig does not name all servers: {error:#}");
            }
            let change = tokio::select! {
                () = shutdown.cancelled() => return,
                change = changes.next() => change,
            };
            if !matches!(change, Some(Ok(_))) {
                return;
            }
        }
    }
}

impl File {
    fn of(settings: &Settings, pki: &Arc<Pki>) -> Self {
        let path = settings.dirs.data_dir.join("admin.kubeconfig");
        Self { path, url: settings.server_url(), pki: pki.clone() }
    }

    async fn update(&self, store: &Store) -> Result<()> {
        let found = store.range(Range { serializable: true, ..Range::prefix(SERVERS) }).await?;
        let mut others = Vec::new();
        for member in store.members().into_iter().filter(|member| member.id != store.member_id()) {
            let key = server_key(member.id);
            let Some(kv) = found.kvs.iter().find(|kv| kv.key == key) else { continue };
            let ListedServer { address, port } = serde_json::from_slice(&kv.value).context(key)?;
            others.push((member.name, format!("https://{}", std::net::SocketAddr::new(address, port))));
        }
        let text = self.pki.admin_kubeconfig(&self.url, &others);
        if tokio::fs::read_to_string(&self.path).await.is_ok_and(|old| old == text) {
            return Ok(());
        }
        Ok(Pki::write_secret(&self.path, &text)?)
    }
}
