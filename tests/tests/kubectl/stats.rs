//! What the node tells of the resources that are in use, through the API server's way to it.

use anyhow::{Context, Result, ensure};
use carrack_tests::kubectl::kubectls;
use carrack_tests::{Scene, eventually, on_a_cluster};
use serde_json::{Value, json};

use super::{SOON, run};

#[test]
fn nodes_tell_what_is_used() {
    let Some(kubectl) = kubectls().pop() else {
        println!("kubectl is not installed here: nothing is tried");
        return;
    };
    on_a_cluster("stats", |scene| async move {
        let fill = "dd if=/dev/zero of=/dev/shm/full bs=1M count=20; exec yes > /dev/null";
        scene.run_pod("busy", "Always", fill, json!({})).await?;
        scene.container("busy", "runs", SOON, |s| s.ready).await?;
        let found = eventually("the pod's use is shown", SOON, || summary(&scene, &kubectl));
        found.await.with_context(|| scene.cluster.log())?;
        metrics(&scene, &kubectl).await?;
        scene.delete_pod("busy").await
    });
}

async fn node(scene: &Scene, kubectl: &str, path: &str) -> Result<String> {
    run(scene, kubectl, &["get", "--raw", &format!("/api/v1/nodes/stats/proxy/{path}")]).await
}

/// CPU time grows and memory is what was filled.
async fn summary(scene: &Scene, kubectl: &str) -> Result<Option<()>> {
    let used = || async {
        let summary: Value = serde_json::from_str(&node(scene, kubectl, "stats/summary").await?)?;
        ensure!(summary["node"]["nodeName"] == "stats", "{summary}");
        ensure!(summary["node"]["memory"]["availableBytes"].as_u64() > Some(1 << 20), "{summary}");
        let pods = summary["pods"].as_array().context("pods")?.clone();
        let busy = pods.iter().find(|pod| pod["podRef"]["name"] == "busy").context("no pod")?;
        let container = &busy["containers"][0];
        ensure!(container["name"] == "main" && busy["startTime"].is_string(), "{busy}");
        let number = |at: &Value, path: &str| at.pointer(path).and_then(Value::as_u64).context("no number");
        let cpu = number(container, "/cpu/usageCoreNanoSeconds")?;
        let memory = number(busy, "/memory/workingSetBytes")?;
        Ok((cpu, memory))
    };
    let (before, _) = used().await?;
    let (after, memory) = used().await?;
    Ok((after > before && memory > 20 << 20 && memory < 200 << 20).then_some(()))
}

async fn metrics(scene: &Scene, kubectl: &str) -> Result<()> {
    let text = node(scene, kubectl, "metrics/resource").await?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = line.and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok());
        value.with_context(|| format!("no {name} in\n{text}"))
    };
    let labels = "{container=\"main\",namespace=\"default\",pod=\"busy\"}";
    let container = value(&format!("container_memory_working_set_bytes{labels}"))?;
    ensure!(container > f64::from(20 << 20), "the container's memory is {container}");
    let (cpu, all) = (
        value(&format!("container_cpu_usage_seconds_total{labels}"))?,
        value("node_cpu_usage_seconds_total")?,
    );
    ensure!(cpu > 0.0 && cpu < all, "{cpu} of {all} seconds");
    let whole = value("pod_memory_working_set_bytes{namespace=\"default\",pod=\"busy\"}")?;
    ensure!(
        whole >= container && value("node_memory_working_set_bytes")? > whole,
        "the pod's memory is {whole}"
    );
    ensure!(value("resource_scrape_error")? == 0.0, "{text}");
    Ok(())
}
