//! Node lifecycle: a node that stops renewing its Lease and its heartbeat becomes Unknown, its pods not ready, and
//! both get the taints that keep pods away and evict those that do not endure them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use carrack_client::{Change, Key, Note, NoteKind};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Taint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::taints;
use super::zones::{self, Pace};
use crate::cache::{BY_NODE, Caches, Feeds, Node, NodeLease, Pod};
use crate::driver::{Controller, LookError};
use crate::plan::{Action, Plan};
use crate::queue::Queue;
use crate::resource::{NODE, POD};
use crate::when::{left, since};

/// The conditions that become Unknown when a node falls silent.
const CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// How long a node may be silent.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A node that was heard of.
    pub grace: Duration,
    /// A node that never was: it may still be starting.
    pub startup_grace: Duration,
}

/// When a node was last heard of, by the local clock.
#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Timestamp,
}

/// What the plan for one node is made from.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The node.
    pub node: Arc<Node>,
    /// When it was last heard of, by the local clock.
    pub heard: Timestamp,
    /// Its pods.
    pub pods: Vec<Arc<Pod>>,
    /// Whether the pace of evictions lets this node be evicted from now; else when.
    pub evict: Evict,
    /// The limits.
    pub limits: Limits,
}

/// What the state of the zones says about evicting from a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Evict {
    /// Now.
    Now,
    /// Not before this time has passed.
    After(Duration),
    /// Not while most of a small zone is gone; what is tainted stays so.
    Stopped,
    /// Every node is gone: it is this side that is cut off, and evictions are called off.
    CalledOff,
}

/// The controller.
pub struct Health {
    caches: Arc<Caches>,
    heard: Arc<Mutex<HashMap<String, Heard>>>,
    /// For each zone the node that has the turn, and when the next one may have it.
    turns: Mutex<HashMap<String, (String, Timestamp)>>,
    limits: Limits,
}

impl Health {
    /// A controller that reads `caches`.
    #[must_use]
    pub fn new(caches: Arc<Caches>, limits: Limits) -> Self {
        Self { caches, heard: Arc::default(), turns: Mutex::default(), limits }
    }

    /// Feeds `queue` with nodes, and notes each sign of life.
    pub fn hook(&self, feeds: &mut Feeds, queue: &Arc<Queue>) {
        let (own, heard) = (Arc::clone(queue), Arc::clone(&self.heard));
        feeds.nodes.push(Box::new(move |change| node_changed(change, &heard, &own)));
        let (own, caches) = (Arc::clone(queue), Arc::clone(&self.caches));
        feeds.nodes.push(Box::new(move |change| pace_changed(change, &caches, &own)));
        let heard = Arc::clone(&self.heard);
        let own = Arc::clone(queue);
        feeds.leases.push(Box::new(move |change| lease_changed(change, &heard, &own)));
    }

    fn evict(&self, node: &Node, now: Timestamp) -> Evict {
        let nodes = self.caches.nodes.all();
        let zone = zones::zone_of(node);
        let period = match zones::pace(nodes.iter().map(|n| &**n), &zone) {
            Pace::Every(period) => period,
            Pace::Stopped => return Evict::Stopped,
            Pace::CutOff => return Evict::CalledOff,
        };
        // Only a node that has no evicting taint yet has to wait for its turn.
        if taints::evicting(node).is_none() || taints::evicted(node) {
            return Evict::Now;
        }
        let mut turns = self.turns.lock();
        match turns.get(&zone) {
            // A write that failed keeps its turn.
            Some((holder, _)) if holder == node.name() => return Evict::Now,
            Some((_, next)) if *next > now => return Evict::After(since(*next, now)),
            _ => {}
        }
        let following = now.checked_add(period).unwrap_or(now);
        turns.insert(zone, (node.name().to_owned(), following));
        Evict::Now
    }
}

fn node_changed(change: &Change<Node>, heard: &Mutex<HashMap<String, Heard>>, queue: &Queue) {
    let Some(node) = change.latest() else { return };
    let name = node.name().to_owned();
    if change.new.is_none() {
        heard.lock().remove(&name);
        return;
    }
    let beat = |node: &Arc<Node>| node.condition("Ready").and_then(|c| c.last_heartbeat_time.clone());
    let alive = change.old.as_ref().and_then(beat) != change.new.as_ref().and_then(beat);
    let now = Timestamp::now();
    let mut heard = heard.lock();
    if alive {
        heard.insert(name.clone(), Heard { at: now });
    } else {
        heard.entry(name.clone()).or_insert(Heard { at: now });
    }
    drop(heard);
    queue.add(Key::cluster(name));
}

/// A node that fell or came back changes how fast the others may be evicted from.
fn pace_changed(change: &Change<Node>, caches: &Caches, queue: &Queue) {
    let ready = |node: &Arc<Node>| node.condition("Ready").map(|c| c.status == "True");
    if change.old.as_ref().map(ready) == change.new.as_ref().map(ready) {
        return;
    }
    for node in caches.nodes.all().iter().filter(|node| ready(node) == Some(false)) {
        queue.add(Key::cluster(node.name()));
    }
}

