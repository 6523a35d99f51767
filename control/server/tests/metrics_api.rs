//! `metrics.k8s.io` as clients see it, over nodes made here; and that an APIService with a Service takes it over.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use carrack_server::{ApiError, NodeProxy, NodeRequest, RequestBody, ResponseBody, full};
use carrack_store::Store;
use common::{Client, Cluster, pod};
use http::{Method, Request, Response};
use serde_json::{Value, json};

const METRICS: &str = "/apis/metrics.k8s.io/v1beta1";
const SERVICE: &str = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// Every node but `dead` tells of the same pods.
struct Nodes;

#[async_trait::async_trait]
impl NodeProxy for Nodes {
    async fn forward(&self, _: NodeRequest) -> Result<Response<ResponseBody>, ApiError> {
        Err(ApiError::internal("nobody asks for that here"))
    }

    async fn proxy(
        &self,
        node: &Value,
        _: &str,
        _: Request<RequestBody>,
    ) -> Result<Response<ResponseBody>, ApiError> {
        match node["metadata"]["name"].as_str().unwrap() {
            "dead" => Err(ApiError::internal("no route to host")),
            "lost" => panic!("a node that is lost is not asked"),
            _ => Ok(Response::new(full(summary().to_string()))),
        }
    }
}

fn summary() -> Value {
    let (cpu, memory) = (
        json!({"time": "2026-01-02T03:04:05Z", "usageNanoCores": 250_000_000, "windowMilliseconds": 14_213}),
        json!({"workingSetBytes": 2 << 20}),
    );
    let container = |name: &str| json!({"name": name, "cpu": cpu, "memory": memory});
    let pod = |namespace: &str, name: &str| json!({"podRef": {"namespace": namespace, "name": name}, "containers": [container("main"), container("side")]});
    let pods = [
        pod("default", "web"),
        pod("default", "pending"),
        pod("kube-system", "dns"),
        pod("default", "elsewhere"),
    ];
    json!({"node": {"cpu": cpu, "memory": memory}, "pods": pods})
}

async fn start() -> (Cluster, Client) {
    let cluster = Cluster::with(|config| config.nodes = Arc::new(Nodes), Store::clone).await;
    cluster.api.start().await.unwrap();
    let client = cluster.client();
    (cluster, client)
}

/// Nodes of every sort, and pods on them.
async fn furnish(client: &Client) {
    for (name, ready) in [("n1", "True"), ("dead", "True"), ("lost", "Unknown"), ("n2", "False")] {
        let node = json!({"metadata": {"name": name, "labels": {"at": name}}});
        client.post("/api/v1/nodes", &node).await.expect(201);
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": ready}]}});
        client.patch("merge", &format!("/api/v1/nodes/{name}/status"), &status).await.expect(200);
    }
    let pods = [
        ("default", "web", "n1", "Running"),
        ("default", "pending", "n1", "Pending"),
        ("default", "unknown", "n1", "Running"),
        ("default", "elsewhere", "dead", "Running"),
        ("kube-system", "dns", "n2", "Running"),
    ];
    for (namespace, name, node, phase) in pods {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let mut pod = pod(name);
        pod["spec"]["nodeName"] = node.into();
        pod["metadata"]["labels"] = json!({"app": name});
        client.post(&path, &pod).await.expect(201);
        let status = json!({"status": {"phase": phase}});
        client.patch("merge", &format!("{path}/{name}/status"), &status).await.expect(200);
    }
}

