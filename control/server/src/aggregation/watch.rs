//! Looks after the condition `Available` of APIServices: when something about them changes, and every 30 seconds.

use std::sync::{Arc, Weak};
use std::time::Duration;

use carrack_store::{Watch, Watcher};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::available::{Condition, with_condition};
use super::remote::Remote;
use crate::authn::Objects;
use crate::server::{ApiServer, Inner};
use crate::{ApiError, StoreObjects};

/// How often each is looked at; upstream's figure.
const EVERY: Duration = Duration::from_secs(30);
/// Changes come in groups: this long is waited for the next one.
const SETTLE: Duration = Duration::from_millis(100);
/// Servers that are looked at at once.
const AT_ONCE: usize = 8;

/// Keeps the conditions right until the server ends.
pub(crate) async fn keep_checked(server: Weak<Inner>, end: CancellationToken) {
    let Some(mut changes) = server.upgrade().map(|server| changes(&server)) else { return };
    loop {
        let wait = tokio::time::sleep(EVERY);
        tokio::select! {
            () = end.cancelled() => return,
            () = wait => {}
            _ = changes.next(), if !changes.is_empty() => {
                tokio::time::sleep(SETTLE).await;
                // What came meanwhile is taken in by the same look.
                while futures::FutureExt::now_or_never(changes.next()).flatten().is_some() {}
            }
        }
        let Some(server) = server.upgrade() else { return };
        if let Err(error) = check_all(&server).await {
            tracing::warn!(%error, "cannot look after APIServices");
        }
    }
}

/// Something happened to an APIService, or to a Service or its endpoints while there are APIServices to care about.
fn changes(server: &Inner) -> stream::SelectAll<stream::BoxStream<'static, ()>> {
    const WATCHED: [&str; 4] = ["apiservices", "services", "endpointslices", "endpoints"];
    let rows = carrack_api::resources().iter();
    let mut all = stream::SelectAll::new();
    for row in rows.filter(|row| row.is_storage_version() && WATCHED.contains(&row.plural)) {
        match server.config.store.watch(Watch { prev_kv: false, ..Watch::prefix(row.storage_prefix) }) {
            Ok(watcher) => all.push(news(watcher).boxed()),
            Err(error) => tracing::warn!(%error, "cannot watch {}", row.plural),
        }
    }
    all
}

fn news(watcher: Watcher) -> impl futures::Stream<Item = ()> + Send {
    stream::unfold(watcher, |mut watcher| async move {
        let batch = watcher.next().await?;
        batch.ok().map(|_| ((), watcher))
    })
}

async fn check_all(server: &Arc<Inner>) -> Result<(), ApiError> {
    let aggregation = &server.aggregation;
    let remotes = aggregation.remotes().await?;
    aggregation.known.lock().retain(|name, _| remotes.iter().any(|remote| remote.name == *name));
    let objects = StoreObjects::new(server.config.store.clone());
    stream::iter(remotes)
        .for_each_concurrent(AT_ONCE, |remote| {
            let objects = &objects;
            async move {
                let looked = aggregation.look(&remote, objects).await;
                let written = match looked {
                    Ok(condition) => write(server, &remote, objects, &condition).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = written {
                    tracing::warn!(apiservice = remote.name, %error, "cannot tell whether it is available");
                }
            }
        })
        .await;
    Ok(())
}

async fn write(
    server: &Arc<Inner>,
    remote: &Remote,
    objects: &StoreObjects,
    condition: &Condition,
) -> Result<(), ApiError> {
    let found = objects.get("apiregistration.k8s.io", "apiservices", "", &remote.name).await?;
    let Some(new) = found.and_then(|found| with_condition(&found, condition, Timestamp::now())) else {
        return Ok(());
    };
    let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{}/status", remote.name);
    let api = ApiServer { inner: Arc::clone(server) };
    let (code, answer) = api.request(http::Method::PUT, &path, Some(&new)).await;
    // Who lost a race looks again, since that was a change.
    match code {
        0..400 | 404 | 409 => Ok(()),
        _ => Err(ApiError::internal(answer["message"].as_str().unwrap_or("the status was refused"))),
    }
}
