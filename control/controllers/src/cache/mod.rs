//! The caches that all controllers share: one informer for each kind, and the handlers that turn its news into
//! queue keys.

mod feed;
mod views;

use std::sync::Arc;
use std::time::Duration;

use carrack_client::{Key, Store, WaitError};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, PersistentVolume, PersistentVolumeClaim, ResourceQuota, Service,
    ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Resource as _;

pub(crate) use feed::WHOLE;
pub use feed::{Feeds, Hook};
pub use views::{
    ClaimSource, Container, ContainerStatus, Made, Node, NodeCondition, NodeLease, NodeLeaseSpec, NodeSpec,
    NodeStatus, Pod, PodCondition, PodSpec, PodStatus, Volume,
};

use crate::plan::Written;
use crate::resource::{self, Resource};

/// Index of pods and replica sets: the uid of the controlling owner.
pub const BY_CONTROLLER: usize = 0;
/// Index of pods: the name of the node.
pub const BY_NODE: usize = 1;
/// Index of pods: the claims that they use, as `namespace/name`.
pub const BY_CLAIM: usize = 2;
/// Index of endpoint slices: the name of the service, within the namespace.
pub const BY_SERVICE: usize = 0;

/// Every cache.
pub struct Caches {
    /// Pods, reduced.
    pub pods: Arc<Store<Pod>>,
    /// Nodes, reduced.
    pub nodes: Arc<Store<Node>>,
    /// Leases of kube-node-lease, reduced.
    pub leases: Arc<Store<NodeLease>>,
    /// Namespaces.
    pub namespaces: Arc<Store<Namespace>>,
    /// Services.
    pub services: Arc<Store<Service>>,
    /// Endpoints.
    pub endpoints: Arc<Store<Endpoints>>,
    /// Endpoint slices.
    pub slices: Arc<Store<EndpointSlice>>,
    /// Service accounts called `default`.
    pub accounts: Arc<Store<ServiceAccount>>,
    /// Config maps called `kube-root-ca.crt`.
    pub root_cas: Arc<Store<ConfigMap>>,
    /// Deployments.
    pub deployments: Arc<Store<Deployment>>,
    /// Replica sets.
    pub replica_sets: Arc<Store<ReplicaSet>>,
    /// Resource quotas.
    pub quotas: Arc<Store<ResourceQuota>>,
    /// Claims.
    pub claims: Arc<Store<PersistentVolumeClaim>>,
    /// Volumes.
    pub volumes: Arc<Store<PersistentVolume>>,
    /// Cluster roles.
    pub cluster_roles: Arc<Store<ClusterRole>>,
    /// Disruption budgets.
    pub budgets: Arc<Store<PodDisruptionBudget>>,
}

impl Default for Caches {
    fn default() -> Self {
        Self {
            pods: Arc::new(Store::new(vec![pod_controller, pod_node, pod_claims])),
            nodes: Arc::new(Store::new(vec![])),
            leases: Arc::new(Store::new(vec![])),
            namespaces: Arc::new(Store::new(vec![])),
            services: Arc::new(Store::new(vec![])),
            endpoints: Arc::new(Store::new(vec![])),
            slices: Arc::new(Store::new(vec![slice_service])),
            accounts: Arc::new(Store::new(vec![])),
            root_cas: Arc::new(Store::new(vec![])),
            deployments: Arc::new(Store::new(vec![])),
            replica_sets: Arc::new(Store::new(vec![set_controller])),
            quotas: Arc::new(Store::new(vec![])),
            claims: Arc::new(Store::new(vec![])),
            volumes: Arc::new(Store::new(vec![])),
            cluster_roles: Arc::new(Store::new(vec![])),
            budgets: Arc::new(Store::new(vec![])),
        }
    }
}

fn pod_controller(pod: &Pod, file: &mut dyn FnMut(&str)) {
    match crate::owner::controller_of(pod.meta()) {
        Some(owner) => file(&owner.uid),
        None => file(&orphans_of(pod.metadata.namespace.as_deref().unwrap_or_default())),
    }
}

/// Where [`BY_CONTROLLER`] files the pods of a namespace that have no controller. No uid looks like this.
pub(crate) fn orphans_of(namespace: &str) -> String {
    format!("/{namespace}")
}

fn pod_node(pod: &Pod, file: &mut dyn FnMut(&str)) {
    if let Some(node) = pod.spec.node() {
        file(node);
    }
}

fn pod_claims(pod: &Pod, file: &mut dyn FnMut(&str)) {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    for claim in crate::protection::claims_of(pod) {
        file(&format!("{namespace}/{claim}"));
    }
}

