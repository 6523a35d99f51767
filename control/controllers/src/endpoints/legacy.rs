//! Endpoints (core/v1), for clients that still read them: all addresses of a service in one object, grouped into
//! subsets of equal ports.

use std::collections::BTreeMap;

use carrack_client::Key;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use serde_json::json;

use super::ports::{self, Port};
use super::{HEADLESS, Snapshot};
use crate::cache::Pod;
use crate::diff;
use crate::plan::{Action, Plan};
use crate::resource::ENDPOINTS;
use crate::select::Labels;

/// Addresses in one Endpoints object; slices hold the rest.
const MOST: usize = 1000;
/// The annotation of an object that was cut to [`MOST`].
const OVER: &str = "endpoints.kubernetes.io/over-capacity";
/// The label that says who writes the object.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";

#[derive(Default)]
struct Addresses {
    ready: Vec<EndpointAddress>,
    not_ready: Vec<EndpointAddress>,
}

/// The write that makes the Endpoints of a service what its pods are.
#[must_use]
pub fn plan(snapshot: &Snapshot) -> Plan {
    let mut plan = Plan::none();
    let Some(service) = snapshot.service.as_deref() else {
        // Endpoints carry no owner reference; those of services without a selector are people's own.
        if let Some(endpoints) = snapshot.endpoints.as_deref().filter(|e| managed(e)) {
            let uid = endpoints.metadata.uid.clone();
            plan.push(Action::delete(ENDPOINTS, Key::of(&endpoints.metadata), uid));
        }
        return plan;
    };
    if service.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let (subsets, cut) = subsets(snapshot, service);
    let labels = labels(service);
    match snapshot.endpoints.as_deref() {
        None => plan.push(creation(service, &labels, &subsets, cut)),
        Some(current) => plan.push_all(change(current, labels, subsets, cut).into_iter().collect()),
    }
    plan
}

fn managed(endpoints: &Endpoints) -> bool {
    endpoints.metadata.labels.as_ref().and_then(|l| l.get(MANAGED_BY)).is_some_and(|by| by == MANAGER)
}

fn subsets(snapshot: &Snapshot, service: &Service) -> (Vec<EndpointSubset>, bool) {
    let publish = super::publishes_not_ready(service);
    let v6 = service.spec.as_ref().and_then(|s| s.ip_families.as_ref()?.first()).is_some_and(|f| f == "IPv6");
    let has_ports = service.spec.as_ref().and_then(|s| s.ports.as_ref()).is_some_and(|p| !p.is_empty());
    let mut groups: BTreeMap<Vec<Port>, Addresses> = BTreeMap::new();
    let mut pods: Vec<&Pod> = snapshot.pods.iter().map(|pod| &**pod).collect();
    // Ready pods first, so that a cut takes the others.
    pods.sort_by_key(|pod| (!pod.ready(), pod.uid().to_owned()));
    let mut count = 0;
    for pod in pods {
        if pod.terminating() && !publish {
            continue;
        }
        let Some(address) = super::address_of(pod, v6) else { continue };
        let ports = ports::of(service, pod);
        if has_ports && ports.is_empty() {
            continue;
        }
        count += 1;
        if count > MOST {
            continue;
        }
        let group = groups.entry(ports).or_default();
        let list = if pod.ready() || publish { &mut group.ready } else { &mut group.not_ready };
        list.push(endpoint(service, pod, address));
    }
    (groups.into_iter().map(|(ports, addresses)| subset(&ports, addresses)).collect(), count > MOST)
}

fn endpoint(service: &Service, pod: &Pod, address: &str) -> EndpointAddress {
    EndpointAddress {
        ip: address.to_owned(),
        hostname: super::hostname(pod, service).map(str::to_owned),
        node_name: pod.spec.node().map(str::to_owned),
        target_ref: Some(super::target(pod)),
    }
}

fn subset(ports: &[Port], mut addresses: Addresses) -> EndpointSubset {
    let by_ip = |a: &EndpointAddress, b: &EndpointAddress| a.ip.cmp(&b.ip);
    addresses.ready.sort_by(by_ip);
    addresses.not_ready.sort_by(by_ip);
    let ports = ports.iter().map(|port| EndpointPort {
        name: Some(port.name.clone()).filter(|n| !n.is_empty()),
        port: port.number,
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app.clone(),
    });
    EndpointSubset {
        addresses: Some(addresses.ready).filter(|a| !a.is_empty()),
        not_ready_addresses: Some(addresses.not_ready).filter(|a| !a.is_empty()),
        ports: Some(ports.collect::<Vec<_>>()).filter(|p| !p.is_empty()),
    }
}

fn labels(service: &Service) -> Labels {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    if super::headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

fn creation(service: &Service, labels: &Labels, subsets: &[EndpointSubset], cut: bool) -> Action {
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let mut body = json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": { "name": service.metadata.name, "namespace": namespace, "labels": labels },
        "subsets": subsets,
    });
    if cut {
        body["metadata"]["annotations"] = json!({ OVER: "truncated" });
    }
    Action::create(ENDPOINTS, namespace, body)
}

fn change(current: &Endpoints, labels: Labels, subsets: Vec<EndpointSubset>, cut: bool) -> Option<Action> {
    let mut wanted = current.clone();
    wanted.metadata.labels = Some(labels);
    wanted.subsets = Some(subsets).filter(|s| !s.is_empty());
    if cut {
        wanted.metadata.annotations.get_or_insert_default().insert(OVER.into(), "truncated".into());
    } else if let Some(annotations) = &mut wanted.metadata.annotations {
        annotations.remove(OVER);
    }
    let mut current = current.clone();
    current.subsets = current.subsets.filter(|s| !s.is_empty());
    let patch = diff::guarded(&current.metadata, &current, &wanted)?;
    Some(Action::merge(ENDPOINTS, Key::of(&current.metadata), "", patch))
}
