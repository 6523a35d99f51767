//! Priority and fairness as clients see it: the objects, and what answers say.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{Client, Cluster, MAPS};
use serde_json::{Value, json};

const SCHEMAS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
const LEVELS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations";

/// Waits until an object is as wanted.
async fn until(client: &Client, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..100 {
        let answer = client.get(path).await;
        if answer.code == 200 && wanted(&answer.json()) {
            return answer.json();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{path} stays {}", client.get(path).await.text());
}

fn dangling(schema: &Value) -> String {
    let conditions = schema["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|c| c["type"] == "Dangling");
    found.map(|c| c["status"].as_str().unwrap().to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn every_cluster_has_upstreams_objects_and_keeps_them() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let names = |list: Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().clone();
        items.iter().map(|i| i["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(client.get(SCHEMAS).await.expect(200)).len(), 13);
    assert_eq!(
        names(client.get(LEVELS).await.expect(200)),
        [
            "catch-all",
            "exempt",
            "global-default",
            "leader-election",
            "node-high",
            "system",
            "workload-high",
            "workload-low"
        ]
    );
    for accept in
        ["application/json;as=Table;v=v1;g=meta.k8s.io", "application/yaml;as=Table;v=v1;g=meta.k8s.io"]
    {
        let table = client.with("accept", accept).get(SCHEMAS).await;
        assert_eq!(table.code, 200, "{}", table.text());
        let table = table.text();
        let place =
            |name: &str| table.find(&format!("name: {name}")).or(table.find(&format!("\"{name}\""))).unwrap();
        // By matching precedence (1, 2, 500, 800, 800, 10000), and by name where it is the same.
        let places =
            ["exempt", "probes", "system-nodes", "kube-controller-manager", "kube-scheduler", "catch-all"];
        assert!(places.map(place).is_sorted(), "{table}");
    }
    client.delete(&format!("{SCHEMAS}/exempt")).await.expect(200);
    until(&client, &format!("{SCHEMAS}/exempt"), |s| dangling(s) == "False").await;
    let change = json!({"spec": {"limited": {"nominalConcurrencyShares": 7}}});
    client.patch("merge", &format!("{LEVELS}/catch-all"), &change).await.expect(422);
    client
        .patch("merge", &format!("{SCHEMAS}/catch-all"), &json!({"spec": {"matchingPrecedence": 5}}))
        .await
        .expect(422);
    client.patch("merge", &format!("{LEVELS}/workload-high"), &change).await.expect(200);
    until(&client, &format!("{LEVELS}/workload-high"), |l| {
        l["spec"]["limited"]["nominalConcurrencyShares"] == 40
    })
    .await;
    // What people took over stays theirs.
    let mine = json!({
        "metadata": {"annotations": {"apf.kubernetes.io/autoupdate-spec": "false"}},
        "spec": {"limited": {"nominalConcurrencyShares": 7}},
    });
    client.patch("merge", &format!("{LEVELS}/system"), &mine).await.expect(200);
    client.delete(&format!("{LEVELS}/workload-low")).await.expect(200);
    until(&client, &format!("{LEVELS}/workload-low"), |_| true).await;
    let kept = client.get(&format!("{LEVELS}/system")).await.expect(200);
    assert_eq!(kept["spec"]["limited"]["nominalConcurrencyShares"], 7);
}

#[tokio::test]
async fn answers_name_the_schema_and_the_level_that_a_new_object_decides() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let uid = async |path: String| {
        client.get(&path).await.expect(200)["metadata"]["uid"].as_str().unwrap().to_owned()
    };
    let answer = client.get(MAPS).await;
    assert_eq!(
        answer.headers["x-kubernetes-pf-flowschema-uid"],
        uid(format!("{SCHEMAS}/global-default")).await
    );
    assert_eq!(
        answer.headers["x-kubernetes-pf-prioritylevel-uid"],
        uid(format!("{LEVELS}/global-default")).await
    );
    let schema = json!({
        "metadata": {"name": "mine"},
        "spec": {
            "priorityLevelConfiguration": {"name": "mine"}, "matchingPrecedence": 50,
            "rules": [{
                "subjects": [{"kind": "User", "user": {"name": "tester"}}],
                "resourceRules": [{
                    "verbs": ["list"], "apiGroups": [""], "resources": ["configmaps"], "namespaces": ["default"],
                }],
            }],
        },
    });
    let made = client.post(SCHEMAS, &schema).await;
    assert!(made.warnings().is_empty(), "{:?}", made.warnings());
    made.expect(201);
    until(&client, &format!("{SCHEMAS}/mine"), |s| dangling(s) == "True").await;
    let level = json!({
        "metadata": {"name": "mine"},
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 10, "limitResponse": {"type": "Reject"}}},
    });
    let level = client.post(LEVELS, &level).await.expect(201);
    until(&client, &format!("{SCHEMAS}/mine"), |s| dangling(s) == "False").await;
    let wanted = level["metadata"]["uid"].as_str().unwrap();
    // The status is written by one who looks at the objects, requests are sorted by another.
    for _ in 0..600 {
        if client.get(MAPS).await.headers["x-kubernetes-pf-prioritylevel-uid"] == wanted {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let metrics = client.get("/metrics").await.text();
    for line in [
        "apiserver_flowcontrol_dispatched_requests_total{priority_level=\"mine\",flow_schema=\"mine\"} 1\n",
        "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"mine\"} 24\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}
