//! The server's own care for what is stored: Secrets with tokens, bootstrap tokens, requests for certificates,
//! Service addresses, since when tokens are tracked.
//!
//! Each job looks at everything it cares for whenever something of it changes, and makes it what it should be: what
//! was missed, or done by another server at the same time, is found the next time.

mod account_tokens;
mod bootstrap_tokens;
mod certificates;
mod service_addresses;
mod tracking;

use std::sync::{Arc, Weak};
use std::time::Duration;

use carrack_store::{Event, Store, Watch, Watcher};
use futures::{StreamExt, stream};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::ApiError;
use crate::authn::Objects;
use crate::server::{ApiServer, Inner};
use crate::start::{StartError, row};
use crate::store_objects::StoreObjects;

/// Changes that come together are looked at once.
const SETTLE: Duration = Duration::from_millis(50);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// Everything is looked at this often, whatever happens.
const AT_LEAST: Duration = Duration::from_secs(600);

/// Why a job could not do what it should.
#[derive(Debug, thiserror::Error)]
enum CareError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Refused(#[from] StartError),
}

/// Something to care for.
#[async_trait::async_trait]
trait Job: Send + Sync + 'static {
    /// For messages.
    fn name(&self) -> &'static str;

    /// Group and plural name of what is watched.
    fn watched(&self) -> &'static [(&'static str, &'static str)];

    /// Whether a change is of interest.
    fn concerns(&self, event: &Event) -> bool;

    /// Makes everything as it should be; says when to look again at the latest, if time matters.
    async fn sweep(&self, api: &ApiServer) -> Result<Option<Duration>, CareError>;
}

/// Starts all jobs; they end with the server.
pub(crate) fn start(api: &ApiServer) {
    let jobs: [Arc<dyn Job>; 5] = [
        Arc::new(account_tokens::AccountTokens),
        Arc::new(bootstrap_tokens::BootstrapTokens),
        Arc::new(certificates::Certificates),
        Arc::new(service_addresses::ServiceAddresses),
        Arc::new(tracking::Tracking),
    ];
    for job in jobs {
        let (server, store, end) =
            (Arc::downgrade(&api.inner), api.store().clone(), api.inner.shutdown.clone());
        tokio::spawn(keep(job, server, store, end));
    }
}

/// Does a job until the server ends.
async fn keep(job: Arc<dyn Job>, server: Weak<Inner>, store: Store, end: CancellationToken) {
    loop {
        let watchers: Result<Vec<Watcher>, _> = job
            .watched()
            .iter()
            .filter_map(|(group, plural)| row(group, plural))
            .map(|row| store.watch(Watch { prev_kv: true, ..Watch::prefix(row.storage_prefix) }))
            .collect();
        let watchers = match watchers {
            Ok(watchers) => watchers,
            Err(error) => {
                tracing::warn!(job = job.name(), %error, "cannot watch the store");
                return;
            }
        };
        tokio::select! {
            () = end.cancelled() => return,
            () = follow(&*job, &server, watchers) => {}
        }
        // A watch has ended: the server does, or it fell too far behind.
        tokio::time::sleep(RETRY).await;
        if server.strong_count() == 0 {
            return;
        }
    }
}

/// Looks at everything, then again after each change of interest, until a watch ends.
async fn follow(job: &dyn Job, server: &Weak<Inner>, watchers: Vec<Watcher>) {
    let mut changes = stream::SelectAll::new();
    for watcher in watchers {
        changes.push(Box::pin(stream::unfold(watcher, |mut watcher| async {
            Some((watcher.next().await?.ok()?, watcher))
        })));
    }
    loop {
        let wait = {
            let Some(inner) = server.upgrade() else { return };
            match job.sweep(&ApiServer { inner }).await {
                Ok(wait) => wait.unwrap_or(AT_LEAST).min(AT_LEAST),
                Err(error) => {
                    tracing::warn!(job = job.name(), %error, "not everything could be put in order");
                    RETRY
                }
            }
        };
        let changed = async {
            while let Some(batch) = changes.next().await {
                if batch.events.iter().any(|event| job.concerns(event)) {
                    return true;
                }
            }
            false
        };
        match tokio::time::timeout(wait, changed).await {
            Ok(true) => tokio::time::sleep(SETTLE).await,
            Ok(false) => return,
            Err(_) => {}
        }
    }
}

/// All objects of a resource.
async fn list(
    api: &ApiServer,
    group: &str,
    plural: &str,
    namespace: &str,
) -> Result<Vec<Arc<Value>>, ApiError> {
    StoreObjects::new(api.store().clone()).list(group, plural, namespace).await
}

/// Whether what was stored, before or after the change, has these words in it.
fn mentions(event: &Event, words: &str) -> bool {
    let has = |value: &[u8]| value.windows(words.len()).any(|window| window == words.as_bytes());
    has(&event.kv.value) || event.prev.as_ref().is_some_and(|prev| has(&prev.value))
}
