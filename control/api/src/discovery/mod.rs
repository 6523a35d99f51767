//! Discovery: what is served, from the table of kinds, in the plain and in the aggregated form.

mod aggregated;

use serde_json::{Map, Value, json};

pub use aggregated::{AggregatedVersion, aggregated_core, aggregated_groups};

use crate::catalogue::Catalogue;
use crate::resource::{Resource, Scope, Subresource, Verb};

/// Answer of `/api`. `address` is where clients reach this server, `host:port`.
pub fn api_versions(kinds: &Catalogue, address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": versions_of(kinds, ""),
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

/// Answer of `/apis`.
pub fn api_group_list(kinds: &Catalogue) -> Value {
    let groups: Vec<Value> = groups(kinds).into_iter().map(|group| group_value(kinds, group)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// Answer of `/apis/{group}`.
pub fn api_group(kinds: &Catalogue, group: &str) -> Option<Value> {
    let group = groups(kinds).into_iter().find(|g| *g == group)?;
    let mut value = group_value(kinds, group);
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Some(value)
}

/// Answer of `/api/{version}` and `/apis/{group}/{version}`.
pub fn api_resource_list(kinds: &Catalogue, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    let mut group_version = None;
    for resource in kinds.rows().filter(|r| r.group == group && r.version == version) {
        group_version = Some(resource.api_version);
        resources.push(resource_value(resource));
        resources.extend(resource.subresources().iter().map(|sub| subresource_value(resource, sub)));
    }
    resources.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    Some(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version?, "resources": resources}),
    )
}

/// How the groups of built-in kinds are ranked. `apiregistration.k8s.io` has no APIService and comes first of the groups.
/// Upstream: pkg/controlplane/apiserver/aggregator.go and pkg/controlplane/instance.go; metrics-server's manifests.
#[rustfmt::skip]
const PRIORITIES: &[(&str, i64)] = &[
    ("", 18000), ("apiregistration.k8s.io", 17900), ("apps", 17800), ("events.k8s.io", 17750), ("authentication.k8s.io", 17700),
    ("authorization.k8s.io", 17600), ("autoscaling", 17500), ("batch", 17400),
    ("certificates.k8s.io", 17300), ("networking.k8s.io", 17200), ("policy", 17100),
    ("rbac.authorization.k8s.io", 17000), ("storage.k8s.io", 16800), ("apiextensions.k8s.io", 16700),
    ("admissionregistration.k8s.io", 16700), ("scheduling.k8s.io", 16600), ("coordination.k8s.io", 16500),
    ("node.k8s.io", 16300), ("discovery.k8s.io", 16200), ("flowcontrol.apiserver.k8s.io", 16100),
    ("resource.k8s.io", 15900), ("metrics.k8s.io", 100),
];

/// How the groups of custom resources are ranked: behind the built-in ones. Upstream's figure.
pub const CUSTOM_PRIORITY: i64 = 1000;

/// The rank of a group of built-in kinds, the higher the earlier.
pub fn priority(group: &str) -> Option<i64> {
    PRIORITIES.iter().find(|(known, _)| *known == group).map(|(_, priority)| *priority)
}

/// Groups other than core, in the order of the catalogue.
pub fn groups(kinds: &Catalogue) -> Vec<&'static str> {
    let mut out: Vec<&'static str> = Vec::new();
    for resource in kinds.rows() {
        if !resource.group.is_empty() && !out.contains(&resource.group) {
            out.push(resource.group);
        }
    }
    out
}

/// Versions of a group, the preferred one first.
pub fn versions_of(kinds: &Catalogue, group: &str) -> Vec<&'static str> {
    let mut out: Vec<&'static str> = Vec::new();
    for resource in kinds.rows().filter(|r| r.group == group) {
        if !out.contains(&resource.version) {
            out.push(resource.version);
        }
    }
    out
}

fn group_value(kinds: &Catalogue, group: &str) -> Value {
    let versions: Vec<Value> = versions_of(kinds, group)
        .into_iter()
        .map(|version| json!({"groupVersion": format!("{group}/{version}"), "version": version}))
        .collect();
    json!({"name": group, "preferredVersion": versions.first(), "versions": versions})
}

fn verb_names(verbs: &[Verb]) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = verbs.iter().map(|v| v.as_str()).collect();
    names.sort_unstable();
    names
}

/// Short names and categories, where there are any.
fn insert_names(out: &mut Map<String, Value>, resource: &Resource) {
    for (field, names) in [("shortNames", resource.short_names()), ("categories", resource.categories())] {
        if !names.is_empty() {
            out.insert(field.into(), names.into());
        }
    }
}

fn resource_value(resource: &Resource) -> Value {
    let mut out = Map::new();
    out.insert("name".into(), resource.plural.into());
    out.insert("singularName".into(), resource.singular.into());
    out.insert("namespaced".into(), (resource.scope == Scope::Namespaced).into());
    out.insert("kind".into(), resource.kind.into());
    out.insert("verbs".into(), verb_names(resource.verbs).into());
    insert_names(&mut out, resource);
    if !resource.storage_prefix.is_empty() {
        out.insert("storageVersionHash".into(), storage_version_hash(resource).into());
    }
    out.into()
}

fn subresource_value(resource: &Resource, sub: &Subresource) -> Value {
    let mut out = Map::new();
    out.insert("name".into(), format!("{}/{}", resource.plural, sub.name).into());
    out.insert("singularName".into(), "".into());
    out.insert("namespaced".into(), (resource.scope == Scope::Namespaced).into());
    if (sub.kind.group, sub.kind.version) != (resource.group, resource.version) {
        if !sub.kind.group.is_empty() {
            out.insert("group".into(), sub.kind.group.into());
        }
        out.insert("version".into(), sub.kind.version.into());
    }
    out.insert("kind".into(), sub.kind.kind.into());
    out.insert("verbs".into(), verb_names(sub.verbs).into());
    out.into()
}

/// An opaque hash that changes with the stored version, for clients that migrate storage.
fn storage_version_hash(resource: &Resource) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let storage = resource.storage;
    let hash =
        crate::openapi::fingerprint([storage.group, storage.version, storage.kind].join("/").as_bytes());
    STANDARD.encode(hash.to_be_bytes())
}
