//! Deletion: in the background, in the foreground, leaving dependents behind; and of whole namespaces.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::harness::{Cluster, check, until};
use crate::workloads::{deployment, rolled_out};

async fn counts(cluster: &Cluster) -> (usize, usize, usize) {
    let list = ListParams::default();
    (
        cluster.api::<Deployment>().list(&list).await.unwrap().items.len(),
        cluster.api::<ReplicaSet>().list(&list).await.unwrap().items.len(),
        cluster.api::<Pod>().list(&list).await.unwrap().items.len(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn background_foreground_and_orphan() {
    let cluster = Cluster::start().await;
    cluster.node("n1").await;
    for how in [DeleteParams::background(), DeleteParams::foreground()] {
        cluster.create("deployments", deployment("web", 2)).await;
        rolled_out(&cluster, "web", 2).await;
        cluster.delete::<Deployment>("web", how.clone()).await;
        let (_, took) = until("everything gone", || async {
            let counts = counts(&cluster).await;
            check(counts == (0, 0, 0), counts)
        })
        .await;
        println!("{:?}: gone after {took:?}", how.propagation_policy);
    }
    cluster.create("deployments", deployment("web", 2)).await;
    rolled_out(&cluster, "web", 2).await;
    cluster.delete::<Deployment>("web", DeleteParams::orphan()).await;
    until("the deployment gone, the rest free", || async {
        let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
        let free = sets.iter().all(|s| s.metadata.owner_references.as_ref().is_none_or(Vec::is_empty));
        let counts = counts(&cluster).await;
        check(counts == (0, 1, 2) && free, (counts, free))
    })
    .await;
    // A new deployment of the same template takes the set over, pods and all.
    let before = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    cluster.create("deployments", deployment("web", 2)).await;
    rolled_out(&cluster, "web", 2).await;
    let after = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    let names = |pods: Vec<Pod>| pods.into_iter().map(|p| p.metadata.name.unwrap()).collect::<Vec<_>>();
    assert_eq!(names(before), names(after));
}

fn map(name: &str, owners: &[&ConfigMap]) -> serde_json::Value {
    let owners: Vec<_> = owners
        .iter()
        .map(|o| {
            json!({
                "apiVersion": "v1", "kind": "ConfigMap", "blockOwnerDeletion": true,
                "name": o.metadata.name, "uid": o.metadata.uid,
            })
        })
        .collect();
    let meta = json!({ "name": name, "namespace": "default", "ownerReferences": owners });
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": meta })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_owner_keeps_a_dependent_and_a_cycle_does_not() {
    let cluster = Cluster::start().await;
    let maps = cluster.api::<ConfigMap>();
    let make = |name: &'static str, owners: Vec<ConfigMap>| {
        let (cluster, maps) = (&cluster, maps.clone());
        async move {
            cluster.create("configmaps", map(name, &owners.iter().collect::<Vec<_>>())).await;
            maps.get(name).await.unwrap()
        }
    };
    let (first, second) = (make("first", vec![]).await, make("second", vec![]).await);
    make("shared", vec![first, second]).await;
    cluster.delete::<ConfigMap>("first", DeleteParams::background()).await;
    until("only the second owner left", || async {
        let shared = maps.get("shared").await.unwrap();
        let owners = shared.metadata.owner_references.unwrap_or_default();
        check(owners.len() == 1 && owners[0].name == "second", owners)
    })
    .await;
    cluster.delete::<ConfigMap>("second", DeleteParams::background()).await;
    until("the dependent gone", || async { check(maps.get_opt("shared").await.unwrap().is_none(), "there") })
        .await;

    let a = make("a", vec![]).await;
    let b = make("b", vec![a]).await;
    let owner = json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "b", "uid": b.metadata.uid, "blockOwnerDeletion": true }]);
    let patch = json!({ "metadata": { "ownerReferences": owner } });
    maps.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    cluster.delete::<ConfigMap>("a", DeleteParams::foreground()).await;
    until("both gone", || async {
        let left = [maps.get_opt("a").await.unwrap(), maps.get_opt("b").await.unwrap()];
        check(left.iter().all(Option::is_none), left)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_whose_owner_never_was_goes() {
    let cluster = Cluster::start().await;
    let ghost = ConfigMap {
        metadata: kube::core::ObjectMeta {
            name: Some("ghost".into()),
            uid: Some("00000000-0000-0000-0000-000000000000".into()),
            ..Default::default()
        },
        ..ConfigMap::default()
    };
    cluster.create("configmaps", map("haunted", &[&ghost])).await;
    let maps = cluster.api::<ConfigMap>();
    until("gone", || async { check(maps.get_opt("haunted").await.unwrap().is_none(), "there") }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_goes_with_everything_in_it() {
    let cluster = Cluster::start().await;
    cluster.node("n1").await;
    cluster
        .create("namespaces", json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "a" } }))
        .await;
    let mut web = deployment("web", 3);
    web["metadata"]["namespace"] = "a".into();
    cluster.create("deployments", web).await;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), "a");
    until("pods", || async {
        let count = pods.list(&ListParams::default()).await.unwrap().items.len();
        check(count == 3, count)
    })
    .await;
    let held = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "held", "namespace": "a", "finalizers": ["example.com/hold"] },
    });
    cluster.create("configmaps", held).await;
    let namespaces: Api<Namespace> = cluster.all();
    namespaces.delete("a", &DeleteParams::default()).await.unwrap();
    until("a condition that says what holds it", || async {
        let namespace = namespaces.get("a").await.unwrap();
        let conditions = namespace.status.and_then(|s| s.conditions).unwrap_or_default();
        let held =
            conditions.iter().find(|c| c.type_ == "NamespaceFinalizersRemaining" && c.status == "True");
        let message = held.and_then(|c| c.message.clone()).unwrap_or_default();
        check(message.contains("example.com/hold in 1 resource instances"), conditions)
    })
    .await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "a");
    let free = json!({ "metadata": { "finalizers": null } });
    maps.patch("held", &PatchParams::default(), &Patch::Merge(&free)).await.unwrap();
    let (_, took) = until("the namespace gone", || async {
        let found = namespaces.get_opt("a").await.unwrap();
        check(found.is_none(), found)
    })
    .await;
    println!("namespace gone {took:?} after the last finalizer");
}
