//! Namespace deletion: everything in it goes, pods first; then its finalizer, and with that the namespace.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use carrack_client::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, ListParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, PartialObjectMeta};

use crate::cache::{Caches, Feeds};
use crate::discovery::{self, Kind};
use crate::driver::{Controller, LookError};
use crate::plan::{Outcome, Plan};
use crate::queue::Queue;
use crate::resource::Resource;

pub use plan::{plan, settle};

/// Something that is still in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: Option<String>,
    /// Whether its deletion was asked for.
    pub deleting: bool,
    /// What holds it.
    pub finalizers: Vec<String>,
    /// How long it was given to end.
    pub grace: Option<Duration>,
}

/// What is left of one kind in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The kind.
    pub kind: Kind,
    /// Its objects.
    pub remains: Vec<Remains>,
}

/// What the plan for one namespace is made from.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The namespace, which is being deleted.
    pub namespace: Arc<Namespace>,
    /// What is in it, kinds without objects left out. `Err` says why that is not known.
    pub content: Result<Vec<Content>, Unknown>,
}

/// Why the content of a namespace is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// The kinds could not be found out.
    Kinds(String),
    /// A kind could not be listed.
    Objects(String),
}

/// The controller.
pub struct Namespaces {
    caches: Arc<Caches>,
    client: Client,
}

impl Namespaces {
    /// A controller that lists and deletes through `client`.
    #[must_use]
    pub fn new(caches: Arc<Caches>, client: Client) -> Self {
        Self { caches, client }
    }

    /// Feeds `queue` with namespaces that are being deleted.
    pub fn hook(feeds: &mut Feeds, queue: &Arc<Queue>) {
        let own = Arc::clone(queue);
        feeds.namespaces.push(Box::new(move |change| {
            let leaving = |ns: &&Arc<Namespace>| ns.metadata.deletion_timestamp.is_some();
            if let Some(namespace) = change.new.as_ref().filter(leaving) {
                own.add(Key::of(&namespace.metadata));
            }
        }));
    }

    async fn content(&self, namespace: &str) -> Result<Vec<Content>, Unknown> {
        let kinds = discovery::deletable(&self.client).await;
        let kinds = kinds.map_err(|error| Unknown::Kinds(error.to_string()))?;
        let mut content = Vec::new();
        for kind in kinds.into_iter().filter(|kind| kind.resource.namespaced) {
            let remains = self.remains(&kind.resource, namespace).await;
            let remains = remains.map_err(|error| {
                Unknown::Objects(format!("could not list {}: {error}", kind.resource.full_name()))
            })?;
            if !remains.is_empty() {
                content.push(Content { kind, remains });
            }
        }
        Ok(content)
    }

    async fn remains(&self, resource: &Resource, namespace: &str) -> Result<Vec<Remains>, kube::Error> {
        let described = describe(resource);
        let api: Api<PartialObjectMeta<DynamicObject>> =
            Api::namespaced_with(self.client.clone(), namespace, &described);
        let mut remains = Vec::new();
        let mut params = ListParams::default().limit(500);
        loop {
            let page = api.list_metadata(&params).await?;
            remains.extend(page.items.into_iter().map(|object| {
                let meta = object.metadata;
                let grace = meta.deletion_grace_period_seconds.and_then(|s| u64::try_from(s).ok());
                Remains {
                    name: meta.name.unwrap_or_default(),
                    uid: meta.uid,
                    deleting: meta.deletion_timestamp.is_some(),
                    finalizers: meta.finalizers.unwrap_or_default(),
                    grace: grace.map(Duration::from_secs),
                }
            }));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(remains),
            }
        }
    }
}

/// The resource as kube's dynamic calls want it.
pub(crate) fn describe(resource: &Resource) -> ApiResource {
    let kind = GroupVersionKind::gvk(&resource.group, &resource.version, &resource.kind);
    ApiResource::from_gvk_with_plural(&kind, &resource.plural)
}

impl Controller for Namespaces {
    type Snapshot = Snapshot;
    const NAME: &'static str = "namespace";

    async fn snapshot(&self, key: &Key) -> Result<Option<Snapshot>, LookError> {
        let Some(namespace) = self.caches.namespaces.get(key) else { return Ok(None) };
        if namespace.metadata.deletion_timestamp.is_none() {
            return Ok(None);
        }
        let content = self.content(&key.name).await;
        Ok(Some(Snapshot { namespace, content }))
    }

    fn plan(&self, snapshot: &Snapshot, now: Timestamp) -> Plan {
        plan(snapshot, now)
    }

    fn settle(&self, snapshot: &Snapshot, outcome: &Outcome, now: Timestamp) -> Plan {
        settle(snapshot, outcome.failure.as_ref(), now)
    }
}
