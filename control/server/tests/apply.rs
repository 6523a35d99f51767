//! Server-side apply over HTTP; what merging does is tested beside it in `carrack-api`.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Cluster, DEPLOYMENTS, MAPS, PODS, deployment, map, pod};
use serde_json::{Value, json};

fn managers(object: &Value) -> Vec<(String, String, String)> {
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries.iter().map(|e| (text(e, "manager"), text(e, "operation"), text(e, "subresource"))).collect()
}

fn entry(manager: &str, operation: &str, subresource: &str) -> (String, String, String) {
    (manager.to_owned(), operation.to_owned(), subresource.to_owned())
}

#[tokio::test]
async fn an_apply_creates_changes_and_lets_go() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let path = format!("{MAPS}/a?fieldManager=me");
    let dry = client.patch("apply", &format!("{path}&dryRun=All"), &map("a", "1")).await.expect(201);
    assert_eq!(managers(&dry), [entry("me", "Apply", "")]);
    assert_eq!(client.get(&format!("{MAPS}/a")).await.code, 404);
    let created = client.patch("apply", &path, &map("a", "1")).await.expect(201);
    assert_eq!(created["data"]["k"], "1");
    let again = client.patch("apply", &path, &map("a", "1")).await.expect(200);
    assert_eq!(again, created, "nothing changed, so that nothing was written");
    let other =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "y"}});
    let changed = client.patch("apply", &path, &other).await.expect(200);
    assert_eq!(changed["data"], json!({"x": "y"}));
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  x: z\n";
    let media = "application/apply-patch+yaml";
    let text = client.with("content-type", media).send(http::Method::PATCH, &path, yaml).await.expect(200);
    assert_eq!(text["data"], json!({"x": "z"}));
}

#[tokio::test]
async fn conflicts_and_force() {
    let cluster = Cluster::start().await;
    let client = cluster.client().with("user-agent", "tool/1.0 (linux)");
    let created = client.post(DEPLOYMENTS, &deployment("web", 1)).await.expect(201);
    assert_eq!(managers(&created), [entry("tool", "Update", "")]);
    let path = format!("{DEPLOYMENTS}/web?fieldManager=me");
    let config = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 3},
    });
    let conflict = client.patch("apply", &path, &config).await.expect(409);
    assert_eq!(conflict["reason"], "Conflict");
    let words = conflict["message"].as_str().unwrap();
    assert!(
        words.starts_with("Apply failed with 1 conflict: conflict with \"tool\" using apps/v1"),
        "{words}"
    );
    assert_eq!(conflict["details"]["causes"][0]["field"], ".spec.replicas");
    let forced = client.patch("apply", &format!("{path}&force=true"), &config).await.expect(200);
    assert_eq!(forced["spec"]["replicas"], 3);
    assert_eq!(managers(&forced), [entry("me", "Apply", ""), entry("tool", "Update", "")]);
    // Scaling is a write of the object's replicas, told apart by its subresource.
    let scale = json!({"spec": {"replicas": 4}});
    client.patch("merge", &format!("{DEPLOYMENTS}/web/scale"), &scale).await.expect(200);
    let scaled = client.get(&format!("{DEPLOYMENTS}/web")).await.expect(200);
    assert!(managers(&scaled).contains(&entry("tool", "Update", "scale")), "{:?}", managers(&scaled));
    let applied = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 5}});
    let on_scale = format!("{DEPLOYMENTS}/web/scale?fieldManager=me");
    assert_eq!(client.patch("apply", &on_scale, &applied).await.code, 409);
    let scale = client.patch("apply", &format!("{on_scale}&force=1"), &applied).await.expect(200);
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(5)));
    // Who may scale may not label.
    let mut labelled = applied.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    labelled["metadata"]["finalizers"] = json!(["a.b/c"]);
    client.patch("apply", &format!("{on_scale}&force=1"), &labelled).await.expect(200);
    let scaled = client.get(&format!("{DEPLOYMENTS}/web")).await.expect(200);
    assert_eq!(
        (&scaled["metadata"]["labels"]["a"], &scaled["metadata"]["finalizers"]),
        (&json!(null), &json!(null))
    );
}

#[tokio::test]
async fn status_is_applied_apart() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    client.post(PODS, &pod("a")).await.expect(201);
    let status = |phase: &str| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "status": {"phase": phase}});
    let path = format!("{PODS}/a/status?fieldManager=me&force=true");
    let object = client.patch("apply", &path, &status("Running")).await.expect(200);
    assert_eq!(object["status"]["phase"], "Running");
    assert!(managers(&object).contains(&entry("me", "Apply", "status")));
    let main = format!("{PODS}/a?fieldManager=me&force=true");
    let ignored = client.patch("apply", &main, &status("Failed")).await.expect(200);
    assert_eq!(ignored["status"]["phase"], "Running");
    let nothing = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b"}});
    let path = format!("{PODS}/b/status?fieldManager=me");
    assert_eq!(client.patch("apply", &path, &nothing).await.code, 404);
}

#[tokio::test]
async fn what_is_refused() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let path = format!("{MAPS}/a");
    let unnamed = client.patch("apply", &path, &map("a", "1")).await.expect(422);
    assert_eq!(
        unnamed["message"],
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
    let path = format!("{path}?fieldManager=me");
    let mut unknown = map("a", "1");
    unknown["unknownField"] = json!(1);
    let refused = client.patch("apply", &path, &unknown).await.expect(400);
    assert_eq!(
        refused["message"],
        "failed to create typed patch object (default/a; v1, Kind=ConfigMap): .unknownField: field not declared in schema"
    );
    assert_eq!(client.patch("apply", &path, &map("b", "1")).await.code, 400);
    let mut managed = map("a", "1");
    managed["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "Apply"}]);
    let refused = client.patch("apply", &path, &managed).await.expect(400);
    assert_eq!(refused["message"], "metadata.managedFields must be nil");
    for (api_version, kind, found) in [
        ("", "", "/, Kind="),
        ("v1", "Secret", "/v1, Kind=Secret"),
        ("apps/v1", "ConfigMap", "apps/v1, Kind=ConfigMap"),
    ] {
        let mut other = map("a", "1");
        other["stringData"] = json!({"k": 1});
        other["apiVersion"] = json!(api_version);
        other["kind"] = json!(kind);
        let refused = client.patch("apply", &path, &other).await.expect(400);
        assert_eq!(refused["message"], format!("invalid object type: {found}"));
    }
    let mut of_another = map("a", "1");
    of_another["metadata"]["uid"] = json!("u");
    assert_eq!(client.patch("apply", &path, &of_another).await.code, 409);
    let garbage = client.with("content-type", "application/apply-patch+yaml");
    assert_eq!(garbage.send(http::Method::PATCH, &path, "{]").await.code, 400);
    client.post(MAPS, &map("a", "1")).await.expect(201);
    let forced = client.patch("merge", &format!("{MAPS}/a?force=true"), &json!({})).await.expect(422);
    assert!(forced["message"].as_str().unwrap().contains("may not be specified for non-apply patch"));
}
