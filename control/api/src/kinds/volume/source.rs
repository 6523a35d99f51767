//! Sources of PersistentVolumes: exactly one each, and what each needs.

use k8s_openapi::api::core::v1 as core;

use crate::kinds::prelude::*;

/// The fields of sources in the order in which upstream looks at them.
const SOURCES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

/// The sources of a volume by name.
pub(super) fn all(spec: &core::PersistentVolumeSpec) -> Value {
    let mut fields = validate::shown(spec);
    if let Some(fields) = fields.as_object_mut() {
        fields.retain(|field, _| SOURCES.contains(&field.as_str()));
    }
    fields
}

/// The source of the volume `name` whose spec is at `path`: the first is looked at, others are not allowed.
pub(super) fn check(spec: &core::PersistentVolumeSpec, name: &str, path: &FieldPath, errors: &mut Errors) {
    let found = all(spec);
    let mut is_first = true;
    for field in SOURCES {
        let Some(source) = found.get(*field) else { continue };
        // Upstream looks into this one even if it is not the first.
        if is_first || *field == "flexVolume" {
            let place = validate::VolumePlace { volume: name, persistent: true };
            validate::volume_plugin(field, source, place, path, errors);
            one(spec, field, path, errors);
        } else {
            // The name is upstream's.
            let at = path.child(if *field == "cephfs" { "cephFS" } else { field });
            errors.push(FieldError::forbidden(&at, "may not specify more than 1 volume type"));
        }
        is_first = false;
    }
    if is_first {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
    let recycled = validate::text(&spec.persistent_volume_reclaim_policy) == "Recycle";
    if recycled && spec.host_path.as_ref().is_some_and(|host| is_root(&host.path)) {
        let why = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(FieldError::forbidden(&path.child("persistentVolumeReclaimPolicy"), why));
    }
}

/// Whether a path is another word for `/`.
fn is_root(path: &str) -> bool {
    let mut depth = 0_usize;
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        depth = if part == ".." { depth.saturating_sub(1) } else { depth + 1 };
    }
    path.starts_with('/') && depth == 0
}

fn one(spec: &core::PersistentVolumeSpec, field: &str, path: &FieldPath, errors: &mut Errors) {
    let at = path.child(field);
    if let Some(host) = spec.host_path.as_ref().filter(|_| field == "hostPath") {
        validate::host_path(host, &at, errors);
    } else if let Some(local) = spec.local.as_ref().filter(|_| field == "local") {
        validate::local_volume(&local.path, &at.child("path"), errors);
        if spec.node_affinity.is_none() {
            let at = path.child("nodeAffinity");
            errors.push(FieldError::required(&at, "Local volume requires node affinity"));
        }
    } else if let Some(csi) = spec.csi.as_ref().filter(|_| field == "csi") {
        driver(csi, &at, errors);
    }
}

fn driver(csi: &core::CSIPersistentVolumeSource, path: &FieldPath, errors: &mut Errors) {
    validate::csi_driver_name(&path.child("driver"), &csi.driver, errors);
    require(&path.child("volumeHandle"), &csi.volume_handle, errors);
    let secrets = [
        ("controllerPublishSecretRef", &csi.controller_publish_secret_ref),
        ("controllerExpandSecretRef", &csi.controller_expand_secret_ref),
        ("nodePublishSecretRef", &csi.node_publish_secret_ref),
        ("nodeExpandSecretRef", &csi.node_expand_secret_ref),
    ];
    for (field, secret) in secrets {
        let (Some(secret), at) = (secret, path.child(field)) else { continue };
        let (name, namespace) = (validate::text(&secret.name), validate::text(&secret.namespace));
        require_by(&at.child("name"), name, names::dns1123_subdomain, errors);
        require_by(&at.child("namespace"), namespace, names::dns1123_label, errors);
    }
}
