//! `pods/resize`: other resources for pods that run.

use anyhow::{Context, Result, ensure};
use carrack_tests::kubectl::kubectls;
use carrack_tests::{Scene, eventually, on_a_scene};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use serde_json::{Value, json};

use super::{SOON, run, start};

fn sized(cpu: &str, memory: &str) -> Value {
    json!({ "requests": { "cpu": cpu, "memory": memory }, "limits": { "cpu": cpu, "memory": memory } })
}

#[test]
fn kubectl_resizes() {
    let Some(kubectl) = kubectls().pop() else {
        println!("kubectl is not installed here: nothing is tried");
        return;
    };
    on_a_scene("resize", |mut scene| async move {
        let more = json!({ "resources": sized("100m", "64Mi"), "resizePolicy": [
            { "resourceName": "cpu", "restartPolicy": "NotRequired" },
            { "resourceName": "memory", "restartPolicy": "NotRequired" },
        ] });
        scene.run_pod("web", "Always", "exec sleep 1000", more).await?;
        scene.container("web", "runs", SOON, |s| s.ready).await?;
        in_place(&scene, &kubectl).await.context("in place")?;
        never_fits(&scene, &kubectl).await.context("what never fits")?;
        in_use(&scene, &kubectl).await.context("memory in use")?;
        waits_for_room(&mut scene, &kubectl).await.context("room that another pod has")?;
        restarts(&scene, &kubectl).await.context("with a restart")?;
        scene.delete_pod("web").await?;
        Ok(scene)
    });
}

/// Asks for other resources of the container `main`, as users do.
async fn resize(scene: &Scene, kubectl: &str, pod: &str, wanted: Value) -> Result<()> {
    let patch = json!({ "spec": { "containers": [{ "name": "main", "resources": wanted }] } }).to_string();
    let args = ["patch", "pod", pod, "--subresource", "resize", "--patch", &patch];
    run(scene, kubectl, &args).await.map(drop)
}

/// Waits until the pod's status shows resources, and nothing more of a resize.
async fn has(scene: &Scene, pod: &str, wanted: Value) -> Result<Pod> {
    let pods = scene.cluster.pods("default");
    let found = eventually(&format!("{pod} has {wanted}"), SOON, || async {
        let found = pods.get(pod).await?;
        let status = serde_json::to_value(&found.status)?;
        let shown = status.pointer("/containerStatuses/0/resources") == Some(&wanted);
        let settled = status["conditions"].as_array().is_some_and(|all| {
            !all.iter().any(|c| c["type"].as_str().is_some_and(|kind| kind.contains("Resize")))
        });
        Ok((shown && settled).then_some(found))
    })
    .await;
    match found {
        Ok(found) => Ok(found),
        Err(error) => {
            let last = serde_json::to_string(&pods.get(pod).await?.status)?;
            Err(error.context(format!("last seen: {last}")).context(scene.cluster.log()))
        }
    }
}

/// Waits for a condition of the pod with this reason.
async fn says(scene: &Scene, pod: &str, kind: &str, reason: &str) -> Result<PodCondition> {
    let pods = scene.cluster.pods("default");
    let found = eventually(&format!("{kind} of {pod} is {reason}"), SOON, || async {
        let all = pods.get(pod).await?.status.and_then(|s| s.conditions).unwrap_or_default();
        Ok(all.into_iter().find(|c| c.type_ == kind && c.reason.as_deref() == Some(reason)))
    })
    .await;
    found.with_context(|| scene.cluster.log())
}

/// The limits in the container's own control group: memory in bytes, and microseconds of each 100 ms.
fn limits(scene: &Scene, pod: &Pod) -> Result<(String, String)> {
    let status = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref()).context("no status")?;
    let id = status.first().and_then(|s| s.container_id.as_deref()).context("no container")?;
    let id = id.trim_start_matches("carrack://");
    let class = match pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        Some("Guaranteed") | None => String::new(),
        Some(class) => format!("{}/", class.to_lowercase()),
    };
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let path = format!("{}/{class}pod{uid}/{id}", scene.cluster.cgroup());
    let read = |places: [(&str, &str); 2]| -> Result<String> {
        let mut files = places.iter().map(|(tree, file)| format!("/sys/fs/cgroup{tree}/{path}/{file}"));
        let text = files.find_map(|file| std::fs::read_to_string(file).ok());
        let text = text.with_context(|| format!("no limits of {path}"))?;
        Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
    };
    Ok((
        read([("", "memory.max"), ("/memory", "memory.limit_in_bytes")])?,
        read([("", "cpu.max"), ("/cpu", "cpu.cfs_quota_us")])?,
    ))
}

/// More and then less, while the container runs on.
async fn in_place(scene: &Scene, kubectl: &str) -> Result<()> {
    for (cpu, memory, bytes, quota) in [
        ("200m", "96Mi", 96 << 20, "20000"),
        ("50m", "32Mi", 32 << 20, "5000"),
        ("100m", "64Mi", 64 << 20, "10000"),
    ] {
        resize(scene, kubectl, "web", sized(cpu, memory)).await?;
        let pod = has(scene, "web", sized(cpu, memory)).await?;
        let written = limits(scene, &pod)?;
        ensure!(written == (bytes.to_string(), quota.to_owned()), "{cpu} {memory} is written as {written:?}");
        let status = pod.status.and_then(|s| s.container_statuses).unwrap_or_default();
        let status = status.first().context("no status")?;
        ensure!(status.restart_count == 0, "the container was restarted: {status:?}");
        let allocated = serde_json::to_value(&status.allocated_resources)?;
        ensure!(allocated == sized(cpu, memory)["requests"], "allocated: {allocated}");
    }
    let events = run(scene, kubectl, &["get", "events", "--field-selector=involvedObject.name=web"]).await?;
    ensure!(events.contains("ResizeStarted") && events.contains("ResizeCompleted"), "{events}");
    let direct = ["set", "resources", "pod", "web", "--limits=cpu=70m,memory=64Mi"];
    ensure!(
        !start(scene, kubectl, &direct).await?.status.success(),
        "resources change without the subresource"
    );
    Ok(())
}

