//! EndpointSlice and Endpoints: which pods stand behind a service, under which addresses and ports.

mod legacy;
mod ports;
mod slices;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use carrack_client::{Change, Key};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Endpoints, ObjectReference, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::cache::{BY_SERVICE, Caches, Feeds, Node, Pod};
use crate::driver::{Controller, LookError};
use crate::plan::Plan;
use crate::queue::Queue;
use crate::select;

pub use legacy::plan as plan_endpoints;
pub use slices::{PER_SLICE, plan as plan_slices};

/// The label that names a slice's service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label that says who writes a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`] for the slices that this controller writes.
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
/// The label of slices and Endpoints of services without an address.
pub const HEADLESS: &str = "service.kubernetes.io/headless";
/// The node label that endpoints take their zone from.
const ZONE: &str = "topology.kubernetes.io/zone";

/// What the plans for one service are made from.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The service, `None` when it is gone.
    pub service: Option<Arc<Service>>,
    /// The pods that it selects.
    pub pods: Vec<Arc<Pod>>,
    /// The nodes of those pods, for their zones.
    pub nodes: Vec<Arc<Node>>,
    /// The slices of the service that this controller writes.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// The Endpoints of the same name.
    pub endpoints: Option<Arc<Endpoints>>,
}

/// The name of the service that a slice belongs to.
#[must_use]
pub fn service_of(slice: &EndpointSlice) -> Option<&str> {
    slice.metadata.labels.as_ref()?.get(SERVICE_NAME).map(String::as_str)
}

/// Writes slices.
pub struct Slices {
    caches: Arc<Caches>,
}

/// Writes Endpoints.
pub struct LegacyEndpoints {
    caches: Arc<Caches>,
}

impl Slices {
    /// A controller that reads `caches`.
    #[must_use]
    pub fn new(caches: Arc<Caches>) -> Self {
        Self { caches }
    }
}

impl LegacyEndpoints {
    /// A controller that reads `caches`.
    #[must_use]
    pub fn new(caches: Arc<Caches>) -> Self {
        Self { caches }
    }
}

/// Feeds the queues of both controllers with the services that a change may concern.
pub fn hook(caches: &Arc<Caches>, feeds: &mut Feeds, slices: &Arc<Queue>, endpoints: &Arc<Queue>) {
    let queues = [Arc::clone(slices), Arc::clone(endpoints)];
    feeds.services.push(Box::new(move |change| {
        if let Some(service) = change.latest() {
            queues.iter().for_each(|q| q.add(Key::of(&service.metadata)));
        }
    }));
    let queues = [Arc::clone(slices), Arc::clone(endpoints)];
    let known = Arc::clone(caches);
    feeds.pods.push(Box::new(move |change| pod_changed(&known, &queues, change)));
    let own = Arc::clone(slices);
    feeds.slices.push(Box::new(move |change| {
        if let Some((slice, service)) = change.latest().and_then(|s| Some((s, service_of(s)?))) {
            own.add(Key::new(slice.metadata.namespace.clone().unwrap_or_default(), service));
        }
    }));
    let own = Arc::clone(endpoints);
    feeds.endpoints.push(Box::new(move |change| {
        if let Some(endpoints) = change.latest() {
            own.add(Key::of(&endpoints.metadata));
        }
    }));
    let (own, known) = (Arc::clone(slices), Arc::clone(caches));
    feeds.nodes.push(Box::new(move |change| node_changed(&known, &own, change)));
}

fn pod_changed(caches: &Caches, queues: &[Arc<Queue>; 2], change: &Change<Pod>) {
    if let (Some(old), Some(new)) = (&change.old, &change.new)
        && same_endpoint(old, new)
    {
        return;
    }
    let Some(pod) = change.latest() else { return };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    for service in caches.services.namespace(namespace) {
        let Some(selector) = service.spec.as_ref().and_then(|s| s.selector.as_ref()) else { continue };
        // A pod whose labels changed leaves one service and enters another.
        let selects = |pod: &Arc<Pod>| select::has_all(selector, pod.metadata.labels.as_ref());
        if change.old.as_ref().is_some_and(selects) || change.new.as_ref().is_some_and(selects) {
            queues.iter().for_each(|q| q.add(Key::of(&service.metadata)));
        }
    }
}

