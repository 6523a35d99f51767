//! Containers that do not do well, and what the API says of them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use carrack_tests::{Scene, on_a_cluster};
use k8s_openapi::api::core::v1::{
    ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Event, Pod,
};
use kube::Api;
use kube::api::{ListParams, LogParams};
use serde_json::json;

const SOON: Duration = Duration::from_secs(20);

fn waiting(status: &ContainerStatus) -> Option<&ContainerStateWaiting> {
    status.state.as_ref()?.waiting.as_ref()
}

fn waits(status: &ContainerStatus, reason: &str) -> bool {
    waiting(status).is_some_and(|w| w.reason.as_deref() == Some(reason))
}

fn ended(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let now = status.state.as_ref().and_then(|s| s.terminated.as_ref());
    now.or_else(|| status.last_state.as_ref().and_then(|s| s.terminated.as_ref()))
}

async fn events_of(scene: &Scene, pod: &str) -> Result<Vec<String>> {
    let events: Api<Event> = Api::namespaced(scene.cluster.client.clone(), "default");
    let list = events.list(&ListParams::default()).await?.items;
    let own = list.into_iter().filter(|e| e.involved_object.name.as_deref() == Some(pod));
    Ok(own.map(|e| format!("{}: {}", e.reason.unwrap_or_default(), e.message.unwrap_or_default())).collect())
}

#[test]
fn containers_that_fail_say_why() {
    on_a_cluster("fail", |scene| async move {
        crashes(&scene).await.context("a container that exits")?;
        completes(&scene).await.context("a container that completes")?;
        runs_out_of_memory(&scene).await.context("a container that needs too much memory")?;
        has_no_image(&scene).await.context("an image that does not exist")?;
        has_no_command(&scene).await.context("a command that does not exist")?;
        fails_its_probes(&scene).await.context("probes that fail")?;
        Ok(())
    });
}

async fn crashes(scene: &Scene) -> Result<()> {
    scene
        .run_pod("crash", "Always", "echo run $$; echo oops > /dev/termination-log; exit 3", json!({}))
        .await?;
    let status = scene
        .container("crash", "CrashLoopBackOff", SOON, |s| {
            waits(s, "CrashLoopBackOff") && s.restart_count >= 1
        })
        .await?;
    let exit = ended(&status).context("no exit is shown")?;
    ensure!(exit.exit_code == 3 && exit.reason.as_deref() == Some("Error"), "{exit:?}");
    ensure!(exit.message.as_deref() == Some("oops\n"), "{exit:?}");
    let pods = scene.cluster.pods("default");
    let previous = LogParams { previous: true, ..LogParams::default() };
    ensure!(pods.logs("crash", &previous).await?.starts_with("run "), "the log of the run before is gone");
    let told = events_of(scene, "crash").await?;
    ensure!(told.iter().any(|e| e.starts_with("BackOff: Back-off restarting failed container")), "{told:?}");
    scene.delete_pod("crash").await
}

async fn completes(scene: &Scene) -> Result<()> {
    scene.run_pod("once", "Never", "echo one; echo two >&2; exit 0", json!({})).await?;
    let status = scene.container("once", "ended", SOON, |s| ended(s).is_some()).await?;
    ensure!(ended(&status).and_then(|e| e.reason.as_deref()) == Some("Completed"), "{status:?}");
    let pods = scene.cluster.pods("default");
    let phase = pods.get("once").await?.status.and_then(|s| s.phase);
    ensure!(phase.as_deref() == Some("Succeeded"), "phase {phase:?}");
    let log = pods.logs("once", &LogParams::default()).await?;
    ensure!(log.contains("one\n") && log.contains("two\n"), "the log is {log:?}");
    let tail = pods.logs("once", &LogParams { tail_lines: Some(1), ..LogParams::default() }).await?;
    ensure!(tail.lines().count() == 1, "the tail is {tail:?}");
    scene.delete_pod("once").await
}

async fn runs_out_of_memory(scene: &Scene) -> Result<()> {
    let limits = json!({ "resources": { "limits": { "memory": "24Mi" } } });
    scene.run_pod("oom", "Never", "dd if=/dev/zero of=/dev/null bs=300M count=1", limits).await?;
    let status = scene.container("oom", "ended", SOON, |s| ended(s).is_some()).await?;
    let exit = ended(&status).context("no exit is shown")?;
    ensure!(exit.reason.as_deref() == Some("OOMKilled") && exit.exit_code == 137, "{exit:?}");
    scene.delete_pod("oom").await
}

async fn has_no_image(scene: &Scene) -> Result<()> {
    let image = scene.registry.reference("carrack/nothing:1");
    scene.run_pod("noimage", "Always", "true", json!({ "image": image })).await?;
    let status = scene.container("noimage", "ErrImagePull", SOON, |s| waits(s, "ErrImagePull")).await?;
    let message = waiting(&status).and_then(|w| w.message.clone()).unwrap_or_default();
    ensure!(message.contains("not found"), "{message}");
    scene.container("noimage", "ImagePullBackOff", SOON, |s| waits(s, "ImagePullBackOff")).await?;
    scene.delete_pod("noimage").await
}

async fn has_no_command(scene: &Scene) -> Result<()> {
    scene.run_pod("nocommand", "Never", "", json!({ "command": ["/does/not/exist"] })).await?;
    let status = scene.container("nocommand", "ended", SOON, |s| ended(s).is_some()).await?;
    let exit = ended(&status).context("no exit is shown")?;
    ensure!(exit.reason.as_deref() == Some("StartError"), "{exit:?}");
    ensure!(exit.message.as_deref().is_some_and(|m| m.contains("/does/not/exist")), "{exit:?}");
    scene.delete_pod("nocommand").await
}

async fn fails_its_probes(scene: &Scene) -> Result<()> {
    let probe = |kind: &str| json!({ kind: { "exec": { "command": ["false"] }, "periodSeconds": 1, "failureThreshold": 1 } });
    scene.run_pod("unready", "Always", "sleep 1000", probe("readinessProbe")).await?;
    scene.container("unready", "runs", SOON, |s| s.started == Some(true)).await?;
    let pod: Pod = scene.cluster.pods("default").get("unready").await?;
    ensure!(!carrack_tests::cluster::pod_is_ready(&pod), "a pod whose readiness probe fails is ready");
    scene.run_pod("unlive", "Always", "sleep 1000", probe("livenessProbe")).await?;
    scene.container("unlive", "restarted", SOON, |s| s.restart_count >= 1).await?;
    let told = events_of(scene, "unlive").await?;
    ensure!(told.iter().any(|e| e.contains("failed liveness probe, will be restarted")), "{told:?}");
    scene.delete_pod("unready").await?;
    scene.delete_pod("unlive").await
}
