//! The slices of one service: at most [`PER_SLICE`] endpoints each, and as few writes as possible. Slices that need
//! no change are left alone; freed places are filled before a slice is added.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use carrack_client::Key;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use serde_json::json;

use super::ports::{self, Port};
use super::{HEADLESS, MANAGED_BY, MANAGER, SERVICE_NAME, Snapshot};
use crate::cache::{Node, Pod};
use crate::diff;
use crate::owner;
use crate::plan::{Action, Plan};
use crate::resource::{ENDPOINT_SLICE, SERVICE};
use crate::select::Labels;

/// The most endpoints in one slice.
pub const PER_SLICE: usize = 100;

/// What distinguishes the slices of a service: address family, and the ports that all endpoints share.
type Group = (&'static str, Vec<Port>);

/// Whether the slice is one that this controller writes.
pub(super) fn ours(slice: &EndpointSlice) -> bool {
    slice.metadata.labels.as_ref().and_then(|l| l.get(MANAGED_BY)).is_some_and(|by| by == MANAGER)
        && slice.metadata.deletion_timestamp.is_none()
}

/// The writes that make the slices of a service what its pods are.
#[must_use]
pub fn plan(snapshot: &Snapshot) -> Plan {
    let mut plan = Plan::none();
    let Some(service) = snapshot.service.as_deref().filter(|s| s.metadata.deletion_timestamp.is_none())
    else {
        plan.note("the service is gone; its slices go with it");
        return plan;
    };
    let mut wanted = wanted(snapshot, service);
    let mut existing: HashMap<Group, Vec<&Arc<EndpointSlice>>> = HashMap::new();
    for slice in &snapshot.slices {
        existing.entry(group_of(slice)).or_default().push(slice);
    }
    if wanted.is_empty() {
        // A service without endpoints still has one slice of each family: that it is known to be empty matters.
        for family in families(service) {
            wanted.insert((family, Vec::new()), Vec::new());
        }
    }
    let mut actions = Vec::new();
    let labels = labels(service);
    for (group, endpoints) in wanted {
        let slices = existing.remove(&group).unwrap_or_default();
        actions.extend(arrange(service, &labels, &group, endpoints, slices));
    }
    // Slices of ports or families that no endpoint has any more.
    for slice in existing.into_values().flatten() {
        actions.push(deletion(slice));
    }
    plan.push_all(actions);
    plan
}

fn families(service: &Service) -> Vec<&'static str> {
    let listed = service.spec.as_ref().and_then(|s| s.ip_families.as_ref());
    let families: Vec<_> =
        listed.into_iter().flatten().map(|f| if f == "IPv6" { "IPv6" } else { "IPv4" }).collect();
    if families.is_empty() { vec!["IPv4"] } else { families }
}

fn wanted(snapshot: &Snapshot, service: &Service) -> BTreeMap<Group, Vec<Endpoint>> {
    let nodes: HashMap<&str, &Arc<Node>> = snapshot.nodes.iter().map(|n| (n.name(), n)).collect();
    let has_ports = service.spec.as_ref().and_then(|s| s.ports.as_ref()).is_some_and(|p| !p.is_empty());
    let mut groups: BTreeMap<Group, Vec<Endpoint>> = BTreeMap::new();
    for pod in &snapshot.pods {
        let ports = ports::of(service, pod);
        if has_ports && ports.is_empty() {
            // The pod has none of the ports that the service names: it cannot answer.
            continue;
        }
        for family in families(service) {
            if let Some(address) = super::address_of(pod, family == "IPv6") {
                let endpoint = endpoint(service, pod, address, &nodes);
                groups.entry((family, ports.clone())).or_default().push(endpoint);
            }
        }
    }
    for endpoints in groups.values_mut() {
        endpoints.sort_by(|a, b| uid(a).cmp(uid(b)));
    }
    groups
}

fn endpoint(service: &Service, pod: &Pod, address: &str, nodes: &HashMap<&str, &Arc<Node>>) -> Endpoint {
    let (serving, terminating) = (pod.ready(), pod.terminating());
    let ready = super::publishes_not_ready(service) || (serving && !terminating);
    let node = pod.spec.node();
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: super::hostname(pod, service).map(str::to_owned),
        node_name: node.map(str::to_owned),
        target_ref: Some(super::target(pod)),
        zone: node.and_then(|n| nodes.get(n)).and_then(|n| super::zone_of(n)).map(str::to_owned),
        ..Endpoint::default()
    }
}

