//! PersistentVolumeClaims.

use k8s_openapi::api::core::v1 as core;

use super::{
    CLASS_ANNOTATION, VOLUME_MODES, access_modes, amount, class, or_unset, phase, validate_access_modes,
    validate_classes,
};
use crate::kinds::prelude::*;

/// The row of persistentvolumeclaims.
pub(in crate::kinds) const RESOURCE: Resource = Resource {
    short_names: &["pvc"],
    subresources: &[status(gvk("", "v1", "PersistentVolumeClaim"))],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Status", "Whether the claim has a volume."),
            Column::text("Volume", "The volume that the claim is bound to."),
            Column::text("Capacity", "How much that volume holds."),
            Column::text("Access Modes", "The ways in which that volume can be mounted."),
            Column::text("StorageClass", "StorageClass of the pvc"),
            Column::text("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
            Column::AGE,
            Column::text("VolumeMode", "Whether a file system or a block device is wanted.").wide(),
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
        same_sources(claim);
    }

    fn prepare_update(new: &mut Value, _old: &Value) {
        same_sources(new);
    }

    fn validate(claim: &Self::Object, errors: &mut Errors) {
        let empty = core::PersistentVolumeClaimSpec::default();
        spec(claim.spec.as_ref().unwrap_or(&empty), &spec_path(), errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        Self::validate(new, errors);
        change(new, old, errors);
    }

    fn validate_status_update(new: &Self::Object, _old: &Self::Object, errors: &mut Errors) {
        let Some(status) = &new.status else { return };
        let at = status_path().child("capacity");
        for (name, amount) in status.capacity.iter().flatten() {
            if validate::number(amount).is_negative() {
                errors.push(FieldError::invalid(&at.key(name), amount.0.as_str(), names::NOT_NEGATIVE));
            }
        }
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
        (None, Some(source)) if source.get("namespace").is_none_or(Value::is_null) => {
            spec.insert("dataSource".into(), source);
        }
        _ => {}
    }
}

fn spec(spec: &core::PersistentVolumeClaimSpec, path: &FieldPath, errors: &mut Errors) {
    let modes = validate::list(&spec.access_modes);
    if modes.is_empty() {
        errors.push(FieldError::required(&path.child("accessModes"), "at least 1 access mode is required"));
    }
    if let Some(selector) = &spec.selector {
        validate::label_selector(selector, &path.child("selector"), errors);
    }
    validate_access_modes(modes, &path.child("accessModes"), errors);
    let at = path.child("resources").key("storage");
    match spec.resources.as_ref().and_then(|r| r.requests.as_ref()).and_then(|r| r.get("storage")) {
        None => errors.push(FieldError::required(&at, "")),
        Some(amount) => {
            let number = validate::number(amount);
            if number.is_negative() || number.is_zero() {
                let at = path.child("resources").child("requests").key("storage");
                errors.push(FieldError::invalid(&at, amount.0.as_str(), "must be greater than zero"));
            }
        }
    }
    validate_classes(&spec.storage_class_name, &spec.volume_attributes_class_name, path, errors);
    if let Some(mode) = &spec.volume_mode {
        one_of(&path.child("volumeMode"), mode, VOLUME_MODES, errors);
    }
    if let Some(source) = &spec.data_source {
        let at = path.child("dataSource");
        require(&at.child("name"), &source.name, errors);
        require(&at.child("kind"), &source.kind, errors);
        if validate::text(&source.api_group).is_empty() && source.kind != "PersistentVolumeClaim" {
            let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(FieldError::invalid(&at, source.kind.as_str(), why));
        }
    }
}

/// What may change: the volume's name once, the class of a claim that is not bound, and what a bound one requests.
fn change(new: &core::PersistentVolumeClaim, old: &core::PersistentVolumeClaim, errors: &mut Errors) {
    let (Some(wanted), Some(before), path) = (&new.spec, &old.spec, spec_path()) else { return };
    let bound = old.status.as_ref().is_some_and(|s| validate::text(&s.phase) == "Bound");
    let mut allowed = before.clone();
    if validate::text(&before.volume_name).is_empty() {
        allowed.volume_name.clone_from(&wanted.volume_name);
        let annotated = |claim: &core::PersistentVolumeClaim| {
            claim.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(CLASS_ANNOTATION))
        };
        if before.storage_class_name.is_none() && !annotated(old) {
            allowed.storage_class_name.clone_from(&wanted.storage_class_name);
        }
    }
    if bound {
        allowed.resources.clone_from(&wanted.resources);
    }
    if before.volume_attributes_class_name.is_none() || bound {
        allowed.volume_attributes_class_name.clone_from(&wanted.volume_attributes_class_name);
    }
    if !validate::same(&allowed, wanted) {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for \
                   bound claims";
        errors.push(FieldError::forbidden(&path, why));
    }
    let storage = |spec: &core::PersistentVolumeClaimSpec| {
        spec.resources.as_ref()?.requests.as_ref()?.get("storage").map(validate::number)
    };
    let held = old.status.as_ref().and_then(|s| s.capacity.as_ref()?.get("storage").map(validate::number));
    if storage(wanted) < storage(before) && held.is_none_or(|held| storage(wanted) <= Some(held)) {
        let at = path.child("resources").child("requests").child("storage");
        errors.push(FieldError::forbidden(&at, "field can not be less than status.capacity"));
    }
    validate::unchanged(&path.child("volumeMode"), &wanted.volume_mode, &before.volume_mode, errors);
}
