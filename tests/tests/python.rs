//! The official Python client, from PyPI: watch, exec and logs.

use std::time::Duration;

use anyhow::{Context, ensure};
use carrack_tests::on_a_cluster;
use carrack_tests::python::python;
use serde_json::json;

const VERSION: &str = "kubernetes==33.1.0";

const SCRIPT: &str = r#"
import sys, threading, time
from kubernetes import client, config, watch
from kubernetes.stream import stream
config.load_kube_config(sys.argv[1])
api = client.CoreV1Api()
seen = []
def follow():
    for event in watch.Watch().stream(api.list_namespaced_config_map, "default", timeout_seconds=10):
        seen.append((event["type"], event["object"].metadata.name))
        if ("DELETED", "watched") in seen:
            return
thread = threading.Thread(target=follow)
thread.start()
time.sleep(0.5)
body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="watched"), data={"a": "1"})
api.create_namespaced_config_map("default", body)
api.patch_namespaced_config_map("watched", "default", {"data": {"a": "2"}})
api.delete_namespaced_config_map("watched", "default")
thread.join(15)
own = [kind for kind, name in seen if name == "watched"]
assert own == ["ADDED", "MODIFIED", "DELETED"], seen
out = stream(api.connect_get_namespaced_pod_exec, "talk", "default", command=["sh", "-c", "echo from exec"],
             stderr=True, stdin=False, stdout=True, tty=False)
assert out == "from exec\n", repr(out)
log = api.read_namespaced_pod_log("talk", "default")
assert log.startswith("from the log"), repr(log)
print("python is content")
"#;

#[test]
fn the_python_client_works() {
    let python = python("client", &[VERSION]).context("python3 with venv and pip is needed").unwrap();
    on_a_cluster("python", |scene| async move {
        scene.run_pod("talk", "Always", "echo from the log; sleep 1000", json!({})).await?;
        scene.container("talk", "runs", Duration::from_secs(20), |s| s.ready).await?;
        let mut command = scene.cluster.host.command(&python);
        command.args(["-c", SCRIPT]).arg(scene.cluster.kubeconfig());
        let output = tokio::process::Command::from(command).output().await?;
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success() && said.contains("python is content"), "{said}");
        Ok(())
    });
}