/// Whether nothing changed that an endpoint shows.
fn same_endpoint(old: &Pod, new: &Pod) -> bool {
    old.metadata.uid == new.metadata.uid
        && old.metadata.labels == new.metadata.labels
        && old.terminating() == new.terminating()
        && old.ended() == new.ended()
        && old.ready() == new.ready()
        && old.spec.node_name == new.spec.node_name
        && addresses(old).eq(addresses(new))
}

/// A zone that came or changed concerns every service with a pod there.
fn node_changed(caches: &Caches, queue: &Queue, change: &Change<Node>) {
    let zone = |node: &Arc<Node>| zone_of(node).map(str::to_owned);
    if change.old.as_ref().and_then(zone) == change.new.as_ref().and_then(zone) {
        return;
    }
    let Some(node) = change.latest() else { return };
    for pod in caches.pods.indexed(crate::cache::BY_NODE, node.name()) {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        for service in caches.services.namespace(namespace) {
            let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
            if selector.is_some_and(|s| select::has_all(s, pod.metadata.labels.as_ref())) {
                queue.add(Key::of(&service.metadata));
            }
        }
    }
}

impl Controller for Slices {
    type Snapshot = Snapshot;
    const NAME: &'static str = "endpointslice";

    async fn snapshot(&self, key: &Key) -> Result<Option<Snapshot>, LookError> {
        let Some(mut snapshot) = behind(&self.caches, key) else { return Ok(None) };
        if snapshot.service.is_none() {
            // The garbage collector takes the slices of a service that is gone.
            return Ok(None);
        }
        let index = format!("{}/{}", key.namespace, key.name);
        let slices = self.caches.slices.indexed(BY_SERVICE, &index);
        snapshot.slices = slices.into_iter().filter(|s| slices::ours(s)).collect();
        Ok(Some(snapshot))
    }

    fn plan(&self, snapshot: &Snapshot, _now: Timestamp) -> Plan {
        plan_slices(snapshot)
    }
}

impl Controller for LegacyEndpoints {
    type Snapshot = Snapshot;
    const NAME: &'static str = "endpoints";

    async fn snapshot(&self, key: &Key) -> Result<Option<Snapshot>, LookError> {
        let Some(mut snapshot) = behind(&self.caches, key) else { return Ok(None) };
        snapshot.endpoints = self.caches.endpoints.get(key);
        Ok(Some(snapshot))
    }

    fn plan(&self, snapshot: &Snapshot, _now: Timestamp) -> Plan {
        plan_endpoints(snapshot)
    }
}

/// The service and the pods behind it; `None` for a service whose endpoints are somebody else's.
fn behind(caches: &Caches, key: &Key) -> Option<Snapshot> {
    let Some(service) = caches.services.get(key) else { return Some(Snapshot::default()) };
    let spec = service.spec.as_ref()?;
    let selector = spec.selector.as_ref().filter(|s| !s.is_empty())?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let all = caches.pods.namespace(&key.namespace);
    let pods: Vec<_> = all
        .into_iter()
        .filter(|pod| select::has_all(selector, pod.metadata.labels.as_ref()))
        .filter(|pod| !pod.ended() && addresses(pod).next().is_some())
        .collect();
    let names: BTreeSet<_> = pods.iter().filter_map(|pod| pod.spec.node()).collect();
    let nodes = names.into_iter().filter_map(|name| caches.nodes.get(&Key::cluster(name))).collect();
    Some(Snapshot { service: Some(service), pods, nodes, ..Snapshot::default() })
}

/// The addresses of a pod, its first one first.
fn addresses(pod: &Pod) -> impl Iterator<Item = &str> {
    let listed = pod.status.pod_ips.iter().map(|ip| ip.ip.as_str());
    let first = pod.status.pod_ip.as_deref().filter(|_| pod.status.pod_ips.is_empty());
    first.into_iter().chain(listed).filter(|ip| !ip.is_empty())
}

/// The pod's first address of a family.
fn address_of(pod: &Pod, v6: bool) -> Option<&str> {
    addresses(pod).find(|ip| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6() == v6))
}

fn zone_of(node: &Node) -> Option<&str> {
    node.metadata.labels.as_ref()?.get(ZONE).map(String::as_str)
}

fn headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None")
}

fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|s| s.publish_not_ready_addresses == Some(true))
}

/// The pod's own host name, if the service gives it one.
fn hostname<'a>(pod: &'a Pod, service: &Service) -> Option<&'a str> {
    let in_domain = pod.spec.subdomain.is_some() && pod.spec.subdomain == service.metadata.name;
    pod.spec.hostname.as_deref().filter(|name| in_domain && !name.is_empty())
}

fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}
