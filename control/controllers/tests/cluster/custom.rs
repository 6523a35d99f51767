//! Custom resources, which come while the controllers run, are collected and go with their namespace.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::harness::{Cluster, check, until};

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": { "plural": "widgets", "kind": "Widget" },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object" } },
            }],
        },
    })
}

fn widgets(cluster: &Cluster, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("example.com", "v1", "Widget");
    let resource = ApiResource::from_gvk_with_plural(&kind, "widgets");
    Api::namespaced_with(cluster.client.clone(), namespace, &resource)
}

fn widget(namespace: &str, owner: Option<&ConfigMap>) -> Value {
    let owners: Vec<Value> = owner
        .map(|o| {
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": o.metadata.name, "uid": o.metadata.uid })
        })
        .into_iter()
        .collect();
    json!({
        "apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": { "name": "w", "namespace": namespace, "ownerReferences": owners },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn custom_resources_are_collected_and_go_with_their_namespace() {
    let cluster = Cluster::start().await;
    cluster.create("customresourcedefinitions", definition()).await;
    let ours = widgets(&cluster, "default");
    until("the kind", || async { ours.list(&Default::default()).await.map_err(|e| e.to_string()) }).await;

    let owner = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "owner", "namespace": "default" } });
    cluster.create("configmaps", owner).await;
    let owner = cluster.api::<ConfigMap>().get("owner").await.unwrap();
    cluster.create("widgets", widget("default", Some(&owner))).await;
    cluster.delete::<ConfigMap>("owner", DeleteParams::background()).await;
    until("the dependent gone", || async {
        let found = ours.get_opt("w").await.unwrap();
        check(found.is_none(), found)
    })
    .await;

    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } });
    cluster.create("namespaces", namespace).await;
    cluster.create("widgets", widget("shop", None)).await;
    let namespaces: Api<Namespace> = cluster.all();
    namespaces.delete("shop", &DeleteParams::default()).await.unwrap();
    until("the namespace gone", || async {
        let found = namespaces.get_opt("shop").await.unwrap();
        check(found.is_none(), found)
    })
    .await;
    assert!(widgets(&cluster, "shop").get_opt("w").await.unwrap().is_none());
}
