//! Requests and limits of containers and pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::{Errors, number, refuse};
use crate::names;
use crate::status::{FieldError, FieldPath};

/// Resources that containers know without a domain.
const STANDARD: &[&str] = &["cpu", "memory", "ephemeral-storage"];
const HUGE_PAGES: &str = "hugepages-";

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Extended resources and huge pages cannot be promised twice.
fn can_overcommit(name: &str) -> bool {
    is_native(name) && !name.starts_with(HUGE_PAGES)
}

/// Requests and limits at `path`.
pub(crate) fn requirements(resources: &ResourceRequirements, path: &FieldPath, errors: &mut Errors) {
    let empty = BTreeMap::new();
    let limits = resources.limits.as_ref().unwrap_or(&empty);
    let requests = resources.requests.as_ref().unwrap_or(&empty);
    let (limits_at, requests_at) = (path.child("limits"), path.child("requests"));
    for (name, value) in limits {
        resource(name, value, &limits_at.key(name), errors);
    }
    for (name, request) in requests {
        resource(name, request, &requests_at.key(name), errors);
        let Some(limit) = limits.get(name) else {
            if !can_overcommit(name) {
                errors.push(FieldError::required(
                    &limits_at,
                    "Limit must be set for non overcommitable resources",
                ));
            }
            continue;
        };
        let (wanted, most) = (number(request), number(limit));
        if !can_overcommit(name) && wanted != most {
            let why = format!("must be equal to {name} limit of {}", limit.0);
            errors.push(FieldError::invalid(&requests_at, request.0.as_str(), why));
        } else if wanted > most {
            let why = format!("must be less than or equal to {name} limit of {}", limit.0);
            errors.push(FieldError::invalid(&requests_at, request.0.as_str(), why));
        }
    }
}

fn resource(name: &str, value: &ApiQuantity, path: &FieldPath, errors: &mut Errors) {
    refuse(path, name, names::qualified_name(name), errors);
    if !name.contains('/') && !STANDARD.contains(&name) && !name.starts_with(HUGE_PAGES) {
        errors.push(FieldError::invalid(path, name, "must be a standard resource for containers"));
    }
    let amount = number(value);
    if amount.is_negative() {
        errors.push(FieldError::invalid(path, value.0.as_str(), names::NOT_NEGATIVE));
    }
    if !is_native(name) && !amount.is_whole() {
        errors.push(FieldError::invalid(path, value.0.as_str(), "must be an integer"));
    }
}
