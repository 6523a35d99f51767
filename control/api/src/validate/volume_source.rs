//! Sources of volumes: exactly one each, and what each source needs.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{
    CSIVolumeSource, DownwardAPIVolumeFile, EphemeralVolumeSource, HostPathVolumeSource, KeyToPath,
    ProjectedVolumeSource, Volume, VolumeProjection,
};
use serde_json::Value;

use super::fields::fields_of;
use super::volume::{no_way_up, unreserved_path};
use super::volume_plugins::{self, Place};
use super::{
    Errors, csi_driver_name, environment, list, number, one_of, refuse, require, require_one_of, shown, text,
};
use crate::meta;
use crate::names;
use crate::status::{FieldError, FieldPath};

const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// The fields of sources in the order in which upstream looks at them.
const SOURCES: &[&str] = &[
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

/// A volume without its name, of a pod or (without `is_pod`) of a template of one: the first source is looked at, others
/// are not allowed.
pub(super) fn volume(volume: &Volume, is_pod: bool, path: &FieldPath, errors: &mut Errors) {
    // Only the fields that are set are written, so that the sources are what is there beside the name.
    let written = fields_of(volume);
    let mut present = SOURCES.iter().copied().filter(|field| written.contains(field));
    match present.next() {
        None => errors.push(FieldError::required(path, "must specify a volume type")),
        Some(field) => source(volume, field, is_pod, path, errors),
    }
    for other in present {
        // The names are upstream's.
        let other = match other {
            "cephfs" => "cephFS",
            "downwardAPI" => "downwarAPI",
            other => other,
        };
        errors.push(FieldError::forbidden(&path.child(other), "may not specify more than 1 volume type"));
    }
}

/// The source in `field` of a volume.
fn source(volume: &Volume, field: &str, is_pod: bool, path: &FieldPath, errors: &mut Errors) {
    let at = path.child(field);
    match field {
        "emptyDir" => volume.empty_dir.iter().for_each(|source| {
            if source.size_limit.as_ref().is_some_and(|limit| number(limit).is_negative()) {
                let why = "SizeLimit field must be a valid resource quantity";
                errors.push(FieldError::forbidden(&at.child("sizeLimit"), why));
            }
        }),
        "hostPath" => volume.host_path.iter().for_each(|source| host_path(source, &at, errors)),
        "secret" => volume.secret.iter().for_each(|source| {
            require(&at.child("secretName"), text(&source.secret_name), errors);
            files(source.default_mode, list(&source.items), &at, errors);
        }),
        "configMap" => volume.config_map.iter().for_each(|source| {
            require(&at.child("name"), &source.name, errors);
            files(source.default_mode, list(&source.items), &at, errors);
        }),
        "downwardAPI" => volume.downward_api.iter().for_each(|source| {
            mode(source.default_mode, &at.child("defaultMode"), errors);
            downward_files(list(&source.items), &at, errors);
        }),
        "projected" => volume.projected.iter().for_each(|source| projected(source, &at, errors)),
        "persistentVolumeClaim" => volume.persistent_volume_claim.iter().for_each(|source| {
            require(&at.child("claimName"), &source.claim_name, errors);
        }),
        "csi" => volume.csi.iter().for_each(|source| driver(source, &at, errors)),
        "image" => volume.image.iter().for_each(|source| {
            // A template may leave it to whoever makes the pod.
            if is_pod {
                require(&at.child("reference"), text(&source.reference), errors);
            }
            let allowed = ["Always", "IfNotPresent", "Never"];
            require_one_of(&at.child("pullPolicy"), text(&source.pull_policy), &allowed, errors);
        }),
        "ephemeral" => volume.ephemeral.iter().for_each(|source| claim_template(source, &at, errors)),
        // What is left are the sources of plugins.
        _ => {
            let place = Place { volume: &volume.name, persistent: false };
            let found = shown(volume);
            found
                .get(field)
                .iter()
                .for_each(|found| volume_plugins::check(field, found, place, path, errors));
        }
    }
}

fn driver(source: &CSIVolumeSource, path: &FieldPath, errors: &mut Errors) {
    csi_driver_name(&path.child("driver"), &source.driver, errors);
    let Some(secret) = &source.node_publish_secret_ref else { return };
    if require(&path.child("nodePublishSecretRef").child("name"), &secret.name, errors) {
        // The path is upstream's.
        refuse(&path.child("name"), &secret.name, names::dns1123_subdomain(&secret.name), errors);
    }
}

/// A claim that is made for the pod: of its metadata it says labels and annotations.
fn claim_template(source: &EphemeralVolumeSource, path: &FieldPath, errors: &mut Errors) {
    let at = path.child("volumeClaimTemplate");
    let Some(template) = &source.volume_claim_template else {
        return errors.push(FieldError::required(&at, ""));
    };
    if let Some(Value::Object(metadata)) = template.metadata.as_ref().map(shown) {
        let (place, empty) = (at.child("metadata"), serde_json::Map::new());
        let map = |field: &str| metadata.get(field).and_then(Value::as_object).unwrap_or(&empty);
        meta::validate_annotations(map("annotations"), &place.child("annotations"), errors);
        meta::validate_labels(map("labels"), &place.child("labels"), errors);
        for field in metadata.keys().filter(|field| !matches!(field.as_str(), "annotations" | "labels")) {
            errors.push(FieldError::forbidden(&place.child(field), "cannot be set"));
        }
    }
    crate::kinds::claim_spec(Some(&template.spec), &at.child("spec"), errors);
}

/// A path of the node at `path`.
pub(crate) fn host_path(source: &HostPathVolumeSource, path: &FieldPath, errors: &mut Errors) {
    let at = path.child("path");
    if require(&at, &source.path, errors) {
        no_way_up(&at, &source.path, errors);
        one_of(&path.child("type"), text(&source.type_), HOST_PATH_TYPES, errors);
    }
}

fn mode(mode: Option<i32>, path: &FieldPath, errors: &mut Errors) {
    if let Some(mode) = mode.filter(|m| !(0..=0o777).contains(m)) {
        errors.push(FieldError::invalid(path, mode, MODE));
    }
}

fn files(default_mode: Option<i32>, items: &[KeyToPath], path: &FieldPath, errors: &mut Errors) {
    mode(default_mode, &path.child("defaultMode"), errors);
    keys(items, path, errors);
}

fn keys(items: &[KeyToPath], path: &FieldPath, errors: &mut Errors) {
    let all = path.child("items");
    for (index, item) in items.iter().enumerate() {
        let at = all.index(index);
        require(&at.child("key"), &item.key, errors);
        if require(&at.child("path"), &item.path, errors) {
            unreserved_path(&at.child("path"), &item.path, errors);
        }
        mode(item.mode, &at.child("mode"), errors);
    }
}

/// Files of the downward API. What is wrong with one is said of the source, as upstream does.
fn downward_files(items: &[DownwardAPIVolumeFile], path: &FieldPath, errors: &mut Errors) {
    for item in items {
        if require(&path.child("path"), &item.path, errors) {
            unreserved_path(&path.child("path"), &item.path, errors);
        }
        environment::downward_source(item.field_ref.as_ref(), item.resource_field_ref.as_ref(), path, errors);
        mode(item.mode, &path.child("mode"), errors);
    }
}

fn projected(source: &ProjectedVolumeSource, path: &FieldPath, errors: &mut Errors) {
    mode(source.default_mode, &path.child("defaultMode"), errors);
    let all = path.child("sources");
    let mut paths = HashSet::new();
    for (index, source) in list(&source.sources).iter().enumerate() {
        let at = all.index(index);
        projection(source, path, &at, &mut paths, errors);
        if fields_of(source).len() > 1 {
            errors.push(FieldError::forbidden(&at, "may not specify more than 1 volume type"));
        }
    }
}

/// Notes a path of a projected volume that is there twice, in the words and at the place of upstream.
fn once<'a>(
    given: &'a str,
    shown: &str,
    volume: &FieldPath,
    paths: &mut HashSet<&'a str>,
    errors: &mut Errors,
) {
    if !given.is_empty() && !paths.insert(given) {
        errors.push(FieldError::invalid(volume, shown, "conflicting duplicate paths"));
    }
}

