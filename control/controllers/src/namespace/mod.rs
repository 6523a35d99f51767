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
    /// What is known to be in it, kinds without objects left out.
    pub content: Vec<Content>,
    /// What may be in it beside that.
    pub unknown: Unknown,
}

/// Why the content of a namespace is not known whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unknown {
    /// Why not all kinds could be found out.
    pub kinds: Option<String>,
    /// Why kinds could not be listed, one each.
    pub objects: Vec<String>,
}

impl Unknown {
    /// Whether nothing is unknown.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.kinds.is_none() && self.objects.is_empty()
    }
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

    /// What is known to be in a namespace: what cannot be found out of one kind does not keep the others.
    async fn content(&self, namespace: &str) -> (Vec<Content>, Unknown) {
        let (mut content, mut unknown) = (Vec::new(), Unknown::default());
        let found = match discovery::deletable(&self.client).await {
            Ok(found) => found,
            Err(error) => {
                unknown.kinds = Some(error.to_string());
                return (content, unknown);
            }
        };
        // Upstream's words.
        unknown.kinds = found
            .failure()
            .map(|why| format!("Discovery failed for some groups, {} failing: {why}", found.failed.len()));
        for kind in found.kinds.into_iter().filter(|kind| kind.resource.namespaced) {
            match self.remains(&kind.resource, namespace).await {
                Ok(remains) if remains.is_empty() => {}
                Ok(remains) => content.push(Content { kind, remains }),
                Err(error) => {
                    let why = format!("could not list {}: {error}", kind.resource.full_name());
                    unknown.objects.push(why);
                }
            }
        }
        (content, unknown)
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
        let (content, unknown) = self.content(&key.name).await;
        Ok(Some(Snapshot { namespace, content, unknown }))
    }

    fn plan(&self, snapshot: &Snapshot, now: Timestamp) -> Plan {
        plan(snapshot, now)
    }

    fn settle(&self, snapshot: &Snapshot, outcome: &Outcome, now: Timestamp) -> Plan {
        settle(snapshot, outcome.failure.as_ref(), now)
    }
}
