//! PersistentVolumes.

use k8s_openapi::api::core::v1 as core;

use super::{
    VOLUME_MODES, access_modes, amount, basic_amount, class, more_than_nothing, old_class, or_unset, phase,
    source, validate_access_modes, validate_class,
};
use crate::kinds::prelude::*;

/// The row of persistentvolumes.
pub(in crate::kinds) const RESOURCE: Resource = Resource {
    short_names: &["pv"],
    subresources: &[status(gvk("", "v1", "PersistentVolume"))],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Capacity", "core.v1.PersistentVolumeSpec#capacity"),
            Column::text("Access Modes", "core.v1.PersistentVolumeSpec#accessModes"),
            Column::text("Reclaim Policy", "core.v1.PersistentVolumeSpec#persistentVolumeReclaimPolicy"),
            Column::text("Status", "core.v1.PersistentVolumeStatus#phase"),
            Column::text("Claim", "core.v1.PersistentVolumeSpec#claimRef"),
            Column::text("StorageClass", "StorageClass of the pv"),
            Column::text("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
            Column::text("Reason", "core.v1.PersistentVolumeStatus#reason"),
            Column::AGE,
            Column::text("VolumeMode", "core.v1.PersistentVolumeSpec#volumeMode").wide(),
        ],
        cells,
    },
    ..row!(core "v1", "PersistentVolume", "persistentvolume", "persistentvolumes", core::PersistentVolume,
        PersistentVolumeRules)
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let claim = object.pointer("/spec/claimRef").map_or_else(String::new, |claim| {
        format!("{}/{}", read::text(claim, "/namespace"), read::text(claim, "/name"))
    });
    vec![
        meta::name(object).into(),
        amount(read::text(object, "/spec/capacity/storage")).into(),
        access_modes(read::list(object, "/spec/accessModes")).into(),
        read::text(object, "/spec/persistentVolumeReclaimPolicy").into(),
        phase(object).into(),
        claim.into(),
        class(object).into(),
        or_unset(read::text(object, "/spec/volumeAttributesClassName")).into(),
        read::text(object, "/status/reason").into(),
        age(object, now),
        or_unset(read::text(object, "/spec/volumeMode")).into(),
    ]
}

/// What is true of persistentvolumes.
pub(in crate::kinds) struct PersistentVolumeRules;

impl Rules for PersistentVolumeRules {
    type Object = core::PersistentVolume;

    const SCOPE: Scope = Scope::Cluster;
    const HAS_STATUS: bool = true;

    fn default(volume: &mut Value) {
        let Some(spec) = spec_of(volume) else { return };
        set(spec, "persistentVolumeReclaimPolicy", "Retain");
        set(spec, "volumeMode", "Filesystem");
        defaults::volume_source(spec);
    }

    fn prepare_create(volume: &mut Value) {
        if let Some(fields) = volume.as_object_mut() {
            fields.insert("status".into(), json!({"phase": "Pending"}));
        }
    }

    fn warnings(new: &Self::Object, _old: Option<&Self::Object>, warnings: &mut Vec<String>) {
        old_class(&new.metadata, warnings);
        let (Some(spec), path) = (&new.spec, spec_path()) else { return };
        if validate::text(&spec.persistent_volume_reclaim_policy) == "Recycle" {
            let why = "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic \
                       provisioning.";
            warnings.push(format!("{}: {why}", path.child("persistentVolumeReclaimPolicy")));
        }
        if let Some(required) = spec.node_affinity.as_ref().and_then(|affinity| affinity.required.as_ref()) {
            let at = path.child("nodeAffinity").child("required").child("nodeSelectorTerms");
            validate::node_terms(&required.node_selector_terms, &at, warnings);
        }
        let sources = source::all(spec);
        let silent = |field: &str| matches!(field, "gitRepo" | "flocker" | "quobyte");
        for (field, name, why) in validate::OLD_PLUGINS.iter().filter(|(field, ..)| !silent(field)) {
            if sources.get(*field).is_some() {
                warnings.push(format!("{}: {why}", path.child(name)));
            }
        }
    }

