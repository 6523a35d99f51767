//! ReplicaSet: keeps the wanted number of pods, adopts and releases by label, and reports what is there.

mod order;
mod plan;
mod status;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use carrack_client::{Change, Key};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;

use crate::cache::{BY_CONTROLLER, Caches, Feeds, Pod, orphans_of};
use crate::driver::{Controller, LookError};
use crate::owner::controller_of;
use crate::plan::{Outcome, Plan};
use crate::queue::Queue;
use crate::select;

pub use plan::plan;
pub use status::settle;

/// The annotation that makes a pod cheaper or dearer to delete when scaling down.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What the plan for one replica set is made from.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The replica set.
    pub set: Arc<ReplicaSet>,
    /// Its own pods and those without a controller, in its namespace.
    pub pods: Vec<Arc<Pod>>,
    /// Active pods of all replica sets of the same controller, to spread deletions over nodes.
    pub siblings: Vec<Arc<Pod>>,
}

/// The controller.
pub struct ReplicaSets {
    caches: Arc<Caches>,
}

impl ReplicaSets {
    /// A controller that reads `caches`.
    #[must_use]
    pub fn new(caches: Arc<Caches>) -> Self {
        Self { caches }
    }

    /// Feeds `queue` with the replica sets that a change may concern.
    pub fn hook(caches: &Arc<Caches>, feeds: &mut Feeds, queue: &Arc<Queue>) {
        let sets = Arc::clone(queue);
        feeds.replica_sets.push(Box::new(move |change| {
            if let Some(set) = change.latest() {
                sets.add(Key::of(&set.metadata));
            }
        }));
        let (pods, caches) = (Arc::clone(queue), Arc::clone(caches));
        feeds.pods.push(Box::new(move |change| pod_changed(&caches, &pods, change)));
    }

    fn siblings(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let Some(owner) = controller_of(&set.metadata) else { return Vec::new() };
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let sets = self.caches.replica_sets.namespace(namespace);
        let same = sets.iter().filter(|s| controller_of(&s.metadata).is_some_and(|o| o.uid == owner.uid));
        same.filter_map(|s| s.metadata.uid.as_deref())
            .flat_map(|uid| self.caches.pods.indexed(BY_CONTROLLER, uid))
            .filter(|pod| pod.active())
            .collect()
    }
}

fn pod_changed(caches: &Caches, queue: &Queue, change: &Change<Pod>) {
    // The owner before counts too: it lost a pod.
    for pod in [&change.old, &change.new].into_iter().flatten() {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        if let Some(owner) = controller_of(&pod.metadata) {
            if owner.kind == "ReplicaSet" {
                queue.add(Key::new(namespace, owner.name.clone()));
            }
            continue;
        }
        // A pod without a controller may be adopted by any set that selects it.
        for set in caches.replica_sets.namespace(namespace) {
            let selector = set.spec.as_ref().map(|spec| &spec.selector);
            if selector.is_some_and(|s| select::matches(s, pod.metadata.labels.as_ref())) {
                queue.add(Key::of(&set.metadata));
            }
        }
    }
}

impl Controller for ReplicaSets {
    type Snapshot = Snapshot;
    const NAME: &'static str = "replicaset";

    async fn snapshot(&self, key: &Key) -> Result<Option<Snapshot>, LookError> {
        let Some(set) = self.caches.replica_sets.get(key) else { return Ok(None) };
        let uid = set.metadata.uid.clone().unwrap_or_default();
        let mut pods = self.caches.pods.indexed(BY_CONTROLLER, &uid);
        pods.extend(self.caches.pods.indexed(BY_CONTROLLER, &orphans_of(&key.namespace)));
        let wanted = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
        let active = pods.iter().filter(|p| p.active()).count();
        let shrinking = usize::try_from(wanted).is_ok_and(|wanted| active > wanted);
        let siblings = if shrinking { self.siblings(&set) } else { Vec::new() };
        Ok(Some(Snapshot { set, pods, siblings }))
    }

    fn plan(&self, snapshot: &Snapshot, now: Timestamp) -> Plan {
        plan(snapshot, now)
    }

    fn settle(&self, snapshot: &Snapshot, outcome: &Outcome, now: Timestamp) -> Plan {
        settle(snapshot, outcome.failure.as_ref(), now)
    }
}
