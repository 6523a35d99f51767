//! Kinds with something of their own: two versions over one storage, a selector that the server makes, a scale by a
//! plain map of labels, fields that are written although nobody said anything in them.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Cluster, PODS, pod};
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

/// What its creator owns of an object.
fn owned(object: &Value) -> Value {
    object["metadata"]["managedFields"][0]["fieldsV1"].clone()
}

#[tokio::test]
async fn nothing_is_written_as_by_go_and_owned_by_nobody() {
    const EVENTS: &str = "/api/v1/namespaces/default/events";
    const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let body =
        json!({"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}, "reason": "Here"});
    let event = client.post(EVENTS, &body).await.expect(201);
    for (field, zero) in
        [("eventTime", Value::Null), ("reportingComponent", json!("")), ("source", json!({}))]
    {
        assert_eq!(event.get(field), Some(&zero), "{field}");
    }
    assert_eq!(owned(&event), json!({"f:involvedObject": {}, "f:reason": {}}));
    let other = client.get("/apis/events.k8s.io/v1/namespaces/default/events/e").await.expect(200);
    assert_eq!(other.get("deprecatedFirstTimestamp"), Some(&Value::Null));
    assert_eq!(
        (&other["regarding"]["namespace"], other.get("reportingController")),
        (&json!("default"), None)
    );

    let role = client.post(ROLES, &json!({"metadata": {"name": "r"}, "rules": []})).await.expect(201);
    assert_eq!((role.get("rules"), owned(&role)), (Some(&Value::Null), Value::Null));
    let path = format!("{ROLES}/r");
    // What is read may be written back, and what is null merges like what is not there.
    let same = client.put(&path, &role).await.expect(200);
    assert_eq!(same["metadata"]["resourceVersion"], role["metadata"]["resourceVersion"]);
    let rule = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]});
    let patched = client.patch("strategic-merge", &path, &json!({"rules": [rule]})).await.expect(200);
    assert_eq!(patched["rules"], json!([rule]));
    let emptied = client.patch("merge", &path, &json!({"rules": null})).await.expect(200);
    assert_eq!(emptied.get("rules"), Some(&Value::Null));
    let add = json!([{"op": "test", "path": "/rules", "value": null}, {"op": "add", "path": "/rules", "value": [rule]}]);
    assert_eq!(client.patch("json", &path, &add).await.expect(200)["rules"], json!([rule]));

    let node = client.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).await.expect(201);
    assert_eq!(node["status"]["nodeInfo"]["kubeletVersion"], "");
    assert_eq!(node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"], 0);
    assert_eq!(owned(&node), Value::Null);
    let conditions = json!([{"type": "Ready", "status": "True", "reason": "Up"}]);
    let status = json!({"status": {"conditions": conditions, "addresses": []}});
    let node = client.patch("strategic-merge", "/api/v1/nodes/n/status", &status).await.expect(200);
    assert_eq!(node["status"]["conditions"][0].get("lastHeartbeatTime"), Some(&Value::Null));
}

#[tokio::test]
async fn conditions_of_pods_have_their_times_and_specs_are_as_they_were() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let mut pod = pod("p");
    let claim =
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    pod["spec"]["volumes"] = json!([{"name": "v", "ephemeral": {"volumeClaimTemplate": claim}}]);
    let made = client.post(PODS, &pod).await.expect(201);
    let templates = |pod: &Value| -> Vec<Value> {
        let volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
        volumes.iter().filter_map(|v| v.pointer("/ephemeral/volumeClaimTemplate").cloned()).collect()
    };
    assert_eq!(templates(&made)[0]["metadata"], json!({}));
    let path = format!("{PODS}/p");
    // A client that leaves out what is always there changes nothing by it.
    let mut without = made.clone();
    for volume in without["spec"]["volumes"].as_array_mut().unwrap() {
        if let Some(Value::Object(template)) = volume.pointer_mut("/ephemeral/volumeClaimTemplate") {
            template.remove("metadata");
        }
    }
    let put = client.put(&path, &without).await.expect(200);
    assert_eq!(put["metadata"]["generation"], 1);
    assert_eq!(templates(&put)[0]["metadata"], json!({}));
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    let pod = client.patch("strategic-merge", &format!("{path}/status"), &status).await.expect(200);
    let ready = &pod["status"]["conditions"][0];
    assert_eq!((ready.get("lastProbeTime"), &ready["type"]), (Some(&Value::Null), &json!("Ready")));
    let key = "k:{\"type\":\"Ready\"}";
    let mine = pod["metadata"]["managedFields"].as_array().unwrap();
    let mine = mine.iter().find(|entry| entry["subresource"] == "status").unwrap();
    let fields = json!({
        ".": {}, "f:lastProbeTime": {}, "f:lastTransitionTime": {}, "f:status": {}, "f:type": {},
    });
    assert_eq!(mine["fieldsV1"]["f:status"]["f:conditions"][key], fields);
}

#[tokio::test]
async fn an_apply_owns_what_it_says_and_no_more() {
    const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let config = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "s"},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.1.2.3"]}],
    });
    let path = format!("{SLICES}/s?fieldManager=me");
    let made = client.patch("apply", &path, &config).await.expect(201);
    assert_eq!((made.get("ports"), &made["endpoints"][0]["conditions"]), (Some(&Value::Null), &json!({})));
    assert_eq!(owned(&made), json!({"f:addressType": {}, "f:endpoints": {}}));
    let again = client.patch("apply", &path, &config).await.expect(200);
    assert_eq!(again, made, "nothing changed, so that nothing was written");
    let mut more = config.clone();
    more["ports"] = json!([{"name": "", "port": 80, "protocol": "TCP"}]);
    let ported = client.patch("apply", &path, &more).await.expect(200);
    assert_eq!(ported["ports"], more["ports"]);
    let back = client.patch("apply", &path, &config).await.expect(200);
    assert_eq!(back.get("ports"), Some(&Value::Null));
}
