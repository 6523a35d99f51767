//! What may be said of the devices that a pod got: its claims, and the one that was made for its extended resources.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::core::v1::{
    Container, ContainerExtendedResourceRequest, PodExtendedResourceClaimStatus, PodSpec, PodStatus,
};

use super::{Errors, list, refuse, require};
use crate::names;
use crate::status::{FieldError, FieldPath};

/// `resourceClaimStatuses` and `extendedResourceClaimStatus`.
pub(super) fn claims(status: &PodStatus, spec: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    let known: HashSet<&str> = list(&spec.resource_claims).iter().map(|claim| claim.name.as_str()).collect();
    let all = path.child("resourceClaimStatuses");
    let mut seen = HashSet::new();
    for (index, claim) in list(&status.resource_claim_statuses).iter().enumerate() {
        let (at, name) = (all.index(index).child("name"), claim.name.as_str());
        if !known.contains(name) {
            let why = "must match the name of an entry in `spec.resourceClaims`";
            errors.push(FieldError::invalid(&at, name, why));
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&at, name));
        }
        if let Some(name) = &claim.resource_claim_name {
            // The path is upstream's.
            refuse(&at, name, names::dns1123_subdomain(name), errors);
        }
    }
    if let Some(claim) = &status.extended_resource_claim_status {
        extended(claim, spec, &path.child("extendedResourceClaimStatus"), errors);
    }
}

fn extended(claim: &PodExtendedResourceClaimStatus, spec: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    let containers: HashMap<&str, &Container> = list(&spec.init_containers)
        .iter()
        .chain(&spec.containers)
        .map(|container| (container.name.as_str(), container))
        .collect();
    let all = path.child("requestMappings");
    if claim.request_mappings.is_empty() {
        errors.push(FieldError::required(&all, "at least one request mapping is required"));
    }
    let mut seen = HashSet::new();
    for (index, mapping) in claim.request_mappings.iter().enumerate() {
        let at = all.index(index);
        let parts = [
            ("containerName", mapping.container_name.as_str()),
            ("resourceName", mapping.resource_name.as_str()),
            ("requestName", mapping.request_name.as_str()),
        ];
        asked_for(mapping, &containers, &at, errors);
        let request = mapping.request_name.as_str();
        // The path is upstream's.
        refuse(&path.child("requestName"), request, names::dns1123_label(request), errors);
        if !seen.insert(parts) {
            errors.extend(parts.map(|(field, part)| FieldError::duplicate(&at.child(field), part)));
        }
    }
    let (at, name) = (path.child("resourceClaimName"), claim.resource_claim_name.as_str());
    if require(&at, name, errors) {
        refuse(&at, name, names::dns1123_subdomain(name), errors);
    }
}

fn asked_for(
    mapping: &ContainerExtendedResourceRequest,
    containers: &HashMap<&str, &Container>,
    path: &FieldPath,
    errors: &mut Errors,
) {
    let Some(container) = containers.get(mapping.container_name.as_str()) else {
        let why = "must match the name of an entry in spec.initContainers.name or spec.containers.name";
        errors.push(FieldError::invalid(&path.child("containerName"), mapping.container_name.as_str(), why));
        return;
    };
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    if !requests.is_some_and(|requests| requests.contains_key(&mapping.resource_name)) {
        let why = "must match the extended resource name of an entry in spec.initContainers.resources.requests \
                   or spec.containers.resources.requests";
        errors.push(FieldError::invalid(&path.child("resourceName"), mapping.resource_name.as_str(), why));
    }
}