async fn names(client: &Client, path: &str) -> Vec<String> {
    let list = client.get(&format!("{METRICS}/{path}")).await.expect(200);
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn nodes_that_answer_are_listed() {
    let (_cluster, client) = start().await;
    furnish(&client).await;
    let list = client.get(&format!("{METRICS}/nodes")).await.expect(200);
    assert_eq!((&list["kind"], &list["metadata"]), (&json!("NodeMetricsList"), &json!({})));
    let first = &list["items"][0];
    assert_eq!(first["usage"], json!({"cpu": "250m", "memory": "2Mi"}));
    assert_eq!((&first["timestamp"], &first["window"]), (&json!("2026-01-02T03:04:05Z"), &json!("14.213s")));
    assert!(first.get("kind").is_none() && first["metadata"]["labels"]["at"] == "n1", "{first}");
    for (query, expected) in [
        ("nodes", &["n1", "n2"][..]),
        ("nodes?limit=1", &["n1", "n2"]),
        ("nodes?labelSelector=at!%3Dn1", &["n2"]),
        ("nodes?fieldSelector=metadata.name%3Dn1", &["n1"]),
        ("nodes?fieldSelector=metadata.name%3Ddead", &[]),
    ] {
        assert_eq!(names(&client, query).await, expected, "{query}");
    }
    let one = client.get(&format!("{METRICS}/nodes/n2")).await.expect(200);
    assert_eq!((&one["kind"], &one["apiVersion"]), (&json!("NodeMetrics"), &json!("metrics.k8s.io/v1beta1")));
    for (name, words) in [
        ("dead", "nodemetrics.metrics.k8s.io \"dead\" not found"),
        ("lost", "nodemetrics.metrics.k8s.io \"lost\" not found"),
        ("none", "nodes \"none\" not found"),
    ] {
        assert_eq!(client.get(&format!("{METRICS}/nodes/{name}")).await.expect(404)["message"], words);
    }
    let table = client.with("accept", TABLE).get(&format!("{METRICS}/nodes")).await.expect(200);
    let columns = table["columnDefinitions"].as_array().unwrap().iter();
    assert_eq!(
        columns.map(|c| c["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["Name", "cpu", "memory", "Window"]
    );
    assert_eq!(table["rows"][1]["cells"], json!(["n2", "250m", "2Mi", "14.213s"]));
    assert_eq!(table["rows"][1]["object"]["kind"], "PartialObjectMetadata");
}

#[tokio::test]
async fn pods_that_run_are_listed() {
    let (_cluster, client) = start().await;
    furnish(&client).await;
    for (query, expected) in [
        ("pods", &["web", "dns"][..]),
        ("namespaces/default/pods", &["web"]),
        ("namespaces/kube-public/pods", &[]),
        ("pods?labelSelector=app%20in%20(dns,pending)", &["dns"]),
        ("pods?fieldSelector=metadata.namespace%3Ddefault", &["web"]),
        ("namespaces/kube-system/pods?fieldSelector=metadata.name!%3Dweb", &["dns"]),
    ] {
        assert_eq!(names(&client, query).await, expected, "{query}");
    }
    let web = client.get(&format!("{METRICS}/namespaces/default/pods/web")).await.expect(200);
    assert_eq!((&web["kind"], &web["metadata"]["namespace"]), (&json!("PodMetrics"), &json!("default")));
    assert_eq!(web["containers"][1], json!({"name": "side", "usage": {"cpu": "250m", "memory": "2Mi"}}));
    for (name, words) in [
        ("pending", "podmetrics.metrics.k8s.io \"default/pending\" not found"),
        ("unknown", "podmetrics.metrics.k8s.io \"default/unknown\" not found"),
        ("elsewhere", "podmetrics.metrics.k8s.io \"default/elsewhere\" not found"),
        ("none", "pods \"none\" not found"),
    ] {
        let path = format!("{METRICS}/namespaces/default/pods/{name}");
        assert_eq!(client.get(&path).await.expect(404)["message"], words);
    }
    let table = client.with("accept", TABLE).get(&format!("{METRICS}/pods")).await.expect(200);
    assert_eq!(table["rows"][0]["cells"], json!(["web", "500m", "4Mi", "14.213s"]));
    client.get(&format!("{METRICS}/pods?fieldSelector=status.phase%3DRunning")).await.expect(400);
    client.get(&format!("{METRICS}/pods?labelSelector=,,")).await.expect(400);
    for (method, path) in
        [(Method::POST, "pods"), (Method::DELETE, "pods/web"), (Method::GET, "pods?watch=1")]
    {
        let path = format!("{METRICS}/namespaces/default/{path}");
        assert_eq!(client.send(method, &path, "{}").await.code, 405, "{path}");
    }
}

#[tokio::test]
async fn discovery_and_openapi_tell_of_it() {
    let (_cluster, client) = start().await;
    let list = client.get(METRICS).await.expect(200);
    let nodes = json!({"name": "nodes", "singularName": "", "namespaced": false, "kind": "NodeMetrics", "verbs": ["get", "list"]});
    let pods = json!({"name": "pods", "singularName": "", "namespaced": true, "kind": "PodMetrics", "verbs": ["get", "list"]});
    assert_eq!(list["resources"], json!([nodes, pods]));
    let groups = client.get("/apis").await.expect(200);
    assert_eq!(groups["groups"].as_array().unwrap().last().unwrap()["name"], "metrics.k8s.io");
    let aggregated =
        client.with("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let items = aggregated.get("/apis").await.expect(200)["items"].clone();
    let item = items.as_array().unwrap().iter().find(|i| i["metadata"]["name"] == "metrics.k8s.io").unwrap();
    assert_eq!(item["versions"][0]["resources"][1]["responseKind"]["kind"], "PodMetrics");
    let document = client.get(&format!("/openapi/v3{METRICS}")).await.expect(200);
    let schema = &document["components"]["schemas"]["io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics"];
    assert_eq!(
        schema["properties"]["containers"]["items"]["$ref"],
        "#/components/schemas/io.k8s.metrics.pkg.apis.metrics.v1beta1.ContainerMetrics"
    );
    assert!(document["paths"].get(format!("{METRICS}/namespaces/{{namespace}}/pods")).is_some());
    let document = client.get("/openapi/v2").await.expect(200);
    let schema = &document["definitions"]["io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics"];
    assert_eq!(
        schema["properties"]["window"]["$ref"],
        "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.Duration"
    );
    assert_eq!(document["definitions"]["io.k8s.apimachinery.pkg.apis.meta.v1.Duration"]["type"], "string");
}

/// Waits until a list of nodes is answered with this code.
async fn answered(client: &Client, code: u16) {
    let began = Instant::now();
    while client.get(&format!("{METRICS}/nodes")).await.code != code {
        assert!(began.elapsed() < Duration::from_secs(60), "no {code}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn another_server_takes_over_and_leaves() {
    let (cluster, client) = start().await;
    let own = client.get(SERVICE).await.expect(200);
    assert_eq!(
        (&own["spec"]["groupPriorityMinimum"], &own["status"]["conditions"][0]["reason"]),
        (&json!(100), &json!("Local"))
    );
    answered(&client, 200).await;
    let spec = json!({"service": {"namespace": "kube-system", "name": "metrics-server"}, "insecureSkipTLSVerify": true});
    client.patch("merge", SERVICE, &json!({"spec": spec})).await.expect(200);
    // There is no such Service: nobody answers, and this server does not step in.
    answered(&client, 503).await;
    // A start leaves what people have written as it is.
    let cluster = cluster.restart().await;
    let client = cluster.client();
    assert_eq!(client.get(SERVICE).await.expect(200)["spec"]["service"]["name"], "metrics-server");
    answered(&client, 503).await;
    client.delete(SERVICE).await.expect(200);
    answered(&client, 200).await;
}
