//! kubectl as people use it, against a real cluster. Every kubectl that is installed is tried.

#[path = "kubectl/debug.rs"]
mod debug;
#[path = "kubectl/resize.rs"]
mod resize;
#[path = "kubectl/stats.rs"]
mod stats;
#[path = "kubectl/top.rs"]
mod top;
#[path = "kubectl/verbs.rs"]
mod verbs;

use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use carrack_tests::kubectl::kubectls;
use carrack_tests::{Scene, eventually, on_a_cluster};
use serde_json::json;

const SOON: Duration = Duration::from_secs(40);

/// Runs kubectl and answers what it printed; an error if it fails.
async fn run(scene: &Scene, kubectl: &str, args: &[&str]) -> Result<String> {
    let output = start(scene, kubectl, args).await?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("{kubectl} {}: {out}{err}", args.join(" "));
    }
    Ok(out.into_owned())
}

async fn start(scene: &Scene, kubectl: &str, args: &[&str]) -> Result<Output> {
    let mut command = tokio::process::Command::from(scene.cluster.kubectl(kubectl, args));
    command.kill_on_drop(true);
    let limit = Duration::from_secs(60);
    Ok(tokio::time::timeout(limit, command.output()).await.context("kubectl hangs")??)
}

#[test]
fn kubectl_works() {
    let all = kubectls();
    if all.is_empty() {
        println!("kubectl is not installed here: nothing is tried");
        return;
    }
    on_a_cluster("kubectl", |scene| async move {
        let newest = all.last().context("a kubectl")?.clone();
        daily_work(&scene, &newest).await.with_context(|| newest.clone())?;
        streams(&scene, &newest).await.with_context(|| newest.clone())?;
        for kubectl in &all {
            basics(&scene, kubectl).await.with_context(|| kubectl.clone())?;
        }
        // The oldest speaks SPDY where the newest speaks WebSocket, and reads the older documents.
        let oldest = all.first().context("a kubectl")?.clone();
        scene.run_pod("served", "Always", SERVES, json!({})).await?;
        scene.container("served", "runs", SOON, |s| s.ready).await?;
        let both = if oldest == newest { vec![newest] } else { vec![oldest, newest] };
        for kubectl in &both {
            all_verbs(&scene, kubectl).await.with_context(|| kubectl.clone())?;
        }
        scene.delete_pod("served").await?;
        Ok(())
    });
}

/// A pod that answers `hello`.
const SERVES: &str = "echo hello > /www/index.html; exec httpd -f -p 8080 -h /www";

async fn all_verbs(scene: &Scene, kubectl: &str) -> Result<()> {
    verbs::tells(scene, kubectl).await?;
    verbs::apply(scene, kubectl).await?;
    verbs::changes(scene, kubectl).await?;
    verbs::streams(scene, kubectl, "served").await
}

/// What each version has to manage.
async fn basics(scene: &Scene, kubectl: &str) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("web.yaml");
    std::fs::write(&file, scene.web()?)?;
    let file = file.to_str().context("path")?;
    let apply: &[&str] = &["apply", "-f", file];
    let out = run(scene, kubectl, apply).await?;
    ensure!(out.contains("deployment.apps/web created"), "{out}");
    run(scene, kubectl, &["rollout", "status", "deploy/web", "--timeout=40s"]).await?;
    let again = run(scene, kubectl, apply).await?;
    ensure!(again.contains("deployment.apps/web unchanged"), "{again}");
    let pods = run(scene, kubectl, &["get", "pods", "-l", "app=web"]).await?;
    ensure!(pods.lines().count() == 4 && pods.contains("1/1") && pods.contains("Running"), "{pods}");
    let logs = run(scene, kubectl, &["logs", "deploy/web"]).await?;
    ensure!(logs.contains("response:200"), "{logs}");
    run(scene, kubectl, &["delete", "-f", file, "--wait=false"]).await?;
    scene.no_pods_left("app=web", SOON).await
}