/// More than the node has is refused for ever, until something else is asked for.
async fn never_fits(scene: &Scene, kubectl: &str) -> Result<()> {
    resize(scene, kubectl, "web", sized("1000", "64Mi")).await?;
    let condition = says(scene, "web", "PodResizePending", "Infeasible").await?;
    let message = condition.message.unwrap_or_default();
    ensure!(
        message.starts_with("Node didn't have enough capacity: cpu, requested: 1000000, capacity: "),
        "{message}"
    );
    let pod = scene.cluster.pods("default").get("web").await?;
    ensure!(limits(scene, &pod)?.1 == "10000", "what can not be had was given");
    resize(scene, kubectl, "web", sized("100m", "64Mi")).await?;
    has(scene, "web", sized("100m", "64Mi")).await.map(drop)
}

/// A memory limit does not come down below what is in use.
async fn in_use(scene: &Scene, kubectl: &str) -> Result<()> {
    let fill = ["exec", "web", "--", "dd", "if=/dev/zero", "of=/dev/shm/full", "bs=1M", "count=30"];
    run(scene, kubectl, &fill).await?;
    resize(scene, kubectl, "web", sized("100m", "16Mi")).await?;
    let condition = says(scene, "web", "PodResizeInProgress", "Error").await?;
    let message = condition.message.unwrap_or_default();
    ensure!(message.starts_with("cannot decrease memory limits: "), "{message}");
    ensure!(
        message
            .contains("attempting to set container \"main\" memory limit (16777216) below current usage ("),
        "{message}"
    );
    run(scene, kubectl, &["exec", "web", "--", "rm", "/dev/shm/full"]).await?;
    has(scene, "web", sized("100m", "16Mi")).await?;
    resize(scene, kubectl, "web", sized("100m", "64Mi")).await?;
    has(scene, "web", sized("100m", "64Mi")).await.map(drop)
}

/// What another pod has now is waited for, also by the next agent.
async fn waits_for_room(scene: &mut Scene, kubectl: &str) -> Result<()> {
    let cpus = std::thread::available_parallelism()?.get();
    let most = format!("{}m", cpus * 1000 - 500);
    let more = json!({ "resources": { "requests": { "cpu": most } } });
    scene.run_pod("large", "Always", "exec sleep 1000", more).await?;
    scene.container("large", "runs", SOON, |s| s.ready).await?;
    resize(scene, kubectl, "web", sized("900m", "64Mi")).await?;
    let condition = says(scene, "web", "PodResizePending", "Deferred").await?;
    let message = condition.message.unwrap_or_default();
    ensure!(message.contains("Node didn't have enough resource: cpu, requested: 900, used: "), "{message}");
    scene.cluster.kill()?;
    scene.cluster.restart().await?;
    scene.container("large", "runs on", SOON, |s| s.ready && s.restart_count == 0).await?;
    says(scene, "web", "PodResizePending", "Deferred").await?;
    scene.delete_pod("large").await?;
    has(scene, "web", sized("900m", "64Mi")).await?;
    resize(scene, kubectl, "web", sized("100m", "64Mi")).await?;
    has(scene, "web", sized("100m", "64Mi")).await.map(drop)
}

/// With `RestartContainer` the container has what was asked for when it runs again.
async fn restarts(scene: &Scene, kubectl: &str) -> Result<()> {
    let policy = json!([{ "resourceName": "memory", "restartPolicy": "RestartContainer" }]);
    let more = json!({ "resources": sized("100m", "32Mi"), "resizePolicy": policy });
    scene.run_pod("anew", "OnFailure", "trap 'exit 0' TERM; while true; do sleep 0.1; done", more).await?;
    scene.container("anew", "runs", SOON, |s| s.ready).await?;
    resize(scene, kubectl, "anew", sized("200m", "32Mi")).await?;
    let pod = has(scene, "anew", sized("200m", "32Mi")).await?;
    let count =
        |pod: &Pod| pod.status.as_ref()?.container_statuses.as_ref()?.first().map(|s| s.restart_count);
    ensure!(count(&pod) == Some(0), "a change of cpu restarts it");
    resize(scene, kubectl, "anew", sized("200m", "48Mi")).await?;
    let anew = scene.container("anew", "runs again", SOON, |s| s.ready && s.restart_count == 1).await?;
    ensure!(anew.last_state.and_then(|s| s.terminated).is_some_and(|t| t.exit_code == 0), "how it ended");
    let pod = has(scene, "anew", sized("200m", "48Mi")).await?;
    ensure!(limits(scene, &pod)?.0 == (48 << 20).to_string(), "the new run has the old limit");
    scene.delete_pod("anew").await
}
