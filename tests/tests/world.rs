//! A pod and the world around it: commands run in it, and connections that leave the host in the node's name, also after
//! Carrack was killed and started again.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use carrack_tests::{Scene, eventually, on_a_scene};
use kube::api::AttachParams;
use serde_json::json;
use tokio::io::AsyncReadExt;

const SOON: Duration = Duration::from_secs(30);
/// A web server beyond the uplink, which knows nothing of pods.
const OUTSIDE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(198, 18, 0, 9)), 8080);

/// The server; it ends with this value.
struct Server {
    child: Child,
    _dir: tempfile::TempDir,
}

impl Server {
    /// Each answer is the address that the client seems to have.
    async fn start(scene: &Scene) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let script = dir.path().join("cgi-bin/who");
        std::fs::create_dir_all(dir.path().join("cgi-bin"))?;
        std::fs::write(&script, "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; echo $REMOTE_ADDR\n")?;
        let mut permissions = std::fs::metadata(&script)?.permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
        std::fs::set_permissions(&script, permissions)?;
        let mut command = scene.cluster.host.outside("/bin/busybox")?;
        command.args(["httpd", "-f", "-p", &OUTSIDE.to_string(), "-h"]).arg(dir.path());
        let child = command.stdin(Stdio::null()).spawn().context("busybox-static is missing")?;
        let server = Self { child, _dir: dir };
        eventually("the server outside answers", SOON, || async {
            Ok(carrack_tests::http::get(OUTSIDE, "/cgi-bin/who").await.ok())
        })
        .await?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command in the container `main` of a pod; what it prints, and whether it succeeded.
async fn exec(scene: &Scene, pod: &str, command: &[&str]) -> Result<(String, bool)> {
    let params = AttachParams::default().stdout(true).stderr(false);
    let mut process = scene.cluster.pods("default").exec(pod, command.to_vec(), &params).await?;
    let status = process.take_status().context("no status")?;
    let mut text = String::new();
    process.stdout().context("no output")?.read_to_string(&mut text).await?;
    let status = status.await.context("the command ended without a status")?;
    Ok((text, status.status.as_deref() == Some("Success")))
}

#[test]
fn pods_reach_the_world_and_are_reached() {
    on_a_scene("world", |mut scene| async move {
        let server = Server::start(&scene).await?;
        scene.run_pod("traveller", "Always", "sleep 100000", json!({})).await?;
        scene.container("traveller", "runs", SOON, |s| s.ready).await?;
        goes_out(&scene).await.context("at first")?;
        let (text, good) = exec(&scene, "traveller", &["sh", "-c", "echo out; exit 3"]).await?;
        ensure!(text == "out\n" && !good, "a command that failed: {text:?} {good}");
        scene.cluster.kill()?;
        scene.cluster.restart().await?;
        scene.cluster.node_is_ready_within(SOON).await?;
        goes_out(&scene).await.context("after a restart")?;
        drop(server);
        scene.delete_pod("traveller").await?;
        Ok(scene)
    });
}

/// The server outside sees the node where a pod asks.
async fn goes_out(scene: &Scene) -> Result<()> {
    let url = format!("http://{OUTSIDE}/cgi-bin/who");
    eventually("a command in the pod reaches the world", SOON, || async {
        let (text, good) = exec(scene, "traveller", &["wget", "-q", "-O", "-", &url]).await?;
        ensure!(good, "wget in the pod failed: {text:?}");
        ensure!(text.trim() == scene.cluster.host.address.to_string(), "the server saw {text:?}");
        Ok(Some(()))
    })
    .await
    .with_context(|| scene.cluster.log())
}
