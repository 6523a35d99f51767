//! A Deployment from its first pod to its last, as users see it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use carrack_tests::http::Load;
use carrack_tests::{Scene, eventually, on_a_cluster};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(40);

fn deployments(scene: &Scene) -> Api<Deployment> {
    Api::namespaced(scene.cluster.client.clone(), "default")
}

async fn patch(scene: &Scene, patch: Value) -> Result<()> {
    deployments(scene).patch("web", &PatchParams::default(), &Patch::Strategic(patch)).await?;
    Ok(())
}

/// Waits until the Deployment says that its newest template is what runs.
async fn rolled_out(scene: &Scene) -> Result<()> {
    let api = deployments(scene);
    eventually("the rollout is complete", SOON, || async {
        let found = api.get("web").await?;
        let want = found.spec.as_ref().and_then(|s| s.replicas);
        let status = found.status.unwrap_or_default();
        let done = status.observed_generation == found.metadata.generation
            && status.updated_replicas == want
            && status.replicas == want
            && status.available_replicas == want;
        Ok(done.then_some(()))
    })
    .await
    .with_context(|| scene.cluster.log())
}

#[test]
fn a_deployment_lives() {
    on_a_cluster("deploy", |scene| async move {
        scene.cluster.apply(&scene.web()?).await?;
        scene.cluster.pods_are_ready("app=web", 3, SOON).await?;
        let web = scene.address("web", 80).await?;

        patch(&scene, json!({ "spec": { "replicas": 5 } })).await?;
        scene.cluster.pods_are_ready("app=web", 5, SOON).await?;
        patch(&scene, json!({ "spec": { "replicas": 2 } })).await?;
        scene.cluster.pods_are_ready("app=web", 2, SOON).await?;

        // A rolling update, under load: no request may fail.
        let load = Load::start(web, Duration::from_millis(1));
        let second = json!({ "spec": { "template": { "metadata": { "annotations": { "version": "2" } } } } });
        patch(&scene, second).await?;
        rolled_out(&scene).await?;
        let updated = scene.cluster.pods_are_ready("app=web", 2, SOON).await?;
        let annotated = |v: &str| {
            let v = v.to_owned();
            move |pod: &k8s_openapi::api::core::v1::Pod| {
                pod.metadata.annotations.as_ref().and_then(|a| a.get("version")) == Some(&v)
            }
        };
        ensure!(updated.iter().all(annotated("2")), "old pods are left");
        let seen = load.stop().await?;
        ensure!(seen.failures.is_empty(), "requests failed during the update: {:?}", seen.failures);
        ensure!(seen.total() > 50 && seen.answers.len() >= 3, "too little was asked: {seen:?}");

        // Back to the first template: its ReplicaSet is used again.
        let sets: Api<ReplicaSet> = Api::namespaced(scene.cluster.client.clone(), "default");
        let list = sets.list(&ListParams::default()).await?.items;
        ensure!(list.len() == 2, "there are {} ReplicaSets", list.len());
        patch(
            &scene,
            json!({ "spec": { "template": { "metadata": { "annotations": { "version": null } } } } }),
        )
        .await?;
        rolled_out(&scene).await?;
        ensure!(
            sets.list(&ListParams::default()).await?.items.len() == 2,
            "the rollback made a third ReplicaSet"
        );

        deployments(&scene).delete("web", &DeleteParams::background()).await?;
        scene.no_pods_left("app=web", SOON).await?;
        ensure!(carrack_tests::http::get(web, "/").await.is_err(), "the Service answers without pods");
        Ok(())
    });
}
