//! The queues: order, back-off, hints, gates.

use serde_json::json;

use super::*;
use crate::framework::Point;
use crate::plugins::default_framework;
use crate::table::NodeChange;
use crate::view::{Node, Pod};

fn pod(uid: &str, priority: i32, change: serde_json::Value) -> Arc<PodInfo> {
    let mut spec = json!({ "priority": priority, "containers": [{}] });
    spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let pod = json!({ "metadata": { "name": uid, "namespace": "ns", "uid": uid }, "spec": spec });
    PodInfo::of(&serde_json::from_value::<Pod>(pod).unwrap())
}

fn plain(uid: &str, priority: i32) -> Arc<PodInfo> {
    pod(uid, priority, json!({}))
}

fn pop(queue: &mut Queue) -> Option<String> {
    queue.pop().map(|pod| pod.uid.clone())
}

fn table() -> Table {
    let mut table = Table::new();
    let node = json!({
        "metadata": { "name": "n" },
        "status": { "allocatable": { "cpu": "1", "memory": "1Gi", "pods": "10" } },
    });
    table.set_node(&serde_json::from_value::<Node>(node).unwrap());
    table
}

fn rejected_by(framework: &Framework, name: &str) -> PluginSet {
    let mut set = PluginSet::default();
    let (number, _, _) = framework.at(Point::Filter).find(|(_, p, _)| p.name() == name).unwrap();
    set.insert(number);
    set
}

const LABELS: NodeChange = NodeChange { added: false, allocatable: false, labels: true, taints: false };

#[test]
fn priority_then_arrival() {
    let (framework, mut queue) = (default_framework(), Queue::default());
    for (uid, priority) in [("low", 0), ("first", 5), ("second", 5), ("high", 9)] {
        queue.put(&framework, plain(uid, priority));
    }
    let order: Vec<_> = std::iter::from_fn(|| pop(&mut queue)).collect();
    assert_eq!(order, ["high", "first", "second", "low"]);
}

#[test]
fn gated_pods_wait_for_their_gates() {
    let (framework, mut queue) = (default_framework(), Queue::default());
    queue.put(&framework, pod("p", 0, json!({ "schedulingGates": [{ "name": "g" }] })));
    assert_eq!((pop(&mut queue), queue.counts().gated), (None, 1));
    queue.put(&framework, plain("p", 0));
    assert_eq!(pop(&mut queue).as_deref(), Some("p"));
}

#[test]
fn only_an_event_that_helps_wakes_a_pod() {
    let (framework, mut queue, table) = (default_framework(), Queue::default(), table());
    let now = Instant::now();
    queue.put(&framework, plain("p", 0));
    queue.pop();
    queue.park("p", rejected_by(&framework, "NodeResourcesFit"), now);
    queue.wake(&framework, &table, Event::Node(0, LABELS), now);
    assert_eq!(queue.counts().parked, 1, "labels do not help a pod that lacks resources");
    queue.wake(&framework, &table, Event::Freed(0), now);
    assert_eq!(pop(&mut queue).as_deref(), Some("p"), "the node would do now");
}

#[test]
fn a_pod_that_is_helped_but_would_still_fail_backs_off() {
    let (framework, mut queue, mut table) = (default_framework(), Queue::default(), table());
    table.unschedulable.insert(0);
    let now = Instant::now();
    queue.put(&framework, plain("p", 0));
    queue.pop();
    queue.park("p", rejected_by(&framework, "NodeResourcesFit"), now);
    queue.wake(&framework, &table, Event::Freed(0), now);
    assert_eq!(queue.counts().backing_off, 1);
    queue.tick(now + Duration::from_millis(999));
    assert_eq!(pop(&mut queue), None);
    queue.tick(now + Duration::from_secs(1));
    assert_eq!(pop(&mut queue).as_deref(), Some("p"));
    let later = now + Duration::from_secs(60);
    queue.park("p", rejected_by(&framework, "NodeResourcesFit"), now);
    queue.wake(&framework, &table, Event::Freed(0), later);
    assert_eq!(pop(&mut queue).as_deref(), Some("p"), "its back-off is long over");
}

#[test]
fn an_event_wakes_only_those_whom_the_node_would_suit() {
    let (framework, mut queue, table) = (default_framework(), Queue::default(), table());
    let now = Instant::now();
    let large = json!({ "containers": [{ "resources": { "requests": { "cpu": "5" } } }] });
    queue.put(&framework, pod("large", 0, large));
    queue.pop();
    queue.park("large", rejected_by(&framework, "NodeResourcesFit"), now);
    queue.wake(&framework, &table, Event::Freed(0), now);
    assert_eq!(queue.counts().parked, 1);
}

#[test]
fn a_first_node_wakes_pods_that_found_none() {
    let (framework, mut queue, table) = (default_framework(), Queue::default(), table());
    let now = Instant::now();
    queue.put(&framework, plain("p", 0));
    queue.pop();
    queue.park("p", PluginSet::default(), now);
    let added = NodeChange { added: true, ..NodeChange::default() };
    queue.wake(&framework, &table, Event::Node(0, added), now + Duration::from_secs(2));
    assert_eq!(pop(&mut queue).as_deref(), Some("p"));
}

#[test]
fn a_change_of_the_pod_itself_is_a_new_try_and_a_change_of_its_status_is_not() {
    let (framework, mut queue) = (default_framework(), Queue::default());
    let now = Instant::now();
    queue.put(&framework, plain("p", 0));
    queue.pop();
    queue.park("p", rejected_by(&framework, "TaintToleration"), now);
    queue.put(&framework, plain("p", 0));
    assert_eq!(pop(&mut queue), None);
    queue.put(&framework, pod("p", 0, json!({ "tolerations": [{ "operator": "Exists" }] })));
    assert_eq!(pop(&mut queue).as_deref(), Some("p"));
}

#[test]
fn back_off_doubles_up_to_its_limit() {
    let seconds: Vec<_> = (1..8).map(|attempts| backoff(attempts).as_secs()).collect();
    assert_eq!(seconds, [1, 2, 4, 8, 10, 10, 10]);
}
