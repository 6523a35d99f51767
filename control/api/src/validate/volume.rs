//! Volumes of pods, their mounts, and paths inside them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, PodSpec, Volume, VolumeMount};

use super::{Errors, list, one_of, require, text, volume_source};
use crate::names;
use crate::status::{FieldError, FieldPath};

/// Names of a pod's volumes, and whether each is a claim.
pub(super) type Volumes<'a> = BTreeMap<&'a str, bool>;

/// All volumes of a spec of a pod, or of a template of one; answers by name those with which nothing is wrong.
pub(super) fn all<'a>(spec: &'a PodSpec, is_pod: bool, path: &FieldPath, errors: &mut Errors) -> Volumes<'a> {
    let mut volumes = Volumes::new();
    for (index, volume) in list(&spec.volumes).iter().enumerate() {
        let at = path.index(index);
        let (name_at, before) = (at.child("name"), errors.len());
        volume_source::volume(volume, is_pod, &at, errors);
        super::require_by(&name_at, &volume.name, names::dns1123_label, errors);
        if volumes.contains_key(volume.name.as_str()) {
            errors.push(FieldError::duplicate(&name_at, volume.name.as_str()));
        }
        if errors.len() == before {
            volumes.insert(&volume.name, is_claim(volume));
        }
    }
    volumes
}

fn is_claim(volume: &Volume) -> bool {
    volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()
}

/// `volumeMounts` of a container at `path`. What is wrong with some fields is said of the list, as upstream does.
pub(super) fn mounts(container: &Container, volumes: &Volumes<'_>, path: &FieldPath, errors: &mut Errors) {
    let mut places: BTreeSet<&str> = BTreeSet::new();
    let devices = list(&container.volume_devices);
    let names_of_devices: BTreeSet<&str> = devices.iter().map(|device| device.name.as_str()).collect();
    let places_of_devices: BTreeSet<&str> =
        devices.iter().map(|device| device.device_path.as_str()).collect();
    for (index, mount) in list(&container.volume_mounts).iter().enumerate() {
        let at = path.index(index);
        let (name_at, place) = (at.child("name"), at.child("mountPath"));
        require(&name_at, &mount.name, errors);
        if !volumes.contains_key(mount.name.as_str()) {
            errors.push(FieldError::not_found(&name_at, mount.name.as_str()));
        }
        require(&place, &mount.mount_path, errors);
        if !places.insert(&mount.mount_path) {
            errors.push(FieldError::invalid(&place, mount.mount_path.as_str(), "must be unique"));
        }
        if names_of_devices.contains(mount.name.as_str()) {
            let why = "must not already exist in volumeDevices";
            errors.push(FieldError::invalid(&name_at, mount.name.as_str(), why));
        }
        if places_of_devices.contains(mount.mount_path.as_str()) {
            let why = "must not already exist as a path in volumeDevices";
            errors.push(FieldError::invalid(&place, mount.mount_path.as_str(), why));
        }
        sub_path(mount, path, &at, errors);
        propagation(mount, container, path, errors);
    }
}

fn sub_path(mount: &VolumeMount, all: &FieldPath, path: &FieldPath, errors: &mut Errors) {
    let (fixed, expression) = (text(&mount.sub_path), text(&mount.sub_path_expr));
    if !fixed.is_empty() {
        local_path(&all.child("subPath"), fixed, errors);
    }
    if !expression.is_empty() {
        if !fixed.is_empty() {
            let why = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(&path.child("subPathExpr"), expression, why));
        }
        local_path(&all.child("subPathExpr"), expression, errors);
    }
}

fn propagation(mount: &VolumeMount, container: &Container, all: &FieldPath, errors: &mut Errors) {
    if let Some(propagation) = &mount.mount_propagation {
        let at = all.child("mountPropagation");
        one_of(&at, propagation, &["Bidirectional", "HostToContainer", "None"], errors);
        let privileged = container.security_context.as_ref().and_then(|c| c.privileged).unwrap_or_default();
        if propagation == "Bidirectional" && !privileged {
            let why = "Bidirectional mount propagation is available only to privileged containers";
            errors.push(FieldError::forbidden(&at, why));
        }
    }
    let Some(recursive) = &mount.recursive_read_only else { return };
    let at = all.child("recursiveReadOnly");
    one_of(&at, recursive, &["Disabled", "Enabled", "IfPossible"], errors);
    if recursive == "Disabled" {
        return;
    }
    if mount.read_only != Some(true) {
        errors.push(FieldError::forbidden(&at, "may only be specified when readOnly is true"));
    }
    if !matches!(text(&mount.mount_propagation), "" | "None") {
        let why = "may only be specified when mountPropagation is None or not specified";
        errors.push(FieldError::forbidden(&at, why));
    }
}

/// `volumeDevices` of a container at `path`.
pub(super) fn devices(container: &Container, volumes: &Volumes<'_>, path: &FieldPath, errors: &mut Errors) {
    let (mut names, mut places): (BTreeSet<&str>, BTreeSet<&str>) = (BTreeSet::new(), BTreeSet::new());
    let mounts = list(&container.volume_mounts);
    let names_of_mounts: BTreeSet<&str> = mounts.iter().map(|mount| mount.name.as_str()).collect();
    let places_of_mounts: BTreeSet<&str> = mounts.iter().map(|mount| mount.mount_path.as_str()).collect();
    for (index, device) in list(&container.volume_devices).iter().enumerate() {
        let at = path.index(index);
        let (name_at, place) = (at.child("name"), at.child("devicePath"));
        let (name, device_path) = (device.name.as_str(), device.device_path.as_str());
        if require(&name_at, name, errors) && !names.insert(name) {
            errors.push(FieldError::invalid(&name_at, name, "must be unique"));
        }
        match volumes.get(name) {
            None => errors.push(FieldError::not_found(&name_at, name)),
            Some(false) => {
                let why =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(FieldError::invalid(&name_at, name, why));
            }
            Some(true) => {}
        }
        require(&place, device_path, errors);
        if device_path.split('/').any(|part| part == "..") {
            errors.push(FieldError::invalid(&place, device_path, "can not contain backsteps ('..')"));
        } else if !places.insert(device_path) {
            errors.push(FieldError::invalid(&place, device_path, "must be unique"));
        }
        if names_of_mounts.contains(name) {
            errors.push(FieldError::invalid(&name_at, name, "must not already exist in volumeMounts"));
        }
        if places_of_mounts.contains(device_path) {
            let why = "must not already exist as a path in volumeMounts";
            errors.push(FieldError::invalid(&place, device_path, why));
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
    if text.starts_with("..") && !text.starts_with("../") {
        errors.push(FieldError::invalid(path, text, "must not start with '..'"));
    }
}

/// A path without a step to the directory above.
pub(crate) fn no_way_up(path: &FieldPath, text: &str, errors: &mut Errors) {
    if text.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, text, "must not contain '..'"));
    }
}
