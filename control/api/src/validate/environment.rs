//! Environment variables of containers and where their values come from.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, EnvVarSource, ObjectFieldSelector, ResourceFieldSelector,
};

use super::container::Pod;
use super::{Errors, list, one_of, refuse, require, require_by, text};
use crate::names;
use crate::status::{FieldError, FieldPath};

/// Fields of a pod that a variable may take.
const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of a pod that have names at all, for variables, for files, or for neither.
const NAMED: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.host",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.phase",
    "status.podIP",
    "status.podIPs",
];
/// Fields of a pod that a file of the downward API may hold, beside single labels and annotations.
const FILE_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

const HUGE_PAGES: &[&str] = &["limits.hugepages-", "requests.hugepages-"];
const CPU_DIVISORS: &[&str] = &["1m", "1"];
const BYTE_DIVISORS: &[&str] =
    &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// The list `env` at `path`.
pub(super) fn variables(variables: &[EnvVar], path: &FieldPath, errors: &mut Errors) {
    for (index, variable) in variables.iter().enumerate() {
        let at = path.index(index);
        require_by(&at.child("name"), &variable.name, names::environment_name, errors);
        if let Some(source) = &variable.value_from {
            value_from(source, text(&variable.value), &at.child("valueFrom"), errors);
        }
    }
}

fn value_from(source: &EnvVarSource, value: &str, path: &FieldPath, errors: &mut Errors) {
    let mut sources = 0;
    if let Some(field) = &source.field_ref {
        sources += 1;
        field_ref(field, FIELDS, &path.child("fieldRef"), errors);
    }
    if let Some(resource) = &source.resource_field_ref {
        sources += 1;
        resource_ref(resource, &path.child("resourceFieldRef"), false, errors);
    }
    if let Some(key) = &source.config_map_key_ref {
        sources += 1;
        key_ref(&key.name, &key.key, &path.child("configMapKeyRef"), errors);
    }
    if let Some(key) = &source.secret_key_ref {
        sources += 1;
        key_ref(&key.name, &key.key, &path.child("secretKeyRef"), errors);
    }
    if let Some(key) = &source.file_key_ref {
        sources += 1;
        let at = path.child("fileKeyRef");
        require_by(&at.child("key"), &key.key, names::environment_name, errors);
        require_by(&at.child("volumeName"), &key.volume_name, names::dns1123_label, errors);
        if require(&at.child("path"), &key.path, errors) {
            super::volume::no_way_up(&at.child("path"), &key.path, errors);
        }
    }
    if sources == 0 {
        let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.push(FieldError::invalid(path, "", why));
    } else if !value.is_empty() {
        errors.push(FieldError::invalid(path, "", "may not be specified when `value` is not empty"));
    } else if sources > 1 {
        errors.push(FieldError::invalid(path, "", "may not have more than one field specified at a time"));
    }
}

fn key_ref(name: &str, key: &str, path: &FieldPath, errors: &mut Errors) {
    refuse(&path.child("name"), name, names::dns1123_subdomain(name), errors);
    require_by(&path.child("key"), key, names::config_key, errors);
}

fn field_ref(field: &ObjectFieldSelector, allowed: &[&str], path: &FieldPath, errors: &mut Errors) {
    let version = text(&field.api_version);
    if !require(&path.child("apiVersion"), version, errors) {
        return;
    }
    let at = path.child("fieldPath");
    let wanted = field.field_path.as_str();
    if !require(&at, wanted, errors) {
        return;
    }
    if let Some(why) = no_field(version, wanted) {
        errors.push(FieldError::invalid(&at, wanted, format!("error converting fieldPath: {why}")));
        return;
    }
    match subscript(wanted) {
        Some(("metadata.annotations", key)) => {
            refuse(path, &key.to_lowercase(), names::qualified_name(&key.to_lowercase()), errors);
        }
        Some((_, key)) => refuse(path, key, names::qualified_name(key), errors),
        // An old name of it.
        None if wanted == "spec.host" && allowed.contains(&"spec.nodeName") => {}
        None => one_of(&at, wanted, allowed, errors),
    }
}

/// Why a field of pods cannot be named at all, whatever it is wanted for.
fn no_field(version: &str, wanted: &str) -> Option<String> {
    if version != "v1" {
        return Some(format!("unsupported pod version: {version}"));
    }
    match subscript(wanted) {
        Some(("metadata.annotations" | "metadata.labels", _)) => None,
        Some(_) => Some(format!("field label does not support subscript: {wanted}")),
        None if NAMED.contains(&wanted) => None,
        None => Some(format!("field label not supported: {wanted}")),
    }
}

/// Splits `metadata.labels['a']` into `metadata.labels` and `a`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['")
}

