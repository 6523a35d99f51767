//! `kubectl debug`: ephemeral containers in a running pod, copies of pods, and pods on a node.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use carrack_tests::kubectl::kubectls;
use carrack_tests::{Scene, eventually, on_a_scene};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use serde_json::json;

use super::{SOON, run};

/// Says whose processes it sees, then waits for a line.
const LOOKS: &str = "busybox tr \"\\0\" \" \" </proc/1/cmdline; hostname; read line; echo got $line; exit 3";

#[test]
fn kubectl_debugs() {
    let Some(kubectl) = kubectls().pop() else {
        println!("kubectl is not installed here: nothing is tried");
        return;
    };
    on_a_scene("debug", |mut scene| async move {
        scene.run_pod("web", "Always", "exec sleep 4242", json!({})).await?;
        scene.container("web", "runs", SOON, |s| s.ready).await?;
        looks_on(&scene, &kubectl).await.context("an ephemeral container")?;
        talks(&scene, &kubectl).await.context("debug -it")?;
        outlives_the_agent(&mut scene, &kubectl).await.context("a restart of the agent")?;
        copies(&scene, &kubectl).await.context("debug --copy-to")?;
        on_a_node(&scene, &kubectl).await.context("debug node/NAME")?;
        scene.delete_pod("web").await?;
        Ok(scene)
    });
}

/// The status of an ephemeral container of `web`, once `check` holds for it.
async fn ephemeral(
    scene: &Scene,
    name: &str,
    check: impl Fn(&ContainerStatus) -> bool,
) -> Result<ContainerStatus> {
    let pods = scene.cluster.pods("default");
    let found = eventually(&format!("{name} is as it should be"), SOON, || async {
        let all = pods.get("web").await?.status.and_then(|s| s.ephemeral_container_statuses);
        Ok(all.unwrap_or_default().into_iter().find(|s| s.name == name).filter(&check))
    })
    .await;
    found.with_context(|| scene.cluster.log())
}

fn runs(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|s| s.running.is_some())
}

/// It shares the pod's network and, with a target, sees its processes; without one it is alone with its own.
async fn looks_on(scene: &Scene, kubectl: &str) -> Result<()> {
    let image = format!("--image={}", scene.image());
    let line = "busybox tr \"\\0\" \" \" </proc/1/cmdline; hostname; exec sleep 1111";
    let look = ["debug", "web", &image, "--target=main", "-c", "look", "--", "sh", "-c", line];
    run(scene, kubectl, &look).await?;
    run(scene, kubectl, &["debug", "web", &image, "-c", "alone", "--", "sleep", "2222"]).await?;
    ephemeral(scene, "look", runs).await?;
    ephemeral(scene, "alone", runs).await?;
    let log = run(scene, kubectl, &["logs", "web", "-c", "look"]).await?;
    ensure!(log == "sleep 4242 web\n", "it printed {log:?}");
    let first = ["exec", "web", "-c", "alone", "--", "cat", "/proc/1/cmdline"];
    let first = run(scene, kubectl, &first).await?;
    ensure!(first.contains("2222"), "the first process of a container without a target is {first:?}");
    let address = |container: &'static str| async move {
        let show = ["exec", "web", "-c", container, "--", "ip", "-4", "-o", "addr", "show", "eth0"];
        run(scene, kubectl, &show).await
    };
    let (own, main) = (address("look").await?, address("main").await?);
    ensure!(own == main && own.contains("10.244."), "addresses: {own:?} and {main:?}");
    let shown = run(scene, kubectl, &["describe", "pod", "web"]).await?;
    ensure!(shown.contains("Ephemeral Containers:\n  look:"), "{shown}");
    let pod: Pod = scene.cluster.pods("default").get("web").await?;
    ensure!(carrack_tests::cluster::pod_is_ready(&pod), "a pod that is looked into is ready no more");
    Ok(())
}

