//! Deployments from apply to rollback, and the endpoints of their services.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Event, Pod, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{Cluster, check, until};

pub(crate) fn deployment(name: &str, replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "c", "image": "web:1" }] },
            },
        },
    })
}

/// Waits until a deployment is what it should be, as `kubectl rollout status` would.
pub(crate) async fn rolled_out(cluster: &Cluster, name: &str, replicas: i32) -> std::time::Duration {
    let api = cluster.api::<Deployment>();
    let (_, took) = until("rollout", || async {
        let d = api.get(name).await.unwrap();
        let status = d.status.clone().unwrap_or_default();
        let complete = status.observed_generation >= d.metadata.generation
            && status.updated_replicas.unwrap_or(0) == replicas
            && status.replicas.unwrap_or(0) == replicas
            && status.available_replicas.unwrap_or(0) == replicas;
        check(complete, status)
    })
    .await;
    took
}

async fn image(cluster: &Cluster, image: &str) {
    let patch =
        json!({ "spec": { "template": { "spec": { "containers": [{ "name": "c", "image": image }] } } } });
    let api = cluster.api::<Deployment>();
    api.patch("web", &PatchParams::default(), &Patch::Strategic(&patch)).await.unwrap();
}

async fn ready_addresses(cluster: &Cluster, service: &str) -> Vec<String> {
    let list = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
    let slices = cluster.api::<EndpointSlice>().list(&list).await.unwrap();
    let ready = slices.items.iter().flat_map(|s| &s.endpoints);
    let ready = ready.filter(|e| e.conditions.as_ref().is_some_and(|c| c.ready == Some(true)));
    let mut addresses: Vec<String> = ready.flat_map(|e| e.addresses.clone()).collect();
    addresses.sort();
    addresses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_lives_rolls_back_and_scales() {
    let cluster = Cluster::start().await;
    cluster.node("n1").await;
    cluster.create("deployments", deployment("web", 3)).await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": "default" },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    });
    cluster.create("services", service).await;
    let took = rolled_out(&cluster, "web", 3).await;
    println!("3 pods ready after {took:?}");
    until("three endpoints", || async {
        let addresses = ready_addresses(&cluster, "web").await;
        check(addresses.len() == 3, addresses)
    })
    .await;
    until("Endpoints too", || async {
        let endpoints = cluster.api::<Endpoints>().get("web").await.map_err(|e| e.to_string())?;
        let count = endpoints.subsets.iter().flatten().flat_map(|s| s.addresses.iter().flatten()).count();
        check(count == 3, endpoints)
    })
    .await;

    image(&cluster, "web:2").await;
    println!("rolled out after {:?}", rolled_out(&cluster, "web", 3).await);
    image(&cluster, "web:1").await;
    rolled_out(&cluster, "web", 3).await;
    let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
    let mut revisions: Vec<_> = sets
        .iter()
        .map(|s| s.metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision"].clone())
        .collect();
    revisions.sort();
    assert_eq!(revisions, ["2", "3"], "the first set was used again");

    let scale = json!({ "spec": { "replicas": 8 } });
    cluster.api::<Deployment>().patch("web", &PatchParams::default(), &Patch::Merge(&scale)).await.unwrap();
    println!("scaled to 8 after {:?}", rolled_out(&cluster, "web", 8).await);
    until("eight endpoints", || async {
        let addresses = ready_addresses(&cluster, "web").await;
        check(addresses.len() == 8, addresses)
    })
    .await;
    let events = cluster.api::<Event>().list(&ListParams::default()).await.unwrap().items;
    for reason in ["ScalingReplicaSet", "SuccessfulCreate", "SuccessfulDelete", "Scheduled"] {
        assert!(events.iter().any(|e| e.reason.as_deref() == Some(reason)), "no event {reason}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_rollout_keeps_the_old_pods_serving() {
    let cluster = Cluster::start().await;
    cluster.node("n1").await;
    cluster.create("deployments", deployment("web", 4)).await;
    rolled_out(&cluster, "web", 4).await;
    cluster.pods_become_ready(false);
    image(&cluster, "broken").await;
    let pods = cluster.api::<Pod>();
    until("two new pods, not ready", || async {
        let all = pods.list(&ListParams::default()).await.unwrap().items;
        let broken =
            all.iter().filter(|p| p.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("broken"));
        check(broken.count() == 2, all.len())
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let all = pods.list(&ListParams::default()).await.unwrap().items;
    let old = all.iter().filter(|p| p.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("web:1"));
    assert_eq!(old.count(), 3, "one of four may be unavailable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_goes_is_replaced_and_a_stray_one_adopted() {
    let cluster = Cluster::start().await;
    cluster.node("n1").await;
    cluster.create("deployments", deployment("web", 2)).await;
    rolled_out(&cluster, "web", 2).await;
    let pods = cluster.api::<Pod>();
    let victim = pods.list(&ListParams::default()).await.unwrap().items[0].clone();
    let name = victim.metadata.name.clone().unwrap();
    pods.delete(&name, &kube::api::DeleteParams::default()).await.unwrap();
    let (_, took) = until("a replacement", || async {
        let all = pods.list(&ListParams::default()).await.unwrap().items;
        let ready = all.iter().filter(|p| {
            let conditions = p.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
            p.metadata.name.as_ref() != Some(&name)
                && conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
        });
        check(ready.count() == 2, all.len())
    })
    .await;
    println!("replaced after {took:?}");
    // A pod whose label is taken away leaves its set, which makes another.
    let stray = pods.list(&ListParams::default()).await.unwrap().items[0].metadata.name.clone().unwrap();
    let patch = json!({ "metadata": { "labels": { "app": "stray" } } });
    pods.patch(&stray, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    until("three pods, one without an owner", || async {
        let all = pods.list(&ListParams::default()).await.unwrap().items;
        let free =
            all.iter().filter(|p| p.metadata.owner_references.as_ref().is_none_or(Vec::is_empty)).count();
        check(all.len() == 3 && free == 1, (all.len(), free))
    })
    .await;
    // And comes back when it has its label again: one is too many then.
    let patch = json!({ "metadata": { "labels": { "app": "web" } } });
    pods.patch(&stray, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    until("two pods, both owned", || async {
        let all = pods.list(&ListParams::default()).await.unwrap().items;
        let free =
            all.iter().filter(|p| p.metadata.owner_references.as_ref().is_none_or(Vec::is_empty)).count();
        check(all.len() == 2 && free == 0, (all.len(), free))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_namespace_has_its_account_and_certificate() {
    let cluster = Cluster::start().await;
    cluster
        .create("namespaces", json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "a" } }))
        .await;
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), "a");
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "a");
    let (_, took) =
        until("the account", || async { accounts.get("default").await.map_err(|e| e.to_string()) }).await;
    println!("account after {took:?}");
    until("the certificate", || async { maps.get("kube-root-ca.crt").await.map_err(|e| e.to_string()) })
        .await;
    let forged = json!({ "data": { "ca.crt": "forged" } });
    maps.patch("kube-root-ca.crt", &PatchParams::default(), &Patch::Merge(&forged)).await.unwrap();
    let right = || async {
        let map = maps.get("kube-root-ca.crt").await.map_err(|e| e.to_string())?;
        check(map.data.as_ref().unwrap()["ca.crt"].starts_with("-----BEGIN"), map)
    };
    until("the certificate put right", right).await;
    maps.delete("kube-root-ca.crt", &kube::api::DeleteParams::default()).await.unwrap();
    until("the certificate back", right).await;
}
