//! Sources of volumes that clouds and storage systems made part of the API before there were drivers. Pods and
//! PersistentVolumes have them in nearly the same form, which is looked at as it is written.

use serde_json::Value;

use super::volume::local_path;
use super::{Errors, no_way_up, one_of, refuse};
use crate::names;
use crate::status::{FieldError, FieldPath};
use crate::table::read::{integer, list, text};

/// Where a source stands.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The name of the volume.
    pub(crate) volume: &'a str,
    /// Whether it is a PersistentVolume, whose secrets may be of any namespace.
    pub(crate) persistent: bool,
}

/// What each source has to name, in upstream's order.
const NAMED: &[(&str, &[&str])] = &[
    ("awsElasticBlockStore", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("azureFile", &["secretName", "shareName"]),
    ("cephfs", &["monitors"]),
    ("cinder", &["volumeID"]),
    ("flexVolume", &["driver"]),
    ("gcePersistentDisk", &["pdName"]),
    ("gitRepo", &["repository"]),
    ("glusterfs", &["endpoints", "path"]),
    ("nfs", &["server", "path"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("rbd", &["monitors", "image"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("vsphereVolume", &["volumePath"]),
];

/// The source `field` of a volume at `path`; other sources than those of plugins are not looked at.
pub(crate) fn check(field: &str, source: &Value, place: Place<'_>, path: &FieldPath, errors: &mut Errors) {
    // The name is upstream's.
    let at = path.child(if field == "gcePersistentDisk" { "persistentDisk" } else { field });
    let named = NAMED.iter().find(|(name, _)| *name == field).map_or(&[][..], |(_, named)| named);
    for name in named {
        if is_empty(source.get(*name)) {
            errors.push(FieldError::required(&at.child(name), ""));
        }
    }
    match field {
        "gcePersistentDisk" | "awsElasticBlockStore" => partition(source, &at, errors),
        "nfs" => absolute(source, &at, errors),
        "gitRepo" => local_path(&at.child("directory"), text(source, "/directory"), errors),
        "azureDisk" => azure_disk(source, &at, errors),
        "flexVolume" => options(source, &at, errors),
        "fc" => fibre_channel(source, &at, errors),
        "flocker" => flocker(source, &at, errors),
        "quobyte" => quobyte(source, &at, errors),
        "iscsi" => super::iscsi::check(source, place, path, errors),
        "storageos" => storage_os(source, &at, errors),
        _ => {}
    }
    if matches!(field, "cinder" | "storageos") {
        secret(source, place, &at.child("secretRef"), errors);
    }
    if place.persistent {
        persistent(field, source, &at, errors);
    }
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

/// A number from 0 to 255; the words are those of `low`.
pub(super) fn byte(number: i64, low: i64, path: &FieldPath, errors: &mut Errors) {
    if !(0..=255).contains(&number) {
        let why = format!("must be between {low} and 255, inclusive");
        errors.push(FieldError::invalid(path, number, why));
    }
}

fn partition(source: &Value, path: &FieldPath, errors: &mut Errors) {
    byte(integer(source, "/partition"), 1, &path.child("partition"), errors);
}

fn absolute(source: &Value, path: &FieldPath, errors: &mut Errors) {
    let given = text(source, "/path");
    if !names::is_absolute_path(given) {
        errors.push(FieldError::invalid(&path.child("path"), given, "must be an absolute path"));
    }
}

/// A secret that is named has a name, and in a PersistentVolume a namespace.
fn secret(source: &Value, place: Place<'_>, path: &FieldPath, errors: &mut Errors) {
    let Some(secret) = source.get("secretRef").filter(|secret| secret.is_object()) else { return };
    let fields: &[&str] = if place.persistent { &["name", "namespace"] } else { &["name"] };
    for field in fields {
        if is_empty(secret.get(*field)) {
            errors.push(FieldError::required(&path.child(field), ""));
        }
    }
}

/// What only PersistentVolumes may name.
fn persistent(field: &str, source: &Value, path: &FieldPath, errors: &mut Errors) {
    match (field, source.get("endpointsNamespace").and_then(Value::as_str)) {
        ("glusterfs", Some("")) => {
            let why = "if the endpointnamespace is set, it must be a valid namespace name";
            errors.push(FieldError::invalid(&path.child("endpointsNamespace"), "", why));
        }
        ("glusterfs", Some(namespace)) => {
            refuse(&path.child("endpointsNamespace"), namespace, names::dns1123_label(namespace), errors);
        }
        _ => {}
    }
    if field == "azureFile" && source.get("secretNamespace").and_then(Value::as_str) == Some("") {
        errors.push(FieldError::required(&path.child("secretNamespace"), ""));
    }
}

fn azure_disk(source: &Value, path: &FieldPath, errors: &mut Errors) {
    const MANAGED: &str =
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    const BLOB: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    if let Some(mode) = source.get("cachingMode").and_then(Value::as_str) {
        one_of(&path.child("cachingMode"), mode, &["None", "ReadOnly", "ReadWrite"], errors);
    }
    let Some(kind) = source.get("kind").and_then(Value::as_str) else { return };
    one_of(&path.child("kind"), kind, &["Dedicated", "Managed", "Shared"], errors);
    let uri = text(source, "/diskURI");
    let (start, form) = if kind == "Managed" { ("/subscriptions/", MANAGED) } else { ("https://", BLOB) };
    if !uri.starts_with(start) {
        errors.push(FieldError::not_supported(&path.child("diskURI"), uri, &[form]));
    }
}

/// Options of a driver's own, none of which is of Kubernetes.
fn options(source: &Value, path: &FieldPath, errors: &mut Errors) {
    for key in source.get("options").and_then(Value::as_object).into_iter().flatten().map(|(key, _)| key) {
        let domain = key.split_once('/').map_or(key.as_str(), |(domain, _)| domain);
        let domain = format!(".{}", domain.to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let why = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(FieldError::invalid(&path.child("options").key(key), key.as_str(), why));
        }
    }
}

fn fibre_channel(source: &Value, path: &FieldPath, errors: &mut Errors) {
    let (targets, wide) = (list(source, "/targetWWNs"), list(source, "/wwids"));
    let at = path.child("targetWWNs");
    match (targets.is_empty(), wide.is_empty()) {
        (true, true) => {
            errors.push(FieldError::required(&at, "must specify either targetWWNs or wwids, but not both"));
        }
        (false, false) => {
            let why = "targetWWNs and wwids can not be specified simultaneously";
            errors.push(FieldError::invalid(&at, targets.to_vec(), why));
        }
        _ => {}
    }
    if targets.is_empty() {
        return;
    }
    match source.get("lun").and_then(Value::as_i64) {
        None => {
            let why = "lun is required if targetWWNs is specified";
            errors.push(FieldError::required(&path.child("lun"), why));
        }
        Some(lun) => byte(lun, 0, &path.child("lun"), errors),
    }
}

fn flocker(source: &Value, path: &FieldPath, errors: &mut Errors) {
    let (name, uuid) = (text(source, "/datasetName"), text(source, "/datasetUUID"));
    match (name.is_empty(), uuid.is_empty()) {
        (true, true) => {
            errors.push(FieldError::required(path, "one of datasetName and datasetUUID is required"));
        }
        (false, false) => {
            let why = "datasetName and datasetUUID can not be specified simultaneously";
            errors.push(FieldError::invalid(path, "resource", why));
        }
        _ => {}
    }
    if name.contains('/') {
        errors.push(FieldError::invalid(&path.child("datasetName"), name, "must not contain '/'"));
    }
}

fn quobyte(source: &Value, path: &FieldPath, errors: &mut Errors) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let (registry, at) = (text(source, "/registry"), path.child("registry"));
    if registry.is_empty() {
        errors.push(FieldError::required(&at, PAIRS));
    } else if text(source, "/tenant").len() > 64 {
        let why = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(FieldError::required(&path.child("tenant"), why));
    } else if !registry.split(',').all(is_host_and_port) {
        errors.push(FieldError::invalid(&at, registry, PAIRS));
    }
    if text(source, "/volume").is_empty() {
        errors.push(FieldError::required(&path.child("volume"), ""));
    }
}

/// `host:port`, the host in brackets where it has colons itself; either may be empty.
fn is_host_and_port(text: &str) -> bool {
    let bare = |part: &str| !part.contains(['[', ']', ':']);
    match text.strip_prefix('[').map(|rest| rest.split_once("]:")) {
        Some(Some((host, port))) => !host.contains(['[', ']']) && bare(port),
        Some(None) => false,
        None => text.rsplit_once(':').is_some_and(|(host, port)| bare(host) && bare(port)),
    }
}

fn storage_os(source: &Value, path: &FieldPath, errors: &mut Errors) {
    let (name, namespace) = (text(source, "/volumeName"), text(source, "/volumeNamespace"));
    super::require_by(&path.child("volumeName"), name, names::dns1123_label, errors);
    if !namespace.is_empty() {
        refuse(&path.child("volumeNamespace"), namespace, names::dns1123_label(namespace), errors);
    }
}

/// A path of a node's own disks.
pub(crate) fn local(given: &str, path: &FieldPath, errors: &mut Errors) {
    if super::require(path, given, errors) {
        no_way_up(path, given, errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_told() {
        for good in ["a:1", "10.0.0.1:7861", "[::1]:1", ":1", "a:"] {
            assert!(is_host_and_port(good), "{good}");
        }
        for bad in ["", "a", "::1", "a:1:2", "[::1]", "[a:1", "a]:1"] {
            assert!(!is_host_and_port(bad), "{bad}");
        }
    }
}