/// One source at `path` of the projected volume at `volume`.
fn projection<'a>(
    source: &'a VolumeProjection,
    volume: &FieldPath,
    path: &FieldPath,
    paths: &mut HashSet<&'a str>,
    errors: &mut Errors,
) {
    if let Some(secret) = &source.secret {
        let at = path.child("secret");
        require(&at.child("name"), &secret.name, errors);
        keys(list(&secret.items), &at, errors);
        list(&secret.items).iter().for_each(|item| once(&item.path, &secret.name, volume, paths, errors));
    }
    if let Some(map) = &source.config_map {
        let at = path.child("configMap");
        require(&at.child("name"), &map.name, errors);
        keys(list(&map.items), &at, errors);
        list(&map.items).iter().for_each(|item| once(&item.path, &map.name, volume, paths, errors));
    }
    if let Some(downward) = &source.downward_api {
        downward_files(list(&downward.items), &path.child("downwardAPI"), errors);
        list(&downward.items).iter().for_each(|item| once(&item.path, &item.path, volume, paths, errors));
    }
    if let Some(token) = &source.service_account_token {
        let at = path.child("serviceAccountToken").child("expirationSeconds");
        let seconds = token.expiration_seconds.unwrap_or_default();
        if seconds < 600 {
            let why = "may not specify a duration less than 10 minutes";
            errors.push(FieldError::invalid(&at, seconds, why));
        }
        if seconds > 1 << 32 {
            let why = "may not specify a duration larger than 2^32 seconds";
            errors.push(FieldError::invalid(&at, seconds, why));
        }
        // The path is upstream's.
        if require(&volume.child("path"), &token.path, errors) {
            unreserved_path(&volume.child("path"), &token.path, errors);
        }
    }
    if let Some(bundle) = &source.cluster_trust_bundle {
        let at = path.child("clusterTrustBundle").child("path");
        if require(&at, &bundle.path, errors) {
            unreserved_path(&at, &bundle.path, errors);
        }
    }
}
