//! Aggregated discovery (`apidiscovery.k8s.io`): all groups, versions and resources in one answer.

use serde_json::{Map, Value, json};

use super::{groups, verb_names, versions_of};
use crate::catalogue::Catalogue;
use crate::resource::{GroupVersionKind, Resource, Scope, Subresource};

/// The version of apidiscovery.k8s.io.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregatedVersion {
    /// v2
    V2,
    /// v2beta1
    V2Beta1,
}

impl AggregatedVersion {
    /// The version named in `v=` of an Accept header with `g=apidiscovery.k8s.io;as=APIGroupDiscoveryList`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "v2" => Some(AggregatedVersion::V2),
            "v2beta1" => Some(AggregatedVersion::V2Beta1),
            _ => None,
        }
    }

    /// The Content-Type of the answer.
    pub fn content_type(self) -> &'static str {
        match self {
            AggregatedVersion::V2 => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            AggregatedVersion::V2Beta1 => {
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
            }
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            AggregatedVersion::V2 => "apidiscovery.k8s.io/v2",
            AggregatedVersion::V2Beta1 => "apidiscovery.k8s.io/v2beta1",
        }
    }
}

/// Aggregated answer of `/api`.
pub fn aggregated_core(kinds: &Catalogue, version: AggregatedVersion) -> Value {
    list(kinds, version, &[""])
}

/// Aggregated answer of `/apis`.
pub fn aggregated_groups(kinds: &Catalogue, version: AggregatedVersion) -> Value {
    list(kinds, version, &groups(kinds))
}

fn list(kinds: &Catalogue, version: AggregatedVersion, groups: &[&str]) -> Value {
    let items: Vec<Value> = groups.iter().map(|group| group_value(kinds, group)).collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": version.api_version(), "metadata": {}, "items": items})
}

fn group_value(kinds: &Catalogue, group: &str) -> Value {
    let versions: Vec<Value> = versions_of(kinds, group)
        .into_iter()
        .map(|version| {
            let mut rows: Vec<&Resource> =
                kinds.rows().filter(|r| r.group == group && r.version == version).collect();
            rows.sort_by_key(|r| r.plural);
            let resources: Vec<Value> = rows.into_iter().map(resource_value).collect();
            json!({"version": version, "resources": resources, "freshness": "Current"})
        })
        .collect();
    let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
    json!({"metadata": metadata, "versions": versions})
}

fn kind_value(kind: GroupVersionKind) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

fn resource_value(resource: &Resource) -> Value {
    let mut out = Map::new();
    out.insert("resource".into(), resource.plural.into());
    out.insert("responseKind".into(), kind_value(resource.gvk()));
    let scope = if resource.scope == Scope::Namespaced { "Namespaced" } else { "Cluster" };
    out.insert("scope".into(), scope.into());
    out.insert("singularResource".into(), resource.singular.into());
    out.insert("verbs".into(), verb_names(resource.verbs).into());
    super::insert_names(&mut out, resource);
    if !resource.subresources().is_empty() {
        out.insert("subresources".into(), resource.subresources().iter().map(subresource_value).collect());
    }
    out.into()
}

fn subresource_value(sub: &Subresource) -> Value {
    json!({"subresource": sub.name, "responseKind": kind_value(sub.kind), "verbs": verb_names(sub.verbs)})
}
