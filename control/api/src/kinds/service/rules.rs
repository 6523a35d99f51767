//! What makes a service valid.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use serde_json::{Value, json};

use super::{balancer, families};
use crate::kinds::endpoints::endpoint_address;
use crate::names;
use crate::status::{FieldError, FieldPath};
use crate::validate::{
    Errors, label_map, list, one_of, port, refuse, require_by, require_one_of, shown, text,
};

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
/// The port of nodes that firewalls of load balancers may open to everybody.
const KUBELET_PORT: i32 = 10_250;
const POLICIES: &[&str] = &["Cluster", "Local"];
/// Whom of its endpoints a service prefers.
const DISTRIBUTIONS: &[&str] = &["PreferClose", "PreferSameZone", "PreferSameNode"];
/// How to say that traffic stays in its zone, now and before.
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
/// Longest time a client may stay with its endpoint: a day.
const MAX_AFFINITY_SECONDS: i32 = 86_400;

/// A service without its metadata.
pub(super) fn service(service: &Service, errors: &mut Errors) {
    hints(service, errors);
    let path = FieldPath::root("spec");
    let empty = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&empty);
    let kind = text(&spec.type_);
    let headless = families::is_headless(spec);
    if list(&spec.ports).is_empty() && !headless && kind != "ExternalName" {
        errors.push(FieldError::required(&path.child("ports"), ""));
    }
    let exposed = path.child("ports");
    for (index, found) in list(&spec.ports).iter().enumerate().filter(|_| kind == "LoadBalancer") {
        if found.port == KUBELET_PORT {
            let why = format!("may not expose port {KUBELET_PORT} externally since it is used by kubelet");
            errors.push(FieldError::invalid(&exposed.index(index), found.port, why));
        }
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let why = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid(&path.child("clusterIPs").index(0), "None", why));
        }
        "ExternalName" => external_name(spec, &path, errors),
        _ => {}
    }
    let ports = path.child("ports");
    let mut names = HashSet::new();
    for (index, port) in list(&spec.ports).iter().enumerate() {
        service_port(port, &mut names, list(&spec.ports).len() > 1, &ports.index(index), errors);
    }
    label_map(spec.selector.as_ref(), &path.child("selector"), errors);
    affinity(spec, &path, errors);
    if kind != "ExternalName" {
        families::families(spec, &path, errors);
    }
    let external = path.child("externalIPs");
    for (index, address) in list(&spec.external_ips).iter().enumerate() {
        refuse(&external.index(index), address, endpoint_address(address), errors);
    }
    require_one_of(&path.child("type"), kind, TYPES, errors);
    numbers(list(&spec.ports), kind, &ports, errors);
    balancer::asked(service, spec, &path, errors);
    policies(spec, kind, &path, errors);
}

/// The old and the new annotation about hints say the same.
fn hints(service: &Service, errors: &mut Errors) {
    let noted = |key| service.metadata.annotations.as_ref().and_then(|all| all.get(key));
    if let (Some(mode), Some(hints)) = (noted(TOPOLOGY_MODE), noted(TOPOLOGY_HINTS))
        && mode != hints
    {
        let at = FieldPath::root("metadata").child("annotations").key(TOPOLOGY_MODE);
        let why = format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified");
        errors.push(FieldError::invalid(&at, mode.as_str(), why));
    }
}

/// Another name for something outside has no addresses here.
fn external_name(spec: &ServiceSpec, path: &FieldPath, errors: &mut Errors) {
    let set = [
        ("clusterIPs", !list(&spec.cluster_ips).is_empty()),
        ("ipFamilies", !list(&spec.ip_families).is_empty()),
        ("ipFamilyPolicy", spec.ip_family_policy.is_some()),
    ];
    for (field, _) in set.into_iter().filter(|(_, set)| *set) {
        errors.push(FieldError::forbidden(&path.child(field), "may not be set for ExternalName services"));
    }
    let name = text(&spec.external_name);
    // A name may be written with the dot that ends it.
    let name = name.strip_suffix('.').unwrap_or(name);
    require_by(&path.child("externalName"), name, names::dns1123_subdomain, errors);
}

fn affinity(spec: &ServiceSpec, path: &FieldPath, errors: &mut Errors) {
    let kind = text(&spec.session_affinity);
    require_one_of(&path.child("sessionAffinity"), kind, &["ClientIP", "None"], errors);
    let at = path.child("sessionAffinityConfig");
    if kind == "ClientIP" {
        let client = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
        let at = at.child("clientIP").child("timeoutSeconds");
        match client.and_then(|c| c.timeout_seconds) {
            None => errors.push(FieldError::required(&at, "when session affinity type is ClientIP")),
            Some(seconds) if !(1..=MAX_AFFINITY_SECONDS).contains(&seconds) => {
                let why = format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}");
                errors.push(FieldError::invalid(&at, seconds, why));
            }
            Some(_) => {}
        }
    } else if spec.session_affinity_config.is_some() {
        let why = "must not be set when session affinity is None";
        errors.push(FieldError::forbidden(&at, why));
    }
}

