//! The APIServices of what this server answers itself, as `kubectl get apiservices` shows them.

use carrack_api::{Catalogue, discovery};
use serde_json::{Value, json};

/// The priority of a version, and how much less each further one of its group has.
const VERSION: i64 = 15;

/// The APIService of each group version that the table of kinds serves; `apiregistration.k8s.io` itself has none.
pub(crate) fn register() -> Vec<Value> {
    let kinds = Catalogue::builtin();
    let groups = std::iter::once("").chain(discovery::groups(kinds));
    let served = groups.filter(|group| *group != "apiregistration.k8s.io");
    served
        .flat_map(|group| {
            let versions = discovery::versions_of(kinds, group).into_iter().enumerate();
            versions.map(move |(place, version)| api_service(group, version, place))
        })
        .collect()
}

fn api_service(group: &str, version: &str, place: usize) -> Value {
    let priority = discovery::priority(group).unwrap_or(discovery::CUSTOM_PRIORITY);
    let behind = i64::try_from(place).unwrap_or(VERSION);
    let version_priority = if group.is_empty() { 1 } else { (VERSION - behind).max(1) };
    json!({
        "metadata": {
            "name": format!("{version}.{group}"),
            "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"},
        },
        "spec": {
            "group": group, "version": version,
            "groupPriorityMinimum": priority, "versionPriority": version_priority,
        },
    })
}