async fn daily_work(scene: &Scene, kubectl: &str) -> Result<()> {
    let k = |args: &'static [&'static str]| run(scene, kubectl, args);
    ensure!(k(&["get", "nodes"]).await?.contains("Ready"), "the node is not shown as Ready");
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("web.yaml");
    std::fs::write(&file, scene.web()?)?;
    let path = file.to_str().context("path")?.to_owned();
    run(scene, kubectl, &["apply", "-f", &path]).await?;
    k(&["rollout", "status", "deploy/web", "--timeout=40s"]).await?;
    let wide = k(&["get", "pods", "-o", "wide"]).await?;
    ensure!(wide.contains("NOMINATED NODE") && wide.contains("10.244."), "{wide}");
    let described = k(&["describe", "deploy", "web"]).await?;
    ensure!(described.contains("ScalingReplicaSet") && described.contains("NewReplicaSet:"), "{described}");
    let described = k(&["describe", "pods", "-l", "app=web"]).await?;
    for wanted in ["Scheduled", "Pulled", "Started", "Readiness:", "web-"] {
        ensure!(described.contains(wanted), "describe does not tell of {wanted}:\n{described}");
    }
    k(&["scale", "deploy/web", "--replicas=4"]).await?;
    scene.cluster.pods_are_ready("app=web", 4, SOON).await?;
    k(&["set", "env", "deploy/web", "A=1"]).await?;
    k(&["rollout", "status", "deploy/web", "--timeout=60s"]).await?;
    let history = k(&["rollout", "history", "deploy/web"]).await?;
    ensure!(history.contains("\n2 "), "{history}");
    k(&["rollout", "undo", "deploy/web"]).await?;
    k(&["rollout", "status", "deploy/web", "--timeout=60s"]).await?;
    let env = k(&["get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.containers[0].env[*].name}"])
        .await?;
    ensure!(env == "POD_NAME", "after undo the environment is {env:?}");
    let yaml = k(&["get", "svc", "web", "-o", "yaml"]).await?;
    ensure!(yaml.contains("clusterIP: 10.96."), "{yaml}");
    ensure!(k(&["auth", "can-i", "create", "pods"]).await?.trim() == "yes", "the administrator may not");
    ensure!(k(&["api-resources"]).await?.contains("deployments"), "api-resources");
    let refused = start(scene, kubectl, &["get", "pod", "nothing"]).await?;
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(text.contains("Error from server (NotFound): pods \"nothing\" not found"), "{text}");
    std::fs::write(&file, scene.web()?.replace("replicas: 3", "replicas: 3\n  replicaz: 4"))?;
    let refused = start(scene, kubectl, &["apply", "-f", &path]).await?;
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(text.contains("unknown field \"spec.replicaz\""), "{text}");
    k(&["delete", "deploy/web", "svc/web", "cm/web", "--wait=false"]).await?;
    scene.no_pods_left("app=web", SOON).await
}

async fn streams(scene: &Scene, kubectl: &str) -> Result<()> {
    let line = "while true; do echo tick; sleep 0.2; done";
    scene.run_pod("talk", "Always", line, json!({})).await?;
    scene.container("talk", "runs", SOON, |s| s.ready).await?;
    let out =
        run(scene, kubectl, &["exec", "talk", "--", "sh", "-c", "echo out; echo err >&2; id -u"]).await?;
    ensure!(out == "out\n0\n", "exec printed {out:?}");
    let failed = start(scene, kubectl, &["exec", "talk", "--", "sh", "-c", "exit 42"]).await?;
    ensure!(failed.status.code() == Some(42), "exec exited with {:?}", failed.status);
    let typed = scene.cluster.kubectl(kubectl, &["exec", "-i", "talk", "--", "cat"]);
    ensure!(feed(typed, b"typed\n").await? == "typed\n", "stdin does not reach the command");
    let tty =
        "printf 'tty\\nexit\\n' | script -qec \"$KUBECTL exec -it talk -- sh -c 'tty; stty size'\" /dev/null";
    let mut command = scene.cluster.host.command("sh");
    command.args(["-c", tty]).env("KUBECTL", kubectl).env("KUBECONFIG", scene.cluster.kubeconfig());
    let shown = tokio::process::Command::from(command).output().await?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    ensure!(shown.contains("/dev/pts/"), "exec -it has no terminal: {shown:?}");
    follows(scene, kubectl).await?;
    watches(scene, kubectl).await?;
    scene.delete_pod("talk").await
}

async fn feed(command: std::process::Command, bytes: &[u8]) -> Result<String> {
    use tokio::io::AsyncWriteExt;
    let mut command = tokio::process::Command::from(command);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("stdin")?;
    stdin.write_all(bytes).await?;
    drop(stdin);
    let output = tokio::time::timeout(Duration::from_secs(20), child.wait_with_output())
        .await
        .context("it hangs")??;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What a kubectl that does not end has printed, once `enough` of it is there.
async fn until(scene: &Scene, kubectl: &str, args: &[&str], enough: impl Fn(&str) -> bool) -> Result<()> {
    let log = tempfile::NamedTempFile::new()?;
    let mut command = scene.cluster.kubectl(kubectl, args);
    command.stdout(log.reopen()?);
    let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
    let seen = eventually(&args.join(" "), SOON, || async {
        let text = std::fs::read_to_string(log.path())?;
        Ok(enough(&text).then_some(()))
    })
    .await;
    child.kill().await?;
    seen.with_context(|| std::fs::read_to_string(log.path()).unwrap_or_default())
}

async fn follows(scene: &Scene, kubectl: &str) -> Result<()> {
    until(scene, kubectl, &["logs", "-f", "talk", "--tail=1"], |text| text.lines().count() >= 5).await
}

async fn watches(scene: &Scene, kubectl: &str) -> Result<()> {
    let watch = until(scene, kubectl, &["get", "pods", "-w"], |text| {
        text.contains("seen") && text.contains("Completed")
    });
    let change = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        scene.run_pod("seen", "Never", "true", json!({})).await
    };
    let (watched, changed) = tokio::join!(watch, change);
    changed?;
    watched?;
    scene.delete_pod("seen").await
}
