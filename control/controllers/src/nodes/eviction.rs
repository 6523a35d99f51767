//! Taint-based eviction: pods that do not endure a NoExecute taint go, at once or when their toleration runs out; a
//! taint that is taken back in time cancels that.

use std::sync::Arc;
use std::time::Duration;

use carrack_client::{Change, Key, Note, NoteKind};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::taints::NO_EXECUTE;
use crate::cache::{BY_NODE, Caches, Feeds, Node, Pod};
use crate::driver::{Controller, LookError};
use crate::plan::{Action, Plan};
use crate::queue::Queue;
use crate::resource::POD;
use crate::when::left;

/// What the plan for one pod is made from.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its node's NoExecute taints.
    pub taints: Vec<Taint>,
}

/// The controller; its keys are pods.
pub struct Eviction {
    caches: Arc<Caches>,
}

impl Eviction {
    /// A controller that reads `caches`.
    #[must_use]
    pub fn new(caches: Arc<Caches>) -> Self {
        Self { caches }
    }

    /// Feeds `queue` with pods that a taint may concern.
    pub fn hook(caches: &Arc<Caches>, feeds: &mut Feeds, queue: &Arc<Queue>) {
        let (own, known) = (Arc::clone(queue), Arc::clone(caches));
        feeds.nodes.push(Box::new(move |change| node_changed(&known, &own, change)));
        let (own, known) = (Arc::clone(queue), Arc::clone(caches));
        feeds.pods.push(Box::new(move |change| {
            let Some(pod) = &change.new else { return };
            let Some(node) = pod.spec.node() else { return };
            let node = known.nodes.get(&Key::cluster(node));
            if node.is_some_and(|node| executing(&node).next().is_some()) {
                own.add(Key::of(&pod.metadata));
            }
        }));
    }
}

fn executing(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec.taints.iter().filter(|t| t.effect == NO_EXECUTE)
}

fn node_changed(caches: &Caches, queue: &Queue, change: &Change<Node>) {
    let Some(node) = &change.new else { return };
    let before = change.old.as_ref().is_some_and(|old| executing(old).eq(executing(node)));
    let nothing = change.old.is_none() && executing(node).next().is_none();
    if before || nothing {
        return;
    }
    for pod in caches.pods.indexed(BY_NODE, node.name()) {
        queue.add(Key::of(&pod.metadata));
    }
}

impl Controller for Eviction {
    type Snapshot = Snapshot;
    const NAME: &'static str = "taint-eviction";

    async fn snapshot(&self, key: &Key) -> Result<Option<Snapshot>, LookError> {
        let Some(pod) = self.caches.pods.get(key) else { return Ok(None) };
        let node = pod.spec.node().and_then(|name| self.caches.nodes.get(&Key::cluster(name)));
        let taints = node.iter().flat_map(|node| executing(node).cloned()).collect();
        Ok(Some(Snapshot { pod, taints }))
    }

    fn plan(&self, snapshot: &Snapshot, now: Timestamp) -> Plan {
        plan(snapshot, now)
    }
}

/// Evicts the pod, or says when to look again.
#[must_use]
pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    let mut plan = Plan::none();
    let pod = &*snapshot.pod;
    if pod.terminating() || pod.ended() || snapshot.taints.is_empty() {
        return plan;
    }
    let deadlines = snapshot.taints.iter().map(|taint| patience(pod, taint, now));
    match deadlines.min().unwrap_or(Patience::Unlimited) {
        Patience::Unlimited => {}
        Patience::Left(wait) if wait.is_zero() => evict(pod, now, &mut plan),
        Patience::Left(wait) => {
            plan.note(format!("will be evicted in {wait:?}"));
            plan.again_after(wait);
        }
    }
    plan
}

/// How long a pod endures a taint; the shortest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Patience {
    Left(Duration),
    Unlimited,
}

fn patience(pod: &Pod, taint: &Taint, now: Timestamp) -> Patience {
    // Of several tolerations that fit, the shortest time counts; one without a time is for ever.
    let fitting = pod.spec.tolerations.iter().filter(|t| tolerates(t, taint));
    let mut shortest = None;
    let mut endures = false;
    for toleration in fitting {
        endures = true;
        if let Some(seconds) = toleration.toleration_seconds {
            let time = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            shortest = Some(shortest.map_or(time, |before: Duration| before.min(time)));
        }
    }
    match (endures, shortest) {
        (false, _) => Patience::Left(Duration::ZERO),
        (true, None) => Patience::Unlimited,
        (true, Some(time)) => {
            let start = exposed_since(pod, taint).unwrap_or(now);
            Patience::Left(left(now, start, time).unwrap_or(Duration::ZERO))
        }
    }
}

/// Since when the pod has been exposed to the taint. The time is in the objects, so that a restart of this process
/// does not start it over.
fn exposed_since(pod: &Pod, taint: &Taint) -> Option<Timestamp> {
    let tainted = taint.time_added.as_ref().map(|t| t.0);
    let scheduled = pod.condition("PodScheduled").and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0);
    let created = pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
    tainted.max(scheduled.or(created))
}

/// Whether a toleration fits a taint.
#[must_use]
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    if given(&toleration.effect).is_some_and(|effect| effect != taint.effect) {
        return false;
    }
    let key = given(&toleration.key);
    if key.as_ref().is_some_and(|key| *key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("") {
        "Exists" => true,
        "" | "Equal" => {
            key.is_some() && toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or("")
        }
        _ => false,
    }
}

fn evict(pod: &Pod, now: Timestamp, plan: &mut Plan) {
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "lastTransitionTime": Time(now),
        "reason": "DeletionByTaintManager",
        "message": "Taint manager: deleting due to NoExecute taint",
    });
    let body = json!({ "metadata": { "uid": pod.metadata.uid }, "status": { "conditions": [condition] } });
    let key = Key::of(&pod.metadata);
    plan.push(Action::strategic(POD, key.clone(), "status", body).missing_ok());
    let message = format!("Marking for deletion Pod {key}");
    let delete = Action::delete(POD, key, pod.metadata.uid.clone());
    plan.push(delete.tells(Note::new(pod, NoteKind::Normal, "TaintManagerEviction", message)));
}
