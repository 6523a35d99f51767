//! The APIServices of what this server answers itself, as `kubectl get apiservices` shows them.

use carrack_api::{Catalogue, discovery};
use serde_json::{Value, json};

/// Priorities of groups, and of their versions, that are not upstream's usual ones.
/// Upstream: pkg/controlplane/apiserver/aggregator.go and pkg/controlplane/instance.go; metrics-server's manifests.
#[rustfmt::skip]
const PRIORITIES: &[(&str, i64)] = &[
    ("", 18000), ("apps", 17800), ("events.k8s.io", 17750), ("authentication.k8s.io", 17700),
    ("authorization.k8s.io", 17600), ("autoscaling", 17500), ("batch", 17400),
    ("certificates.k8s.io", 17300), ("networking.k8s.io", 17200), ("policy", 17100),
    ("rbac.authorization.k8s.io", 17000), ("storage.k8s.io", 16800), ("apiextensions.k8s.io", 16700),
    ("admissionregistration.k8s.io", 16700), ("scheduling.k8s.io", 16600), ("coordination.k8s.io", 16500),
    ("node.k8s.io", 16300), ("discovery.k8s.io", 16200), ("flowcontrol.apiserver.k8s.io", 16100),
    ("resource.k8s.io", 15900), ("metrics.k8s.io", 100),
];
/// The priority of a group that is not in the table.
const OTHER: i64 = 1000;
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
    let priority =
        PRIORITIES.iter().find(|(known, _)| *known == group).map_or(OTHER, |(_, priority)| *priority);
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
