//! The official JavaScript client, from npm: `clients/javascript.mjs` on Node.js.

use std::time::Duration;

use anyhow::{Context, ensure};
use carrack_tests::javascript::modules;
use carrack_tests::{on_a_cluster, root};
use serde_json::json;

const CLIENT: &str = "@kubernetes/client-node@1.3.0";

/// A pod that talks, and that answers `hello`.
const TALKS: &str = "echo from the log; echo hello > /www/index.html; httpd -p 8080 -h /www; \
                     while true; do echo tick; sleep 0.2; done";

#[test]
fn the_javascript_client_works() {
    let folder = modules("client", &[CLIENT]).context("Node.js and npm are needed").unwrap();
    // Modules are looked for beside the script.
    let script = folder.join("javascript.mjs");
    std::fs::copy(root().join("tests/tests/clients/javascript.mjs"), &script).unwrap();
    on_a_cluster("javascript", |scene| async move {
        scene.run_pod("talk", "Always", TALKS, json!({})).await?;
        scene.container("talk", "runs", Duration::from_secs(20), |s| s.ready).await?;
        let mut command = scene.cluster.host.command("node");
        command.arg(&script).arg(scene.cluster.kubeconfig()).arg("talk");
        let run = tokio::process::Command::from(command).kill_on_drop(true).output();
        let output = tokio::time::timeout(Duration::from_secs(120), run).await.context("it hangs")??;
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success() && said.contains("javascript is content"), "{said}");
        Ok(())
    });
}
