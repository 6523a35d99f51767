//! What makes a service valid.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::names;
use crate::status::{FieldError, FieldPath};
use crate::validate::{self, Errors, label_map, list, one_of, port, refuse, require_one_of, shown, text};

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const POLICIES: &[&str] = &["Cluster", "Local"];
/// Longest time a client may stay with its endpoint: a day.
const MAX_AFFINITY_SECONDS: i32 = 86_400;

/// A service without its metadata.
pub(super) fn service(service: &Service, errors: &mut Errors) {
    let path = FieldPath::root("spec");
    let empty = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&empty);
    let kind = text(&spec.type_);
    let headless = text(&spec.cluster_ip) == "None";
    if list(&spec.ports).is_empty() && !headless && kind != "ExternalName" {
        errors.push(FieldError::required(&path.child("ports"), ""));
    }
    by_type(spec, kind, headless, &path, errors);
    label_map(spec.selector.as_ref(), &path.child("selector"), errors);
    affinity(spec, &path, errors);
    addresses(spec, kind, &path, errors);
    let ports = path.child("ports");
    for (index, port) in list(&spec.ports).iter().enumerate() {
        service_port(port, list(&spec.ports).len() > 1, kind, &ports.index(index), errors);
    }
    unique_ports(list(&spec.ports), &ports, errors);
    policies(spec, kind, &path, errors);
}

fn by_type(spec: &ServiceSpec, kind: &str, headless: bool, path: &FieldPath, errors: &mut Errors) {
    require_one_of(&path.child("type"), kind, TYPES, errors);
    let first = path.child("clusterIPs").index(0);
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let why = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid(&first, "None", why));
        }
        "ExternalName" => {
            if !list(&spec.cluster_ips).is_empty() {
                let why = "may not be set for ExternalName services";
                errors.push(FieldError::forbidden(&path.child("clusterIPs"), why));
            }
            let name = text(&spec.external_name);
            let at = path.child("externalName");
            if name.is_empty() {
                errors.push(FieldError::required(&at, ""));
            } else {
                // A name may be written with the dot that ends it.
                let name = name.strip_suffix('.').unwrap_or(name);
                refuse(&at, name, names::dns1123_subdomain(name), errors);
            }
        }
        _ => {}
    }
    if kind != "ExternalName" {
        let all = path.child("clusterIPs");
        for (index, address) in list(&spec.cluster_ips).iter().enumerate() {
            let only_none = address == "None" && list(&spec.cluster_ips).len() == 1;
            if !only_none {
                refuse(&all.index(index), address, names::ip_address(address), errors);
            }
        }
        let single = text(&spec.cluster_ip);
        if !single.is_empty() && list(&spec.cluster_ips).first().is_some_and(|first| first != single) {
            let why = "first value must match `clusterIP`";
            errors.push(FieldError::invalid(&all, shown(&spec.cluster_ips), why));
        }
        if let Some(policy) = &spec.ip_family_policy {
            let allowed = ["PreferDualStack", "RequireDualStack", "SingleStack"];
            one_of(&path.child("ipFamilyPolicy"), policy, &allowed, errors);
        }
        let families = path.child("ipFamilies");
        for (index, family) in list(&spec.ip_families).iter().enumerate() {
            one_of(&families.index(index), family, &["IPv4", "IPv6"], errors);
        }
    }
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

fn addresses(spec: &ServiceSpec, kind: &str, path: &FieldPath, errors: &mut Errors) {
    let external = path.child("externalIPs");
    for (index, address) in list(&spec.external_ips).iter().enumerate() {
        refuse(&external.index(index), address, names::ip_address(address), errors);
    }
    let ranges = path.child("loadBalancerSourceRanges");
    if !list(&spec.load_balancer_source_ranges).is_empty() && kind != "LoadBalancer" {
        errors.push(FieldError::forbidden(&ranges, "may only be used when `type` is 'LoadBalancer'"));
    }
    for (index, range) in list(&spec.load_balancer_source_ranges).iter().enumerate() {
        refuse(&ranges.index(index), range, names::cidr(range.trim()), errors);
    }
    if let Some(class) = spec.load_balancer_class.as_deref() {
        let at = path.child("loadBalancerClass");
        if kind != "LoadBalancer" {
            errors.push(FieldError::forbidden(&at, "may only be used when `type` is 'LoadBalancer'"));
        }
        refuse(&at, class, names::qualified_name(class), errors);
    }
    if spec.allocate_load_balancer_node_ports.is_some() && kind != "LoadBalancer" {
        let at = path.child("allocateLoadBalancerNodePorts");
        errors.push(FieldError::forbidden(&at, "may only be used when `type` is 'LoadBalancer'"));
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
    }
    if let Some(distribution) = spec.traffic_distribution.as_deref().filter(|d| !d.is_empty()) {
        let allowed = ["PreferClose", "PreferSameNode", "PreferSameZone"];
        one_of(&path.child("trafficDistribution"), distribution, &allowed, errors);
    }
}

fn service_port(exposed: &ServicePort, needs_name: bool, kind: &str, path: &FieldPath, errors: &mut Errors) {
    let name = text(&exposed.name);
    if name.is_empty() {
        if needs_name {
            errors.push(FieldError::required(&path.child("name"), ""));
        }
    } else {
        refuse(&path.child("name"), name, names::dns1123_label(name), errors);
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
    let node_port = exposed.node_port.unwrap_or_default();
    if node_port != 0 && matches!(kind, "ClusterIP" | "ExternalName") {
        let why = format!("may not be used when `type` is '{kind}'");
        errors.push(FieldError::forbidden(&path.child("nodePort"), why));
    }
}

fn unique_ports(ports: &[ServicePort], path: &FieldPath, errors: &mut Errors) {
    for (index, port) in ports.iter().enumerate() {
        let (at, before) = (path.index(index), &ports[..index]);
        let name = text(&port.name);
        if !name.is_empty() && before.iter().any(|p| text(&p.name) == name) {
            errors.push(FieldError::duplicate(&at.child("name"), name));
        }
        let same = |other: &&ServicePort| other.protocol == port.protocol;
        if before.iter().filter(same).any(|p| p.port == port.port) {
            let shown = serde_json::json!({"port": port.port, "protocol": port.protocol});
            errors.push(FieldError::duplicate(&at, shown));
        }
        let node_port = port.node_port.filter(|n| *n != 0);
        if node_port.is_some() && before.iter().filter(same).any(|p| p.node_port == node_port) {
            errors.push(FieldError::duplicate(&at.child("nodePort"), port.node_port));
        }
    }
}

/// What may not change.
pub(super) fn change(new: &Service, old: &Service, errors: &mut Errors) {
    let (Some(new), Some(old)) = (&new.spec, &old.spec) else { return };
    let path = FieldPath::root("spec");
    if text(&new.type_) != "ExternalName" && text(&old.type_) != "ExternalName" {
        let (was, is) = (text(&old.cluster_ip), text(&new.cluster_ip));
        if !was.is_empty() && was != is {
            let at = path.child("clusterIPs").index(0);
            errors.push(FieldError::invalid(&at, shown(&new.cluster_ips), "may not change once set"));
        }
    }
    if text(&new.type_) == "LoadBalancer"
        && text(&old.type_) == "LoadBalancer"
        && new.load_balancer_class != old.load_balancer_class
    {
        let value = validate::shown(&new.load_balancer_class);
        errors.push(FieldError::invalid(&path.child("loadBalancerClass"), value, "may not change once set"));
    }
}