fn resource_ref(resource: &ResourceFieldSelector, path: &FieldPath, in_volume: bool, errors: &mut Errors) {
    let name = resource.resource.as_str();
    let huge = HUGE_PAGES.iter().any(|prefix| name.starts_with(prefix));
    if in_volume && text(&resource.container_name).is_empty() {
        errors.push(FieldError::required(&path.child("containerName"), ""));
    } else if require(&path.child("resource"), name, errors) && !huge {
        one_of(&path.child("resource"), name, RESOURCES, errors);
    }
    let divisor = resource.divisor.as_ref().map(|d| d.0.as_str()).unwrap_or_default();
    if matches!(divisor, "" | "0") {
        return;
    }
    let (allowed, what) = match name {
        "limits.cpu" | "requests.cpu" => (CPU_DIVISORS, "cpu"),
        "limits.memory" | "requests.memory" => (BYTE_DIVISORS, "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            (BYTE_DIVISORS, "local ephemeral storage")
        }
        _ if huge => (BYTE_DIVISORS, "hugepages"),
        _ => return,
    };
    if !allowed.contains(&divisor) {
        let all = if what == "cpu" { allowed.join(" and ") } else { allowed.join(", ") };
        let why = format!("only divisor's values {all} are supported with the {what} resource");
        errors.push(FieldError::invalid(&path.child("divisor"), name, why));
    }
}

/// What a downward API file shows: exactly one of a field and a resource.
pub(super) fn downward_source(
    field: Option<&ObjectFieldSelector>,
    resource: Option<&ResourceFieldSelector>,
    path: &FieldPath,
    errors: &mut Errors,
) {
    match (field, resource) {
        (Some(field), None) => field_ref(field, FILE_FIELDS, &path.child("fieldRef"), errors),
        (None, Some(resource)) => resource_ref(resource, &path.child("resourceFieldRef"), true, errors),
        (Some(_), Some(_)) => {
            let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
            errors.push(FieldError::invalid(path, "resource", why));
        }
        (None, None) => {
            errors.push(FieldError::required(path, "one of fieldRef and resourceFieldRef is required"))
        }
    }
}

/// The list `envFrom` at `path`.
pub(super) fn sources(sources: &[EnvFromSource], path: &FieldPath, errors: &mut Errors) {
    for (index, source) in sources.iter().enumerate() {
        let at = path.index(index);
        let prefix = text(&source.prefix);
        if !prefix.is_empty() {
            refuse(&at.child("prefix"), prefix, names::environment_name(prefix), errors);
        }
        let both = [
            ("configMapRef", source.config_map_ref.as_ref().map(|s| s.name.as_str())),
            ("secretRef", source.secret_ref.as_ref().map(|s| s.name.as_str())),
        ];
        for (field, name) in both {
            if let Some(name) = name {
                require_by(&at.child(field).child("name"), name, names::dns1123_subdomain, errors);
            }
        }
        // Upstream says of the list that one of its entries has none or both.
        match both.iter().filter(|(_, name)| name.is_some()).count() {
            0 => {
                let why = "must specify one of: `configMapRef` or `secretRef`";
                errors.push(FieldError::invalid(path, "", why));
            }
            1 => {}
            _ => {
                let why = "may not have more than one field specified at a time";
                errors.push(FieldError::invalid(path, "", why));
            }
        }
    }
}

/// Both lists of a container at `path`. A name that is there twice is no fault: the last one counts.
pub(super) fn of_container(
    env: &Option<Vec<EnvVar>>,
    from: &Option<Vec<EnvFromSource>>,
    path: &FieldPath,
    errors: &mut Errors,
) {
    variables(list(env), &path.child("env"), errors);
    sources(list(from), &path.child("envFrom"), errors);
}

/// Variables that come from files of volumes: such a volume has to be empty at first. `path` is that of the pod's spec.
pub(super) fn files(pod: &Pod<'_>, path: &FieldPath, errors: &mut Errors) {
    // Of two that have the same name the first counts.
    let volumes = list(&pod.spec.volumes).iter().rev();
    let volumes: HashMap<&str, _> = volumes.map(|volume| (volume.name.as_str(), volume)).collect();
    let lists =
        [("initContainers", list(&pod.spec.init_containers)), ("containers", pod.spec.containers.as_slice())];
    for (field, containers) in lists {
        for (index, container) in containers.iter().enumerate() {
            let env = path.child(field).index(index).child("env");
            for (index, variable) in list(&container.env).iter().enumerate() {
                let source = variable.value_from.as_ref().and_then(|from| from.file_key_ref.as_ref());
                let Some(source) = source else { continue };
                let at = env.index(index).child("valueFrom").child("fileKeyRef").child("volumeName");
                let name = source.volume_name.as_str();
                match volumes.get(name) {
                    None => errors.push(FieldError::not_found(&at, name)),
                    Some(volume) if volume.empty_dir.is_none() => {
                        let why = "referenced volume must be of type emptyDir";
                        errors.push(FieldError::invalid(&at, name, why));
                    }
                    Some(_) => {}
                }
            }
        }
    }
}
