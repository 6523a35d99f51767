//! The official Python client, from PyPI: `clients/python.py`.

use std::time::Duration;

use anyhow::{Context, ensure};
use carrack_tests::python::python;
use carrack_tests::{on_a_cluster, root};
use serde_json::json;

const VERSION: &str = "kubernetes==33.1.0";

/// A pod that talks, and that answers `hello`.
const TALKS: &str = "echo from the log; echo hello > /www/index.html; exec httpd -f -p 8080 -h /www";

#[test]
fn the_python_client_works() {
    let python = python("client", &[VERSION]).context("python3 with venv and pip is needed").unwrap();
    on_a_cluster("python", |scene| async move {
        scene.run_pod("talk", "Always", TALKS, json!({})).await?;
        scene.container("talk", "runs", Duration::from_secs(20), |s| s.ready).await?;
        let mut command = scene.cluster.host.command(&python);
        command.arg(root().join("tests/tests/clients/python.py"));
        command.arg(scene.cluster.kubeconfig()).arg("talk");
        let run = tokio::process::Command::from(command).kill_on_drop(true).output();
        let output = tokio::time::timeout(Duration::from_secs(120), run).await.context("it hangs")??;
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success() && said.contains("python is content"), "{said}");
        Ok(())
    });
}
