//! Deployment: rolling and recreating updates, scaling in proportion, pause, revisions for rollback, and the
//! conditions by which `kubectl rollout status` follows.

mod conditions;
mod hash;
mod numbers;
mod plan;
mod revision;
mod rollout;
mod round;
mod scale;
mod status;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use carrack_client::Key;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use crate::cache::{BY_CONTROLLER, Caches, Feeds, Pod};
use crate::driver::{Controller, LookError};
use crate::owner::controller_of;
use crate::plan::{Outcome, Plan};
use crate::queue::Queue;
use crate::select;

pub(crate) use numbers::share;
pub use plan::{plan, settle};

/// What the plan for one deployment is made from.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The deployment.
    pub deployment: Arc<Deployment>,
    /// Every replica set of its namespace: its own, those to adopt, and those whose names are taken.
    pub sets: Vec<Arc<ReplicaSet>>,
    /// The pods of its replica sets, for the strategy Recreate; empty for others.
    pub pods: Vec<Arc<Pod>>,
}

/// The controller.
pub struct Deployments {
    caches: Arc<Caches>,
}

impl Deployments {
    /// A controller that reads `caches`.
    #[must_use]
    pub fn new(caches: Arc<Caches>) -> Self {
        Self { caches }
    }

    /// Feeds `queue` with the deployments that a change may concern.
    pub fn hook(caches: &Arc<Caches>, feeds: &mut Feeds, queue: &Arc<Queue>) {
        let own = Arc::clone(queue);
        feeds.deployments.push(Box::new(move |change| {
            if let Some(deployment) = change.latest() {
                own.add(Key::of(&deployment.metadata));
            }
        }));
        let (sets, known) = (Arc::clone(queue), Arc::clone(caches));
        feeds.replica_sets.push(Box::new(move |change| {
            for set in [&change.old, &change.new].into_iter().flatten() {
                set_changed(&known, &sets, set);
            }
        }));
        let (pods, known) = (Arc::clone(queue), Arc::clone(caches));
        feeds.pods.push(Box::new(move |change| {
            // Only Recreate waits for single pods, and only for their end.
            let ended = |pod: &Arc<Pod>| pod.ended();
            let over = change.new.as_ref().is_none_or(ended) && !change.old.as_ref().is_some_and(ended);
            if let (true, Some(pod)) = (over, change.latest()) {
                pod_ended(&known, &pods, pod);
            }
        }));
    }
}

fn set_changed(caches: &Caches, queue: &Queue, set: &ReplicaSet) {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(owner) = controller_of(&set.metadata) {
        if owner.kind == "Deployment" {
            queue.add(Key::new(namespace, owner.name.clone()));
        }
        return;
    }
    for deployment in caches.deployments.namespace(namespace) {
        let selector = deployment.spec.as_ref().map(|spec| &spec.selector);
        if selector.is_some_and(|s| select::matches(s, set.metadata.labels.as_ref())) {
            queue.add(Key::of(&deployment.metadata));
        }
    }
}

fn pod_ended(caches: &Caches, queue: &Queue, pod: &Pod) {
    let Some(owner) = controller_of(&pod.metadata) else { return };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let Some(set) = caches.replica_sets.get(&Key::new(namespace, owner.name.clone())) else { return };
    let Some(owner) = controller_of(&set.metadata) else { return };
    let key = Key::new(namespace, owner.name.clone());
    if caches.deployments.get(&key).is_some_and(|d| numbers::recreates(&d)) {
        queue.add(key);
    }
}

impl Controller for Deployments {
    type Snapshot = Snapshot;
    const NAME: &'static str = "deployment";

    async fn snapshot(&self, key: &Key) -> Result<Option<Snapshot>, LookError> {
        let Some(deployment) = self.caches.deployments.get(key) else { return Ok(None) };
        let sets = self.caches.replica_sets.namespace(&key.namespace);
        let mut pods = Vec::new();
        if numbers::recreates(&deployment) {
            let own = sets.iter().filter(|set| {
                controller_of(&set.metadata).map(|o| &o.uid) == deployment.metadata.uid.as_ref()
            });
            for uid in own.filter_map(|set| set.metadata.uid.as_deref()) {
                pods.extend(self.caches.pods.indexed(BY_CONTROLLER, uid));
            }
        }
        Ok(Some(Snapshot { deployment, sets, pods }))
    }

    fn plan(&self, snapshot: &Snapshot, now: Timestamp) -> Plan {
        plan(snapshot, now)
    }

    fn settle(&self, snapshot: &Snapshot, outcome: &Outcome, now: Timestamp) -> Plan {
        settle(snapshot, outcome.failure.as_ref(), now)
    }
}
