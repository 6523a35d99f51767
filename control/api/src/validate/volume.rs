//! Volumes of pods, their mounts, and paths inside them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, PodSpec, Volume};

use super::{Errors, list, one_of, require, text, volume_source};
use crate::names;
use crate::status::{FieldError, FieldPath};

/// Names of a pod's volumes, and whether each is a claim.
pub(super) type Volumes<'a> = BTreeMap<&'a str, bool>;

/// All volumes of a pod's spec; answers them by name.
pub(super) fn all<'a>(spec: &'a PodSpec, path: &FieldPath, errors: &mut Errors) -> Volumes<'a> {
    let mut volumes = Volumes::new();
    for (index, volume) in list(&spec.volumes).iter().enumerate() {
        let at = path.index(index);
        let name_at = at.child("name");
        volume_source::volume(volume, &at, errors);
        if !require(&name_at, &volume.name, errors) {
            continue;
        }
        super::refuse(&name_at, &volume.name, names::dns1123_label(&volume.name), errors);
        if volumes.insert(&volume.name, is_claim(volume)).is_some() {
            errors.push(FieldError::duplicate(&name_at, volume.name.as_str()));
        }
    }
    volumes
}

fn is_claim(volume: &Volume) -> bool {
    volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()
}

/// Mounts and devices of a container.
pub(super) fn mounts(container: &Container, volumes: &Volumes<'_>, path: &FieldPath, errors: &mut Errors) {
    let mut places: BTreeSet<&str> = BTreeSet::new();
    let mounts = path.child("volumeMounts");
    for (index, mount) in list(&container.volume_mounts).iter().enumerate() {
        let at = mounts.index(index);
        if require(&at.child("name"), &mount.name, errors) && !volumes.contains_key(mount.name.as_str()) {
            errors.push(FieldError::not_found(&at.child("name"), mount.name.as_str()));
        }
        let place = at.child("mountPath");
        require(&place, &mount.mount_path, errors);
        if !places.insert(&mount.mount_path) {
            errors.push(FieldError::invalid(&place, mount.mount_path.as_str(), "must be unique"));
        }
        let (fixed, expression) = (text(&mount.sub_path), text(&mount.sub_path_expr));
        if !fixed.is_empty() {
            local_path(&at.child("subPath"), fixed, errors);
        }
        if !expression.is_empty() {
            let at = at.child("subPathExpr");
            if !fixed.is_empty() {
                errors.push(FieldError::invalid(
                    &at,
                    expression,
                    "subPathExpr and subPath are mutually exclusive",
                ));
            }
            local_path(&at, expression, errors);
        }
        if let Some(propagation) = &mount.mount_propagation {
            let allowed = ["Bidirectional", "HostToContainer", "None"];
            let privileged =
                container.security_context.as_ref().and_then(|c| c.privileged).unwrap_or_default();
            let at = at.child("mountPropagation");
            one_of(&at, propagation, &allowed, errors);
            if propagation == "Bidirectional" && !privileged {
                let why = "Bidirectional mount propagation is available only to privileged containers";
                errors.push(FieldError::forbidden(&at, why));
            }
        }
    }
    let devices = path.child("volumeDevices");
    for (index, device) in list(&container.volume_devices).iter().enumerate() {
        let at = devices.index(index);
        if require(&at.child("name"), &device.name, errors) {
            match volumes.get(device.name.as_str()) {
                None => errors.push(FieldError::not_found(&at.child("name"), device.name.as_str())),
                Some(false) => {
                    let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                    errors.push(FieldError::invalid(&at.child("name"), device.name.as_str(), why));
                }
                Some(true) => {}
            }
        }
        let place = at.child("devicePath");
        require(&place, &device.device_path, errors);
        if !places.insert(&device.device_path) {
            errors.push(FieldError::invalid(&place, device.device_path.as_str(), "must be unique"));
        }
    }
}

/// A path that stays inside of what it is relative to.
pub(super) fn local_path(path: &FieldPath, text: &str, errors: &mut Errors) {
    if text.starts_with('/') {
        errors.push(FieldError::invalid(path, text, "must be a relative path"));
    }
    no_way_up(path, text, errors);
}

/// A relative path whose first part is not one that atomic updates of files use.
pub(super) fn unreserved_path(path: &FieldPath, text: &str, errors: &mut Errors) {
    local_path(path, text, errors);
    if text.starts_with("..") && !text.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, text, "must not start with '..'"));
    }
}

/// A path without a step to the directory above.
pub(super) fn no_way_up(path: &FieldPath, text: &str, errors: &mut Errors) {
    if text.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, text, "must not contain '..'"));
    }
}
