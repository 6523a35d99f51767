//! Pods that nobody else would clean up: those of nodes that are gone, those that were deleted before they got a node,
//! those on nodes declared out of service, and ended pods beyond a threshold.

use std::sync::Arc;
use std::time::Duration;

use carrack_client::Key;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use kube::api::Api;
use serde_json::json;

use crate::cache::{BY_NODE, Caches, Feeds, Node, Pod};
use crate::driver::{Controller, LookError};
use crate::plan::{Action, Plan, Verb};
use crate::queue::Queue;
use crate::resource::POD;

/// How long a node must be missing before its pods are taken for lost: it may be registering again.
const QUARANTINE: Duration = Duration::from_secs(40);
/// The taint by which people say that a node will not come back.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// The key that stands for the threshold of ended pods rather than for a pod.
const THRESHOLD_KEY: &str = "ended";

/// What the plan for one pod, or for the threshold, is made from.
#[derive(Clone, Debug)]
pub enum Snapshot {
    /// One pod.
    Pod {
        /// The pod.
        pod: Arc<Pod>,
        /// Its node.
        node: NodeState,
    },
    /// All ended pods, and how many may stay.
    Ended {
        /// The ended pods.
        pods: Vec<Arc<Pod>>,
        /// How many may stay.
        threshold: usize,
    },
}

/// How the node of a pod stands.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeState {
    /// The pod has no node.
    None,
    /// It is there.
    There(Arc<Node>),
    /// It is not in the cache, but the API was not asked yet because the quarantine is not over.
    Missing(Duration),
    /// The API says that it is gone.
    Gone,
}

/// The controller; its keys are pods, and one for the threshold.
pub struct PodGc {
    caches: Arc<Caches>,
    client: Client,
    threshold: usize,
    missing: parking_lot::Mutex<std::collections::HashMap<String, Timestamp>>,
}

impl PodGc {
    /// A controller that lets `threshold` ended pods stay.
    #[must_use]
    pub fn new(caches: Arc<Caches>, client: Client, threshold: usize) -> Self {
        Self { caches, client, threshold, missing: parking_lot::Mutex::default() }
    }

    /// Feeds `queue` with pods that may be lost.
    pub fn hook(caches: &Arc<Caches>, feeds: &mut Feeds, queue: &Arc<Queue>, threshold: usize) {
        let (own, known) = (Arc::clone(queue), Arc::clone(caches));
        feeds.nodes.push(Box::new(move |change| {
            let Some(node) = change.latest() else { return };
            if change.new.as_ref().is_none_or(|node| out_of_service(node)) {
                for pod in known.pods.indexed(BY_NODE, node.name()) {
                    own.add(Key::of(&pod.metadata));
                }
            }
        }));
        let (own, known) = (Arc::clone(queue), Arc::clone(caches));
        feeds.pods.push(Box::new(move |change| {
            let Some(pod) = &change.new else { return };
            let suspicious = match pod.spec.node() {
                None => pod.terminating(),
                Some(node) => known
                    .nodes
                    .get(&Key::cluster(node))
                    .is_none_or(|node| pod.terminating() && out_of_service(&node)),
            };
            if suspicious {
                own.add(Key::of(&pod.metadata));
            }
            let was_ended = change.old.as_ref().is_some_and(|old| old.ended());
            if threshold > 0 && pod.ended() && !was_ended {
                own.add(Key::cluster(THRESHOLD_KEY));
            }
        }));
    }

    async fn node_state(&self, pod: &Pod, now: Timestamp) -> Result<NodeState, LookError> {
        let Some(name) = pod.spec.node() else { return Ok(NodeState::None) };
        if let Some(node) = self.caches.nodes.get(&Key::cluster(name)) {
            self.missing.lock().remove(name);
            return Ok(NodeState::There(node));
        }
        let since = *self.missing.lock().entry(name.to_owned()).or_insert(now);
        if let Some(wait) = crate::when::left(now, since, QUARANTINE) {
            return Ok(NodeState::Missing(wait));
        }
        let api: Api<k8s_openapi::api::core::v1::Node> = Api::all(self.client.clone());
        match api.get_metadata_opt(name).await {
            // There after all: the cache will show it, and the pod comes again with the node's news.
            Ok(Some(_)) => Ok(NodeState::Missing(QUARANTINE)),
            Ok(None) => Ok(NodeState::Gone),
            Err(source) => Err(LookError::Read { what: format!("node {name}"), source: Box::new(source) }),
        }
    }
}

fn out_of_service(node: &Node) -> bool {
    let tainted = node.spec.taints.iter().any(|t| t.key == OUT_OF_SERVICE);
    tainted && node.condition("Ready").is_none_or(|c| c.status != "True")
}

impl Controller for PodGc {
    type Snapshot = Snapshot;
    const NAME: &'static str = "pod-gc";

