//! Subresources and what is written beside objects: binding, scale, tokens, node connections, service addresses.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;

use carrack_store::Range;
use common::{Cluster, DEPLOYMENTS, PODS, SERVICES, deployment, pod, service};
use http::Method;
use serde_json::{Value, json};

fn binding(node: &str) -> Value {
    json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": node}})
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    client.post(PODS, &pod("p")).await.expect(201);
    let path = format!("{PODS}/p/binding");
    assert_eq!(
        client.post(&path, &json!({"metadata": {"name": "p"}, "target": {"kind": "Node"}})).await.code,
        422
    );
    let done = client.post(&path, &binding("n1")).await.expect(201);
    assert_eq!(done["status"], "Success");
    let bound = client.get(&format!("{PODS}/p")).await.expect(200);
    assert_eq!(bound["spec"]["nodeName"], "n1");
    let scheduled =
        bound["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "PodScheduled");
    assert_eq!(scheduled.unwrap()["status"], "True");
    assert_eq!(client.post(&path, &binding("n2")).await.code, 409);
    assert_eq!(
        client
            .post(&format!("{PODS}/none/binding"), &json!({"target": {"kind": "Node", "name": "n"}}))
            .await
            .code,
        404
    );
    let mut second = pod("p2");
    second["metadata"]["name"] = json!("p2");
    client.post(PODS, &second).await.expect(201);
    let older = json!({"metadata": {"name": "p2"}, "target": {"kind": "Node", "name": "n1"}});
    client.post("/api/v1/namespaces/default/bindings", &older).await.expect(201);
    assert_eq!(client.get(&format!("{PODS}/p2")).await.expect(200)["spec"]["nodeName"], "n1");
}

#[tokio::test]
async fn scale_is_read_and_written() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    client.post(DEPLOYMENTS, &deployment("web", 2)).await.expect(201);
    let path = format!("{DEPLOYMENTS}/web/scale");
    let mut scale = client.get(&path).await.expect(200);
    assert_eq!((scale["kind"].as_str(), &scale["spec"]["replicas"]), (Some("Scale"), &json!(2)));
    assert_eq!(scale["status"]["selector"], "app=web");
    scale["spec"]["replicas"] = json!(5);
    assert_eq!(client.put(&path, &scale).await.expect(200)["spec"]["replicas"], 5);
    assert_eq!(client.put(&path, &scale).await.code, 409, "its resourceVersion is stale");
    let patched = client.patch("merge", &path, &json!({"spec": {"replicas": 1}})).await.expect(200);
    assert_eq!(patched["spec"]["replicas"], 1);
    let object = client.get(&format!("{DEPLOYMENTS}/web")).await.expect(200);
    assert_eq!((&object["spec"]["replicas"], &object["metadata"]["generation"]), (&json!(1), &json!(3)));
    assert_eq!(client.patch("merge", &path, &json!({"spec": {"replicas": -1}})).await.code, 422);
    let refused = client.patch("strategic-merge", &path, &json!({"spec": {"replicas": "x"}})).await;
    assert_eq!(refused.code, 422, "{}", refused.text());
    let why = "patch: Invalid value: \"map[spec:map[replicas:x]]\": unrecognized type: int32";
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    assert!(message.ends_with(why), "{message}");
    assert_eq!(client.get(&format!("{DEPLOYMENTS}/none/scale")).await.code, 404);
}

#[tokio::test]
async fn tokens_are_asked_of_the_issuer() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    client.post(accounts, &json!({"metadata": {"name": "robot"}})).await.expect(201);
    let made = client.post(PODS, &pod("p")).await.expect(201);
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": made["metadata"]["uid"]});
    let request = json!({"spec": {"audiences": [], "boundObjectRef": bound}});
    let issued = client.post(&format!("{accounts}/robot/token"), &request).await.expect(201);
    assert_eq!(issued["status"]["token"], "robot:p");
    let mut other = request.clone();
    other["spec"]["boundObjectRef"]["uid"] = json!("another");
    assert_eq!(client.post(&format!("{accounts}/robot/token"), &other).await.code, 409);
    other["spec"]["boundObjectRef"]["name"] = json!("gone");
    assert_eq!(client.post(&format!("{accounts}/robot/token"), &other).await.code, 404);
    assert_eq!(
        client.post(&format!("{accounts}/none/token"), &json!({"spec": {"audiences": []}})).await.code,
        404
    );
}

#[tokio::test]
async fn connections_go_to_the_pods_node() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    client.post(PODS, &pod("p")).await.expect(201);
    let log = format!("{PODS}/p/log");
    assert_eq!(client.get(&log).await.code, 204, "not bound yet: nothing to say, as upstream");
    client.post(&format!("{PODS}/p/binding"), &binding("n1")).await.expect(201);
    assert_eq!(client.get(&log).await.code, 500, "the node is not registered");
    client.post("/api/v1/nodes", &json!({"metadata": {"name": "n1"}})).await.expect(201);
    assert_eq!(client.get(&log).await.text(), "log on n1");
    let exec = client.send(Method::POST, &format!("{PODS}/p/exec?command=ls&stdout=1"), "").await;
    assert_eq!(exec.text(), "exec on n1");
}

