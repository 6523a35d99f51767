//! The verbs that change objects and those that tell of them, with the words that kubectl prints.

use anyhow::{Context, Result, bail, ensure};
use carrack_tests::Scene;

use super::{feed, run, start};

/// A step: arguments, and what has to be in the output.
type Step = (&'static [&'static str], &'static str);

/// Runs steps one after the other.
async fn steps(scene: &Scene, kubectl: &str, steps: &[Step]) -> Result<()> {
    for (args, wanted) in steps {
        let out = run(scene, kubectl, args).await?;
        ensure!(out.contains(wanted), "{} does not say {wanted:?}:\n{out}", args.join(" "));
    }
    Ok(())
}

/// Runs a step that has to fail.
async fn refused(scene: &Scene, kubectl: &str, args: &[&str], wanted: &str) -> Result<()> {
    let output = start(scene, kubectl, args).await?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && text.contains(wanted), "{}: {text}", args.join(" "));
    Ok(())
}

/// Runs a step with a manifest on its standard input.
async fn with_input(scene: &Scene, kubectl: &str, args: &[&str], input: &str, wanted: &str) -> Result<()> {
    let out = feed(scene.cluster.kubectl(kubectl, args), input.as_bytes()).await?;
    ensure!(out.contains(wanted), "{} does not say {wanted:?}: {out}", args.join(" "));
    Ok(())
}

/// Runs a step with a manifest (without single quotes) on its standard input, whatever comes of it.
async fn piped(scene: &Scene, kubectl: &str, args: &str, manifest: &str) -> Result<std::process::Output> {
    let line = format!("printf '{}' | {kubectl} {args}", manifest.replace('\n', "\\n"));
    let command = scene.cluster.kubectl("sh", &["-c", &line]);
    Ok(tokio::process::Command::from(command).kill_on_drop(true).output().await?)
}

fn map(name: &str, data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata: {data}\n")
}

/// Server-side apply: creation, conflict, force, and the way from client-side apply.
pub(super) async fn apply(scene: &Scene, kubectl: &str) -> Result<()> {
    let server: &[&str] = &["apply", "--server-side", "-f", "-"];
    with_input(scene, kubectl, server, &map("ssa", "{a: '1'}"), "configmap/ssa serverside-applied").await?;
    let patch = r#"{"data":{"a":"2"}}"#;
    run(scene, kubectl, &["patch", "cm", "ssa", "--type=merge", "-p", patch]).await?;
    let output = piped(scene, kubectl, "apply --server-side -f -", &map("ssa", "{a: \"3\"}")).await?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        text.contains("Apply failed with 1 conflict: conflict with \"kubectl-patch\" using v1"),
        "{text}"
    );
    ensure!(text.contains(": .data.a"), "{text}");
    let force: &[&str] = &["apply", "--server-side", "--force-conflicts", "-f", "-"];
    with_input(scene, kubectl, force, &map("ssa", "{a: '3'}"), "serverside-applied").await?;
    let managers =
        &["get", "cm", "ssa", "--show-managed-fields", "-o", "jsonpath={.metadata.managedFields[*].manager}"];
    let managers = run(scene, kubectl, managers).await?;
    ensure!(managers == "kubectl", "managers: {managers}");
    with_input(scene, kubectl, &["apply", "-f", "-"], &map("csa", "{a: '1', b: '1'}"), "created").await?;
    with_input(scene, kubectl, server, &map("csa", "{a: '2'}"), "serverside-applied").await?;
    let data = run(scene, kubectl, &["get", "cm", "csa", "-o", "jsonpath={.data}"]).await?;
    ensure!(data == r#"{"a":"2"}"#, "what client-side apply set and nobody wants any more stays: {data}");
    let dry: &[&str] = &["apply", "--server-side", "--dry-run=server", "-f", "-"];
    with_input(scene, kubectl, dry, &map("dry", "{}"), "serverside-applied (server dry run)").await?;
    refused(scene, kubectl, &["get", "cm", "dry"], "NotFound").await?;
    steps(scene, kubectl, &[(&["delete", "cm", "ssa", "csa"], "deleted")]).await
}