    async fn snapshot(&self, key: &Key) -> Result<Option<Snapshot>, LookError> {
        if key.namespace.is_empty() {
            let all = self.caches.pods.all();
            let pods = all.into_iter().filter(|pod| pod.ended()).collect();
            return Ok(Some(Snapshot::Ended { pods, threshold: self.threshold }));
        }
        let Some(pod) = self.caches.pods.get(key) else { return Ok(None) };
        let node = self.node_state(&pod, Timestamp::now()).await?;
        Ok(Some(Snapshot::Pod { pod, node }))
    }

    fn plan(&self, snapshot: &Snapshot, now: Timestamp) -> Plan {
        plan(snapshot, now)
    }
}

/// Removes what is lost.
#[must_use]
pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    match snapshot {
        Snapshot::Pod { pod, node } => lost(pod, node, now),
        Snapshot::Ended { pods, threshold } => surplus(pods, *threshold),
    }
}

fn lost(pod: &Pod, node: &NodeState, now: Timestamp) -> Plan {
    let mut plan = Plan::none();
    match node {
        NodeState::None if pod.terminating() => plan.push(force_delete(pod)),
        NodeState::None => {}
        NodeState::There(node) => {
            if pod.terminating() && out_of_service(node) {
                fail(pod, "PodGC: node is out of service", now, &mut plan);
            }
        }
        NodeState::Missing(wait) => plan.again_after(*wait),
        NodeState::Gone => fail(pod, "PodGC: node no longer exists", now, &mut plan),
    }
    plan
}

/// Says that the pod failed, for those who count failures, then removes it: no node will.
fn fail(pod: &Pod, message: &str, now: Timestamp, plan: &mut Plan) {
    if !pod.ended() {
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "lastTransitionTime": Time(now),
            "reason": "DeletionByPodGC", "message": message,
        });
        let status = json!({ "phase": "Failed", "conditions": [condition] });
        let body = json!({ "metadata": { "uid": pod.metadata.uid }, "status": status });
        plan.push(Action::strategic(POD, Key::of(&pod.metadata), "status", body).missing_ok());
    }
    plan.push(force_delete(pod));
}

fn force_delete(pod: &Pod) -> Action {
    let uid = pod.metadata.uid.clone();
    let verb = Verb::Delete { uid, revision: None, grace: Some(0), propagation: None };
    Action::new(POD, Key::of(&pod.metadata), verb).missing_ok()
}

/// Deletes the oldest ended pods beyond the threshold.
fn surplus(pods: &[Arc<Pod>], threshold: usize) -> Plan {
    let mut plan = Plan::none();
    let count = pods.len().saturating_sub(threshold);
    if count == 0 {
        return plan;
    }
    let mut oldest: Vec<&Arc<Pod>> = pods.iter().collect();
    oldest.sort_by_key(|pod| (pod.metadata.creation_timestamp.clone(), pod.metadata.name.clone()));
    plan.push_all(oldest.into_iter().take(count).map(|pod| force_delete(pod)).collect());
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{PodBuilder, now};

    fn verbs(plan: &Plan) -> Vec<&'static str> {
        plan.actions()
            .map(|a| match a.verb {
                Verb::Patch { .. } => "fail",
                Verb::Delete { grace: Some(0), .. } => "remove",
                _ => "other",
            })
            .collect()
    }

    #[test]
    fn only_pods_of_nodes_that_are_really_gone_are_lost() {
        let pod = PodBuilder::new("p").on("n").running().arc();
        let judge = |node| plan(&Snapshot::Pod { pod: pod.clone(), node }, now());
        assert_eq!(verbs(&judge(NodeState::Gone)), ["fail", "remove"]);
        let waiting = judge(NodeState::Missing(Duration::from_secs(7)));
        assert_eq!((verbs(&waiting).len(), waiting.report.again), (0, Some(Duration::from_secs(7))));
        assert_eq!(verbs(&judge(NodeState::There(Arc::default()))).len(), 0);
        let ended = PodBuilder::new("p").on("n").phase("Succeeded").arc();
        let plan = plan(&Snapshot::Pod { pod: ended, node: NodeState::Gone }, now());
        assert_eq!(verbs(&plan), ["remove"]);
    }

    #[test]
    fn a_pod_deleted_before_it_got_a_node_is_removed() {
        let judge = |pod| plan(&Snapshot::Pod { pod, node: NodeState::None }, now());
        assert_eq!(verbs(&judge(PodBuilder::new("p").deleted().arc())), ["remove"]);
        assert_eq!(verbs(&judge(PodBuilder::new("p").arc())).len(), 0);
    }

    #[test]
    fn the_oldest_ended_pods_go_first() {
        let pods: Vec<_> = [("a", 10), ("b", 30), ("c", 20)]
            .iter()
            .map(|(name, age)| PodBuilder::new(name).phase("Failed").aged(*age).arc())
            .collect();
        let plan = plan(&Snapshot::Ended { pods, threshold: 1 }, now());
        let names: Vec<_> = plan.actions().map(|a| a.key.name.as_str()).collect();
        assert_eq!(names, ["b", "c"]);
    }
}
