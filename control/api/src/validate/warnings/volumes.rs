//! Volumes of pods that nothing serves any more, and files in them that hide one another.

use std::collections::BTreeSet;
use std::ops::Bound;

use k8s_openapi::api::core::v1::{ProjectedVolumeSource, Volume, VolumeProjection};
use serde_json::Value;

use super::{Warnings, claim_warnings};
use crate::status::FieldPath;
use crate::validate::fields::fields_of;
use crate::validate::{list, text};

/// Sources of plugins that are old or gone, how upstream names them in warnings, and what it says of each.
pub(crate) const OLD_PLUGINS: &[(&str, &str, &str)] = &[
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "gitRepo", "deprecated in v1.11"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// The volumes at `path`.
pub(super) fn all(volumes: &[Volume], path: &FieldPath, warnings: &mut Warnings) {
    for (index, volume) in volumes.iter().enumerate() {
        let (at, written) = (path.index(index), fields_of(volume));
        for (field, name, why) in OLD_PLUGINS {
            if written.contains(field) {
                warnings.push(format!("{}: {why}", at.child(name)));
            }
        }
        let template = volume.ephemeral.as_ref().and_then(|e| e.volume_claim_template.as_ref());
        if let Some(template) = template {
            let at = at.child("ephemeral").child("volumeClaimTemplate").child("spec");
            claim_warnings(&template.spec, &at, warnings);
        }
    }
    volumes.iter().for_each(|volume| files(volume, warnings));
}

/// Longest path that Linux takes; longer ones are of no interest here.
const MAX_PATH: usize = 4096;

/// Paths of files among which none may be another or a folder of another.
#[derive(Default)]
struct Paths<'a>(BTreeSet<&'a str>);

impl<'a> Paths<'a> {
    /// What is there already and the same as `path`, or begins as it, or is what it begins with.
    fn collision(&self, path: &str) -> Option<&'a str> {
        let behind = (Bound::Included(path), Bound::Unbounded);
        let longer = self.0.range::<str, _>(behind).next().filter(|known| known.starts_with(path));
        let shorter = || (1..path.len()).find_map(|end| self.0.get(path.get(..end)?));
        longer.or_else(shorter).copied()
    }

    fn add(&mut self, path: &'a str) {
        if !path.is_empty() && path.len() <= MAX_PATH {
            self.0.insert(path);
        }
    }

    fn warn(&self, path: &str, what: &str, warnings: &mut Warnings) {
        if path.is_empty() || path.len() > MAX_PATH {
            return;
        }
        if let Some(other) = self.collision(path) {
            warnings.push(format!("{what}: overlapping paths: {path:?} with {other:?}"));
        }
    }
}

fn check<'a>(known: &mut Paths<'a>, paths: &[&'a str], what: &str, warnings: &mut Warnings) {
    for path in paths.iter().map(|path| path.trim_end_matches('/')) {
        known.warn(path, what, warnings);
        known.add(path);
    }
}

fn files(volume: &Volume, warnings: &mut Warnings) {
    let name = &volume.name;
    if let Some(map) = &volume.config_map {
        let paths: Vec<&str> = list(&map.items).iter().map(|item| item.path.as_str()).collect();
        let what = format!("volume {name:?} (ConfigMap {:?})", map.name);
        check(&mut Paths::default(), &paths, &what, warnings);
    }
    if let Some(secret) = &volume.secret {
        let paths: Vec<&str> = list(&secret.items).iter().map(|item| item.path.as_str()).collect();
        let what = format!("volume {name:?} (Secret {:?})", text(&secret.secret_name));
        check(&mut Paths::default(), &paths, &what, warnings);
    }
    if let Some(downward) = &volume.downward_api {
        let paths: Vec<&str> = list(&downward.items).iter().map(|item| item.path.as_str()).collect();
        check(&mut Paths::default(), &paths, &format!("volume {name:?} (DownwardAPI)"), warnings);
    }
    if let Some(projected) = &volume.projected {
        of_projected(name, projected, warnings);
    }
}

/// Files of one source are compared with one another, and then with those of the sources before it.
fn of_projected(name: &str, projected: &ProjectedVolumeSource, warnings: &mut Warnings) {
    let mut before = Paths::default();
    for source in list(&projected.sources) {
        if fields_of(source).is_empty() {
            warnings.push(format!("volume {name:?} (Projected) has no sources provided"));
            continue;
        }
        let Some((what, mut paths)) = of_source(source) else { continue };
        let what = format!("volume {name:?} (Projected {what})");
        check(&mut Paths::default(), &paths, &what, warnings);
        paths.sort_unstable();
        paths.dedup();
        paths.iter().for_each(|path| before.warn(path.trim_end_matches('/'), &what, warnings));
        paths.iter().for_each(|path| before.add(path.trim_end_matches('/')));
    }
}

/// What a source is called, and the paths of its files.
fn of_source(source: &VolumeProjection) -> Option<(String, Vec<&str>)> {
    if let Some(map) = source.config_map.as_ref().filter(|map| map.items.is_some()) {
        let paths = list(&map.items).iter().map(|item| item.path.as_str()).collect();
        return Some((format!("ConfigMap {:?}", map.name), paths));
    }
    if let Some(secret) = source.secret.as_ref().filter(|secret| secret.items.is_some()) {
        let paths = list(&secret.items).iter().map(|item| item.path.as_str()).collect();
        return Some((format!("Secret {:?}", secret.name), paths));
    }
    if let Some(downward) = source.downward_api.as_ref().filter(|downward| downward.items.is_some()) {
        let paths = list(&downward.items).iter().map(|item| item.path.as_str()).collect();
        return Some(("DownwardAPI".to_owned(), paths));
    }
    if let Some(token) = &source.service_account_token {
        return Some(("ServiceAccountToken".to_owned(), vec![token.path.as_str()]));
    }
    let bundle = source.cluster_trust_bundle.as_ref()?;
    let named =
        bundle.name.as_ref().or(bundle.signer_name.as_ref()).map_or(Value::Null, |n| n.as_str().into());
    Some((format!("ClusterTrustBundle {named}"), vec![bundle.path.as_str()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_collide_with_what_they_begin_with() {
        let mut known = Paths::default();
        ["a/b", "c"].into_iter().for_each(|path| known.add(path));
        assert_eq!(known.collision("a"), Some("a/b"));
        assert_eq!(known.collision("c/d"), Some("c"));
        assert_eq!(known.collision("c"), Some("c"));
        assert_eq!(known.collision("d"), None);
    }
}
