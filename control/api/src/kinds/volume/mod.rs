//! PersistentVolumes and the claims on them.

mod claim;
mod persistent;

use super::prelude::*;

pub(super) use claim::{RESOURCE as CLAIM, defaults as claim_defaults};
pub(super) use persistent::RESOURCE as PERSISTENT;

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

/// Access modes of a volume or claim.
fn validate_access_modes(modes: &[String], path: &FieldPath, errors: &mut Errors) {
    for mode in modes {
        one_of(path, mode, ACCESS_MODES, errors);
    }
    if modes.len() > 1 && modes.iter().any(|m| m == "ReadWriteOncePod") {
        let why = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden(path, why));
    }
}

/// Names of classes.
fn validate_classes(
    storage: &Option<String>,
    attributes: &Option<String>,
    path: &FieldPath,
    errors: &mut Errors,
) {
    let storage = validate::text(storage);
    if !storage.is_empty() {
        refuse(&path.child("storageClassName"), storage, names::dns1123_subdomain(storage), errors);
    }
    if let Some(name) = attributes.as_deref().filter(|name| !name.is_empty()) {
        refuse(&path.child("volumeAttributesClassName"), name, names::dns1123_subdomain(name), errors);
    }
}
