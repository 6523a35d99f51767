//! Environment variables of containers and where their values come from.

use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, EnvVarSource, ObjectFieldSelector, ResourceFieldSelector,
};

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
        require(&at.child("volumeName"), &key.volume_name, errors);
        require(&at.child("path"), &key.path, errors);
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
    require(&path.child("name"), name, errors);
    require_by(&path.child("key"), key, names::config_key, errors);
}

fn field_ref(field: &ObjectFieldSelector, allowed: &[&str], path: &FieldPath, errors: &mut Errors) {
    require(&path.child("apiVersion"), text(&field.api_version), errors);
    let at = path.child("fieldPath");
    if !require(&at, &field.field_path, errors) {
        return;
    }
    let Some((map, key)) = subscript(&field.field_path) else {
        one_of(&at, &field.field_path, allowed, errors);
        return;
    };
    match map {
        "metadata.annotations" => refuse(&at, key, names::qualified_name(&key.to_lowercase()), errors),
        "metadata.labels" => refuse(&at, key, names::qualified_name(key), errors),
        other => errors.push(FieldError::invalid(&at, other, "does not support subscript")),
    }
}

/// Splits `metadata.labels['a']` into `metadata.labels` and `a`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['")
}

fn resource_ref(resource: &ResourceFieldSelector, path: &FieldPath, in_volume: bool, errors: &mut Errors) {
    if in_volume && text(&resource.container_name).is_empty() {
        errors.push(FieldError::required(&path.child("containerName"), ""));
    }
    let at = path.child("resource");
    if require(&at, &resource.resource, errors) {
        let huge =
            ["limits.hugepages-", "requests.hugepages-"].iter().any(|p| resource.resource.starts_with(p));
        if !huge {
            one_of(&at, &resource.resource, RESOURCES, errors);
        }
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
        match (&source.config_map_ref, &source.secret_ref) {
            (Some(source), None) => {
                require(&at.child("configMapRef").child("name"), &source.name, errors);
            }
            (None, Some(source)) => {
                require(&at.child("secretRef").child("name"), &source.name, errors);
            }
            (None, None) => {
                errors.push(FieldError::invalid(
                    &at,
                    "",
                    "must specify one of: `configMapRef` or `secretRef`",
                ));
            }
            (Some(_), Some(_)) => {
                errors.push(FieldError::invalid(
                    &at,
                    "",
                    "may not have more than one field specified at a time",
                ));
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
