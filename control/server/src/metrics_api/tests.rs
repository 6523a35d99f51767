//! What is read of a node's answer and what is made of it; how often nodes are asked, with nodes made here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::scrape::Scrapes;
use super::summary::{Reading, Summary};
use super::{is_lost, objects};
use crate::{ApiError, NodeProxy, NodeRequest, RequestBody, ResponseBody, full};

const TIME: &str = "2026-01-02T03:04:05.678Z";

fn usage(nano_cores: Option<u64>, bytes: u64) -> Value {
    let mut usage = json!({
        "cpu": {"time": TIME, "usageCoreNanoSeconds": 9},
        "memory": {"time": TIME, "usageBytes": 1, "workingSetBytes": bytes},
    });
    if let Some(rate) = nano_cores {
        usage["cpu"]["usageNanoCores"] = rate.into();
    }
    usage
}

fn container(name: &str, nano_cores: Option<u64>, bytes: u64) -> Value {
    let mut container = usage(nano_cores, bytes);
    container["name"] = name.into();
    container
}

fn pod(name: &str, containers: &[Value]) -> Value {
    json!({"podRef": {"name": name, "namespace": "web", "uid": "u"}, "containers": containers})
}

fn summary(pods: &[Value]) -> Summary {
    let text = json!({"node": usage(Some(1_500_000), 2048), "pods": pods}).to_string();
    Summary::read(text.as_bytes()).unwrap()
}

#[test]
fn pods_of_which_something_is_missing_are_left_out() {
    let found = summary(&[
        pod("whole", &[container("a", Some(7), 5), container("b", Some(0), 6)]),
        pod("young", &[container("a", Some(7), 5), container("b", None, 6)]),
        pod("gone", &[container("a", Some(7), 0)]),
    ]);
    let at: Timestamp = TIME.parse().unwrap();
    assert_eq!(found.node(), Some(Reading { at, nano_cores: 1_500_000, over: None, working_set: 2048 }));
    let names = |name: &str| found.pod("web", name).map(|all| all.iter().map(|(c, _)| c.as_str()).collect());
    assert_eq!(names("whole"), Some(vec!["a", "b"]));
    assert_eq!((names("young"), names("gone")), (None::<Vec<&str>>, None));
    assert!(found.pod("other", "whole").is_none());
    for broken in ["", "{}", "[]", "{\"node\": {\"cpu\": {\"time\": \"yesterday\"}}}"] {
        assert!(Summary::read(broken.as_bytes()).is_err(), "{broken:?}");
    }
    let bare = Summary::read(b"{\"node\": {}}").unwrap();
    assert!(bare.node().is_none());
}

#[test]
fn objects_are_those_of_metrics_server() {
    let now: Timestamp = "2026-01-02T03:04:09.9Z".parse().unwrap();
    let mut measured = container("a", Some(250_000_000), 1000);
    measured["cpu"]["windowMilliseconds"] = 14_213.into();
    let found = summary(&[pod("p", &[measured]), pod("none", &[])]);
    let stored =
        json!({"metadata": {"name": "n", "uid": "u", "labels": {"zone": "z"}, "resourceVersion": "3"}});
    let node = objects::node(&stored, found.node().unwrap(), now);
    let expected = json!({
        "kind": "NodeMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": {"name": "n", "creationTimestamp": "2026-01-02T03:04:09Z", "labels": {"zone": "z"}},
        "timestamp": "2026-01-02T03:04:05Z", "window": "20s", "usage": {"cpu": "1500u", "memory": "2Ki"},
    });
    assert_eq!(node, expected);
    let stored = json!({"metadata": {"name": "p", "namespace": "web", "labels": {}}});
    let expected = json!({
        "kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": {"name": "p", "namespace": "web", "creationTimestamp": "2026-01-02T03:04:09Z"},
        "timestamp": "2026-01-02T03:04:05Z", "window": "14.213s",
        "containers": [{"name": "a", "usage": {"cpu": "250m", "memory": "1k"}}],
    });
    assert_eq!(objects::pod(&stored, found.pod("web", "p").unwrap(), now), Some(expected));
    assert_eq!(objects::pod(&stored, found.pod("web", "none").unwrap(), now), None);
}

#[test]
fn nodes_whose_lease_ran_out_are_lost() {
    let node = |ready: &str| json!({"status": {"conditions": [{"type": "MemoryPressure", "status": "Unknown"}, {"type": "Ready", "status": ready}]}});
    assert!(is_lost(&node("Unknown")));
    assert!(!is_lost(&node("True")) && !is_lost(&node("False")) && !is_lost(&json!({})));
}

/// Nodes that answer as their names say, and how often they were asked.
#[derive(Default)]
struct Nodes(AtomicUsize);

#[async_trait::async_trait]
impl NodeProxy for Nodes {
    async fn forward(&self, _: NodeRequest) -> Result<Response<ResponseBody>, ApiError> {
        Err(ApiError::internal("nobody asks for that here"))
    }

    async fn proxy(
        &self,
        node: &Value,
        path: &str,
        _: Request<RequestBody>,
    ) -> Result<Response<ResponseBody>, ApiError> {
        assert_eq!(path, "/stats/summary?only_cpu_and_memory=true");
        self.0.fetch_add(1, Ordering::SeqCst);
        let good = json!({"node": usage(Some(1), 1)}).to_string();
        match node["metadata"]["name"].as_str().unwrap() {
            "good" => Ok(Response::new(full(good))),
            "silent" => std::future::pending().await,
            "odd" => Ok(Response::new(full("not JSON"))),
            "huge" => Ok(Response::new(full(vec![b' '; 9 << 20]))),
            "guarded" => Ok(Response::builder().status(403).body(full(good)).unwrap()),
            name => Err(ApiError::internal(format!("{name} cannot be reached"))),
        }
    }
}

fn named(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"metadata": {"name": name}})).collect()
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_is_left_out_and_waited_for_once() {
    let (scrapes, nodes) = (Scrapes::default(), Nodes::default());
    let asked = named(&["silent", "good", "odd", "huge", "guarded", "away"]);
    let began = tokio::time::Instant::now();
    for _ in 0..2 {
        let said = scrapes.of(&nodes, &asked).await;
        assert_eq!(said.keys().collect::<Vec<_>>(), ["good"]);
    }
    // The clock is the test's own. When the silent one is given up, what the other five said is old.
    assert_eq!((nodes.0.load(Ordering::SeqCst), began.elapsed()), (6 + 5, Duration::from_secs(10)));
}

#[tokio::test(start_paused = true)]
async fn answers_are_shared_for_a_moment() {
    let (scrapes, nodes) = (Arc::new(Scrapes::default()), Nodes::default());
    let asked = named(&["good"]);
    let many = (0..20).map(|_| scrapes.of(&nodes, &asked));
    for said in futures::future::join_all(many).await {
        assert!(said["good"].node().is_some());
    }
    assert_eq!(nodes.0.load(Ordering::SeqCst), 1);
    tokio::time::advance(Duration::from_secs(9)).await;
    scrapes.of(&nodes, &asked).await;
    assert_eq!(nodes.0.load(Ordering::SeqCst), 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    scrapes.of(&nodes, &asked).await;
    assert_eq!(nodes.0.load(Ordering::SeqCst), 2);
    tokio::time::advance(Duration::from_secs(301)).await;
    scrapes.of(&nodes, &named(&["away"])).await;
    assert_eq!(scrapes.known(), ["away"], "what nobody asks for is forgotten");
}
