//! What a pod takes, and what it has to say so that it can be counted.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::usage::one;
use crate::footprint::{self, Amounts, Column, Counted};

/// Names of a pod's amounts in a quota: the resource, and the names for its requests and its limits.
const COMPUTE: &[(&str, [&str; 2], &str)] = &[
    ("cpu", ["cpu", "requests.cpu"], "limits.cpu"),
    ("memory", ["memory", "requests.memory"], "limits.memory"),
    ("ephemeral-storage", ["ephemeral-storage", "requests.ephemeral-storage"], "limits.ephemeral-storage"),
];
/// What every container has to name when a quota limits it. Upstream calls this a mistake that is not to be repeated
/// for other resources; ephemeral storage is one of those.
const DEMANDED: &[&str] = &["cpu", "memory"];
const REQUESTS: &str = "requests.";
const HUGE_PAGES: &str = "hugepages-";

/// Whether a quota of that name is about pods.
pub(super) fn is_resource(name: &str) -> bool {
    name == "pods"
        || COMPUTE.iter().any(|(_, requests, limits)| requests.contains(&name) || *limits == name)
        || name.starts_with(HUGE_PAGES)
        || name.strip_prefix(REQUESTS).is_some_and(|rest| rest.starts_with(HUGE_PAGES) || is_extended(rest))
}

/// Whether it is a resource of another domain, such as a device: `nvidia.com/gpu`.
fn is_extended(resource: &str) -> bool {
    resource.split_once('/').is_some_and(|(domain, _)| {
        domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io") && !resource.starts_with(REQUESTS)
    })
}

/// What the pod takes beside its own number, which counts as long as it is stored.
pub(super) fn usage(pod: &Value, now: Timestamp) -> Amounts {
    if ended(pod) || overdue_at(pod).is_some_and(|at| now > at) {
        return Amounts::new();
    }
    let counted = Counted { status: true, overhead: true };
    let requests = footprint::of(pod, Column::Requests, counted);
    let limits = footprint::of(pod, Column::Limits, counted);
    let mut taken = named(&requests, &limits);
    taken.insert("pods".to_owned(), one());
    taken
}

fn ended(pod: &Value) -> bool {
    matches!(pod.pointer("/status/phase").and_then(Value::as_str), Some("Succeeded" | "Failed"))
}

/// When a pod whose deletion was asked for stops to count, although it may still be there: its node is not doing
/// what it should.
pub fn overdue_at(pod: &Value) -> Option<Timestamp> {
    let deleted = crate::meta::deletion_time(pod)?;
    let grace = crate::meta::deletion_grace(pod)?;
    deleted.checked_add(SignedDuration::from_secs(grace)).ok()
}

/// Requests and limits under the names that quotas have for them.
fn named(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut taken = Amounts::new();
    for (resource, request_names, limit_name) in COMPUTE {
        if let Some(amount) = requests.get(*resource) {
            taken.extend(request_names.iter().map(|name| ((*name).to_owned(), *amount)));
        }
        if let Some(amount) = limits.get(*resource) {
            taken.insert((*limit_name).to_owned(), *amount);
        }
    }
    for (resource, amount) in requests {
        let huge = resource.starts_with(HUGE_PAGES);
        if huge {
            taken.insert(resource.clone(), *amount);
        }
        if huge || is_extended(resource) {
            taken.insert(format!("{REQUESTS}{resource}"), *amount);
        }
    }
    taken
}

/// What containers do not say of what the quota demands: by name the containers. Empty when all is said. What the
/// pod says as a whole is said for all of its containers.
pub(super) fn unsaid<'a>(
    pod: &Value,
    hard: impl Iterator<Item = &'a String>,
) -> BTreeMap<String, BTreeSet<String>> {
    let demanded: Vec<&String> = hard.filter(|name| is_demanded(name)).collect();
    let whole = said(pod.get("spec"));
    let mut unsaid: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for container in
        footprint::containers(pod, "containers").chain(footprint::containers(pod, "initContainers"))
    {
        let own = said(Some(container));
        for name in &demanded {
            if !own.contains_key(*name) && !whole.contains_key(*name) {
                let container = container.get("name").and_then(Value::as_str).unwrap_or_default();
                unsaid.entry((*name).clone()).or_default().insert(container.to_owned());
            }
        }
    }
    unsaid
}

fn is_demanded(name: &str) -> bool {
    COMPUTE
        .iter()
        .filter(|(resource, ..)| DEMANDED.contains(resource))
        .any(|(_, requests, limits)| requests.contains(&name) || *limits == name)
}

/// The amounts of a container's (or the pod's) `resources`, under the names of quotas.
fn said(of: Option<&Value>) -> Amounts {
    let column = |column: Column| of?.get("resources")?.get(column.field());
    named(&footprint::amounts(column(Column::Requests)), &footprint::amounts(column(Column::Limits)))
}