/// What an endpoint is: the pod, whatever its state.
fn uid(endpoint: &Endpoint) -> &str {
    endpoint.target_ref.as_ref().and_then(|t| t.uid.as_deref()).unwrap_or_default()
}

fn group_of(slice: &EndpointSlice) -> Group {
    let mut ports: Vec<Port> = slice
        .ports
        .iter()
        .flatten()
        .map(|p| Port {
            name: p.name.clone().unwrap_or_default(),
            protocol: p.protocol.clone().unwrap_or_else(|| "TCP".into()),
            number: p.port.unwrap_or(0),
            app: p.app_protocol.clone(),
        })
        .collect();
    ports.sort();
    (if slice.address_type == "IPv6" { "IPv6" } else { "IPv4" }, ports)
}

/// Spreads the endpoints of one group over its slices.
fn arrange(
    service: &Service,
    labels: &Labels,
    group: &Group,
    endpoints: Vec<Endpoint>,
    mut slices: Vec<&Arc<EndpointSlice>>,
) -> Vec<Action> {
    slices.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let mut left: BTreeMap<String, Endpoint> =
        endpoints.into_iter().map(|e| (uid(&e).to_owned(), e)).collect();
    // First each slice keeps those of its endpoints that are still wanted, in their present state.
    let mut kept: Vec<Vec<Endpoint>> = slices
        .iter()
        .map(|slice| slice.endpoints.iter().filter_map(|e| left.remove(uid(e))).collect())
        .collect();
    // New ones go into slices that are written anyway, then into any that has room, then into new ones.
    let changed: Vec<bool> = slices.iter().zip(&kept).map(|(s, k)| differs(s, k, labels)).collect();
    let mut rest = left.into_values();
    for written in [true, false] {
        for (slot, _) in kept.iter_mut().zip(&changed).filter(|(_, changed)| **changed == written) {
            let room = PER_SLICE.saturating_sub(slot.len());
            slot.extend(rest.by_ref().take(room));
        }
    }
    let rest: Vec<Endpoint> = rest.collect();
    let none_kept = kept.iter().all(Vec::is_empty) && rest.is_empty();
    let mut actions = Vec::new();
    for (position, (slice, endpoints)) in slices.iter().zip(kept).enumerate() {
        if endpoints.is_empty() && !(none_kept && position == 0) {
            actions.push(deletion(slice));
        } else if differs(slice, &endpoints, labels) {
            actions.push(change(slice, endpoints, labels));
        }
    }
    let mut rest = rest.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(PER_SLICE));
        actions.push(creation(service, labels, group, now));
        rest = later;
    }
    if none_kept && slices.is_empty() {
        actions.push(creation(service, labels, group, &[]));
    }
    actions
}

fn differs(slice: &EndpointSlice, endpoints: &[Endpoint], labels: &Labels) -> bool {
    slice.endpoints != endpoints || slice.metadata.labels.as_ref() != Some(labels)
}

/// The service's own labels, and those that say whose the slice is.
fn labels(service: &Service) -> Labels {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    let name = service.metadata.name.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), name);
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    if super::headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels
}

fn creation(service: &Service, labels: &Labels, group: &Group, endpoints: &[Endpoint]) -> Action {
    let ports: Vec<_> = group.1.iter().map(slice_port).collect();
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let body = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": format!("{name}-"),
            "namespace": namespace,
            "labels": labels,
            "ownerReferences": [owner::controller_ref(&SERVICE, &service.metadata)],
        },
        "addressType": group.0,
        "endpoints": endpoints,
        "ports": ports,
    });
    Action::create(ENDPOINT_SLICE, namespace, body)
}

fn slice_port(port: &Port) -> EndpointPort {
    EndpointPort {
        // Empty, not absent: an absent name would mean "any".
        name: Some(port.name.clone()),
        port: Some(port.number),
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app.clone(),
    }
}

fn change(slice: &EndpointSlice, endpoints: Vec<Endpoint>, labels: &Labels) -> Action {
    let mut wanted = slice.clone();
    wanted.endpoints = endpoints;
    wanted.metadata.labels = Some(labels.clone());
    let patch = diff::guarded(&slice.metadata, slice, &wanted).unwrap_or_else(|| json!({}));
    Action::merge(ENDPOINT_SLICE, Key::of(&slice.metadata), "", patch)
}

fn deletion(slice: &EndpointSlice) -> Action {
    Action::delete(ENDPOINT_SLICE, Key::of(&slice.metadata), slice.metadata.uid.clone())
}