fn set_controller(set: &ReplicaSet, file: &mut dyn FnMut(&str)) {
    if let Some(owner) = crate::owner::controller_of(set.meta()) {
        file(&owner.uid);
    }
}

fn slice_service(slice: &EndpointSlice, file: &mut dyn FnMut(&str)) {
    if let Some(service) = crate::endpoints::service_of(slice) {
        file(&format!("{}/{service}", slice.metadata.namespace.as_deref().unwrap_or_default()));
    }
}

/// What waiting needs to know of a cache, whatever its kind.
trait Watched: Sync {
    fn lists_begun(&self) -> u64;
    /// Whether the object is there with this uid and not being deleted.
    fn alive(&self, key: &Key, uid: &str) -> bool;
    fn progress(&self) -> tokio::sync::watch::Receiver<carrack_client::Progress>;
}

impl<K> Watched for Store<K>
where
    K: kube::Resource<DynamicType = ()> + Send + Sync + 'static,
{
    fn lists_begun(&self) -> u64 {
        carrack_client::Synced::progress(self).borrow().lists_begun
    }

    fn alive(&self, key: &Key, uid: &str) -> bool {
        self.get(key).is_some_and(|object| {
            let meta = object.meta();
            meta.uid.as_deref() == Some(uid) && meta.deletion_timestamp.is_none()
        })
    }

    fn progress(&self) -> tokio::sync::watch::Receiver<carrack_client::Progress> {
        carrack_client::Synced::progress(self)
    }
}

impl Caches {
    /// Waits until every cache holds its first list.
    pub async fn synced(&self) {
        tokio::join!(
            self.pods.synced(),
            self.nodes.synced(),
            self.leases.synced(),
            self.namespaces.synced(),
            self.services.synced(),
            self.endpoints.synced(),
            self.slices.synced(),
            self.accounts.synced(),
            self.root_cas.synced(),
            self.deployments.synced(),
            self.replica_sets.synced(),
            self.quotas.synced(),
            self.claims.synced(),
            self.volumes.synced(),
            self.cluster_roles.synced(),
            self.budgets.synced(),
        );
    }

    fn watched(&self, resource: &Resource) -> Option<&dyn Watched> {
        let caches: [(&Resource, &dyn Watched); 13] = [
            (&resource::POD, &*self.pods),
            (&resource::REPLICA_SET, &*self.replica_sets),
            (&resource::DEPLOYMENT, &*self.deployments),
            (&resource::ENDPOINT_SLICE, &*self.slices),
            (&resource::ENDPOINTS, &*self.endpoints),
            (&resource::SERVICE, &*self.services),
            (&resource::NAMESPACE, &*self.namespaces),
            (&resource::NODE, &*self.nodes),
            (&resource::RESOURCE_QUOTA, &*self.quotas),
            (&resource::PERSISTENT_VOLUME_CLAIM, &*self.claims),
            (&resource::PERSISTENT_VOLUME, &*self.volumes),
            (&resource::CLUSTER_ROLE, &*self.cluster_roles),
            (&resource::DISRUPTION_BUDGET, &*self.budgets),
        ];
        caches.into_iter().find(|(known, _)| *known == resource).map(|(_, cache)| cache)
    }

    /// How many lists the cache of `resource` has begun; 0 when the kind is not cached whole.
    pub fn lists_begun(&self, resource: &Resource) -> u64 {
        self.watched(resource).map_or(0, Watched::lists_begun)
    }

    /// Waits until the caches show what was written. Kinds that are not cached whole need no waiting: nobody plans
    /// from them.
    ///
    /// # Errors
    /// When a cache is still behind after `limit`.
    pub async fn show(&self, written: &Written, limit: Duration) -> Result<(), WaitError> {
        let resource = match written {
            Written::Revision { resource, .. } | Written::Deleted { resource, .. } => resource,
        };
        let Some(cache) = self.watched(resource) else { return Ok(()) };
        let mut progress = cache.progress();
        let seen = |p: &carrack_client::Progress| match written {
            Written::Revision { revision, lists, .. } => p.revision >= *revision || p.lists_done > *lists,
            Written::Deleted { key, uid, .. } => !cache.alive(key, uid),
        };
        match tokio::time::timeout(limit, progress.wait_for(seen)).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let wanted = if let Written::Revision { revision, .. } = written { *revision } else { 0 };
                let at = cache.progress().borrow().revision;
                Err(WaitError::Late { wanted, at, limit })
            }
        }
    }
}