/// A terminal in a container that is made for it; when it ends, it stays as it ended.
async fn talks(scene: &Scene, kubectl: &str) -> Result<()> {
    let debug =
        format!("$KUBECTL debug -it web --image={} --target=main -c talk -- sh -c '{LOOKS}'", scene.image());
    let line = "printf 'typed\\n' | script -qec \"$LINE\" /dev/null";
    let mut command = scene.cluster.kubectl("sh", &["-c", line]);
    command.env("KUBECTL", kubectl).env("LINE", debug);
    let output = tokio::process::Command::from(command).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await.context("it hangs")??;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(shown.contains("got typed"), "debug -it shows {shown:?}");
    let ended =
        ephemeral(scene, "talk", |s| s.state.as_ref().is_some_and(|s| s.terminated.is_some())).await?;
    let exit = ended.state.and_then(|s| s.terminated).context("no exit")?;
    ensure!(exit.exit_code == 3 && exit.reason.as_deref() == Some("Error"), "{exit:?}");
    let log = run(scene, kubectl, &["logs", "web", "-c", "talk"]).await?;
    ensure!(log.starts_with("sleep 4242 web"), "it printed {log:?}");
    Ok(())
}

/// The next agent finds what runs running and starts nothing that has ended.
async fn outlives_the_agent(scene: &mut Scene, kubectl: &str) -> Result<()> {
    let before = ephemeral(scene, "look", runs).await?;
    scene.cluster.kill()?;
    scene.cluster.restart().await?;
    scene.container("web", "runs on", SOON, |s| s.ready && s.restart_count == 0).await?;
    let after = ephemeral(scene, "look", runs).await?;
    ensure!(before.container_id == after.container_id, "{before:?}, then {after:?}");
    let exec: &[&str] = &["exec", "web", "-c", "look", "--", "echo", "still"];
    let said = eventually("exec works again", SOON, || async { Ok(run(scene, kubectl, exec).await.ok()) });
    ensure!(said.await? == "still\n", "exec after a restart");
    // All that it sees but the target's first process.
    run(scene, kubectl, &["exec", "web", "-c", "look", "--", "kill", "-9", "-1"]).await?;
    let ended = |s: &ContainerStatus| s.state.as_ref().is_some_and(|s| s.terminated.is_some());
    let look = ephemeral(scene, "look", ended).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let later = ephemeral(scene, "look", |_| true).await?;
    ensure!(later.state == look.state && later.restart_count == 0, "{look:?}, then {later:?}");
    scene.container("web", "is left alone", SOON, |s| s.ready && s.restart_count == 0).await.map(drop)
}

/// A copy of the pod with one container more.
async fn copies(scene: &Scene, kubectl: &str) -> Result<()> {
    let image = format!("--image={}", scene.image());
    let copy = ["debug", "web", "--copy-to=web-copy", "--share-processes", &image, "-c", "extra"];
    run(scene, kubectl, &[&copy[..], &["--", "sleep", "3333"]].concat()).await?;
    run(scene, kubectl, &["wait", "pod/web-copy", "--for=condition=Ready", "--timeout=40s"]).await?;
    let seen = run(scene, kubectl, &["exec", "web-copy", "-c", "extra", "--", "ps"]).await?;
    ensure!(seen.contains("sleep 4242") && seen.contains("sleep 3333"), "{seen}");
    scene.delete_pod("web-copy").await
}

/// A pod in the host's namespaces that has the host's files.
async fn on_a_node(scene: &Scene, kubectl: &str) -> Result<()> {
    let image = format!("--image={}", scene.image());
    let line = "test -d /host/etc && exec sleep 4444";
    let told = run(scene, kubectl, &["debug", "node/debug", &image, "--", "sh", "-c", line]).await?;
    let pod = told.split_whitespace().find(|word| word.starts_with("node-debugger-debug-"));
    let pod = pod.with_context(|| format!("no pod is named: {told}"))?;
    run(scene, kubectl, &["wait", &format!("pod/{pod}"), "--for=condition=Ready", "--timeout=40s"]).await?;
    let inside = ["exec", pod, "--", "cat", "/host/proc/sys/kernel/random/boot_id"];
    let (inside, outside) =
        (run(scene, kubectl, &inside).await?, std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?);
    ensure!(inside == outside, "the pod's host is {inside}, this one {outside}");
    let pids = ["exec", pod, "--", "busybox", "readlink", "/proc/self/ns/pid"];
    let own = std::fs::read_link("/proc/self/ns/pid")?.display().to_string();
    ensure!(run(scene, kubectl, &pids).await?.trim() == own, "it does not see the host's processes");
    scene.delete_pod(pod).await
}
