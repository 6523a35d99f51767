//! What other servers answer for, in this server's discovery. Merging is pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use carrack_api::discovery;
use serde_json::{Map, Value, json};

use super::remote::Remote;
use super::{Aggregation, Known};
use crate::ApiError;
use crate::authn::text;

/// A remote group version, with what is known of it.
pub(super) type Described = (Arc<Remote>, Option<Known>);

impl Aggregation {
    /// All remote group versions, those of the highest priority first.
    pub(super) async fn described(&self) -> Result<Vec<Described>, ApiError> {
        let mut remotes = self.remotes().await?;
        remotes.sort_by_key(|remote| {
            let order = (-remote.group_priority, remote.group.clone());
            (order, -remote.version_priority, remote.version.clone())
        });
        let known = self.known.lock();
        Ok(remotes.into_iter().map(|remote| (remote.clone(), known.get(&remote.name).cloned())).collect())
    }

    /// Adds them to an `APIGroupList`.
    pub(crate) async fn add_groups(&self, list: &mut Value) -> Result<(), ApiError> {
        let described = self.described().await?;
        if let Some(groups) = list["groups"].as_array_mut() {
            merge_groups(groups, &described);
            put_in_order(groups, "/name", &described);
        }
        Ok(())
    }

    /// The `APIGroup` of a group: `own` with what others answer for; `None` when nobody does.
    pub(crate) async fn group(&self, own: Option<Value>, group: &str) -> Result<Option<Value>, ApiError> {
        let mut described = self.described().await?;
        described.retain(|(remote, _)| remote.group == group);
        let mut groups: Vec<Value> = own.into_iter().collect();
        merge_groups(&mut groups, &described);
        Ok(groups.pop().map(|mut group| {
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            group
        }))
    }

    /// Adds them to an `APIGroupDiscoveryList`.
    pub(crate) async fn add_described(&self, list: &mut Value) -> Result<(), ApiError> {
        let described = self.described().await?;
        if let Some(items) = list["items"].as_array_mut() {
            merge_items(items, &described);
            put_in_order(items, "/metadata/name", &described);
        }
        Ok(())
    }

    /// Adds them to the index of OpenAPI v3 documents.
    pub(crate) async fn add_openapi(&self, index: &mut Value) -> Result<(), ApiError> {
        for (remote, known) in self.described().await? {
            let Some(url) = known.and_then(|known| known.openapi) else { continue };
            let path = remote.path();
            index["paths"][path.trim_start_matches('/')] = json!({"serverRelativeURL": url});
        }
        Ok(())
    }
}

/// Sorts groups, whose names are at `name`, as their APIServices say: where several have a resource of one name, clients take
/// the first.
pub(super) fn put_in_order(groups: &mut [Value], name: &str, described: &[Described]) {
    let priority = |group: &str| {
        let remote = || described.iter().find(|(remote, _)| remote.group == group);
        discovery::priority(group).or_else(|| remote().map(|(remote, _)| remote.group_priority))
    };
    groups.sort_by_cached_key(|group| {
        let group = text(group, name);
        (Reverse(priority(group).unwrap_or(discovery::CUSTOM_PRIORITY)), group.to_owned())
    });
}

pub(super) fn merge_groups(groups: &mut Vec<Value>, described: &[Described]) {
    for (remote, _) in described {
        let version = json!({
            "groupVersion": format!("{}/{}", remote.group, remote.version), "version": remote.version,
        });
        match groups.iter_mut().find(|group| group["name"] == remote.group.as_str()) {
            Some(group) => {
                let Some(versions) = group["versions"].as_array_mut() else { continue };
                if !versions.iter().any(|known| known["version"] == remote.version.as_str()) {
                    versions.push(version);
                }
            }
            None => groups.push(json!({
                "name": remote.group, "preferredVersion": version, "versions": [version],
            })),
        }
    }
}

pub(super) fn merge_items(items: &mut Vec<Value>, described: &[Described]) {
    for (remote, known) in described {
        let version = described_version(remote, known.as_ref());
        match items.iter_mut().find(|item| item["metadata"]["name"] == remote.group.as_str()) {
            Some(item) => {
                let Some(versions) = item["versions"].as_array_mut() else { continue };
                match versions.iter_mut().find(|known| known["version"] == remote.version.as_str()) {
                    Some(own) => *own = version,
                    None => versions.push(version),
                }
            }
            None => items.push(json!({
                "metadata": {"name": remote.group}, "versions": [version],
            })),
        }
    }
}

/// The version of an `APIGroupDiscovery` that an `APIResourceList` stands for.
fn described_version(remote: &Remote, known: Option<&Known>) -> Value {
    let list = known.and_then(|known| known.resources.get("resources")?.as_array());
    let mut resources: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let mut parts = Vec::new();
    for entry in list.into_iter().flatten() {
        match text(entry, "/name").split_once('/') {
            None => {
                resources.insert(text(entry, "/name"), resource(remote, entry));
            }
            Some((resource, part)) => parts.push((resource, part, entry)),
        }
    }
    for (name, part, entry) in parts {
        let Some(resource) = resources.get_mut(name) else { continue };
        let own = json!({"subresource": part, "responseKind": kind(remote, entry), "verbs": entry["verbs"]});
        if let Some(all) = resource.entry("subresources").or_insert_with(|| json!([])).as_array_mut() {
            all.push(own);
        }
    }
    let freshness = if remote.available && known.is_some() { "Current" } else { "Stale" };
    let resources: Vec<Value> = resources.into_values().map(Value::Object).collect();
    json!({"version": remote.version, "resources": resources, "freshness": freshness})
}

fn resource(remote: &Remote, entry: &Value) -> Map<String, Value> {
    let namespaced = entry.get("namespaced") == Some(&Value::Bool(true));
    let mut out = Map::new();
    out.insert("resource".into(), entry["name"].clone());
    out.insert("responseKind".into(), kind(remote, entry));
    out.insert("scope".into(), if namespaced { "Namespaced" } else { "Cluster" }.into());
    out.insert("singularResource".into(), text(entry, "/singularName").into());
    for field in ["verbs", "shortNames", "categories"] {
        if let Some(value) = entry.get(field) {
            out.insert(field.into(), value.clone());
        }
    }
    out
}

/// An entry's kind, which is of the list's group and version unless it says otherwise.
fn kind(remote: &Remote, entry: &Value) -> Value {
    let or = |field: &str, other: &str| match text(entry, field) {
        "" => other.to_owned(),
        own => own.to_owned(),
    };
    json!({
        "group": or("/group", &remote.group), "version": or("/version", &remote.version), "kind": entry["kind"],
    })
}
