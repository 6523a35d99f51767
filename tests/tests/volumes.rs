//! Volumes and images that change while pods run.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use carrack_tests::image::Image;
use carrack_tests::{Scene, eventually, on_a_cluster};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{LogParams, Patch, PatchParams};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);
/// How fast a change has to be in the pod.
const AT_ONCE: Duration = Duration::from_secs(2);

#[test]
fn pods_see_what_changes() {
    on_a_cluster("volumes", |scene| async move {
        config_map_changes(&scene).await.context("a ConfigMap that changes")?;
        missing_object_appears(&scene).await.context("a ConfigMap that comes late")?;
        immutable_is_left(&scene).await.context("an immutable ConfigMap")?;
        labels_change(&scene).await.context("a label in a downward volume")?;
        tag_moves(&scene).await.context("a tag that moves")?;
        Ok(())
    });
}

fn config_map(name: &str, value: &str) -> String {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "key": value } })
        .to_string()
}

/// A pod that prints `file` whenever it changes.
async fn reader(scene: &Scene, name: &str, volume: Value, file: &str) -> Result<()> {
    let line = format!(
        "old=; while true; do new=$(cat {file}); [ \"$new\" = \"$old\" ] || echo \"$new\"; old=$new; sleep 0.05; done"
    );
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": { "app": "one" } },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "volumes": [volume],
            "containers": [{
                "name": "main", "image": scene.image(), "command": ["/bin/sh", "-c", line],
                "volumeMounts": [{ "name": "v", "mountPath": "/config" }],
            }],
        },
    });
    scene.cluster.apply(&pod.to_string()).await
}

/// Waits until the pod has printed a text; answers how long that took.
async fn prints(scene: &Scene, pod: &str, text: &str, limit: Duration) -> Result<Duration> {
    let began = Instant::now();
    let pods = scene.cluster.pods("default");
    eventually(&format!("{pod} prints {text}"), limit, || async {
        let log = pods.logs(pod, &LogParams::default()).await?;
        Ok(log.lines().any(|line| line == text).then_some(()))
    })
    .await?;
    Ok(began.elapsed())
}

async fn change(scene: &Scene, name: &str, value: &str) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(scene.cluster.client.clone(), "default");
    let patch = Patch::Merge(json!({ "data": { "key": value } }));
    maps.patch(name, &PatchParams::default(), &patch).await?;
    Ok(())
}

async fn config_map_changes(scene: &Scene) -> Result<()> {
    scene.cluster.apply(&config_map("live", "first")).await?;
    reader(scene, "live", json!({ "name": "v", "configMap": { "name": "live" } }), "/config/key").await?;
    prints(scene, "live", "first", SOON).await?;
    change(scene, "live", "second").await?;
    let took = prints(scene, "live", "second", AT_ONCE).await?;
    eprintln!("a changed ConfigMap was seen in the pod after {took:?}");
    scene.delete_pod("live").await
}

async fn missing_object_appears(scene: &Scene) -> Result<()> {
    let env = json!({ "env": [{ "name": "KEY", "valueFrom": { "configMapKeyRef": { "name": "late", "key": "key" } } }] });
    scene.run_pod("late", "Always", "echo $KEY; sleep 1000", env).await?;
    let reason = "CreateContainerConfigError";
    scene
        .container("late", reason, SOON, |s| {
            let waiting = s.state.as_ref().and_then(|s| s.waiting.as_ref());
            waiting.is_some_and(|w| w.reason.as_deref() == Some(reason))
        })
        .await?;
    scene.cluster.apply(&config_map("late", "here")).await?;
    scene.container("late", "runs", AT_ONCE, |s| s.ready).await?;
    prints(scene, "late", "here", AT_ONCE).await?;
    scene.delete_pod("late").await
}

/// It can not change; that it is not watched is seen when it is deleted and made anew: running pods keep what they have.
async fn immutable_is_left(scene: &Scene) -> Result<()> {
    let fixed = |value: &str| {
        let mut map: Value = serde_json::from_str(&config_map("fixed", value))?;
        map["immutable"] = json!(true);
        anyhow::Ok(map.to_string())
    };
    scene.cluster.apply(&fixed("one")?).await?;
    reader(scene, "fixed", json!({ "name": "v", "configMap": { "name": "fixed" } }), "/config/key").await?;
    prints(scene, "fixed", "one", SOON).await?;
    let maps: Api<ConfigMap> = Api::namespaced(scene.cluster.client.clone(), "default");
    maps.delete("fixed", &Default::default()).await?;
    scene.cluster.apply(&fixed("two")?).await?;
    ensure!(prints(scene, "fixed", "two", Duration::from_secs(1)).await.is_err(), "it was read again");
    scene.delete_pod("fixed").await
}

async fn labels_change(scene: &Scene) -> Result<()> {
    let items = json!([{ "path": "app", "fieldRef": { "fieldPath": "metadata.labels['app']" } }]);
    reader(scene, "labels", json!({ "name": "v", "downwardAPI": { "items": items } }), "/config/app").await?;
    prints(scene, "labels", "one", SOON).await?;
    let patch = Patch::Merge(json!({ "metadata": { "labels": { "app": "two" } } }));
    scene.cluster.pods("default").patch("labels", &PatchParams::default(), &patch).await?;
    prints(scene, "labels", "two", AT_ONCE).await?;
    scene.delete_pod("labels").await
}

/// With `Always` a restarted container runs what the tag means by then; with `IfNotPresent` what is on the node.
async fn tag_moves(scene: &Scene) -> Result<()> {
    let policies = ["Always", "IfNotPresent"];
    let push = async |mark: &str| -> Result<()> {
        let image = Image::marked(mark)?;
        for policy in policies {
            // Names of their own: what a tag means on the node is the same for all its pods.
            scene.registry.push(&image, &format!("carrack/{}", policy.to_lowercase()), "1").await?;
        }
        Ok(())
    };
    push("old").await?;
    for policy in policies {
        let name = policy.to_lowercase();
        let image = scene.registry.reference(&format!("carrack/{name}:1"));
        let more = json!({ "image": image, "imagePullPolicy": policy });
        scene.run_pod(&name, "Always", "echo $MARK; sleep 2; exit 1", more).await?;
        prints(scene, &name, "old", SOON).await?;
    }
    push("new").await?;
    let image_id = async |pod: &str| -> Result<String> {
        let status = scene.container(pod, "restarted", SOON, |s| s.restart_count == 1 && s.ready).await?;
        Ok(status.image_id)
    };
    let (always, present) = (image_id("always").await?, image_id("ifnotpresent").await?);
    let digest = |id: &str| id.split_once('@').map(|(_, digest)| digest.to_owned());
    ensure!(digest(&always) != digest(&present), "image ids {always} and {present}");
    prints(scene, "always", "new", SOON).await?;
    prints(scene, "ifnotpresent", "old", SOON).await?;
    let pod: Pod = scene.cluster.pods("default").get("always").await?;
    let status = pod.status.and_then(|s| s.container_statuses).unwrap_or_default();
    ensure!(status.iter().all(|s| s.last_state.is_some()), "{status:?}");
    scene.delete_pod("always").await?;
    scene.delete_pod("ifnotpresent").await
}
