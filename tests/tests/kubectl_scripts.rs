//! What kubectl prints, line by line: the transcripts in `kubectl/scripts`, against a control plane without a node.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use carrack_tests::kubectl::kubectls;
use carrack_tests::{Cluster, on_a_control_plane, root, transcript};
use serde_json::{Value, json};

#[test]
fn kubectl_prints_what_it_prints_elsewhere() {
    let Some(kubectl) = kubectls().pop() else {
        println!("kubectl is not installed here: nothing is tried");
        return;
    };
    on_a_control_plane("scripts", |cluster| async move {
        let files = transcript::files(&root().join("tests/tests/kubectl/scripts"))?;
        // Its node is one that pods of the others could go to.
        let (last, first): (Vec<_>, Vec<_>) = files.into_iter().partition(|f| f.ends_with("nodes.txt"));
        let mut wrong = Vec::new();
        for files in [first, last] {
            let all = files.iter().map(|file| script(cluster.clone(), &kubectl, file));
            for (file, result) in files.iter().zip(futures::future::join_all(all).await) {
                wrong.extend(result.err().map(|error| format!("{}: {error:#}", file.display())));
            }
        }
        if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.join("\n")) }
    });
}

/// Runs a transcript in a namespace that is called as its file.
async fn script(cluster: Arc<Cluster>, kubectl: &str, file: &Path) -> Result<()> {
    let namespace = file.file_stem().context("name")?.to_string_lossy().replace('_', "-");
    let dir = tempfile::tempdir()?;
    symlink(kubectl, dir.path().join("kubectl"))?;
    configurations(&cluster, &namespace, dir.path())?;
    let shell = |args: &[&str]| {
        let mut command: Command = cluster.host.command("sh");
        let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap_or_default());
        command.args(args).env("PATH", path).env("HOME", dir.path()).env("TZ", "UTC");
        command.env("KUBECONFIG", dir.path().join("config"));
        command.env("ANONYMOUS", dir.path().join("anonymous"));
        command
    };
    let line = format!("kubectl create namespace {namespace}");
    let made = tokio::process::Command::from(shell(&["-c", &line])).output().await?;
    if !made.status.success() {
        bail!("{}", String::from_utf8_lossy(&made.stderr));
    }
    transcript::repeat(file, dir.path(), shell).await
}

/// The administrator's configuration in a namespace, and one of nobody.
fn configurations(cluster: &Cluster, namespace: &str, dir: &Path) -> Result<()> {
    let text = std::fs::read_to_string(cluster.kubeconfig())?;
    let mut config: Value = serde_saphyr::from_str(&text).context("kubeconfig")?;
    config["contexts"][0]["context"]["namespace"] = json!(namespace);
    std::fs::write(dir.join("config"), config.to_string())?;
    config["users"][0]["user"] = json!({});
    Ok(std::fs::write(dir.join("anonymous"), config.to_string())?)
}
