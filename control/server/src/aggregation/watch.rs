//! Looks after the condition `Available` of APIServices: when something about them changes, and every 30 seconds.

use std::sync::{Arc, Weak};
use std::time::Duration;

use carrack_api::Resource;
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
/// What is watched.
const WATCHED: [&str; 4] = ["apiservices", "services", "endpointslices", "endpoints"];
/// Servers that are looked at at once.
const AT_ONCE: usize = 8;

/// Keeps the conditions right until the server ends.
pub(crate) async fn keep_checked(server: Weak<Inner>, end: CancellationToken) {
    let mut changes = stream::SelectAll::new();
    let mut watching = false;
    loop {
        let Some(inner) = server.upgrade() else { return };
        if !watching {
            // What is missed until then is in the state that is looked at next.
            changes = self::changes(&inner);
            watching = changes.len() == WATCHED.len();
        }
        if let Err(error) = check_all(&inner).await {
            tracing::warn!(%error, "cannot look after APIServices");
        }
        drop(inner);
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
            Some(goes_on) = changes.next() => {
                watching = goes_on;
                tokio::time::sleep(SETTLE).await;
                // What came meanwhile is taken in by the same look.
                while let Some(Some(goes_on)) = futures::FutureExt::now_or_never(changes.next()) {
                    watching &= goes_on;
                }
            }
        }
    }
}

/// The resources that are watched.
fn rows() -> impl Iterator<Item = &'static Resource> {
    let rows = carrack_api::resources().iter();
    rows.filter(|row| row.is_storage_version() && WATCHED.contains(&row.plural))
}

/// Something happened to an APIService, or to a Service or its endpoints; false when one of the watches has ended.
fn changes(server: &Inner) -> stream::SelectAll<stream::BoxStream<'static, bool>> {
    let mut all = stream::SelectAll::new();
    for row in rows() {
        match server.config.store.watch(Watch { prev_kv: false, ..Watch::prefix(row.storage_prefix) }) {
            Ok(watcher) => all.push(news(watcher).boxed()),
            Err(error) => tracing::warn!(%error, "cannot watch {}", row.plural),
        }
    }
    all
}

/// True for each change, false at the end.
fn news(watcher: Watcher) -> impl futures::Stream<Item = bool> + Send {
    stream::unfold(Some(watcher), |watcher| async move {
        let mut watcher = watcher?;
        match watcher.next().await {
            Some(Ok(_)) => Some((true, Some(watcher))),
            _ => Some((false, None)),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_watched_once() {
        assert_eq!(rows().count(), WATCHED.len());
    }
}