fn lease_changed(change: &Change<NodeLease>, heard: &Mutex<HashMap<String, Heard>>, queue: &Queue) {
    let Some(lease) = &change.new else { return };
    if change.old.as_ref().is_some_and(|old| old.spec.renew_time == lease.spec.renew_time) {
        return;
    }
    let name = lease.metadata.name.clone().unwrap_or_default();
    let mut heard = heard.lock();
    let silent = heard.insert(name.clone(), Heard { at: Timestamp::now() }).is_none();
    drop(heard);
    if silent {
        queue.add(Key::cluster(name));
    }
}

impl Controller for Health {
    type Snapshot = Snapshot;
    const NAME: &'static str = "node-lifecycle";

    async fn snapshot(&self, key: &Key) -> Result<Option<Snapshot>, LookError> {
        let Some(node) = self.caches.nodes.get(key) else { return Ok(None) };
        let now = Timestamp::now();
        let heard = self.heard.lock().entry(key.name.clone()).or_insert(Heard { at: now }).at;
        let pods = self.caches.pods.indexed(BY_NODE, &key.name);
        let evict = self.evict(&node, now);
        Ok(Some(Snapshot { node, heard, pods, evict, limits: self.limits }))
    }

    fn plan(&self, snapshot: &Snapshot, now: Timestamp) -> Plan {
        plan(snapshot, now)
    }
}

/// Conditions, pods' readiness and taints for one node.
#[must_use]
pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    let mut plan = Plan::none();
    let node = &*snapshot.node;
    let ready = node.condition("Ready");
    // A node that never said anything is still starting.
    let limit = if ready.is_some() { snapshot.limits.grace } else { snapshot.limits.startup_grace };
    match left(now, snapshot.heard, limit) {
        Some(wait) => plan.again_after(wait),
        None => plan.push_all(silent(node, now).into_iter().collect()),
    }
    if ready.is_some_and(|c| c.status != "True") {
        plan.push_all(unready_pods(snapshot, now));
    }
    taint(snapshot, now, &mut plan);
    plan
}

/// Makes the conditions of a silent node Unknown.
fn silent(node: &Node, now: Timestamp) -> Option<Action> {
    let mut conditions: Vec<Value> = Vec::new();
    for type_ in CONDITIONS {
        let (reason, message) = match node.condition(type_) {
            Some(condition) if condition.status == "Unknown" => continue,
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
        };
        conditions.push(json!({
            "type": type_, "status": "Unknown", "reason": reason, "message": message,
            "lastTransitionTime": Time(now),
        }));
    }
    if conditions.is_empty() {
        return None;
    }
    let body = json!({ "metadata": { "uid": node.metadata.uid }, "status": { "conditions": conditions } });
    let name = node.name();
    let message = format!("Node {name} status is now: NodeNotReady");
    let action = Action::strategic(NODE, Key::cluster(name), "status", body).missing_ok();
    Some(action.tells(Note::new(node, NoteKind::Normal, "NodeNotReady", message)))
}

/// Pods of a node that is not ready are not ready either: services must not send anything there.
fn unready_pods(snapshot: &Snapshot, now: Timestamp) -> Vec<Action> {
    let ready = snapshot.pods.iter().filter(|pod| pod.ready() && !pod.ended());
    ready
        .map(|pod| {
            let condition = json!({
                "type": "Ready", "status": "False", "lastTransitionTime": Time(now),
                "reason": "NodeNotReady", "message": "Node is not ready",
            });
            let guard = json!({ "uid": pod.metadata.uid });
            let body = json!({ "metadata": guard, "status": { "conditions": [condition] } });
            let action = Action::strategic(POD, Key::of(&pod.metadata), "status", body).missing_ok();
            action.tells(Note::new(&**pod, NoteKind::Warning, "NodeNotReady", "Node is not ready"))
        })
        .collect()
}

fn taint(snapshot: &Snapshot, now: Timestamp, plan: &mut Plan) {
    let node = &*snapshot.node;
    let due = taints::evicting(node);
    let present = due.filter(|_| taints::evicted(node));
    let evict = match snapshot.evict {
        Evict::Now => due,
        Evict::After(wait) => {
            plan.again_after(wait);
            plan.note("its turn to be evicted from has not come");
            present
        }
        Evict::Stopped => present,
        Evict::CalledOff => {
            if due.is_some() {
                plan.note("every node is not ready: no evictions, this side may be cut off");
            }
            None
        }
    };
    let wanted = taints::wanted(node, evict, now);
    if wanted != node.spec.taints {
        plan.push(replace_taints(node, &wanted));
    }
}

/// Taints have no merge key that tells two effects of one key apart, so that the list is written whole, guarded by
/// the revision.
fn replace_taints(node: &Node, taints: &[Taint]) -> Action {
    let body = json!({ "metadata": crate::diff::guard(&node.metadata), "spec": { "taints": taints } });
    Action::merge(NODE, Key::cluster(node.name()), "", body).missing_ok()
}
