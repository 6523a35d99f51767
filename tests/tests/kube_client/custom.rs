//! Custom resources: a definition that is waited for, defaults, apply, status, scale, finalizers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use carrack_tests::eventually;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    PostParams,
};
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

const FINALIZER: &str = "rust.example.com/clean";

fn definition() -> Value {
    let spec = json!({
        "type": "object",
        "properties": {
            "masts": {"type": "integer", "default": 3},
            "crew": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= 0"}]},
        },
    });
    let status = json!({"type": "object", "properties": {"crew": {"type": "integer"}}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "carracks.rust.example.com"},
        "spec": {
            "group": "rust.example.com", "scope": "Namespaced",
            "names": {"plural": "carracks", "singular": "carrack", "kind": "Carrack"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.crew", "statusReplicasPath": ".status.crew"},
                },
                "schema": {"openAPIV3Schema": {
                    "type": "object", "properties": {"spec": spec, "status": status},
                }},
            }],
        },
    })
}

pub(super) async fn custom(client: &Client) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let made: CustomResourceDefinition = serde_json::from_value(definition())?;
    definitions.create(&PostParams::default(), &made).await?;
    let name = "carracks.rust.example.com";
    await_condition(definitions.clone(), name, conditions::is_crd_established()).await?;
    let kind = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("rust.example.com", "v1", "Carrack"),
        "carracks",
    );
    let ships: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &kind);
    written(&ships).await?;
    finalized(&ships).await?;
    definitions.delete(name, &DeleteParams::default()).await?;
    await_condition(definitions, name, |found: Option<&CustomResourceDefinition>| found.is_none()).await?;
    eventually("they are not served any more", Duration::from_secs(30), || async {
        Ok(ships.list(&ListParams::default()).await.is_err().then_some(()))
    })
    .await
}

async fn written(ships: &Api<DynamicObject>) -> Result<()> {
    let ship = json!({
        "apiVersion": "rust.example.com/v1", "kind": "Carrack", "metadata": {"name": "a"}, "spec": {"crew": 7},
    });
    let applied = ships.patch("a", &PatchParams::apply("rust"), &Patch::Apply(&ship)).await?;
    ensure!(applied.data["spec"] == json!({"crew": 7, "masts": 3}), "{}", applied.data);
    let wrong = json!({"spec": {"crew": -1}});
    let refused = ships.patch("a", &PatchParams::default(), &Patch::Merge(&wrong)).await;
    ensure!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 422), "{refused:?}");
    let status = json!({"status": {"crew": 7}, "spec": {"crew": 1}});
    let told = ships.patch_status("a", &PatchParams::default(), &Patch::Merge(&status)).await?;
    ensure!(told.data["status"]["crew"] == 7 && told.data["spec"]["crew"] == 7, "{}", told.data);
    ensure!(told.metadata.generation == Some(1), "a status is no new generation");
    let scale = ships.get_scale("a").await?;
    ensure!(scale.spec.and_then(|s| s.replicas) == Some(7), "the scale does not tell the crew");
    let wanted = json!({"spec": {"replicas": 9}});
    ships.patch_scale("a", &PatchParams::default(), &Patch::Merge(&wanted)).await?;
    let scaled = ships.get("a").await?;
    ensure!(scaled.data["spec"]["crew"] == 9 && scaled.metadata.generation == Some(2), "{}", scaled.data);
    Ok(())
}

/// An object that is to be cleaned up after stays until that is done.
async fn finalized(ships: &Api<DynamicObject>) -> Result<()> {
    let steps = Arc::new(std::sync::Mutex::new(Vec::new()));
    let reconcile = async || -> Result<()> {
        let ship = Arc::new(ships.get("a").await?);
        let steps = steps.clone();
        finalizer(ships, FINALIZER, ship, async move |event| {
            let step = match event {
                Event::Apply(_) => "apply",
                Event::Cleanup(_) => "clean up",
            };
            steps.lock().map(|mut all| all.push(step)).ok();
            Ok::<_, std::io::Error>(Action::requeue(Duration::from_secs(1)))
        })
        .await
        .context("finalizer")?;
        Ok(())
    };
    reconcile().await?;
    ensure!(ships.get("a").await?.finalizers() == [FINALIZER], "the finalizer is not there");
    reconcile().await?;
    ships.delete("a", &DeleteParams::default()).await?;
    let waits = ships.get("a").await?;
    ensure!(waits.metadata.deletion_timestamp.is_some(), "it is not marked as to be deleted");
    reconcile().await?;
    ensure!(ships.get_opt("a").await?.is_none(), "it is still there");
    let steps = steps.lock().map(|all| all.clone()).unwrap_or_default();
    ensure!(steps == ["apply", "clean up"], "{steps:?}");
    Ok(())
}
