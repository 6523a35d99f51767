//! Keeps a [`Store`] up to date from a list and a watch, for ever.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use kube::runtime::watcher;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::{Backoff, Change, Store};

/// A type that an informer can hold: whole objects of k8s-openapi, or a projection with fewer fields.
pub trait Cached:
    Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static
{
}

impl<K> Cached for K where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static
{
}

/// First and longest delay after a list or watch that failed.
const RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(10));

/// Lists and watches one kind. Lists again when the server no longer has the revision (410).
pub struct Informer<K> {
    kind: String,
    events: BoxStream<'static, watcher::Result<watcher::Event<K>>>,
    store: Arc<Store<K>>,
    trim: fn(&mut K),
    backoff: Backoff,
    /// A delay that a failure made due; kept here so that [`Informer::next`] may be cancelled.
    pause: Option<tokio::time::Instant>,
}

impl<K: Cached> Informer<K> {
    /// Watches what `api` and `config` select, into `store`. Nothing happens before [`Informer::next`].
    #[must_use]
    pub fn new(api: Api<K>, config: watcher::Config, store: Arc<Store<K>>) -> Self {
        Self {
            kind: K::kind(&()).into_owned(),
            events: watcher(api, config).boxed(),
            store,
            trim: drop_managed_fields,
            backoff: Backoff::new(RETRY.0, RETRY.1),
            pause: None,
        }
    }

    /// Lets `trim` drop what nobody reads of an object before it is kept.
    #[must_use]
    pub fn trimmed_by(mut self, trim: fn(&mut K)) -> Self {
        self.trim = trim;
        self
    }

    /// The store that this informer fills.
    #[must_use]
    pub fn store(&self) -> &Arc<Store<K>> {
        &self.store
    }

    /// Waits for the next step of the watch, takes it into the store and returns what changed by it
    /// (nothing, for the marks around a list). Failures are logged and tried again; never ends.
    /// Safe to cancel.
    pub async fn next(&mut self) -> Vec<Change<K>> {
        loop {
            if let Some(until) = self.pause {
                tokio::time::sleep_until(until).await;
                self.pause = None;
            }
            match self.events.next().await {
                Some(Ok(event)) => {
                    self.backoff.reset();
                    return self.store.apply(event.modify(self.trim));
                }
                Some(Err(error)) => {
                    let delay = self.backoff.delay();
                    tracing::debug!(kind = %self.kind, ?delay, %error, "watch failed, trying again");
                    self.pause = Some(tokio::time::Instant::now() + delay);
                }
                // The stream of kube's watcher has no end; should it have one, there is nothing to wait for.
                None => std::future::pending().await,
            }
        }
    }
}

/// Field ownership is for the API server; it is often larger than the object.
fn drop_managed_fields<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}
