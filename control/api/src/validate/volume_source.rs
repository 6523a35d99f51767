//! Sources of volumes: exactly one each, and what each source needs.

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, HostPathVolumeSource, KeyToPath, ProjectedVolumeSource, Volume, VolumeProjection,
};
use serde_json::Value;

use super::volume::{no_way_up, unreserved_path};
use super::{Errors, environment, list, number, one_of, require, require_by, shown, text};
use crate::names;
use crate::status::{FieldError, FieldPath};

const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// A volume without its name.
pub(super) fn volume(volume: &Volume, path: &FieldPath, errors: &mut Errors) {
    // Only the fields that are set are written, so that the sources are what is there beside the name.
    let written = shown(volume);
    let sources: Vec<&String> =
        written.as_object().into_iter().flatten().map(|(field, _)| field).filter(|f| *f != "name").collect();
    match sources.as_slice() {
        [] => errors.push(FieldError::required(path, "must specify a volume type")),
        [_] => source(volume, path, errors),
        [_, others @ ..] => {
            for other in others {
                let why = "may not specify more than 1 volume type";
                errors.push(FieldError::forbidden(&path.child(other), why));
            }
        }
    }
}

fn source(volume: &Volume, path: &FieldPath, errors: &mut Errors) {
    if let Some(source) = &volume.empty_dir {
        let at = path.child("emptyDir");
        if let Some(limit) = source.size_limit.as_ref().filter(|l| number(l).is_negative()) {
            let why = "SizeLimit field must be a valid resource quantity";
            errors.push(FieldError::invalid(&at.child("sizeLimit"), limit.0.as_str(), why));
        }
    } else if let Some(source) = &volume.host_path {
        host_path(source, &path.child("hostPath"), errors);
    } else if let Some(source) = &volume.secret {
        let at = path.child("secret");
        require(&at.child("secretName"), text(&source.secret_name), errors);
        files(source.default_mode, list(&source.items), &at, errors);
    } else if let Some(source) = &volume.config_map {
        let at = path.child("configMap");
        require(&at.child("name"), &source.name, errors);
        files(source.default_mode, list(&source.items), &at, errors);
    } else if let Some(source) = &volume.downward_api {
        let at = path.child("downwardAPI");
        mode(source.default_mode, &at.child("defaultMode"), errors);
        downward_files(list(&source.items), &at, errors);
    } else if let Some(source) = &volume.projected {
        projected(source, &path.child("projected"), errors);
    } else if let Some(source) = &volume.persistent_volume_claim {
        require(&path.child("persistentVolumeClaim").child("claimName"), &source.claim_name, errors);
    } else if let Some(source) = &volume.nfs {
        let at = path.child("nfs");
        require(&at.child("server"), &source.server, errors);
        if require(&at.child("path"), &source.path, errors) && !names::is_absolute_path(&source.path) {
            errors.push(FieldError::invalid(
                &at.child("path"),
                source.path.as_str(),
                "must be an absolute path",
            ));
        }
    } else if let Some(source) = &volume.csi {
        require_by(&path.child("csi").child("driver"), &source.driver, names::dns1123_subdomain, errors);
    } else if let Some(source) = &volume.image {
        let allowed = ["Always", "IfNotPresent", "Never"];
        let at = path.child("image");
        require(&at.child("reference"), text(&source.reference), errors);
        one_of(&at.child("pullPolicy"), text(&source.pull_policy), &allowed, errors);
    } else if let Some(source) = &volume.ephemeral
        && source.volume_claim_template.is_none()
    {
        errors.push(FieldError::required(&path.child("ephemeral").child("volumeClaimTemplate"), ""));
    }
}

/// A path of the node at `path`.
pub(crate) fn host_path(source: &HostPathVolumeSource, path: &FieldPath, errors: &mut Errors) {
    let at = path.child("path");
    if require(&at, &source.path, errors) {
        no_way_up(&at, &source.path, errors);
    }
    one_of(&path.child("type"), text(&source.type_), HOST_PATH_TYPES, errors);
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

fn downward_files(items: &[DownwardAPIVolumeFile], path: &FieldPath, errors: &mut Errors) {
    let all = path.child("items");
    for (index, item) in items.iter().enumerate() {
        let at = all.index(index);
        if require(&at.child("path"), &item.path, errors) {
            unreserved_path(&at.child("path"), &item.path, errors);
        }
        environment::downward_source(item.field_ref.as_ref(), item.resource_field_ref.as_ref(), &at, errors);
        mode(item.mode, &at.child("mode"), errors);
    }
}

fn projected(source: &ProjectedVolumeSource, path: &FieldPath, errors: &mut Errors) {
    mode(source.default_mode, &path.child("defaultMode"), errors);
    let all = path.child("sources");
    for (index, source) in list(&source.sources).iter().enumerate() {
        let at = all.index(index);
        let count = shown(source).as_object().map_or(0, serde_json::Map::len);
        match count {
            0 => errors.push(FieldError::required(&at, "must specify a source")),
            1 => projection(source, &at, errors),
            _ => errors.push(FieldError::forbidden(&at, "may not specify more than 1 volume type")),
        }
    }
}

fn projection(source: &VolumeProjection, path: &FieldPath, errors: &mut Errors) {
    if let Some(secret) = &source.secret {
        let at = path.child("secret");
        require(&at.child("name"), &secret.name, errors);
        keys(list(&secret.items), &at, errors);
    } else if let Some(map) = &source.config_map {
        let at = path.child("configMap");
        require(&at.child("name"), &map.name, errors);
        keys(list(&map.items), &at, errors);
    } else if let Some(downward) = &source.downward_api {
        downward_files(list(&downward.items), &path.child("downwardAPI"), errors);
    } else if let Some(token) = &source.service_account_token {
        let at = path.child("serviceAccountToken");
        let seconds = token.expiration_seconds.unwrap_or_default();
        if seconds < 600 {
            let why = "may not specify a duration less than 10 minutes";
            errors.push(FieldError::invalid(&at.child("expirationSeconds"), Value::from(seconds), why));
        }
        if require(&at.child("path"), &token.path, errors) {
            unreserved_path(&at.child("path"), &token.path, errors);
        }
    } else if let Some(bundle) = &source.cluster_trust_bundle {
        let at = path.child("clusterTrustBundle").child("path");
        if require(&at, &bundle.path, errors) {
            unreserved_path(&at, &bundle.path, errors);
        }
    }
}
