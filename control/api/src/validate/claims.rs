//! Resource claims: what a pod asks of them, and which of a pod's claims its containers use.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodResourceClaim, ResourceClaim, ResourceRequirements};

use super::{Errors, list, refuse, shown};
use crate::names;
use crate::status::{FieldError, FieldPath};

/// `spec.resourceClaims` of a pod at `path`.
pub(super) fn of_pod(claims: &[PodResourceClaim], path: &FieldPath, errors: &mut Errors) {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for (index, claim) in claims.iter().enumerate() {
        let at = path.index(index);
        let name_at = at.child("name");
        if super::require(&name_at, &claim.name, errors) {
            if seen.insert(&claim.name) {
                refuse(&name_at, &claim.name, names::dns1123_label(&claim.name), errors);
            } else {
                errors.push(FieldError::duplicate(&name_at, claim.name.as_str()));
            }
        }
        let sources = [
            ("resourceClaimName", &claim.resource_claim_name),
            ("resourceClaimTemplateName", &claim.resource_claim_template_name),
        ];
        let why = match sources.iter().filter(|(_, name)| name.is_some()).count() {
            0 => Some("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"),
            1 => None,
            _ => Some("at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"),
        };
        errors.extend(why.map(|why| FieldError::invalid(&at, shown(claim), why)));
        for (field, name) in sources {
            if let Some(name) = name {
                refuse(&at.child(field), name, names::dns1123_subdomain(name), errors);
            }
        }
    }
}

/// `claims` of a container at `path`, which have to be those of its pod.
pub(super) fn of_container(
    resources: &ResourceRequirements,
    of_pod: &[PodResourceClaim],
    path: &FieldPath,
    errors: &mut Errors,
) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (index, claim) in list(&resources.claims).iter().enumerate() {
        let at = path.index(index);
        if !super::require(&at, &claim.name, errors) {
            continue;
        }
        used_once(claim, &mut seen, &at, errors);
        if !of_pod.iter().any(|known| known.name == claim.name) {
            errors.push(unknown(claim, of_pod, &at));
        }
    }
}

/// A claim as a whole and requests in it do not go together.
fn used_once(claim: &ResourceClaim, seen: &mut BTreeSet<String>, path: &FieldPath, errors: &mut Errors) {
    let name = claim.name.as_str();
    if seen.contains(name) {
        errors.push(FieldError::duplicate(path, name));
        return;
    }
    let request = super::text(&claim.request);
    let mut key = name.to_owned();
    if !request.is_empty() {
        refuse(&path.child("request"), request, names::dns1123_label(request), errors);
        key = format!("{name}/{request}");
    }
    let prefix = format!("{name}/");
    if seen.contains(&key) {
        errors.push(FieldError::duplicate(path, key.as_str()));
    } else if request.is_empty() && seen.iter().any(|other| other.starts_with(&prefix)) {
        errors.push(FieldError::duplicate(path, name));
    }
    seen.insert(key);
}

fn unknown(claim: &ResourceClaim, of_pod: &[PodResourceClaim], path: &FieldPath) -> FieldError {
    let known: BTreeSet<&str> = of_pod.iter().map(|claim| claim.name.as_str()).collect();
    let known: Vec<&str> = known.into_iter().collect();
    let rest =
        if known.is_empty() { " which is empty".to_owned() } else { format!(": {}", known.join(", ")) };
    let mut error = FieldError::not_found(path, claim.name.as_str());
    error.detail = format!("must be one of the names in pod.spec.resourceClaims{rest}");
    error
}
