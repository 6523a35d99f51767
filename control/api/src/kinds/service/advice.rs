//! What is allowed in a service and comes to nothing, or will not be allowed for good.

use k8s_openapi::api::core::v1::Service;

use super::families::is_headless;
use crate::status::FieldPath;
use crate::validate::{self, Warnings, list, text};

const OLD_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const HINTS: &str = "service.kubernetes.io/topology-mode";

/// Advice about a service.
pub(super) fn about(service: &Service, warnings: &mut Warnings) {
    if service.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(OLD_HINTS)) {
        warnings.push(format!("annotation {OLD_HINTS} is deprecated, please use {HINTS} instead"));
    }
    let (Some(spec), path) = (&service.spec, FieldPath::root("spec")) else { return };
    let (kind, external) = (text(&spec.type_), list(&spec.external_ips));
    let headless = is_headless(spec);
    for (index, ip) in list(&spec.cluster_ips).iter().enumerate().filter(|_| !headless) {
        validate::address_warnings(ip, &path.child("clusterIPs").index(index), warnings);
    }
    let balancer = text(&spec.load_balancer_ip);
    let ignored = [
        (!balancer.is_empty(), "loadBalancerIP"),
        (!external.is_empty(), "externalIPs"),
        (text(&spec.session_affinity) != "None", "SessionAffinity"),
    ];
    for (_, field) in ignored.into_iter().filter(|(is_set, _)| *is_set && headless && kind == "ClusterIP") {
        warnings.push(format!("spec.{field} is ignored for headless services"));
    }
    for (index, ip) in external.iter().enumerate() {
        validate::address_warnings(ip, &path.child("externalIPs").index(index), warnings);
    }
    validate::address_warnings(balancer, &path.child("loadBalancerIP"), warnings);
    for (index, range) in list(&spec.load_balancer_source_ranges).iter().enumerate() {
        validate::range_warnings(range, &path.child("loadBalancerSourceRanges").index(index), warnings);
    }
    if kind == "ExternalName" && !external.is_empty() {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if kind != "ExternalName" && !text(&spec.external_name).is_empty() {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec.traffic_distribution.as_deref() == Some("PreferClose") {
        let why = "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"";
        warnings.push(why.to_owned());
    }
}
