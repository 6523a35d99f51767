//! News in, tasks out.

use serde_json::{Value, json};

use super::*;
use crate::plugins::default_framework;

struct Scene {
    core: Core,
    now: Instant,
    revision: u64,
}

fn scene() -> Scene {
    Scene { core: Core::new(DEFAULT_SCHEDULER, default_framework()), now: Instant::now(), revision: 0 }
}

impl Scene {
    fn node(&mut self, name: &str, cpu: &str) {
        let node = json!({
            "metadata": { "name": name },
            "status": { "allocatable": { "cpu": cpu, "memory": "1Gi", "pods": "10" } },
        });
        let node: Node = serde_json::from_value(node).unwrap();
        self.core.node_changed(&Change { old: None, new: Some(Arc::new(node)) }, self.now);
    }

    fn pod(&mut self, name: &str, spec: Value) -> Arc<Pod> {
        self.revision += 1;
        let meta = json!({ "namespace": "ns", "name": name, "uid": name, "resourceVersion": self.revision.to_string() });
        let pod: Pod = serde_json::from_value(json!({ "metadata": meta, "spec": spec })).unwrap();
        let pod = Arc::new(pod);
        self.core.pod_changed(&Change { old: None, new: Some(Arc::clone(&pod)) }, self.now);
        pod
    }

    fn gone(&mut self, pod: Arc<Pod>) {
        self.core.pod_changed(&Change { old: Some(pod), new: None }, self.now);
    }
}

fn asking(cpu: &str) -> Value {
    json!({ "containers": [{ "resources": { "requests": { "cpu": cpu } } }] })
}

fn bound(cpu: &str, node: &str) -> Value {
    let mut spec = asking(cpu);
    spec["nodeName"] = node.into();
    spec
}

fn bind(uid: &str, node: &str) -> Option<Task> {
    Some(Task::Bind { uid: uid.into(), node: node.into() })
}

#[test]
fn what_was_decided_counts_before_the_api_shows_it() {
    let mut scene = scene();
    scene.node("n", "1");
    scene.pod("a", asking("600m"));
    scene.pod("b", asking("600m"));
    assert_eq!(scene.core.next(scene.now), bind("a", "n"));
    let report = scene.core.next(scene.now);
    assert!(matches!(&report, Some(Task::Report { uid, .. }) if uid == "b"), "{report:?}");
    assert_eq!(scene.core.next(scene.now), None);
}

#[test]
fn a_binding_that_fails_frees_the_node_and_is_tried_again() {
    let mut scene = scene();
    scene.node("n", "1");
    scene.pod("a", asking("600m"));
    scene.pod("b", asking("600m"));
    scene.core.next(scene.now);
    scene.core.next(scene.now);
    scene.core.not_bound("a", "n", false, scene.now);
    assert_eq!(scene.core.next(scene.now), bind("b", "n"), "what is free goes to who waits");
    scene.core.not_bound("b", "n", true, scene.now);
    assert_eq!(scene.core.next(scene.now), None, "a backs off");
    scene.core.tick(scene.now + std::time::Duration::from_secs(1));
    assert_eq!(scene.core.next(scene.now), bind("a", "n"));
}

#[test]
fn a_pod_that_is_gone_is_not_tried_again() {
    let mut scene = scene();
    scene.node("n", "1");
    scene.pod("a", asking("600m"));
    scene.core.next(scene.now);
    scene.core.not_bound("a", "n", true, scene.now);
    scene.core.tick(scene.now + std::time::Duration::from_secs(60));
    assert!(!scene.core.has_work());
}

#[test]
fn a_pod_that_leaves_makes_room() {
    let mut scene = scene();
    scene.node("n", "1");
    let old = scene.pod("old", bound("600m", "n"));
    scene.pod("new", asking("600m"));
    assert!(matches!(scene.core.next(scene.now), Some(Task::Report { .. })));
    scene.gone(old);
    scene.core.tick(scene.now + std::time::Duration::from_secs(1));
    assert_eq!(scene.core.next(scene.now), bind("new", "n"));
}

#[test]
fn an_ended_pod_takes_nothing_and_a_terminating_one_still_does() {
    let mut scene = scene();
    scene.node("n", "1");
    let mut leaving = (*scene.pod("leaving", bound("600m", "n"))).clone();
    leaving.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let leaving = Arc::new(leaving);
    scene.core.pod_changed(&Change { old: None, new: Some(Arc::clone(&leaving)) }, scene.now);
    scene.pod("new", asking("600m"));
    assert!(matches!(scene.core.next(scene.now), Some(Task::Report { .. })));
    let mut ended = (*leaving).clone();
    ended.status.phase = Some("Failed".into());
    scene.core.pod_changed(&Change { old: Some(leaving), new: Some(Arc::new(ended)) }, scene.now);
    scene.core.tick(scene.now + std::time::Duration::from_secs(1));
    assert_eq!(scene.core.next(scene.now), bind("new", "n"));
}

#[test]
fn pods_of_other_schedulers_and_pods_on_their_way_out_are_left_alone() {
    let mut scene = scene();
    scene.node("n", "1");
    let mut spec = asking("1m");
    spec["schedulerName"] = "other".into();
    scene.pod("a", spec);
    assert!(!scene.core.has_work());
}

#[test]
fn pods_wait_for_the_first_node() {
    let mut scene = scene();
    scene.pod("a", asking("1m"));
    let told = scene.core.next(scene.now);
    assert!(
        matches!(&told, Some(Task::Report { message, .. }) if message == "no nodes available to schedule pods")
    );
    scene.node("n", "1");
    scene.core.tick(scene.now + std::time::Duration::from_secs(1));
    assert_eq!(scene.core.next(scene.now), bind("a", "n"));
}
