//! `kubectl top`, with nothing installed for it.

use anyhow::{Context, Result, ensure};
use carrack_tests::kubectl::kubectls;
use carrack_tests::{Scene, eventually, on_a_cluster};
use serde_json::{Value, json};

use super::{SOON, run};

#[test]
fn top_shows_what_is_used() {
    let all = kubectls();
    if all.is_empty() {
        println!("kubectl is not installed here: nothing is tried");
        return;
    }
    on_a_cluster("top", |scene| async move {
        let fill = "dd if=/dev/zero of=/dev/shm/full bs=1M count=20; exec yes > /dev/null";
        scene.run_pod("busy", "Always", fill, json!({})).await?;
        scene.run_pod("idle", "Always", "exec sleep 1000", json!({})).await?;
        let newest = all.last().context("a kubectl")?;
        // What a start costs shows for twenty seconds.
        let truth = eventually("what is said is what is used", SOON * 4, || objects(&scene, newest));
        truth.await.with_context(|| scene.cluster.log())?;
        for kubectl in &all {
            nodes(&scene, kubectl).await.with_context(|| kubectl.clone())?;
            pods(&scene, kubectl).await.with_context(|| kubectl.clone())?;
        }
        scene.delete_pod("busy").await?;
        scene.delete_pod("idle").await
    });
}

/// The items of a list.
async fn metrics(scene: &Scene, kubectl: &str, path: &str) -> Result<Vec<Value>> {
    let text =
        run(scene, kubectl, &["get", "--raw", &format!("/apis/metrics.k8s.io/v1beta1/{path}")]).await?;
    let list: Value = serde_json::from_str(&text)?;
    Ok(list["items"].as_array().context("items")?.clone())
}

/// The one pod fills 20 MiB and takes what CPU it gets, the other sleeps; the node has both.
async fn objects(scene: &Scene, kubectl: &str) -> Result<Option<()>> {
    let pods = metrics(scene, kubectl, "namespaces/default/pods").await?;
    let nodes = metrics(scene, kubectl, "nodes").await?;
    let (busy, idle) = (usage(&pods, "busy")?, usage(&pods, "idle")?);
    let node = nodes.first().context("the node is not measured")?;
    ensure!(nodes.len() == 1 && node["metadata"]["labels"]["kubernetes.io/hostname"] == "top", "{nodes:?}");
    let node = numbers(&node["usage"])?;
    ensure!(busy.0 > 1_000_000 && busy.0 > 10 * idle.0, "CPU: busy {}n, idle {}n", busy.0, idle.0);
    ensure!(busy.1 > 20 << 20 && busy.1 < 200 << 20 && idle.1 < 10 << 20, "memory: {} {}", busy.1, idle.1);
    ensure!(node.0 > 1_000_000 && node.1 > busy.1, "the node uses {node:?}, a pod on it {busy:?}");
    Ok(Some(()))
}

/// CPU in billionths of a core and memory in bytes of the only container of a pod.
fn usage(pods: &[Value], name: &str) -> Result<(u64, u64)> {
    let pod = pods.iter().find(|pod| pod["metadata"]["name"] == name).context("no such pod")?;
    let window = pod["window"].as_str().context("no window")?;
    ensure!(pod["containers"][0]["name"] == "main" && is_long(window), "{pod}");
    numbers(&pod["containers"][0]["usage"])
}

/// Whether it is the ten seconds at least that rates are over; a minute or more on a machine that hardly gets on.
fn is_long(window: &str) -> bool {
    let seconds = window.strip_suffix('s').unwrap_or_default();
    seconds.parse::<f64>().map_or(seconds.contains('m') && !seconds.ends_with('m'), |seconds| seconds >= 10.0)
}

fn numbers(usage: &Value) -> Result<(u64, u64)> {
    const UNITS: [(&str, u64); 6] =
        [("n", 1), ("u", 1_000), ("m", 1_000_000), ("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30)];
    let number = |field: &str, plain: u64| -> Result<u64> {
        let text = usage[field].as_str().with_context(|| usage.to_string())?;
        let unit = UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
        let (digits, factor) = unit.unwrap_or((text, plain));
        Ok(digits.parse::<u64>().with_context(|| text.to_owned())? * factor)
    };
    Ok((number("cpu", 1_000_000_000)?, number("memory", 1)?))
}

/// The first words of all lines.
fn column(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.split_whitespace().next().unwrap_or_default()).collect()
}

async fn nodes(scene: &Scene, kubectl: &str) -> Result<()> {
    let shown = run(scene, kubectl, &["top", "nodes"]).await?;
    ensure!(
        column(&shown) == ["NAME", "top"] && shown.contains("CPU") && !shown.contains("<unknown>"),
        "{shown}"
    );
    let row: Vec<&str> = shown.lines().nth(1).context("a row")?.split_whitespace().collect();
    ensure!(row.len() == 5 && row[1].ends_with('m') && row[3].ends_with("Mi"), "{shown}");
    let none = run(scene, kubectl, &["top", "node", "top", "--no-headers", "--show-capacity"]).await?;
    ensure!(column(&none) == ["top"], "{none}");
    let selected =
        run(scene, kubectl, &["top", "nodes", "-l", "kubernetes.io/hostname=top", "--sort-by=cpu"]).await?;
    ensure!(column(&selected) == ["NAME", "top"], "{selected}");
    Ok(())
}

async fn pods(scene: &Scene, kubectl: &str) -> Result<()> {
    let shown = |args: &'static [&'static str]| run(scene, kubectl, args);
    for by in [&["top", "pods", "--sort-by=cpu"], &["top", "pods", "--sort-by=memory"]] {
        let text = run(scene, kubectl, by).await?;
        ensure!(column(&text) == ["NAME", "busy", "idle"], "{text}");
    }
    let text = shown(&["top", "pods", "--sum"]).await?;
    ensure!(text.lines().count() == 5 && text.contains("________"), "{text}");
    let text = shown(&["top", "pods", "-A", "-l", "app notin (x)"]).await?;
    ensure!(column(&text) == ["NAMESPACE", "default", "default"], "{text}");
    let text = shown(&["top", "pod", "busy", "--containers"]).await?;
    ensure!(column(&text) == ["POD", "busy"] && text.contains("main"), "{text}");
    let text = shown(&["top", "pods", "--field-selector=metadata.name=idle", "--no-headers"]).await?;
    ensure!(column(&text) == ["idle"], "{text}");
    let text = shown(&["get", "pods.metrics.k8s.io"]).await?;
    ensure!(column(&text) == ["NAME", "busy", "idle"] && text.contains("WINDOW"), "{text}");
    Ok(())
}
