//! Quotas, protection of what is in use, and aggregated roles, with the API server that they work with.

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, ResourceQuota};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::harness::{Cluster, check, until};
use crate::workloads::deployment;

async fn used(cluster: &Cluster, name: &str) -> Value {
    let quota = cluster.api::<ResourceQuota>().get(name).await.unwrap();
    quota.status.map_or(Value::Null, |status| json!(status.used))
}

async fn is_used(cluster: &Cluster, name: &str, expected: Value) {
    until("the count", || async {
        let used = used(cluster, name).await;
        check(used == expected, used)
    })
    .await;
}

fn quota(name: &str, hard: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": { "name": name, "namespace": "default" }, "spec": { "hard": hard },
    })
}

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_quota_counts_what_is_there_and_a_changed_one_what_it_limits_now() {
    let cluster = Cluster::start().await;
    let maps = cluster.api::<ConfigMap>();
    until("the certificate", || async { maps.get("kube-root-ca.crt").await.map_err(|e| e.to_string()) })
        .await;
    let hard = json!({ "configmaps": "3", "count/deployments.apps": "1", "secrets": "0" });
    cluster.create("resourcequotas", quota("q", hard)).await;
    let counted = json!({ "configmaps": "1", "count/deployments.apps": "0", "secrets": "0" });
    is_used(&cluster, "q", counted).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100 {
        let maps = maps.clone();
        let name = format!("m{number}");
        tasks.spawn(async move { maps.create(&PostParams::default(), &map(&name)).await.is_ok() });
    }
    let made = tasks.join_all().await.into_iter().filter(|made| *made).count();
    assert_eq!(made, 2, "one was there before");
    cluster.create("deployments", deployment("web", 0)).await;
    let more =
        json!({ "spec": { "hard": { "configmaps": "4", "count/deployments.apps": null, "services": "9" } } });
    let quotas = cluster.api::<ResourceQuota>();
    quotas.patch("q", &PatchParams::default(), &Patch::Merge(&more)).await.unwrap();
    is_used(&cluster, "q", json!({ "configmaps": "3", "secrets": "0", "services": "1" })).await;
    maps.create(&PostParams::default(), &map("one-more")).await.unwrap();
    assert!(maps.create(&PostParams::default(), &map("too-many")).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_grows_as_far_as_the_quota_lets_it_and_further_when_there_is_room() {
    let cluster = Cluster::start().await;
    cluster.node("n1").await;
    cluster.create("resourcequotas", quota("pods", json!({ "pods": "2" }))).await;
    is_used(&cluster, "pods", json!({ "pods": "0" })).await;
    cluster.create("deployments", deployment("web", 4)).await;
    let pods = cluster.api::<Pod>();
    let number = || async { pods.list(&ListParams::default()).await.unwrap().items.len() };
    until("two pods", || async {
        let n = number().await;
        check(n == 2, n)
    })
    .await;
    is_used(&cluster, "pods", json!({ "pods": "2" })).await;
    let raise = json!({ "spec": { "hard": { "pods": "3" } } });
    let quotas = cluster.api::<ResourceQuota>();
    quotas.patch("pods", &PatchParams::default(), &Patch::Merge(&raise)).await.unwrap();
    until("a third", || async {
        let n = number().await;
        check(n == 3, n)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_goes_when_its_last_pod_is_gone() {
    let cluster = Cluster::start().await;
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "name": "data", "namespace": "default" },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
    });
    cluster.create("persistentvolumeclaims", claim).await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "user", "namespace": "default" },
        "spec": {
            "nodeName": "n1",
            "containers": [{ "name": "c", "image": "i" }],
            "volumes": [{ "name": "v", "persistentVolumeClaim": { "claimName": "data" } }],
        },
    });
    cluster.node("n1").await;
    cluster.create("pods", pod).await;
    let claims = cluster.api::<PersistentVolumeClaim>();
    claims.delete("data", &DeleteParams::default()).await.unwrap();
    // Long enough for the controller to let go if it were going to.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(claims.get("data").await.unwrap().metadata.deletion_timestamp.is_some());
    cluster.delete::<Pod>("user", DeleteParams::default()).await;
    until("the claim gone", || async {
        let left = claims.get_opt("data").await.unwrap();
        check(left.is_none(), left)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_with_the_label_becomes_part_of_view_and_of_what_view_is_part_of() {
    let cluster = Cluster::start().await;
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": "widgets", "labels": { "rbac.authorization.k8s.io/aggregate-to-view": "true" } },
        "rules": [{ "apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["get"] }],
    });
    cluster.create("clusterroles", role).await;
    let roles: Api<ClusterRole> = cluster.all();
    let has = |role: &ClusterRole| {
        role.rules.iter().flatten().any(|rule| rule.resources.iter().flatten().any(|r| r == "widgets"))
    };
    for name in ["view", "edit", "admin"] {
        until(name, || async { check(has(&roles.get(name).await.unwrap()), name) }).await;
    }
    roles.delete("widgets", &DeleteParams::default()).await.unwrap();
    for name in ["view", "edit", "admin"] {
        until(name, || async { check(!has(&roles.get(name).await.unwrap()), name) }).await;
    }
}
