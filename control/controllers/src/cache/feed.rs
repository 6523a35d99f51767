//! The informers behind the caches, and who is told of their news.

use std::sync::Arc;

use carrack_client::{Cached, Change, Informer};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, PersistentVolume, PersistentVolumeClaim, ResourceQuota, Service,
    ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use tokio::task::JoinSet;

use super::{Caches, Node, NodeLease, Pod};
use crate::garbage::{MetaNews, MetaSink};
use crate::resource;

/// Called with each change of one kind; it adds keys to queues and must not block.
pub type Hook<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// What is called for the changes of each kind.
#[derive(Default)]
pub struct Feeds {
    /// For pods.
    pub pods: Vec<Hook<Pod>>,
    /// For nodes.
    pub nodes: Vec<Hook<Node>>,
    /// For node leases.
    pub leases: Vec<Hook<NodeLease>>,
    /// For namespaces.
    pub namespaces: Vec<Hook<Namespace>>,
    /// For services.
    pub services: Vec<Hook<Service>>,
    /// For endpoints.
    pub endpoints: Vec<Hook<Endpoints>>,
    /// For endpoint slices.
    pub slices: Vec<Hook<EndpointSlice>>,
    /// For service accounts called `default`.
    pub accounts: Vec<Hook<ServiceAccount>>,
    /// For config maps called `kube-root-ca.crt`.
    pub root_cas: Vec<Hook<ConfigMap>>,
    /// For deployments.
    pub deployments: Vec<Hook<Deployment>>,
    /// For replica sets.
    pub replica_sets: Vec<Hook<ReplicaSet>>,
    /// For resource quotas.
    pub quotas: Vec<Hook<ResourceQuota>>,
    /// For claims.
    pub claims: Vec<Hook<PersistentVolumeClaim>>,
    /// For volumes.
    pub volumes: Vec<Hook<PersistentVolume>>,
    /// For cluster roles.
    pub cluster_roles: Vec<Hook<ClusterRole>>,
    /// For disruption budgets.
    pub budgets: Vec<Hook<PodDisruptionBudget>>,
}

/// Metadata that plans read although the API calls it annotations; everything else of a pod's is dropped.
const POD_ANNOTATIONS: [&str; 1] = [crate::replicaset::DELETION_COST];

/// The kinds whose informers hold every object, so that the garbage collector need not watch them again.
pub(crate) const WHOLE: [resource::Resource; 13] = [
    resource::POD,
    resource::NODE,
    resource::NAMESPACE,
    resource::SERVICE,
    resource::ENDPOINTS,
    resource::ENDPOINT_SLICE,
    resource::DEPLOYMENT,
    resource::REPLICA_SET,
    resource::RESOURCE_QUOTA,
    resource::PERSISTENT_VOLUME_CLAIM,
    resource::PERSISTENT_VOLUME,
    resource::CLUSTER_ROLE,
    resource::DISRUPTION_BUDGET,
];

