//! Requests and limits of containers and pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use serde_json::json;

use super::{Errors, number, refuse, shown};
use crate::footprint::{self, Column, Counted};
use crate::kinds::COUNTED;
use crate::names;
use crate::quantity::Quantity;
use crate::status::{FieldError, FieldPath};

/// Resources that containers know without a domain.
const STANDARD: &[&str] = &["cpu", "memory", "ephemeral-storage"];
/// The resource of volumes, without a domain as those that quotas count.
const STORAGE: &str = "storage";
const HUGE_PAGES: &str = "hugepages-";
/// Resources of which there are only whole ones.
const WHOLE: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Extended resources and huge pages cannot be promised twice.
pub(crate) fn can_overcommit(name: &str) -> bool {
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
    let has = |wanted: fn(&str) -> bool| limits.keys().chain(requests.keys()).any(|name| wanted(name));
    if has(|name| name.starts_with(HUGE_PAGES)) && !has(|name| matches!(name, "cpu" | "memory")) {
        errors.push(FieldError::forbidden(path, "HugePages require cpu or memory"));
    }
}

/// Resources of a pod as a whole at `path`, which have to hold those of its containers.
pub(super) fn of_pod(spec: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    let Some(wanted) = &spec.resources else { return };
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        errors.push(FieldError::forbidden(path, "may not be set for a windows pod"));
        return;
    }
    if wanted.claims.is_some() {
        let why = "claims may not be set for Resources at pod-level";
        errors.push(FieldError::forbidden(&path.child("claims"), why));
    }
    requirements(wanted, path, errors);
    for (name, most) in wanted.limits.iter().flatten() {
        for (index, container) in spec.containers.iter().enumerate() {
            let limits = container.resources.as_ref().and_then(|r| r.limits.as_ref());
            let Some(limit) = limits.and_then(|limits| limits.get(name)) else { continue };
            if number(limit) > number(most) {
                // The path is upstream's.
                let at = path.child("containers").index(index).key(name).child("limits");
                let why = format!("must be less than or equal to pod limits of {}", most.0);
                errors.push(FieldError::invalid(&at, limit.0.as_str(), why));
            }
        }
    }
    // The sum of the containers, without the pod's own word.
    let alone = json!({"spec": shown(&PodSpec { resources: None, ..spec.clone() })});
    for (column, amounts) in [(Column::Requests, &wanted.requests), (Column::Limits, &wanted.limits)] {
        let sums = footprint::of(&alone, column, Counted::default());
        for (name, amount) in amounts.iter().flatten() {
            // Processors and memory may be limited to less than the containers' limits together.
            let counts = column == Column::Requests || name.starts_with(HUGE_PAGES);
            let Some(sum) = sums.get(name).filter(|sum| counts && **sum > number(amount)) else { continue };
            let field = column.field();
            let why = format!("must be greater than or equal to aggregate container {field} of {sum}");
            errors.push(FieldError::invalid(&path.child(field).key(name), amount.0.as_str(), why));
        }
    }
}

fn resource(name: &str, value: &ApiQuantity, path: &FieldPath, errors: &mut Errors) {
    container_name(name, path, errors);
    amount(name, value, path, errors);
    if let Some(page) = name.strip_prefix(HUGE_PAGES)
        && !is_multiple(number(value), page)
    {
        let why = format!("{} is not positive integer multiple of {name}", value.0);
        errors.push(FieldError::invalid(path, value.0.as_str(), why));
    }
}

/// The name of a resource.
pub(crate) fn name(name: &str, path: &FieldPath, errors: &mut Errors) {
    let wrong = names::qualified_name(name);
    let qualified = wrong.is_empty();
    refuse(path, name, wrong, errors);
    let standard = name == STORAGE
        || COUNTED.contains(&name)
        || name.starts_with(HUGE_PAGES)
        || name.starts_with("requests.hugepages-");
    if qualified && !name.contains('/') && !standard {
        let why = "must be a standard resource type or fully qualified";
        errors.push(FieldError::invalid(path, name, why));
    }
}

/// The name of a resource that containers may ask for.
pub(crate) fn container_name(resource: &str, path: &FieldPath, errors: &mut Errors) {
    name(resource, path, errors);
    if !resource.contains('/') {
        if !resource.starts_with(HUGE_PAGES) && !STANDARD.contains(&resource) {
            errors.push(FieldError::invalid(path, resource, "must be a standard resource for containers"));
        }
    } else if !is_native(resource) && !is_extended(resource) {
        let why = "doesn't follow extended resource name standard";
        errors.push(FieldError::invalid(path, resource, why));
    }
}

/// Resources of vendors, which quotas count by `requests.` before the name.
fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// The amount of a resource: not below 0, and whole where there are only whole ones.
pub(crate) fn amount(name: &str, value: &ApiQuantity, path: &FieldPath, errors: &mut Errors) {
    let amount = number(value);
    if amount.is_negative() {
        errors.push(FieldError::invalid(path, value.0.as_str(), names::NOT_NEGATIVE));
    }
    if (WHOLE.contains(&name) || is_extended(name)) && !amount.is_whole() {
        errors.push(FieldError::invalid(path, value.0.as_str(), "must be an integer"));
    }
}

/// Whether an amount is made of whole pages.
fn is_multiple(amount: Quantity, page: &str) -> bool {
    let Ok(page) = Quantity::parse(page) else { return false };
    page.is_whole() && page.units() > 0 && amount.units() % page.units() == 0
}