/// Verbs that change an object.
pub(super) async fn changes(scene: &Scene, kubectl: &str) -> Result<()> {
    with_input(scene, kubectl, &["create", "-f", "-"], &map("m", "{k: v}"), "configmap/m created").await?;
    steps(
        scene,
        kubectl,
        &[
            (&["create", "cm", "n", "--from-literal=a=b", "--dry-run=server"], "created (server dry run)"),
            (&["label", "cm", "m", "tier=x"], "labeled"),
            (&["annotate", "cm", "m", "note=y"], "configmap/m annotate"),
            (&["patch", "cm", "m", "--type=merge", "-p", r#"{"data":{"k":"w"}}"#], "patched"),
            (&["patch", "cm", "m", "-p", r#"{"data":{"l":"w"}}"#], "patched"),
            (&["patch", "cm", "m", "--type=json", "-p", r#"[{"op":"remove","path":"/data/l"}]"#], "patched"),
            (&["get", "cm", "m", "-o", "jsonpath={.data.k} {.metadata.labels.tier}"], "w x"),
            (&["get", "cm", "-l", "tier=x", "-o", "custom-columns=N:.metadata.name"], "m"),
            (
                &["get", "cm", "--field-selector=metadata.name=m", "--chunk-size=1", "-o", "name"],
                "configmap/m",
            ),
            (&["get", "cm", "m", "-o", "go-template={{.data.k}}"], "w"),
        ],
    )
    .await?;
    with_input(scene, kubectl, &["replace", "-f", "-"], &map("m", "{k: r}"), "replaced").await?;
    let mut edit = scene.cluster.kubectl(kubectl, &["edit", "cm", "m"]);
    edit.env("KUBE_EDITOR", "sed -i s/k:.r/k:\\ edited/");
    let edited = tokio::process::Command::from(edit).output().await?;
    ensure!(edited.status.success(), "{}", String::from_utf8_lossy(&edited.stderr));
    steps(scene, kubectl, &[(&["get", "cm", "m", "-o", "jsonpath={.data.k}"], "edited")]).await?;
    let diff = piped(scene, kubectl, "diff -f -", &map("m", "{k: other}")).await?;
    let text = String::from_utf8_lossy(&diff.stdout).into_owned();
    ensure!(diff.status.code() == Some(1) && text.contains("+  k: other"), "diff: {text}");
    steps(
        scene,
        kubectl,
        &[
            (&["delete", "cm", "m", "--cascade=foreground"], "deleted"),
            (&["get", "cm", "m", "--ignore-not-found"], ""),
        ],
    )
    .await
}

/// Verbs that tell of the cluster.
pub(super) async fn tells(scene: &Scene, kubectl: &str) -> Result<()> {
    steps(
        scene,
        kubectl,
        &[
            (&["api-versions"], "apps/v1"),
            (&["api-resources", "--namespaced=false"], "nodes"),
            (&["explain", "deployment.spec.strategy"], "rollingUpdate"),
            (&["explain", "pods.spec.containers"], "FIELDS:"),
            (
                &["explain", "pods.spec.containers.imagePullPolicy"],
                "`\"IfNotPresent\"` means that kubelet pulls if",
            ),
            (&["auth", "can-i", "--list"], "*.*"),
            (&["version"], "v1.35.0+carrack"),
            (&["cluster-info"], "control plane"),
            (&["get", "--raw", "/readyz"], "ok"),
            (&["describe", "node"], "Conditions:"),
            (&["describe", "ns", "default"], "Active"),
            (&["describe", "svc", "kubernetes"], "ClusterIP"),
            (&["get", "events"], ""),
            (&["get", "all", "-A"], "service/kubernetes"),
        ],
    )
    .await?;
    let whoami = run(scene, kubectl, &["auth", "whoami"]).await;
    // An experiment up to 1.27.
    if !kubectl.ends_with("1.27") {
        ensure!(whoami?.contains("system:masters"), "whoami");
    }
    Ok(())
}

/// Streams of a running pod: exec, attach, cp and port-forward.
pub(super) async fn streams(scene: &Scene, kubectl: &str, pod: &str) -> Result<()> {
    let out = run(scene, kubectl, &["exec", pod, "--", "sh", "-c", "echo out; echo err >&2"]).await?;
    ensure!(out == "out\n", "exec printed {out:?}");
    let failed = start(scene, kubectl, &["exec", pod, "--", "sh", "-c", "exit 42"]).await?;
    ensure!(failed.status.code() == Some(42), "exec exited with {:?}", failed.status);
    let typed = scene.cluster.kubectl(kubectl, &["exec", "-i", pod, "--", "cat"]);
    let long = "0123456789abcdef".repeat(20_000);
    ensure!(feed(typed, long.as_bytes()).await? == long, "stdin does not reach the command whole");
    let line = format!("printf 'tty\\nexit\\n' | script -qec '{kubectl} exec -it {pod} -- sh' /dev/null");
    let shell = scene.cluster.kubectl("sh", &["-c", &line]);
    let shown = tokio::process::Command::from(shell).kill_on_drop(true).output().await?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    ensure!(shown.contains("/dev/pts/"), "exec -it has no terminal: {shown:?}");
    let dir = tempfile::tempdir()?;
    let (there, back) = (dir.path().join("there"), dir.path().join("back"));
    std::fs::write(&there, &long)?;
    let (there, back) = (there.to_str().context("path")?, back.to_str().context("path")?);
    run(scene, kubectl, &["cp", there, &format!("{pod}:/tmp/copied")]).await?;
    run(scene, kubectl, &["cp", &format!("{pod}:/tmp/copied"), back]).await?;
    ensure!(std::fs::read_to_string(back)? == long, "cp does not give back what it was given");
    forward(scene, kubectl, pod).await
}

/// Asks the pod's web server through a forwarded port, and a port where nobody listens.
async fn forward(scene: &Scene, kubectl: &str, pod: &str) -> Result<()> {
    let log = tempfile::NamedTempFile::new()?;
    let mut command = scene.cluster.kubectl(kubectl, &["port-forward", pod, ":8080", ":9999"]);
    command.stdout(log.reopen()?).stderr(log.reopen()?);
    let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
    let asked = ask(log.path()).await;
    child.kill().await?;
    asked.with_context(|| std::fs::read_to_string(log.path()).unwrap_or_default())
}

async fn ask(log: &std::path::Path) -> Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let port = |to: &'static str| async move {
        carrack_tests::eventually("port-forward listens", std::time::Duration::from_secs(30), || async {
            let text = std::fs::read_to_string(log)?;
            let line = text.lines().find(|l| l.contains("127.0.0.1:") && l.ends_with(to));
            Ok(line.and_then(|l| l.split(':').nth(1)?.split(' ').next()?.parse::<u16>().ok()))
        })
        .await
    };
    let open = port("-> 8080").await?;
    for _ in 0..3 {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", open)).await?;
        stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").await?;
        let mut text = String::new();
        let read = stream.read_to_string(&mut text);
        tokio::time::timeout(std::time::Duration::from_secs(10), read).await.context("no answer")??;
        ensure!(text.starts_with("HTTP/1") && text.ends_with("hello\n"), "the pod answered {text:?}");
    }
    let closed = port("-> 9999").await?;
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", closed)).await?;
    let mut text = Vec::new();
    let read = stream.read_to_end(&mut text);
    match tokio::time::timeout(std::time::Duration::from_secs(10), read).await {
        Ok(_) if text.is_empty() => Ok(()),
        _ => bail!("a port where nobody listens answered {text:?}"),
    }
}
