//! PersistentVolumes and the claims on them.

mod claim;
mod persistent;
mod source;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::prelude::*;

pub(crate) use claim::spec as claim_spec;
pub(super) use claim::{RESOURCE as CLAIM, defaults as claim_defaults};
pub(super) use persistent::{RESOURCE as PERSISTENT, inline as inline_volume};

const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];
/// The class of volumes and claims of old, still honoured where it stands.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// Access modes as they are printed.
fn access_modes(modes: &[Value]) -> String {
    const SHORT: &[(&str, &str)] = &[
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let has = |mode: &str| modes.iter().any(|m| m.as_str() == Some(mode));
    let short: Vec<&str> = SHORT.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short).collect();
    short.join(",")
}

/// The name of the class of a volume or claim, or nothing.
fn class(object: &Value) -> &str {
    meta::annotation(object, CLASS_ANNOTATION).unwrap_or_else(|| read::text(object, "/spec/storageClassName"))
}

fn or_unset(text: &str) -> &str {
    if text.is_empty() { "<unset>" } else { text }
}

/// An amount of storage; 0 where none is said.
fn amount(text: &str) -> &str {
    if text.is_empty() { "0" } else { text }
}

/// The phase, or that the object is going.
fn phase(object: &Value) -> &str {
    if meta::is_deleting(object) { "Terminating" } else { read::text(object, "/status/phase") }
}

/// Advice about the annotation that there is a field for.
fn old_class(metadata: &ObjectMeta, warnings: &mut Vec<String>) {
    if metadata.annotations.as_ref().is_some_and(|all| all.contains_key(CLASS_ANNOTATION)) {
        let at = FieldPath::root("metadata").child("annotations").key(CLASS_ANNOTATION);
        warnings.push(format!("{at}: deprecated since v1.8; use \"storageClassName\" attribute instead"));
    }
}

/// Access modes of a volume or claim.
fn validate_access_modes(modes: &[String], path: &FieldPath, errors: &mut Errors) {
    const ALONE: &str = "ReadWriteOncePod";
    for mode in modes {
        one_of(path, mode, ACCESS_MODES, errors);
    }
    let others = modes.iter().any(|mode| mode != ALONE && ACCESS_MODES.contains(&mode.as_str()));
    if others && modes.iter().any(|mode| mode == ALONE) {
        let why = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden(path, why));
    }
}

/// The name of a class; none and an empty one are no class.
fn validate_class(name: &Option<String>, path: &FieldPath, errors: &mut Errors) {
    let name = validate::text(name);
    if !name.is_empty() {
        refuse(path, name, names::dns1123_subdomain(name), errors);
    }
}

/// An amount that is more than nothing.
fn more_than_nothing(amount: &Quantity, path: &FieldPath, errors: &mut Errors) {
    let number = validate::number(amount);
    if number.is_negative() || number.is_zero() {
        errors.push(FieldError::invalid(path, amount.0.as_str(), "must be greater than zero"));
    }
}

/// An amount as such; answers whether it is one.
fn basic_amount(amount: &Quantity, path: &FieldPath, errors: &mut Errors) -> bool {
    let number = validate::number(amount);
    if number.units() < 0 {
        errors.push(FieldError::invalid(path, number.units(), "must be a valid resource quantity"));
    }
    number.units() >= 0
}