#[tokio::test]
async fn evictions_delete_and_respect_preconditions() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    client.post(PODS, &pod("p")).await.expect(201);
    let path = format!("{PODS}/p/eviction");
    let other = json!({"metadata": {"name": "p"}, "deleteOptions": {"preconditions": {"uid": "another"}}});
    assert_eq!(client.post(&path, &other).await.code, 409);
    assert_eq!(client.post(&format!("{path}?dryRun=All"), &json!({})).await.code, 201);
    client.get(&format!("{PODS}/p")).await.expect(200);
    let gone = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    assert_eq!(client.post(&path, &gone).await.expect(201)["status"], "Success");
    assert_eq!(client.get(&format!("{PODS}/p")).await.code, 404);
    assert_eq!(client.post(&path, &gone).await.code, 404);
}

#[tokio::test]
async fn evictions_ask_the_budget_of_a_running_pod() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let mut web = pod("p");
    web["metadata"]["labels"] = json!({"app": "web"});
    client.post(PODS, &web).await.expect(201);
    let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    client.patch("merge", &format!("{PODS}/p/status"), &ready).await.expect(200);
    let budget = |name: &str| {
        json!({"metadata": {"name": name},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}})
    };
    client.post(budgets, &budget("b")).await.expect(201);
    let path = format!("{PODS}/p/eviction");
    let evict = json!({"metadata": {"name": "p"}});
    let unseen = client.post(&path, &evict).await;
    assert_eq!(unseen.headers["retry-after"], "10");
    assert_eq!(
        unseen.expect(429)["details"],
        json!({"retryAfterSeconds": 10, "causes": [{"reason": "DisruptionBudget",
            "message": "The disruption budget b is still being processed by the server."}]})
    );
    let allows = |count: u8| {
        json!({"status": {"observedGeneration": 1, "expectedPods": 1, "currentHealthy": 1,
            "desiredHealthy": 1, "disruptionsAllowed": count}})
    };
    client.patch("merge", &format!("{budgets}/b/status"), &allows(0)).await.expect(200);
    let refused = client.post(&path, &evict).await.expect(429);
    assert_eq!(
        refused["details"]["causes"][0]["message"],
        "The disruption budget b needs 1 healthy pods and has 1 currently"
    );
    client.patch("merge", &format!("{budgets}/b/status"), &allows(1)).await.expect(200);
    client.post(budgets, &budget("c")).await.expect(201);
    let several = client.post(&path, &evict).await.expect(500);
    assert!(several["message"].as_str().unwrap().contains("more than one PodDisruptionBudget"), "{several}");
    client.delete(&format!("{budgets}/c")).await.expect(200);
    client.post(&format!("{path}?dryRun=All"), &evict).await.expect(201);
    let kept = client.get(&format!("{budgets}/b")).await.expect(200);
    assert_eq!(kept["status"]["disruptionsAllowed"], 1);
    // A pod that nothing finalizes would be gone, with what is said of it.
    let held = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    client.patch("merge", &format!("{PODS}/p"), &held).await.expect(200);
    client.post(&path, &evict).await.expect(201);
    let gone = client.get(&format!("{PODS}/p")).await.expect(200);
    assert!(gone["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(gone["status"]["conditions"][1]["reason"], "EvictionByEvictionAPI");
    let taken = client.get(&format!("{budgets}/b")).await.expect(200);
    assert_eq!(taken["status"]["disruptionsAllowed"], 0);
    assert!(taken["status"]["disruptedPods"]["p"].is_string());
    assert_eq!(taken["status"]["conditions"][0]["reason"], "InsufficientPods");
    // One that goes already disrupts nothing more.
    client.post(&path, &evict).await.expect(201);
}

#[tokio::test]
async fn ephemeral_containers_are_added_through_their_own_path() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    client.post(PODS, &pod("p")).await.expect(201);
    let path = format!("{PODS}/p/ephemeralcontainers");
    let debug = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox"}]}});
    let answer = client.patch("strategic-merge", &path, &debug).await;
    assert!(answer.warnings().is_empty(), "{:?}", answer.warnings());
    let patched = answer.expect(200);
    assert_eq!(patched["spec"]["ephemeralContainers"][0]["name"], "debug");
    assert_eq!(client.get(&path).await.expect(200), patched);
    let direct = json!({"spec": {"ephemeralContainers": null}});
    assert_eq!(client.patch("merge", &format!("{PODS}/p"), &direct).await.code, 422);
}

async fn claims(cluster: &Cluster) -> BTreeSet<String> {
    let found = cluster.store.range(Range::prefix("/carrack/serviceips/")).await.unwrap();
    let text = |key: &[u8]| String::from_utf8_lossy(&key["/carrack/serviceips/".len()..]).into_owned();
    found.kvs.iter().map(|kv| text(&kv.key)).collect()
}

