//! PodDisruptionBudgets: how many pods may be evicted now. Upstream: `pkg/controller/disruption`.

mod scales;
mod stale;
mod status;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use carrack_client::{Change, Key};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;

use crate::cache::{Caches, Feeds, Pod};
use crate::driver::{Controller, LookError};
use crate::plan::Plan;
use crate::queue::Queue;
use crate::select;

pub use scales::Scales;
pub use stale::StaleMarks;
pub use status::plan;

/// What the plan for one budget is made from.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The budget.
    pub budget: Arc<PodDisruptionBudget>,
    /// The pods that it selects.
    pub pods: Vec<Arc<Pod>>,
    /// How many pods their controllers want; why that is not known where it is not.
    pub scales: Result<Scales, String>,
}

/// The controller; its keys are budgets.
pub struct Budgets {
    caches: Arc<Caches>,
    client: Client,
}

impl Budgets {
    /// A controller that asks through `client` for the scale of what it has no cache of.
    #[must_use]
    pub fn new(caches: Arc<Caches>, client: Client) -> Self {
        Self { caches, client }
    }

    /// Feeds `queue` with budgets, with those of pods that changed, and with those of pods whose controller did.
    pub fn hook(caches: &Arc<Caches>, feeds: &mut Feeds, queue: &Arc<Queue>) {
        let own = Arc::clone(queue);
        feeds.budgets.push(Box::new(move |change| {
            if let Some(budget) = &change.new {
                own.add(Key::of(&budget.metadata));
            }
        }));
        let (own, known) = (Arc::clone(queue), Arc::clone(caches));
        feeds.pods.push(Box::new(move |change| pod_changed(&known, &own, change)));
        let (own, known) = (Arc::clone(queue), Arc::clone(caches));
        feeds.replica_sets.push(Box::new(move |change| scale_changed(&known, &own, change, wanted)));
        let (own, known) = (Arc::clone(queue), Arc::clone(caches));
        feeds.deployments.push(Box::new(move |change| scale_changed(&known, &own, change, replicas)));
    }
}

/// The replicas that a set wants.
fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// The replicas that a deployment wants.
fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Feeds `queue` with the budgets of the namespace: there are few, and controllers seldom want another number.
fn scale_changed<K: kube::Resource>(
    caches: &Caches,
    queue: &Queue,
    change: &Change<K>,
    number: fn(&K) -> i32,
) {
    if change.old.as_deref().map(number) == change.new.as_deref().map(number) {
        return;
    }
    let namespace = change.latest().and_then(|object| object.meta().namespace.as_deref());
    for budget in caches.budgets.namespace(namespace.unwrap_or_default()) {
        queue.add(Key::of(&budget.metadata));
    }
}

/// Whether the budget selects the pod; without a selector it selects none.
fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| select::matches(selector, pod.metadata.labels.as_ref()))
}

fn pod_changed(caches: &Caches, queue: &Queue, change: &Change<Pod>) {
    if let (Some(old), Some(new)) = (&change.old, &change.new)
        && counts_alike(old, new)
    {
        return;
    }
    let Some(pod) = change.latest() else { return };
    for budget in caches.budgets.namespace(pod.metadata.namespace.as_deref().unwrap_or_default()) {
        if change.old.iter().chain(&change.new).any(|pod| selects(&budget, pod)) {
            queue.add(Key::of(&budget.metadata));
        }
    }
}

/// Whether nothing changed that a budget counts.
fn counts_alike(old: &Pod, new: &Pod) -> bool {
    old.metadata.uid == new.metadata.uid
        && old.metadata.labels == new.metadata.labels
        && old.metadata.owner_references == new.metadata.owner_references
        && old.terminating() == new.terminating()
        && old.ready() == new.ready()
}

impl Controller for Budgets {
    type Snapshot = Snapshot;
    const NAME: &'static str = "disruption";

    async fn snapshot(&self, key: &Key) -> Result<Option<Snapshot>, LookError> {
        let Some(budget) = self.caches.budgets.get(key) else { return Ok(None) };
        let mut pods = self.caches.pods.namespace(&key.namespace);
        pods.retain(|pod| selects(&budget, pod));
        let scales = match status::needs_scales(&budget) {
            true => scales::of(&self.caches, &self.client, &pods).await,
            false => Ok(Scales::default()),
        };
        Ok(Some(Snapshot { budget, pods, scales }))
    }

    fn plan(&self, snapshot: &Snapshot, now: Timestamp) -> Plan {
        plan(snapshot, now)
    }
}