    fn validate(volume: &Self::Object, errors: &mut Errors) {
        let empty = core::PersistentVolumeSpec::default();
        let name = Some(validate::text(&volume.metadata.name));
        spec(volume.spec.as_ref().unwrap_or(&empty), name, &spec_path(), errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        Self::validate(new, errors);
        let (Some(new), Some(old), path) = (&new.spec, &old.spec, spec_path()) else { return };
        if !meta::same(Some(&comparable(new, old)), Some(&source::all(old))) {
            let why = "spec.persistentvolumesource is immutable after creation";
            errors.push(FieldError::forbidden(&path.child("persistentvolumesource"), why));
        }
        // The paths of the next two are upstream's.
        let at = FieldPath::root("volumeMode");
        validate::unchanged(&at, &new.volume_mode, &old.volume_mode, errors);
        if old.node_affinity.is_some() {
            let at = FieldPath::root("nodeAffinity");
            validate::unchanged(&at, &new.node_affinity, &old.node_affinity, errors);
        }
        if old.volume_attributes_class_name.is_some() && new.volume_attributes_class_name.is_none() {
            let at = path.child("volumeAttributesClassName");
            errors.push(FieldError::forbidden(&at, "update from non-nil value to nil is forbidden"));
        }
    }
}

/// The source of a volume without what may be added to it.
fn comparable(new: &core::PersistentVolumeSpec, old: &core::PersistentVolumeSpec) -> Value {
    const SECRET: &str = "/csi/controllerExpandSecretRef";
    let (mut new, old) = (source::all(new), source::all(old));
    if old.pointer("/csi").is_some()
        && old.pointer(SECRET).is_none()
        && let Some(csi) = new.pointer_mut("/csi").and_then(Value::as_object_mut)
    {
        csi.remove("controllerExpandSecretRef");
    }
    new
}

/// The spec of a volume that another object holds.
pub(in crate::kinds) fn inline(volume: &core::PersistentVolumeSpec, path: &FieldPath, errors: &mut Errors) {
    spec(volume, None, path, errors);
}

const INLINE: &str = "in the context of inline volumes";

/// Notes that a field may not be set within another object.
fn not_inline(is_set: bool, path: &FieldPath, errors: &mut Errors) {
    if is_set {
        errors.push(FieldError::forbidden(path, format!("may not be specified {INLINE}")));
    }
}

/// The spec of a volume, or of one without a `name` that another object holds.
fn spec(spec: &core::PersistentVolumeSpec, name: Option<&str>, path: &FieldPath, errors: &mut Errors) {
    let inline = name.is_none();
    let has_capacity = spec.capacity.as_ref().is_some_and(|capacity| !capacity.is_empty());
    if inline {
        not_inline(spec.claim_ref.is_some(), &path.child("claimRef"), errors);
        not_inline(has_capacity, &path.child("capacity"), errors);
        if spec.csi.is_none() {
            errors.push(FieldError::required(&path.child("csi"), format!("has to be specified {INLINE}")));
        }
    }
    let modes = validate::list(&spec.access_modes);
    if modes.is_empty() {
        errors.push(FieldError::required(&path.child("accessModes"), ""));
    }
    validate_access_modes(modes, &path.child("accessModes"), errors);
    if !inline {
        capacity(spec, &path.child("capacity"), errors);
    }
    let (at, policy) =
        (path.child("persistentVolumeReclaimPolicy"), validate::text(&spec.persistent_volume_reclaim_policy));
    match policy {
        "" => {}
        "Retain" if inline => {}
        _ if inline => {
            errors.push(FieldError::forbidden(&at, format!("may only be Retain {INLINE}")));
        }
        policy => one_of(&at, policy, &["Delete", "Recycle", "Retain"], errors),
    }
    if let Some(affinity) = &spec.node_affinity {
        let at = path.child("nodeAffinity");
        not_inline(inline, &at, errors);
        let at = at.child("required");
        match &affinity.required {
            _ if inline => {}
            Some(required) => validate::node_selector(required, &at, errors),
            None => errors.push(FieldError::required(&at, "must specify required node constraints")),
        }
    }
    source::check(spec, name.unwrap_or_default(), path, errors);
    classes(spec, inline, path, errors);
}

/// The class and the mode, which come behind the source.
fn classes(spec: &core::PersistentVolumeSpec, inline: bool, path: &FieldPath, errors: &mut Errors) {
    let at = path.child("storageClassName");
    if inline {
        not_inline(!validate::text(&spec.storage_class_name).is_empty(), &at, errors);
    } else {
        validate_class(&spec.storage_class_name, &at, errors);
    }
    let at = path.child("volumeMode");
    match spec.volume_mode.as_deref() {
        None => {}
        Some("Filesystem") if inline => {}
        Some(_) if inline => {
            let why = format!("may not specify volumeMode other than Filesystem {INLINE}");
            errors.push(FieldError::forbidden(&at, why));
        }
        Some(mode) => one_of(&at, mode, VOLUME_MODES, errors),
    }
    if let Some(name) = spec.volume_attributes_class_name.as_deref().filter(|_| !inline) {
        let at = path.child("volumeAttributesClassName");
        if name.is_empty() {
            errors.push(FieldError::required(&at, "an empty string is disallowed"));
        }
        validate_class(&spec.volume_attributes_class_name, &at, errors);
        if spec.csi.is_none() {
            let why = "has to be specified when using volumeAttributesClassName";
            errors.push(FieldError::required(&path.child("csi"), why));
        }
    }
}

fn capacity(spec: &core::PersistentVolumeSpec, path: &FieldPath, errors: &mut Errors) {
    let given = spec.capacity.as_ref().filter(|c| !c.is_empty());
    if given.is_none() {
        errors.push(FieldError::required(path, ""));
    }
    if given.is_none_or(|capacity| !capacity.contains_key("storage") || capacity.len() > 1) {
        errors.push(FieldError::not_supported(path, validate::shown(&given), &["storage"]));
    }
    for (name, amount) in given.into_iter().flatten() {
        basic_amount(amount, &path.key(name), errors);
        more_than_nothing(amount, &path.key(name), errors);
    }
}