fn policies(spec: &ServiceSpec, kind: &str, path: &FieldPath, errors: &mut Errors) {
    let outside = matches!(kind, "NodePort" | "LoadBalancer")
        || (kind == "ClusterIP" && !list(&spec.external_ips).is_empty());
    let at = path.child("externalTrafficPolicy");
    match text(&spec.external_traffic_policy) {
        "" if outside => errors.push(FieldError::required(&at, "")),
        "" => {}
        policy if !outside => {
            errors.push(FieldError::invalid(
                &at,
                policy,
                "may only be set for externally-accessible services",
            ));
        }
        policy => one_of(&at, policy, POLICIES, errors),
    }
    let at = path.child("internalTrafficPolicy");
    match text(&spec.internal_traffic_policy) {
        "" if kind != "ExternalName" => errors.push(FieldError::required(&at, "")),
        "" => {}
        policy => one_of(&at, policy, POLICIES, errors),
    }
    let health = spec.health_check_node_port.unwrap_or_default();
    let local = kind == "LoadBalancer" && text(&spec.external_traffic_policy) == "Local";
    if health != 0 && !local {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(FieldError::invalid(&path.child("healthCheckNodePort"), health, why));
    } else if health != 0 {
        port(&path.child("healthCheckNodePort"), health, errors);
    }
    if let Some(distribution) = spec.traffic_distribution.as_deref()
        && !DISTRIBUTIONS.contains(&distribution)
    {
        let at = path.child("trafficDistribution");
        errors.push(FieldError::not_supported_in_order(&at, distribution, DISTRIBUTIONS));
    }
}

fn service_port<'a>(
    exposed: &'a ServicePort,
    before: &mut HashSet<&'a str>,
    needs_name: bool,
    path: &FieldPath,
    errors: &mut Errors,
) {
    let name = text(&exposed.name);
    if name.is_empty() {
        if needs_name {
            errors.push(FieldError::required(&path.child("name"), ""));
        }
    } else {
        refuse(&path.child("name"), name, names::dns1123_label(name), errors);
        if !before.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
    }
    port(&path.child("port"), exposed.port, errors);
    require_one_of(&path.child("protocol"), text(&exposed.protocol), &["SCTP", "TCP", "UDP"], errors);
    let target = path.child("targetPort");
    match &exposed.target_port {
        Some(IntOrString::Int(number)) => port(&target, *number, errors),
        Some(IntOrString::String(name)) => refuse(&target, name, names::port_name(name), errors),
        None => {}
    }
    if let Some(protocol) = exposed.app_protocol.as_deref() {
        refuse(&path.child("appProtocol"), protocol, names::qualified_name(protocol), errors);
    }
}

/// Ports of nodes are not for all services, and no two ports are one.
fn numbers(ports: &[ServicePort], kind: &str, path: &FieldPath, errors: &mut Errors) {
    let named = |port: &ServicePort| port.node_port.filter(|number| *number != 0);
    let ports: Vec<(FieldPath, &ServicePort)> =
        ports.iter().enumerate().map(|(index, port)| (path.index(index), port)).collect();
    for (at, _) in ports.iter().filter(|(_, port)| kind == "ClusterIP" && named(port).is_some()) {
        let why = "may not be used when `type` is 'ClusterIP'";
        errors.push(FieldError::forbidden(&at.child("nodePort"), why));
    }
    let (mut of_nodes, mut of_service) = (HashSet::new(), HashSet::new());
    for (at, port) in &ports {
        if named(port).is_some() && !of_nodes.insert((&port.protocol, port.node_port)) {
            errors.push(FieldError::duplicate(&at.child("nodePort"), port.node_port));
        }
    }
    for (at, port) in &ports {
        if !of_service.insert((&port.protocol, port.port)) {
            // Upstream shows a port that has nothing else.
            let (name, app, protocol) = ("", Value::Null, &port.protocol);
            let shown = json!({
                "Name": name, "Protocol": protocol, "AppProtocol": app, "Port": port.port, "TargetPort": 0, "NodePort": 0,
            });
            errors.push(FieldError::duplicate(at, shown));
        }
    }
}

/// What may not change.
pub(super) fn change(new: &Service, old: &Service, errors: &mut Errors) {
    let (Some(new), Some(old)) = (&new.spec, &old.spec) else { return };
    let path = FieldPath::root("spec");
    families::change(new, old, &path, errors);
    let balanced = |spec: &ServiceSpec| text(&spec.type_) == "LoadBalancer";
    if balanced(new) && balanced(old) && new.load_balancer_class != old.load_balancer_class {
        let value = shown(&new.load_balancer_class);
        errors.push(FieldError::invalid(&path.child("loadBalancerClass"), value, "may not change once set"));
    }
    let checked = |spec: &ServiceSpec| balanced(spec) && text(&spec.external_traffic_policy) == "Local";
    if checked(new) && checked(old) && new.health_check_node_port != old.health_check_node_port {
        errors.push(FieldError::forbidden(&path.child("healthCheckNodePort"), names::IMMUTABLE));
    }
}
