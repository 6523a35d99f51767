//! PersistentVolumes.

use k8s_openapi::api::core::v1 as core;

use super::{
    VOLUME_MODES, access_modes, amount, class, or_unset, phase, validate_access_modes, validate_classes,
};
use crate::kinds::prelude::*;

/// The row of persistentvolumes.
pub(in crate::kinds) const RESOURCE: Resource = Resource {
    short_names: &["pv"],
    subresources: &[status(gvk("", "v1", "PersistentVolume"))],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Capacity", "How much the volume holds."),
            Column::text("Access Modes", "The ways in which the volume can be mounted."),
            Column::text("Reclaim Policy", "What happens to the volume when its claim goes."),
            Column::text("Status", "Whether the volume is free, bound to a claim, or released by one."),
            Column::text("Claim", "The claim that the volume is bound to."),
            Column::text("StorageClass", "StorageClass of the pv"),
            Column::text("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
            Column::text("Reason", "Why the volume is in its state."),
            Column::AGE,
            Column::text("VolumeMode", "Whether the volume is a file system or a block device.").wide(),
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
        if let Some(path) = object(spec, "hostPath") {
            set(path, "type", "");
        }
    }

    fn prepare_create(volume: &mut Value) {
        if let Some(fields) = volume.as_object_mut() {
            fields.insert("status".into(), json!({"phase": "Pending"}));
        }
    }

    fn validate(volume: &Self::Object, errors: &mut Errors) {
        let empty = core::PersistentVolumeSpec::default();
        let (spec, path) = (volume.spec.as_ref().unwrap_or(&empty), spec_path());
        let modes = validate::list(&spec.access_modes);
        if modes.is_empty() {
            errors.push(FieldError::required(&path.child("accessModes"), ""));
        }
        validate_access_modes(modes, &path.child("accessModes"), errors);
        capacity(spec, &path.child("capacity"), errors);
        let policy = validate::text(&spec.persistent_volume_reclaim_policy);
        let policies = ["Delete", "Recycle", "Retain"];
        one_of(&path.child("persistentVolumeReclaimPolicy"), policy, &policies, errors);
        source(spec, &path, errors);
        validate_classes(&spec.storage_class_name, &spec.volume_attributes_class_name, &path, errors);
        one_of(&path.child("volumeMode"), validate::text(&spec.volume_mode), VOLUME_MODES, errors);
        if let Some(required) = spec.node_affinity.as_ref().and_then(|a| a.required.as_ref()) {
            validate::node_selector(required, &path.child("nodeAffinity").child("required"), errors);
        }
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        Self::validate(new, errors);
        let (Some(new), Some(old), path) = (&new.spec, &old.spec, spec_path()) else { return };
        if !meta::same(Some(&sources(new)), Some(&sources(old))) {
            let why = "spec.persistentvolumesource is immutable after creation";
            errors.push(FieldError::forbidden(&path.child("persistentvolumesource"), why));
        }
        validate::unchanged(&path.child("volumeMode"), &new.volume_mode, &old.volume_mode, errors);
        if old.node_affinity.is_some() {
            let at = path.child("nodeAffinity");
            validate::unchanged(&at, &new.node_affinity, &old.node_affinity, errors);
        }
    }
}

/// Fields of the spec that are not the volume's source.
const NOT_SOURCES: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

/// The sources of a volume by name.
fn sources(spec: &core::PersistentVolumeSpec) -> Value {
    let mut fields = validate::shown(spec);
    if let Some(fields) = fields.as_object_mut() {
        fields.retain(|field, _| !NOT_SOURCES.contains(&field.as_str()));
    }
    fields
}

fn capacity(spec: &core::PersistentVolumeSpec, path: &FieldPath, errors: &mut Errors) {
    let Some(capacity) = spec.capacity.as_ref().filter(|c| !c.is_empty()) else {
        errors.push(FieldError::required(path, ""));
        return;
    };
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        errors.push(FieldError::not_supported(path, validate::shown(capacity), &["storage"]));
    }
    for (name, amount) in capacity {
        let number = validate::number(amount);
        if number.is_negative() || number.is_zero() {
            errors.push(FieldError::invalid(&path.key(name), amount.0.as_str(), "must be greater than zero"));
        }
    }
}

fn source(spec: &core::PersistentVolumeSpec, path: &FieldPath, errors: &mut Errors) {
    let found = sources(spec);
    let names: Vec<&String> = found.as_object().into_iter().flat_map(Map::keys).collect();
    match names.as_slice() {
        [] => errors.push(FieldError::required(path, "must specify a volume type")),
        [_] => {}
        [_, others @ ..] => {
            for other in others {
                let why = "may not specify more than 1 volume type";
                errors.push(FieldError::forbidden(&path.child(other), why));
            }
        }
    }
    let recycled = validate::text(&spec.persistent_volume_reclaim_policy) == "Recycle";
    if let Some(host) = &spec.host_path {
        let at = path.child("hostPath").child("path");
        require(&at, &host.path, errors);
        if recycled && host.path == "/" {
            let why = "may not be 'recycle' for a hostPath mount of '/'";
            errors.push(FieldError::forbidden(&path.child("persistentVolumeReclaimPolicy"), why));
        }
    }
    if let Some(local) = &spec.local {
        require(&path.child("local").child("path"), &local.path, errors);
        if spec.node_affinity.is_none() {
            let at = FieldPath::root("metadata").child("annotations");
            errors.push(FieldError::required(&at, "Local volume requires node affinity"));
        }
    }
    if let Some(nfs) = &spec.nfs {
        let at = path.child("nfs");
        require(&at.child("server"), &nfs.server, errors);
        if require(&at.child("path"), &nfs.path, errors) && !nfs.path.starts_with('/') {
            let why = "must be an absolute path";
            errors.push(FieldError::invalid(&at.child("path"), nfs.path.as_str(), why));
        }
    }
    if let Some(csi) = &spec.csi {
        let at = path.child("csi");
        validate::csi_driver_name(&at.child("driver"), &csi.driver, errors);
        require(&at.child("volumeHandle"), &csi.volume_handle, errors);
    }
}
