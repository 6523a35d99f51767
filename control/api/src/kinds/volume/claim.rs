//! PersistentVolumeClaims.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{
    CLASS_ANNOTATION, VOLUME_MODES, access_modes, amount, basic_amount, class, more_than_nothing, old_class,
    or_unset, phase, validate_access_modes, validate_class,
};
use crate::kinds::prelude::*;
use crate::quantity::Quantity as Number;

/// The row of persistentvolumeclaims.
pub(in crate::kinds) const RESOURCE: Resource = Resource {
    short_names: &["pvc"],
    subresources: &[status(gvk("", "v1", "PersistentVolumeClaim"))],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Status", "core.v1.PersistentVolumeClaimStatus#phase"),
            Column::text("Volume", "core.v1.PersistentVolumeClaimSpec#volumeName"),
            Column::text("Capacity", "core.v1.PersistentVolumeClaimStatus#capacity"),
            Column::text("Access Modes", "core.v1.PersistentVolumeClaimStatus#accessModes"),
            Column::text("StorageClass", "StorageClass of the pvc"),
            Column::text("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
            Column::AGE,
            Column::text("VolumeMode", "core.v1.PersistentVolumeClaimSpec#volumeMode").wide(),
        ],
        cells,
    },
    ..row!(core "v1", "PersistentVolumeClaim", "persistentvolumeclaim", "persistentvolumeclaims",
        core::PersistentVolumeClaim, PersistentVolumeClaimRules)
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let volume = read::text(object, "/spec/volumeName");
    let (modes, capacity) = if volume.is_empty() {
        (String::new(), "")
    } else {
        (
            access_modes(read::list(object, "/status/accessModes")),
            amount(read::text(object, "/status/capacity/storage")),
        )
    };
    vec![
        meta::name(object).into(),
        phase(object).into(),
        volume.into(),
        capacity.into(),
        modes.into(),
        class(object).into(),
        or_unset(read::text(object, "/spec/volumeAttributesClassName")).into(),
        age(object, now),
        or_unset(read::text(object, "/spec/volumeMode")).into(),
    ]
}

/// Defaults of a claim, or of a template of one.
pub(in crate::kinds) fn defaults(claim: &mut Fields) {
    if let Some(spec) = make_object(claim, "spec") {
        set(spec, "volumeMode", "Filesystem");
    }
    if let Some(status) = make_object(claim, "status") {
        set(status, "phase", "Pending");
    }
}

/// What is true of persistentvolumeclaims.
pub(in crate::kinds) struct PersistentVolumeClaimRules;

impl Rules for PersistentVolumeClaimRules {
    type Object = core::PersistentVolumeClaim;

    const HAS_STATUS: bool = true;

    fn default(claim: &mut Value) {
        if let Some(fields) = claim.as_object_mut() {
            defaults(fields);
        }
    }

    fn prepare_create(claim: &mut Value) {
        if let Some(fields) = claim.as_object_mut() {
            fields.insert("status".into(), json!({"phase": "Pending"}));
        }
        only_known_source(claim);
        same_sources(claim);
    }

    fn prepare_update(new: &mut Value, old: &Value) {
        if old.pointer("/spec/dataSource").is_none_or(Value::is_null) {
            only_known_source(new);
        }
        same_sources(new);
    }

    fn warnings(new: &Self::Object, _old: Option<&Self::Object>, warnings: &mut Vec<String>) {
        old_class(&new.metadata, warnings);
        if let Some(spec) = &new.spec {
            validate::claim_warnings(spec, &spec_path(), warnings);
        }
    }

