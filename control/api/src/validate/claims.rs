//! Resource claims: what a pod asks of them, and which of a pod's claims its containers use.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodResourceClaim, PodSpec, ResourceClaim, ResourceRequirements};

use super::{Errors, list, refuse, shown};
use crate::names;
use crate::status::{FieldError, FieldPath};

/// Claims of a pod that are named where one is not found: with all of them, an answer would hold their number times the
/// number of those that are not found.
const MAX_SHOWN: usize = 50;

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

/// The names of a pod's claims.
pub(super) fn names_of(spec: &PodSpec) -> BTreeSet<&str> {
    list(&spec.resource_claims).iter().map(|claim| claim.name.as_str()).collect()
}

/// `claims` of a container at `path`, which have to be those of its pod.
pub(super) fn of_container(
    resources: &ResourceRequirements,
    of_pod: &BTreeSet<&str>,
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
        if !of_pod.contains(claim.name.as_str()) {
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
    } else if request.is_empty()
        && seen.range(prefix.clone()..).next().is_some_and(|other| other.starts_with(&prefix))
    {
        errors.push(FieldError::duplicate(path, name));
    }
    seen.insert(key);
}

fn unknown(claim: &ResourceClaim, of_pod: &BTreeSet<&str>, path: &FieldPath) -> FieldError {
    let mut known: Vec<&str> = of_pod.iter().copied().take(MAX_SHOWN).collect();
    if of_pod.len() > MAX_SHOWN {
        known.push("...");
    }
    let rest =
        if known.is_empty() { " which is empty".to_owned() } else { format!(": {}", known.join(", ")) };
    let mut error = FieldError::not_found(path, claim.name.as_str());
    error.detail = format!("must be one of the names in pod.spec.resourceClaims{rest}");
    error
}
