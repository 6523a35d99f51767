//! Defaults of volumes.

use serde_json::Map;

use super::{Fields, container, object, objects, set};

/// Mode of projected files: 0644.
const FILE_MODE: i64 = 0o644;
/// Seconds for which a projected token is valid.
const TOKEN_SECONDS: i64 = 60 * 60;

/// Volume sources with a `defaultMode`.
const WITH_MODE: &[&str] = &["secret", "configMap", "downwardAPI", "projected"];

/// What sources of plugins have where nothing is said, in pods and in PersistentVolumes.
const OF_SOURCES: &[(&str, &str, &str)] = &[
    ("hostPath", "type", ""),
    ("rbd", "pool", "rbd"),
    ("rbd", "user", "admin"),
    ("rbd", "keyring", "/etc/ceph/keyring"),
    ("iscsi", "iscsiInterface", "default"),
    ("azureDisk", "cachingMode", "ReadWrite"),
    ("azureDisk", "kind", "Shared"),
    ("azureDisk", "fsType", "ext4"),
    ("scaleIO", "storageMode", "ThinProvisioned"),
    ("scaleIO", "fsType", "xfs"),
];

/// Defaults of the source of a volume, which is a field among `fields`.
pub(crate) fn source(fields: &mut Fields) {
    for (source, field, value) in OF_SOURCES {
        if let Some(source) = object(fields, source) {
            set(source, field, *value);
        }
    }
    if let Some(disk) = object(fields, "azureDisk") {
        set(disk, "readOnly", false);
    }
}

/// Defaults of one volume.
pub(super) fn volume(volume: &mut Fields) {
    if volume.keys().all(|field| field == "name") {
        volume.insert("emptyDir".into(), Map::new().into());
    }
    for source in WITH_MODE {
        if let Some(source) = object(volume, source) {
            set(source, "defaultMode", FILE_MODE);
            downward_items(source);
        }
    }
    if let Some(projected) = object(volume, "projected") {
        for source in objects(projected, "sources") {
            if let Some(token) = object(source, "serviceAccountToken") {
                set(token, "expirationSeconds", TOKEN_SECONDS);
            }
            if let Some(downward) = object(source, "downwardAPI") {
                downward_items(downward);
            }
        }
    }
    source(volume);
    if let Some(image) = object(volume, "image") {
        let policy = container::pull_policy(super::text(image, "reference"));
        set(image, "pullPolicy", policy);
    }
    if let Some(claim) = object(volume, "ephemeral").and_then(|e| object(e, "volumeClaimTemplate"))
        && let Some(spec) = object(claim, "spec")
    {
        set(spec, "volumeMode", "Filesystem");
    }
}

fn downward_items(source: &mut Fields) {
    for item in objects(source, "items") {
        container::field_source(item);
    }
}