    fn validate(claim: &Self::Object, errors: &mut Errors) {
        spec(claim.spec.as_ref(), &spec_path(), errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        Self::validate(new, errors);
        change(new, old, errors);
    }

    fn validate_status_update(new: &Self::Object, _old: &Self::Object, errors: &mut Errors) {
        let (Some(status), path) = (&new.status, status_path()) else { return };
        for (name, amount) in status.capacity.iter().flatten() {
            basic_amount(amount, &path.child("capacity").key(name), errors);
        }
        // The path is upstream's.
        let at = path.child("allocatedResourceStatus");
        for (name, state) in status.allocated_resource_statuses.iter().flatten() {
            resource_key(name, &at, errors);
            if !RESIZE_STATES.contains(&state.as_str()) {
                errors.push(FieldError::not_supported(&at, name.as_str(), RESIZE_STATES));
            }
        }
        let at = path.child("allocatedResources");
        for (name, amount) in status.allocated_resources.iter().flatten() {
            if resource_key(name, &at, errors) && basic_amount(amount, &at.key(name), errors) {
                validate::resource_amount(name, amount, &at.key(name), errors);
            }
        }
    }
}

/// How far the resizing of a claim has come.
const RESIZE_STATES: &[&str] = &[
    "ControllerResizeFailed",
    "ControllerResizeInProgress",
    "NodeResizeFailed",
    "NodeResizeInProgress",
    "NodeResizePending",
];

/// The name of what a claim was given: storage, or something with a domain.
fn resource_key(name: &str, path: &FieldPath, errors: &mut Errors) -> bool {
    let wrong = names::qualified_name(name);
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    if wrong.is_empty() && native && name != "storage" {
        errors.push(FieldError::not_supported(path, name, &["storage"]));
        return false;
    }
    let valid = wrong.is_empty();
    refuse(path, name, wrong, errors);
    valid
}

/// `dataSource` is for claims and snapshots; clients of old that say something else there mean nothing by it.
fn only_known_source(claim: &mut Value) {
    const KNOWN: &[(&str, &str)] =
        &[("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")];
    let Some(spec) = claim.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let Some(source) = spec.get("dataSource") else { return };
    let is = (read::text(source, "/apiGroup"), read::text(source, "/kind"));
    if !KNOWN.contains(&is) {
        spec.remove("dataSource");
    }
}

/// `dataSource` and `dataSourceRef` say the same where only one was given.
fn same_sources(claim: &mut Value) {
    let Some(spec) = claim.get_mut("spec").and_then(Value::as_object_mut) else { return };
    match (spec.get("dataSource").cloned(), spec.get("dataSourceRef").cloned()) {
        (Some(source), None) => {
            spec.insert("dataSourceRef".into(), source);
        }
        // One that names another namespace has no older form.
        (None, Some(mut source)) if read::text(&source, "/namespace").is_empty() => {
            if let Some(fields) = source.as_object_mut() {
                fields.remove("namespace");
            }
            spec.insert("dataSource".into(), source);
        }
        _ => {}
    }
}

/// The spec of a claim, or of a template of one, at `path`.
pub(crate) fn spec(spec: Option<&core::PersistentVolumeClaimSpec>, path: &FieldPath, errors: &mut Errors) {
    let empty = core::PersistentVolumeClaimSpec::default();
    let spec = spec.unwrap_or(&empty);
    let modes = validate::list(&spec.access_modes);
    if modes.is_empty() {
        errors.push(FieldError::required(&path.child("accessModes"), "at least 1 access mode is required"));
    }
    if let Some(selector) = &spec.selector {
        validate::label_selector(selector, &path.child("selector"), errors);
    }
    validate_access_modes(modes, &path.child("accessModes"), errors);
    // The path is upstream's.
    let at = path.child("resources").key("storage");
    match storage(spec) {
        None => errors.push(FieldError::required(&at, "")),
        Some(amount) => more_than_nothing(amount, &at, errors),
    }
    validate_class(&spec.storage_class_name, &path.child("storageClassName"), errors);
    if let Some(mode) = &spec.volume_mode {
        one_of(&path.child("volumeMode"), mode, VOLUME_MODES, errors);
    }
    sources(spec, path, errors);
    validate_class(&spec.volume_attributes_class_name, &path.child("volumeAttributesClassName"), errors);
}

fn storage(spec: &core::PersistentVolumeClaimSpec) -> Option<&Quantity> {
    spec.resources.as_ref()?.requests.as_ref()?.get("storage")
}

/// What the volume is to begin with.
fn sources(spec: &core::PersistentVolumeClaimSpec, path: &FieldPath, errors: &mut Errors) {
    let old = spec.data_source.as_ref().map(|source| (&source.api_group, &source.kind, &source.name));
    let new = spec.data_source_ref.as_ref().map(|source| (&source.api_group, &source.kind, &source.name));
    for (field, source) in [("dataSource", old), ("dataSourceRef", new)] {
        let (Some((group, kind, name)), at) = (source, path.child(field)) else { continue };
        require(&at.child("name"), name, errors);
        require(&at.child("kind"), kind, errors);
        let group = validate::text(group);
        if !group.is_empty() {
            refuse(&at.child("apiGroup"), group, names::dns1123_subdomain(group), errors);
        } else if kind != "PersistentVolumeClaim" {
            let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(FieldError::invalid(&at, kind.as_str(), why));
        }
    }
    let namespace = spec.data_source_ref.as_ref().map_or("", |source| validate::text(&source.namespace));
    if !namespace.is_empty() {
        let at = path.child("dataSourceRef").child("namespace");
        refuse(&at, namespace, names::dns1123_label(namespace), errors);
    }
    let why = match (old, new) {
        (Some(_), Some(_)) if !namespace.is_empty() => {
            "may not be specified when dataSourceRef.namespace is specified"
        }
        (Some(old), Some(new)) if old != new => "must match dataSourceRef",
        _ => return,
    };
    // Upstream shows a path, which has nothing to show.
    errors.push(FieldError::invalid(path, json!({}), why));
}

/// What may change: the volume's name once, a class where there is none, and the storage that a bound claim requests.
fn change(new: &core::PersistentVolumeClaim, old: &core::PersistentVolumeClaim, errors: &mut Errors) {
    let (Some(wanted), Some(before), path) = (&new.spec, &old.spec, spec_path()) else { return };
    let annotated = |claim: &core::PersistentVolumeClaim| -> Option<String> {
        claim.metadata.annotations.as_ref()?.get(CLASS_ANNOTATION).cloned()
    };
    let (old_class, new_class) = (annotated(old), annotated(new));
    let mut allowed = before.clone();
    if validate::text(&before.volume_name).is_empty() {
        allowed.volume_name.clone_from(&wanted.volume_name);
    }
    let class_is_new = before.storage_class_name.is_none() && wanted.storage_class_name.is_some();
    let as_annotated =
        old_class.as_ref().is_none_or(|class| wanted.storage_class_name.as_ref() == Some(class));
    if class_is_new && as_annotated {
        allowed.storage_class_name.clone_from(&wanted.storage_class_name);
    }
    // The field may take the annotation's place.
    let moved = class_is_new && as_annotated && old_class.is_some() && new_class.is_none();
    if !moved && old_class != new_class {
        let at = FieldPath::root("metadata").child("annotations").child(CLASS_ANNOTATION);
        errors.push(FieldError::invalid(&at, validate::text(&new_class), names::IMMUTABLE));
    }
    if old.status.as_ref().is_some_and(|s| validate::text(&s.phase) == "Bound")
        && let (Some(amount), Some(held)) = (storage(wanted), allowed.resources.as_mut())
    {
        held.requests.get_or_insert_default().insert("storage".to_owned(), amount.clone());
    }
    allowed.volume_attributes_class_name.clone_from(&wanted.volume_attributes_class_name);
    if !validate::same(&allowed, wanted) {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for \
                   bound claims";
        errors.push(FieldError::forbidden(&path, why));
    }
    let number = |spec| storage(spec).map_or(Number::ZERO, validate::number);
    let held = old.status.as_ref().and_then(|s| s.capacity.as_ref()?.get("storage").map(validate::number));
    if number(wanted) < number(before) && number(wanted) <= held.unwrap_or(Number::ZERO) {
        let at = path.child("resources").child("requests").child("storage");
        errors.push(FieldError::forbidden(&at, "field can not be less than status.capacity"));
    }
    // The path is upstream's.
    let at = FieldPath::root("volumeMode");
    validate::unchanged(&at, &wanted.volume_mode, &before.volume_mode, errors);
    if before.volume_attributes_class_name.is_some() {
        let to = match wanted.volume_attributes_class_name.as_deref() {
            None => "nil",
            Some("") => "an empty string",
            Some(_) => return,
        };
        let why = format!("update from non-nil value to {to} is forbidden");
        errors.push(FieldError::forbidden(&path.child("volumeAttributesClassName"), why));
    }
}
