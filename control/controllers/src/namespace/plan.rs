//! What is to be deleted next in a namespace, and the conditions that tell how far that has come.

use std::collections::BTreeMap;
use std::time::Duration;

use carrack_client::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::{Content, Snapshot};
use crate::diff;
use crate::plan::{Action, Failure, Plan, Propagation, Verb};
use crate::resource::{NAMESPACE, POD};

/// The finalizer that this controller removes when the namespace is empty.
const FINALIZER: &str = "kubernetes";
/// Between two looks at what is still there. Most often the end of the last object brings the next look sooner.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Deletes what is known to be there: pods first, everything else when no pod is left that others may depend on; then,
/// if nothing is unknown, the finalizer.
#[must_use]
pub fn plan(snapshot: &Snapshot, _now: Timestamp) -> Plan {
    let mut plan = Plan::none();
    let namespace = &*snapshot.namespace;
    let content = &snapshot.content;
    if content.is_empty() && !snapshot.unknown.is_nothing() {
        plan.note("its content is not known whole yet");
        plan.again_after(LOOK_AGAIN);
        return plan;
    }
    if content.is_empty() {
        plan.push_all(finalize(namespace).into_iter().collect());
        return plan;
    }
    let pods = content.iter().find(|c| c.kind.resource == POD);
    let running = pods.is_some_and(|pods| pods.remains.iter().any(|p| p.finalizers.is_empty()));
    let turn: Vec<&Content> = match pods {
        Some(pods) if running => vec![pods],
        _ => content.iter().collect(),
    };
    for content in turn {
        plan.push_all(deletions(namespace, content));
    }
    plan.note(format!("{} kinds still have objects", content.len()));
    plan.again_after(wait_for(content));
    plan
}

/// How soon to look again: pods that were given less time are gone sooner.
fn wait_for(content: &[Content]) -> Duration {
    let grace = content.iter().flat_map(|c| &c.remains).filter(|r| r.deleting).filter_map(|r| r.grace);
    grace.max().map_or(Duration::from_millis(100), |g| g.clamp(Duration::from_millis(100), LOOK_AGAIN))
}

fn deletions(namespace: &Namespace, content: &Content) -> Vec<Action> {
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let resource = &content.kind.resource;
    let alive: Vec<_> = content.remains.iter().filter(|r| !r.deleting).collect();
    if alive.is_empty() {
        return Vec::new();
    }
    if content.kind.delete_collection {
        let mut all = Action::new(resource.clone(), Key::new(name, ""), Verb::DeleteAll);
        all.tolerate.missing = true;
        return vec![all];
    }
    let one = |r: &&super::Remains| {
        let propagation = Some(Propagation::Background);
        let verb = Verb::Delete { uid: r.uid.clone(), revision: None, grace: None, propagation };
        Action::new(resource.clone(), Key::new(name, r.name.clone()), verb).missing_ok()
    };
    alive.iter().map(one).collect()
}

fn finalize(namespace: &Namespace) -> Option<Action> {
    let finalizers = namespace.spec.as_ref().and_then(|s| s.finalizers.clone()).unwrap_or_default();
    let mut wanted = namespace.clone();
    let rest: Vec<String> = finalizers.into_iter().filter(|f| f != FINALIZER).collect();
    wanted.spec.get_or_insert_default().finalizers = Some(rest);
    // A namespace is plain data and always serializes.
    let verb = Verb::Replace { body: json!(wanted), subresource: "finalize" };
    Some(Action::new(NAMESPACE, Key::of(&namespace.metadata), verb).missing_ok())
}