#[tokio::test]
async fn service_addresses_are_given_kept_and_released() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    assert_eq!(claims(&cluster).await, ["10.96.0.1", "10.96.0.10"].map(str::to_owned).into());
    let made = client.post(SERVICES, &service("web")).await.expect(201);
    let address = made["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(address.starts_with("10.96."), "{address}");
    assert_eq!(made["spec"]["clusterIPs"], json!([address]));
    assert!(claims(&cluster).await.contains(&address));
    // An update that does not name the address keeps it.
    let path = format!("{SERVICES}/web");
    let kept = client.put(&path, &service("web")).await.expect(200);
    assert_eq!(kept["spec"]["clusterIP"], address.as_str());
    let moved = client
        .patch("merge", &path, &json!({"spec": {"clusterIP": "10.96.7.7", "clusterIPs": ["10.96.7.7"]}}))
        .await;
    assert_eq!(moved.code, 422, "an address is immutable");
    let mut wish = service("wish");
    wish["spec"]["clusterIP"] = json!("10.96.0.50");
    client.post(SERVICES, &wish).await.expect(201);
    // Zeros before its numbers make no other address of it.
    let mut zeros = service("zeros");
    zeros["spec"]["clusterIP"] = json!("010.96.0.051");
    client.post(SERVICES, &zeros).await.expect(201);
    assert!(claims(&cluster).await.contains("10.96.0.51"));
    client.delete(&format!("{SERVICES}/zeros")).await.expect(200);
    for (name, taken) in [("a", "10.96.0.50"), ("d", "010.96.0.50"), ("b", "10.97.0.1"), ("c", "10.96.0.0")] {
        let mut other = service(name);
        other["spec"]["clusterIP"] = json!(taken);
        let refused = client.post(SERVICES, &other).await;
        assert_eq!(refused.code, 422, "{taken}: {}", refused.text());
    }
    let mut headless = service("headless");
    headless["spec"]["clusterIP"] = json!("None");
    assert_eq!(client.post(SERVICES, &headless).await.expect(201)["spec"]["clusterIP"], "None");
    client.delete(&path).await.expect(200);
    client.delete(&format!("{SERVICES}/wish")).await.expect(200);
    assert_eq!(claims(&cluster).await.len(), 2);
}

#[tokio::test]
async fn node_ports_are_given_and_released() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let mut wish = service("np");
    wish["spec"]["type"] = json!("NodePort");
    let made = client.post(SERVICES, &wish).await.expect(201);
    let port = made["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30_000..=32_767).contains(&port), "{port}");
    let mut same = service("same");
    same["spec"]["type"] = json!("NodePort");
    same["spec"]["ports"][0]["nodePort"] = json!(port);
    assert_eq!(client.post(SERVICES, &same).await.code, 422);
    client.delete(&format!("{SERVICES}/np")).await.expect(200);
    client.post(SERVICES, &same).await.expect(201);
}

#[tokio::test]
async fn services_made_at_once_get_addresses_of_their_own() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let makers: Vec<_> = (0..60)
        .map(|i| {
            let client = client.clone();
            tokio::spawn(async move {
                let made = client.post(SERVICES, &service(&format!("s{i}"))).await.expect(201);
                made["spec"]["clusterIP"].as_str().unwrap().to_owned()
            })
        })
        .collect();
    let mut addresses = BTreeSet::new();
    for maker in makers {
        assert!(addresses.insert(maker.await.unwrap()));
    }
    assert!(claims(&cluster).await.is_superset(&addresses));
}

#[tokio::test]
async fn every_cluster_begins_with_the_same_objects() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        client.get(&format!("/api/v1/namespaces/{namespace}")).await.expect(200);
    }
    let kubernetes = client.get(&format!("{SERVICES}/kubernetes")).await.expect(200);
    assert_eq!(kubernetes["spec"]["clusterIP"], "10.96.0.1");
    let endpoints = client.get("/api/v1/namespaces/default/endpoints/kubernetes").await.expect(200);
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "192.0.2.1");
    let slice = client
        .get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes")
        .await
        .expect(200);
    assert_eq!(slice["ports"][0]["port"], 6443);
    let dns = client.get("/api/v1/namespaces/kube-system/services/kube-dns").await.expect(200);
    assert_eq!(dns["spec"]["clusterIP"], "10.96.0.10");
    client.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode").await.expect(200);
    let revision = cluster.settled().await;
    cluster.api.start().await.unwrap();
    assert_eq!(cluster.settled().await, revision + 1, "a second start says that the server lives, no more");
    // What pods depend on comes back.
    let mut services = client.watch(&format!("{SERVICES}?watch=1&resourceVersion={revision}")).await;
    client.delete(&format!("{SERVICES}/kubernetes")).await.expect(200);
    assert_eq!(services.line().await, "DELETED kubernetes");
    let back = services.next().await.unwrap();
    assert_eq!(
        (back["type"].as_str(), back["object"]["spec"]["clusterIP"].as_str()),
        (Some("ADDED"), Some("10.96.0.1"))
    );
}
