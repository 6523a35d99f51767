//! Builders that the tests of several controllers share.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};

use crate::cache::{ContainerStatus, Pod, PodCondition};

/// The time at which tests happen.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// The time `seconds` before [`now`].
pub(crate) fn ago(seconds: i64) -> Time {
    Time(now() - SignedDuration::from_secs(seconds))
}

/// Label pairs as a map.
pub(crate) fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// Metadata of an object in namespace `ns`, uid `uid-<name>`.
pub(crate) fn meta(name: &str) -> ObjectMeta {
    ObjectMeta {
        namespace: Some("ns".into()),
        name: Some(name.into()),
        uid: Some(format!("uid-{name}")),
        resource_version: Some("1".into()),
        generation: Some(1),
        ..ObjectMeta::default()
    }
}

#[derive(Clone, Default)]
pub(crate) struct PodBuilder(pub(crate) Pod);

impl PodBuilder {
    pub(crate) fn new(name: &str) -> Self {
        Self(Pod { metadata: meta(name), ..Pod::default() })
    }

    pub(crate) fn arc(&self) -> Arc<Pod> {
        Arc::new(self.0.clone())
    }

    pub(crate) fn uid(mut self, uid: &str) -> Self {
        self.0.metadata.uid = Some(uid.into());
        self
    }

    pub(crate) fn labelled(mut self, pairs: &[(&str, &str)]) -> Self {
        self.0.metadata.labels = Some(labels(pairs));
        self
    }

    pub(crate) fn owned_by(mut self, uid: &str) -> Self {
        self.0.metadata.owner_references = Some(vec![OwnerReference {
            kind: "ReplicaSet".into(),
            uid: uid.into(),
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        self
    }

    pub(crate) fn on(mut self, node: &str) -> Self {
        self.0.spec.node_name = Some(node.into());
        self
    }

    pub(crate) fn phase(mut self, phase: &str) -> Self {
        self.0.status.phase = Some(phase.into());
        self
    }

    pub(crate) fn running(self) -> Self {
        self.phase("Running")
    }

    pub(crate) fn ready_for(mut self, seconds: i64) -> Self {
        self.0.status.conditions.push(PodCondition {
            type_: "Ready".into(),
            status: "True".into(),
            last_transition_time: Some(ago(seconds)),
            reason: None,
        });
        self
    }

    pub(crate) fn aged(mut self, seconds: i64) -> Self {
        self.0.metadata.creation_timestamp = Some(ago(seconds));
        self
    }

    pub(crate) fn deleted(mut self) -> Self {
        self.0.metadata.deletion_timestamp = Some(ago(0));
        self
    }

    pub(crate) fn restarts(mut self, count: i32) -> Self {
        self.0.status.container_statuses.push(ContainerStatus { restart_count: count });
        self
    }

    pub(crate) fn cost(mut self, cost: &str) -> Self {
        self.0.metadata.annotations = Some(labels(&[(super::replicaset::DELETION_COST, cost)]));
        self
    }

    pub(crate) fn ip(mut self, ip: &str) -> Self {
        self.0.status.pod_ip = Some(ip.into());
        self
    }
}

/// Applies a merge patch (RFC 7386) as the API server would.
pub(crate) fn apply_merge(target: &mut serde_json::Value, patch: &serde_json::Value) {
    let serde_json::Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = serde_json::json!({});
    }
    let target = target.as_object_mut().unwrap();
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            apply_merge(target.entry(name.clone()).or_insert(serde_json::Value::Null), value);
        }
    }
}
