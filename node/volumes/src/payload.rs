//! What the files of configMap, secret, downwardAPI and projected volumes hold.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, Secret, Volume, VolumeProjection,
};

use crate::atomic::{File, Payload, check_path};
use crate::fields;
use crate::needs::token_key;
use crate::ownership::{fs_group, fs_user};
use crate::sources::{NotLookedUp, Sources};

/// The mode of files for which the API gives none.
const DEFAULT_MODE: i32 = 0o644;

/// The files of a volume, or what is wrong with its sources. `None` if the volume is of another type.
pub(crate) fn payload(pod: &Pod, volume: &Volume, sources: &Sources) -> Option<Result<Payload, String>> {
    let files = if let Some(source) = &volume.config_map {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        config_map(sources, &source.name, &source.items, source.optional, mode)
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        secret(sources, name, &source.items, source.optional, source.default_mode.unwrap_or(DEFAULT_MODE))
    } else if let Some(source) = &volume.downward_api {
        downward(pod, sources, &source.items, source.default_mode.unwrap_or(DEFAULT_MODE))
    } else if let Some(source) = &volume.projected {
        projected(pod, sources, source)
    } else {
        return None;
    };
    Some(files.and_then(checked))
}

fn checked(payload: Payload) -> Result<Payload, String> {
    for path in payload.keys() {
        check_path(path)?;
    }
    Ok(payload)
}

fn config_map(
    sources: &Sources,
    name: &str,
    items: &Option<Vec<KeyToPath>>,
    optional: Option<bool>,
    mode: i32,
) -> Result<Payload, String> {
    let optional = optional == Some(true);
    match sources.config_map(name)? {
        Some(ConfigMap { data, binary_data, .. }) => {
            let mut values: BTreeMap<&str, &[u8]> = BTreeMap::new();
            values.extend(data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes())));
            values
                .extend(binary_data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice())));
            keys(&values, items, optional, mode, "configmap references non-existent config key")
        }
        None if optional => Ok(Payload::new()),
        None => Err(format!("configmap \"{name}\" not found")),
    }
}

fn secret(
    sources: &Sources,
    name: &str,
    items: &Option<Vec<KeyToPath>>,
    optional: Option<bool>,
    mode: i32,
) -> Result<Payload, String> {
    let optional = optional == Some(true);
    match sources.secret(name)? {
        Some(Secret { data, .. }) => {
            let values =
                data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice())).collect();
            keys(&values, items, optional, mode, "references non-existent secret key")
        }
        None if optional => Ok(Payload::new()),
        None => Err(format!("secret \"{name}\" not found")),
    }
}

/// All keys under their own names, or those that are listed under the paths that are given.
fn keys(
    values: &BTreeMap<&str, &[u8]>,
    items: &Option<Vec<KeyToPath>>,
    optional: bool,
    mode: i32,
    missing: &str,
) -> Result<Payload, String> {
    let Some(items) = items.as_ref().filter(|items| !items.is_empty()) else {
        return Ok(values.iter().map(|(key, value)| ((*key).to_owned(), file(value, mode))).collect());
    };
    let mut payload = Payload::new();
    for item in items {
        match values.get(item.key.as_str()) {
            Some(value) => _ = payload.insert(item.path.clone(), file(value, item.mode.unwrap_or(mode))),
            None if optional => {}
            None => return Err(format!("{missing}: {}", item.key)),
        }
    }
    Ok(payload)
}

fn file(data: &[u8], mode: i32) -> File {
    File { data: data.to_owned(), mode: mode.cast_unsigned() & 0o7777, user: None }
}

fn downward(
    pod: &Pod,
    sources: &Sources,
    items: &Option<Vec<DownwardAPIVolumeFile>>,
    mode: i32,
) -> Result<Payload, String> {
    let mut payload = Payload::new();
    let mut errors = Vec::new();
    for item in items.iter().flatten() {
        let value = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => fields::metadata_field(pod, &field.field_path)
                .ok_or_else(|| format!("unsupported fieldPath: {}", field.field_path)),
            (None, Some(selector)) => fields::resource(pod, None, &sources.allocatable, selector),
            (None, None) => Err(format!("\"{}\" refers to neither a field nor a resource", item.path)),
        };
        match value {
            Ok(value) => {
                _ = payload.insert(item.path.clone(), file(value.as_bytes(), item.mode.unwrap_or(mode)))
            }
            Err(error) => errors.push(error),
        }
    }
    aggregate(payload, errors)
}

fn projected(pod: &Pod, sources: &Sources, volume: &ProjectedVolumeSource) -> Result<Payload, String> {
    let mode = volume.default_mode.unwrap_or(DEFAULT_MODE);
    let mut payload = Payload::new();
    let mut errors = Vec::new();
    for source in volume.sources.iter().flatten() {
        match projection(pod, sources, source, mode) {
            Ok(files) => payload.extend(files),
            Err(error) => errors.push(error),
        }
    }
    aggregate(payload, errors)
}

fn projection(pod: &Pod, sources: &Sources, source: &VolumeProjection, mode: i32) -> Result<Payload, String> {
    if let Some(source) = &source.config_map {
        return config_map(sources, &source.name, &source.items, source.optional, mode);
    }
    if let Some(source) = &source.secret {
        return secret(sources, &source.name, &source.items, source.optional, mode);
    }
    if let Some(source) = &source.downward_api {
        return downward(pod, sources, &source.items, mode);
    }
    if let Some(source) = &source.service_account_token {
        let key = token_key(source);
        let token = sources.tokens.get(&key);
        let token = token.ok_or_else(|| "failed to fetch token: it has not been issued yet".to_owned())?;
        // Only the pod's user, or its group, is to read the token.
        let user = fs_user(pod);
        let private = user.is_some() || fs_group(pod).is_some();
        let file = File { user, ..file(token.as_bytes(), if private { 0o600 } else { mode }) };
        return Ok(Payload::from([(source.path.clone(), file)]));
    }
    let kinds = serde_json::to_value(source).ok();
    let kind =
        kinds.as_ref().and_then(|value| value.as_object()?.keys().next()).map_or("nothing", String::as_str);
    Err(format!("a projected {kind} is not supported by this node yet"))
}

/// One error as it is, several in brackets, as upstream aggregates them.
fn aggregate(payload: Payload, mut errors: Vec<String>) -> Result<Payload, String> {
    match errors.len() {
        0 => Ok(payload),
        1 => Err(errors.swap_remove(0)),
        _ => Err(format!("[{}]", errors.join(", "))),
    }
}

impl From<NotLookedUp> for String {
    fn from(NotLookedUp(what): NotLookedUp) -> String {
        format!("failed to sync {what} cache: it has not been looked up yet")
    }
}
