//! What may be written about a pod by whoever runs it.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, PodStatus};
use serde_json::Value;

use super::container_statuses::{devices, no_devices, transitions, users};
use super::{Errors, claim_statuses, list, refuse, shown, text};
use crate::addresses;
use crate::names;
use crate::status::{FieldError, FieldPath};

/// Conditions whose names are known and not looked at.
const KNOWN: &[&str] = &["PodScheduled", "Ready", "Initialized"];
const NO_GENERATION: &str = "must be a non-negative integer";

/// A change of a pod's status.
pub(crate) fn pod_status(new: &Pod, old: &Pod, errors: &mut Errors) {
    let path = FieldPath::root("status");
    let (empty, no_spec) = (PodStatus::default(), PodSpec::default());
    let (status, before) = (new.status.as_ref().unwrap_or(&empty), old.status.as_ref().unwrap_or(&empty));
    let conditions = path.child("conditions");
    for (index, condition) in list(&status.conditions).iter().enumerate() {
        let at = conditions.index(index);
        generation(condition.observed_generation, &at, errors);
        if !KNOWN.contains(&condition.type_.as_str()) {
            refuse(&at.child("Type"), &condition.type_, names::qualified_name(&condition.type_), errors);
        }
    }
    nominated(new, status, before, &path, errors);
    generation(status.observed_generation, &path, errors);
    if !text(&before.qos_class).is_empty() && before.qos_class != status.qos_class {
        let class = text(&status.qos_class);
        errors.push(FieldError::invalid(&path.child("qosClass"), class, names::IMMUTABLE));
    }
    let spec = new.spec.as_ref().unwrap_or(&no_spec);
    let containers: [&[Container]; 3] = [&spec.containers, list(&spec.init_containers), &[]];
    for ((list, old), of) in lists(status).into_iter().zip(lists(before)).zip(containers) {
        transitions(list.1, old.1, of, spec, &path.child(list.0), errors);
    }
    claim_statuses::claims(status, spec, &path, errors);
    let ips: Vec<&str> = list(&status.pod_ips).iter().map(|ip| ip.ip.as_str()).collect();
    addresses(&ips, shown(&status.pod_ips), &path.child("podIPs"), errors);
    let ips: Vec<&str> = list(&status.host_ips).iter().map(|ip| ip.ip.as_str()).collect();
    let hosts = path.child("hostIPs");
    if let Some(first) = ips.first().filter(|first| **first != text(&status.host_ip)) {
        let at = hosts.index(0).child("ip");
        errors.push(FieldError::invalid(&at, *first, "must be equal to `hostIP`"));
    }
    addresses(&ips, shown(&status.host_ips), &hosts, errors);
    run_as(status, spec, &path, errors);
}

/// The statuses of containers, with the names of their lists: of main, init and ephemeral ones.
fn lists(status: &PodStatus) -> [(&'static str, &[ContainerStatus]); 3] {
    [
        ("containerStatuses", list(&status.container_statuses)),
        ("initContainerStatuses", list(&status.init_container_statuses)),
        ("ephemeralContainerStatuses", list(&status.ephemeral_container_statuses)),
    ]
}

/// Users and devices of the containers.
fn run_as(status: &PodStatus, spec: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    let system = spec.os.as_ref().map_or("", |os| os.name.as_str());
    for (field, statuses) in lists(status) {
        users(statuses, system, &path.child(field), errors);
    }
    let [(main, mains), (init, inits), (ephemeral, ephemerals)] = lists(status);
    devices(mains, &spec.containers, &path.child(main), errors);
    devices(inits, list(&spec.init_containers), &path.child(init), errors);
    no_devices(ephemerals, &path.child(ephemeral), errors);
}

fn generation(observed: Option<i64>, path: &FieldPath, errors: &mut Errors) {
    if let Some(observed) = observed.filter(|observed| *observed < 0) {
        errors.push(FieldError::invalid(&path.child("observedGeneration"), observed, NO_GENERATION));
    }
}

/// A node that room is made on is named, and only as long as the pod is on none.
fn nominated(pod: &Pod, status: &PodStatus, before: &PodStatus, path: &FieldPath, errors: &mut Errors) {
    let name = text(&status.nominated_node_name);
    if name.is_empty() || name == text(&before.nominated_node_name) {
        return;
    }
    let at = path.child("nominatedNodeName");
    refuse(&at, name, names::dns1123_subdomain(name), errors);
    if pod.spec.as_ref().is_some_and(|spec| !text(&spec.node_name).is_empty()) {
        let why = "may not be set on pods that are already bound to a node";
        errors.push(FieldError::forbidden(&at, why));
    }
}

/// One address of each family at most.
fn addresses(ips: &[&str], all: Value, path: &FieldPath, errors: &mut Errors) {
    for (index, ip) in ips.iter().enumerate() {
        refuse(&path.index(index), ip, names::ip_address(ip), errors);
    }
    let parsed: Vec<IpAddr> = ips.iter().filter_map(|ip| addresses::parse(ip)).collect();
    let pair = matches!(parsed[..], [a, b] if a.is_ipv4() != b.is_ipv4());
    if ips.len() > 1 && parsed.len() == ips.len() && !pair {
        let why = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(path, all, why));
    }
}