/// Writes the conditions, if they differ.
#[must_use]
pub fn settle(snapshot: &Snapshot, failure: Option<&Failure>, now: Timestamp) -> Plan {
    let mut plan = Plan::none();
    let empty = snapshot.content.is_empty() && snapshot.unknown.is_nothing();
    if empty && failure.is_none() {
        // The namespace is gone with its finalizer.
        return plan;
    }
    let namespace = &*snapshot.namespace;
    let current = namespace.status.clone().unwrap_or_default();
    let had = current.conditions.clone().unwrap_or_default();
    let conditions = states(snapshot, failure).map(|state| condition(&had, state, now));
    let new = NamespaceStatus {
        phase: Some("Terminating".into()),
        conditions: Some(conditions.into_iter().collect()),
    };
    if new != current {
        let mut body = diff::status_patch(&namespace.metadata, &current, &new);
        // Nobody else writes this status while the namespace goes; the uid is guard enough.
        if let Some(guard) = body["metadata"].as_object_mut() {
            guard.remove("resourceVersion");
        }
        plan.push(Action::merge(NAMESPACE, Key::of(&namespace.metadata), "status", body).missing_ok());
    }
    plan
}

struct State {
    type_: &'static str,
    bad: bool,
    /// Reason and message when bad, then when good.
    words: [(&'static str, String); 2],
}

fn states(snapshot: &Snapshot, failure: Option<&Failure>) -> [State; 5] {
    let kinds = snapshot.unknown.kinds.clone();
    let failed: Vec<String> =
        snapshot.unknown.objects.iter().cloned().chain(failure.map(ToString::to_string)).collect();
    let remaining = remaining(&snapshot.content);
    let finalizers = finalizers(&snapshot.content);
    let good = |text: &str| text.to_owned();
    [
        State {
            type_: "NamespaceDeletionDiscoveryFailure",
            bad: kinds.is_some(),
            words: [
                ("DiscoveryFailed", kinds.unwrap_or_default()),
                ("ResourcesDiscovered", good("All resources successfully discovered")),
            ],
        },
        State {
            type_: "NamespaceDeletionGroupVersionParsingFailure",
            bad: false,
            words: [
                ("GroupVersionParsingFailed", String::new()),
                ("ParsedGroupVersions", good("All legacy kube types successfully parsed")),
            ],
        },
        State {
            type_: "NamespaceDeletionContentFailure",
            bad: !failed.is_empty(),
            words: [
                (
                    "ContentDeletionFailed",
                    format!(
                        "Failed to delete all resource types, {} remaining: {}",
                        failed.len(),
                        failed.join(", ")
                    ),
                ),
                ("ContentDeleted", good("All content successfully deleted, may be waiting on finalization")),
            ],
        },
        State {
            type_: "NamespaceContentRemaining",
            bad: !remaining.is_empty(),
            words: [
                ("SomeResourcesRemain", format!("Some resources are remaining: {remaining}")),
                ("ContentRemoved", good("All content successfully removed")),
            ],
        },
        State {
            type_: "NamespaceFinalizersRemaining",
            bad: !finalizers.is_empty(),
            words: [
                (
                    "SomeFinalizersRemain",
                    format!("Some content in the namespace has finalizers remaining: {finalizers}"),
                ),
                ("ContentHasNoFinalizers", good("All content-preserving finalizers finished")),
            ],
        },
    ]
}

/// `pods. has 2 resource instances, …` as upstream words it.
fn remaining(content: &[Content]) -> String {
    let each = content.iter().map(|content| {
        let resource = &content.kind.resource;
        format!("{}.{} has {} resource instances", resource.plural, resource.group, content.remains.len())
    });
    each.collect::<Vec<_>>().join(", ")
}

/// `example.com/hold in 2 resource instances, …`
fn finalizers(content: &[Content]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for finalizer in content.iter().flat_map(|c| &c.remains).flat_map(|r| &r.finalizers) {
        *counts.entry(finalizer).or_default() += 1;
    }
    let each = counts.into_iter().map(|(name, count)| format!("{name} in {count} resource instances"));
    each.collect::<Vec<_>>().join(", ")
}

fn condition(had: &[NamespaceCondition], state: State, now: Timestamp) -> NamespaceCondition {
    let [bad, good] = state.words;
    let (reason, message) = if state.bad { bad } else { good };
    let status = if state.bad { "True" } else { "False" };
    let same = had.iter().find(|c| c.type_ == state.type_ && c.status == status);
    NamespaceCondition {
        type_: state.type_.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_transition_time: same.and_then(|c| c.last_transition_time.clone()).or(Some(Time(now))),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
