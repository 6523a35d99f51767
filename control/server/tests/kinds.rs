//! Kinds with something of their own: two versions over one storage, a selector that the server makes, a scale by a
//! plain map of labels.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::Cluster;
use serde_json::{Value, json};

const V1: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
const V2: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";

#[tokio::test]
async fn an_autoscaler_is_one_in_both_versions() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let body = json!({
        "metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50, "scaleTargetRef": target},
    });
    let created = client.post(V1, &body).await.expect(201);
    assert_eq!(created["apiVersion"], "autoscaling/v1");
    assert_eq!(created["spec"]["targetCPUUtilizationPercentage"], 50);
    let (v1, v2) = (format!("{V1}/h"), format!("{V2}/h"));
    let read = client.get(&v2).await.expect(200);
    assert_eq!(read["apiVersion"], "autoscaling/v2");
    assert_eq!(read["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
    let memory = json!({"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}});
    let metrics = json!([read["spec"]["metrics"][0], {"type": "Resource", "resource": memory}]);
    client.patch("merge", &v2, &json!({"spec": {"metrics": metrics}})).await.expect(200);
    // A client of v1 that changes what it knows leaves the rest as it is.
    let patch = json!({"spec": {"targetCPUUtilizationPercentage": 60}});
    let patched = client.patch("merge", &v1, &patch).await.expect(200);
    assert_eq!(patched["spec"]["targetCPUUtilizationPercentage"], 60);
    let metrics = client.get(&v2).await.expect(200)["spec"]["metrics"].clone();
    let of = |name: &str| -> Value {
        let found = metrics.as_array().unwrap().iter().find(|m| m["resource"]["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {metrics}"))["resource"]["target"].clone()
    };
    assert_eq!(of("cpu")["averageUtilization"], 60);
    assert_eq!(of("memory")["averageValue"], "1Gi");
    let list = client.get(V1).await.expect(200);
    assert_eq!(list["items"][0]["spec"]["targetCPUUtilizationPercentage"], 60);
    let wrong = client.patch("merge", &v1, &json!({"spec": {"maxReplicas": 0}})).await.expect(422);
    assert_eq!(wrong["details"]["causes"][0]["field"], "spec.maxReplicas");
}

#[tokio::test]
async fn a_job_selects_its_own_pods() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "a:1"}]});
    let body = json!({"metadata": {"generateName": "j-"}, "spec": {"template": {"spec": pod}}});
    let job = client.post("/apis/batch/v1/namespaces/default/jobs", &body).await.expect(201);
    let key = "batch.kubernetes.io/controller-uid";
    assert_eq!(job["spec"]["selector"]["matchLabels"][key], job["metadata"]["uid"]);
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["batch.kubernetes.io/job-name"], job["metadata"]["name"]);
}

#[tokio::test]
async fn a_plain_selector_scales() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let pod = json!({"containers": [{"name": "c", "image": "a:1"}]});
    let template = json!({"metadata": {"labels": {"b": "c", "a": "b"}}, "spec": pod});
    let body = json!({"metadata": {"name": "r"}, "spec": {"replicas": 1, "template": template}});
    const CONTROLLERS: &str = "/api/v1/namespaces/default/replicationcontrollers";
    client.post(CONTROLLERS, &body).await.expect(201);
    let path = format!("{CONTROLLERS}/r/scale");
    let scaled = client.patch("merge", &path, &json!({"spec": {"replicas": 4}})).await.expect(200);
    assert_eq!(scaled["spec"]["replicas"], 4);
    assert_eq!(scaled["status"]["selector"], "a=b,b=c");
}
