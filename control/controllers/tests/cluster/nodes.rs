//! Nodes: ranges, silence, taints, eviction; and pods that find no node.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{Cluster, check, now, until};

fn pod(name: &str, spec: Value) -> Value {
    let mut whole = json!({ "containers": [{ "name": "c", "image": "web:1" }] });
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "default" }, "spec": whole })
}

async fn bound_to(cluster: &Cluster, name: &str) -> (String, Duration) {
    let pods = cluster.api::<Pod>();
    until("bound", || async {
        let pod = pods.get(name).await.map_err(|e| e.to_string())?;
        pod.spec.and_then(|s| s.node_name).ok_or_else(|| format!("{:?}", pod.status))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_get_ranges_of_their_own() {
    let cluster = Cluster::start().await;
    for name in ["n1", "n2", "n3"] {
        cluster.node(name).await;
    }
    let nodes: Api<Node> = cluster.all();
    let (mut ranges, took) = until("a range each", || async {
        let all = nodes.list(&ListParams::default()).await.unwrap().items;
        let ranges: Vec<String> = all.into_iter().filter_map(|n| n.spec?.pod_cidr).collect();
        if ranges.len() == 3 { Ok(ranges) } else { Err(format!("{ranges:?}")) }
    })
    .await;
    ranges.sort();
    assert_eq!(ranges, ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"]);
    println!("ranges after {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_without_a_node_says_why_and_is_bound_when_one_comes() {
    let cluster = Cluster::start().await;
    cluster.node_with("small", json!({ "cpu": "1", "memory": "1Gi", "pods": "10" })).await;
    let wish =
        json!({ "containers": [{ "name": "c", "image": "i", "resources": { "requests": { "cpu": "2" } } }] });
    cluster.create("pods", pod("p", wish)).await;
    let pods = cluster.api::<Pod>();
    let expected = "0/1 nodes are available: 1 Insufficient cpu. \
                    preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    until("the condition", || async {
        let status = pods.get("p").await.unwrap().status.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let said = conditions.iter().find(|c| c.type_ == "PodScheduled").and_then(|c| c.message.clone());
        check(said.as_deref() == Some(expected), conditions)
    })
    .await;
    until("the event", || async {
        let events = cluster.api::<Event>().list(&ListParams::default()).await.unwrap().items;
        let said = events.iter().any(|e| {
            e.reason.as_deref() == Some("FailedScheduling") && e.message.as_deref() == Some(expected)
        });
        check(said, events.len())
    })
    .await;
    cluster.node("large").await;
    let (node, took) = bound_to(&cluster, "p").await;
    assert_eq!(node, "large");
    println!("bound {took:?} after the node came");
    cluster.create("pods", pod("q", json!({}))).await;
    println!("a pod bound {:?} after its creation", bound_to(&cluster, "q").await.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gates_hold_a_pod() {
    let cluster = Cluster::start().await;
    cluster.node("n1").await;
    cluster.create("pods", pod("p", json!({ "schedulingGates": [{ "name": "example.com/g" }] }))).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let pods = cluster.api::<Pod>();
    assert_eq!(pods.get("p").await.unwrap().spec.unwrap().node_name, None);
    let open = json!({ "spec": { "schedulingGates": [] } });
    pods.patch("p", &PatchParams::default(), &Patch::Merge(&open)).await.unwrap();
    assert_eq!(bound_to(&cluster, "p").await.0, "n1");
}

async fn taints(cluster: &Cluster, node: &str) -> Vec<(String, String)> {
    let nodes: Api<Node> = cluster.all();
    let taints = nodes.get(node).await.unwrap().spec.and_then(|s| s.taints).unwrap_or_default();
    taints.into_iter().map(|t| (t.key, t.effect)).collect()
}

/// Says something as the node's agent would.
async fn beat(cluster: &Cluster, node: &str, ready: &str) {
    let condition = json!({ "type": "Ready", "status": ready, "reason": "Kubelet", "message": "",
        "lastHeartbeatTime": now(), "lastTransitionTime": now() });
    let status = json!({ "status": { "conditions": [condition] } });
    let nodes: Api<Node> = cluster.all();
    nodes.patch_status(node, &PatchParams::default(), &Patch::Strategic(&status)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_is_tainted_its_pods_evicted_and_a_late_word_heals_it() {
    let cluster = Cluster::with(|options| options.node_grace = Duration::from_millis(1500)).await;
    cluster.node("silent").await;
    let endure = |seconds: u32| json!([{ "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds }]);
    cluster.create("pods", pod("patient", json!({ "tolerations": endure(300) }))).await;
    cluster.create("pods", pod("hasty", json!({ "tolerations": endure(0) }))).await;
    bound_to(&cluster, "hasty").await;
    bound_to(&cluster, "patient").await;
    // Another node goes on, so that it is not this side that is cut off.
    cluster.node("alive").await;
    let beating = async {
        loop {
            beat(&cluster, "alive", "True").await;
            // The heartbeat's time has whole seconds.
            tokio::time::sleep(Duration::from_millis(1000)).await;
        }
    };
    let story = async {
        until("Unknown", || async {
            let nodes: Api<Node> = cluster.all();
            let conditions = nodes.get("silent").await.unwrap().status.unwrap().conditions.unwrap();
            check(conditions.iter().any(|c| c.type_ == "Ready" && c.status == "Unknown"), conditions)
        })
        .await;
        until("both taints", || async {
            let taints = taints(&cluster, "silent").await;
            let has = |effect: &str| taints.iter().any(|(k, e)| k.ends_with("/unreachable") && e == effect);
            check(has("NoSchedule") && has("NoExecute"), &taints)
        })
        .await;
        let pods = cluster.api::<Pod>();
        until("the hasty pod evicted", || async {
            check(pods.get_opt("hasty").await.unwrap().is_none(), "there")
        })
        .await;
        let patient = pods.get("patient").await.unwrap();
        let conditions = patient.status.unwrap().conditions.unwrap();
        assert!(conditions.iter().any(|c| c.type_ == "Ready" && c.status == "False"), "{conditions:?}");
        beat(&cluster, "silent", "True").await;
        until("no taints", || async {
            let taints = taints(&cluster, "silent").await;
            check(taints.is_empty(), taints)
        })
        .await;
    };
    tokio::select! {
        () = beating => {}
        () = story => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cordoned_node_is_tainted_and_gets_no_pods() {
    let cluster = Cluster::start().await;
    cluster.node("n1").await;
    let nodes: Api<Node> = cluster.all();
    let cordon = |on: bool| json!({ "spec": { "unschedulable": on } });
    nodes.patch("n1", &PatchParams::default(), &Patch::Merge(&cordon(true))).await.unwrap();
    until("the taint", || async {
        let taints = taints(&cluster, "n1").await;
        check(taints.iter().any(|(key, _)| key == "node.kubernetes.io/unschedulable"), taints)
    })
    .await;
    cluster.create("pods", pod("p", json!({}))).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(cluster.api::<Pod>().get("p").await.unwrap().spec.unwrap().node_name, None);
    nodes.patch("n1", &PatchParams::default(), &Patch::Merge(&cordon(false))).await.unwrap();
    assert_eq!(bound_to(&cluster, "p").await.0, "n1");
}