impl Feeds {
    /// Starts every informer into `tasks`. Kinds that are held whole also tell `sink` their metadata.
    pub(crate) fn start(
        self,
        client: &Client,
        caches: &Caches,
        sink: &Arc<dyn MetaSink>,
        tasks: &mut JoinSet<()>,
    ) {
        let all = watcher::Config::default;
        let named = |name: &str| all().fields(&format!("metadata.name={name}"));
        let mut whole = Starter { tasks, sink: Some(sink) };
        let pods = Informer::new(Api::all(client.clone()), all(), Arc::clone(&caches.pods));
        whole.start(pods.trimmed_by(trim_pod), resource::POD, self.pods);
        let nodes = Informer::new(Api::all(client.clone()), all(), Arc::clone(&caches.nodes));
        whole.start(nodes, resource::NODE, self.nodes);
        let namespaces = Informer::new(Api::all(client.clone()), all(), Arc::clone(&caches.namespaces));
        whole.start(namespaces, resource::NAMESPACE, self.namespaces);
        let services = Informer::new(Api::all(client.clone()), all(), Arc::clone(&caches.services));
        whole.start(services, resource::SERVICE, self.services);
        let endpoints = Informer::new(Api::all(client.clone()), all(), Arc::clone(&caches.endpoints));
        whole.start(endpoints, resource::ENDPOINTS, self.endpoints);
        let slices = Informer::new(Api::all(client.clone()), all(), Arc::clone(&caches.slices));
        whole.start(slices, resource::ENDPOINT_SLICE, self.slices);
        let deployments = Informer::new(Api::all(client.clone()), all(), Arc::clone(&caches.deployments));
        whole.start(deployments, resource::DEPLOYMENT, self.deployments);
        let sets = Informer::new(Api::all(client.clone()), all(), Arc::clone(&caches.replica_sets));
        whole.start(sets, resource::REPLICA_SET, self.replica_sets);
        let quotas = Informer::new(Api::all(client.clone()), all(), Arc::clone(&caches.quotas));
        whole.start(quotas, resource::RESOURCE_QUOTA, self.quotas);
        let claims = Informer::new(Api::all(client.clone()), all(), Arc::clone(&caches.claims));
        whole.start(claims, resource::PERSISTENT_VOLUME_CLAIM, self.claims);
        let volumes = Informer::new(Api::all(client.clone()), all(), Arc::clone(&caches.volumes));
        whole.start(volumes, resource::PERSISTENT_VOLUME, self.volumes);
        let roles = Informer::new(Api::all(client.clone()), all(), Arc::clone(&caches.cluster_roles));
        whole.start(roles, resource::CLUSTER_ROLE, self.cluster_roles);
        let budgets = Informer::new(Api::all(client.clone()), all(), Arc::clone(&caches.budgets));
        whole.start(budgets, resource::DISRUPTION_BUDGET, self.budgets);

        let mut part = Starter { tasks: whole.tasks, sink: None };
        let leases = Api::namespaced(client.clone(), "kube-node-lease");
        let leases = Informer::new(leases, all(), Arc::clone(&caches.leases));
        part.start(leases, resource::NODE, self.leases);
        let accounts = Api::all(client.clone());
        let accounts = Informer::new(accounts, named("default"), Arc::clone(&caches.accounts));
        part.start(accounts, resource::SERVICE_ACCOUNT, self.accounts);
        let root_cas = Api::all(client.clone());
        let root_cas =
            Informer::new(root_cas, named(crate::rootca::CONFIG_MAP), Arc::clone(&caches.root_cas));
        part.start(root_cas, resource::CONFIG_MAP, self.root_cas);
    }
}

struct Starter<'a> {
    tasks: &'a mut JoinSet<()>,
    sink: Option<&'a Arc<dyn MetaSink>>,
}

impl Starter<'_> {
    fn start<K: Cached>(
        &mut self,
        mut informer: Informer<K>,
        resource: resource::Resource,
        hooks: Vec<Hook<K>>,
    ) {
        let sink = self.sink.map(Arc::clone);
        self.tasks.spawn(async move {
            let mut synced = false;
            loop {
                for change in informer.next().await {
                    for hook in &hooks {
                        hook(&change);
                    }
                    if let Some(sink) = &sink {
                        tell_sink(sink.as_ref(), &resource, &change);
                    }
                }
                if !synced && informer.store().is_synced() {
                    synced = true;
                    if let Some(sink) = &sink {
                        sink.synced(&resource);
                    }
                }
            }
        });
    }
}

fn tell_sink<K: Resource<DynamicType = ()>>(
    sink: &dyn MetaSink,
    resource: &resource::Resource,
    change: &Change<K>,
) {
    // A name that was deleted and created again between two looks is two objects.
    if let (Some(old), Some(new)) = (&change.old, &change.new)
        && old.meta().uid != new.meta().uid
    {
        sink.news(resource, MetaNews::Gone(old.meta()));
    }
    match (&change.new, &change.old) {
        (Some(new), _) => sink.news(resource, MetaNews::Seen(new.meta())),
        (None, Some(old)) => sink.news(resource, MetaNews::Gone(old.meta())),
        (None, None) => {}
    }
}

fn trim_pod(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    pod.metadata.annotations = pod.metadata.annotations.take().and_then(|mut annotations| {
        annotations.retain(|name, _| POD_ANNOTATIONS.contains(&name.as_str()));
        (!annotations.is_empty()).then_some(annotations)
    });
}
