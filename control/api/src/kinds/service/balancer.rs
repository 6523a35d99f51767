//! What a load balancer of a service is asked to do, and what it tells.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use serde_json::Value;

use crate::names;
use crate::status::{FieldError, FieldPath};
use crate::validate::{Errors, list, one_of, refuse, text};

const ONLY_BALANCERS: &str = "may only be used when `type` is 'LoadBalancer'";
/// The annotation that ranges of sources were given in before there was a field.
const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// The fields that only services with load balancers have.
pub(super) fn asked(service: &Service, spec: &ServiceSpec, path: &FieldPath, errors: &mut Errors) {
    let balanced = text(&spec.type_) == "LoadBalancer";
    ranges(service, spec, balanced, path, errors);
    if spec.allocate_load_balancer_node_ports.is_some() && !balanced {
        errors.push(FieldError::forbidden(&path.child("allocateLoadBalancerNodePorts"), ONLY_BALANCERS));
    }
    if let Some(class) = spec.load_balancer_class.as_deref() {
        let at = path.child("loadBalancerClass");
        if balanced {
            refuse(&at, class, names::qualified_name(class), errors);
        } else {
            errors.push(FieldError::forbidden(&at, ONLY_BALANCERS));
        }
    }
}

fn ranges(service: &Service, spec: &ServiceSpec, balanced: bool, path: &FieldPath, errors: &mut Errors) {
    let given = list(&spec.load_balancer_source_ranges);
    let noted = service.metadata.annotations.as_ref().and_then(|all| all.get(RANGES));
    // The spelling is upstream's.
    let all = path.child("LoadBalancerSourceRanges");
    let noted_at = FieldPath::root("metadata").child("annotations").key(RANGES);
    let (at, noted) = match noted {
        Some(noted) if given.is_empty() => (&noted_at, noted.trim()),
        _ if given.is_empty() => return,
        _ => (&all, ""),
    };
    if !balanced {
        errors.push(FieldError::forbidden(at, ONLY_BALANCERS));
    }
    for (index, range) in given.iter().enumerate() {
        refuse(&all.index(index), range.trim(), names::cidr(range.trim()), errors);
    }
    for range in noted.split(',').filter(|_| !noted.is_empty()) {
        refuse(&noted_at, range.trim(), names::cidr(range.trim()), errors);
    }
}

/// What a load balancer may tell of itself.
pub(super) fn told(service: &Service, errors: &mut Errors) {
    let points = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let points = points.map(|b| list(&b.ingress)).unwrap_or_default();
    let all = FieldPath::root("status").child("loadBalancer").child("ingress");
    let kind = service.spec.as_ref().map(|spec| text(&spec.type_)).unwrap_or_default();
    if kind != "LoadBalancer" && !points.is_empty() {
        let why = "may only be used when `spec.type` is 'LoadBalancer'";
        errors.push(FieldError::forbidden(&all, why));
        return;
    }
    for (index, point) in points.iter().enumerate() {
        let at = all.index(index);
        let (ip, host) = (text(&point.ip), text(&point.hostname));
        if !ip.is_empty() {
            refuse(&at.child("ip"), ip, names::ip_address(ip), errors);
        }
        let mode_at = at.child("ipMode");
        match &point.ip_mode {
            None if !ip.is_empty() => {
                errors.push(FieldError::required(&mode_at, "must be specified when `ip` is set"));
            }
            Some(_) if ip.is_empty() => {
                errors.push(FieldError::forbidden(&mode_at, "may not be specified when `ip` is not set"));
            }
            Some(mode) => one_of(&mode_at, mode, &["Proxy", "VIP"], errors),
            None => {}
        }
        if !host.is_empty() {
            let at = at.child("hostname");
            refuse(&at, host, names::dns1123_subdomain(host), errors);
            if names::ip_address(host).is_empty() {
                errors.push(FieldError::invalid(&at, host, "must be a DNS name, not an IP address"));
            }
        }
    }
}

/// An address of a load balancer is one that packets come to unchanged, unless it says otherwise.
pub(super) fn default_modes(service: &mut Value) {
    let points = service.pointer_mut("/status/loadBalancer/ingress").and_then(Value::as_array_mut);
    for point in points.into_iter().flatten().filter_map(Value::as_object_mut) {
        let named = point.get("ip").and_then(Value::as_str).is_some_and(|ip| !ip.is_empty());
        if named && point.get("ipMode").is_none_or(Value::is_null) {
            point.insert("ipMode".into(), "VIP".into());
        }
    }
}
