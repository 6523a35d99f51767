//! What `cargo xtask bench cluster` measures: how long people wait for a cluster and for pods, and what it costs.

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use carrack_tests::image::Image;
use carrack_tests::{Cluster, Host, Options, Registry, host};
use clap::Parser;
use comfy_table::{Table, presets};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;

/// Measures a cluster on a host of its own.
#[derive(Parser)]
struct Args {
    /// How often each figure is taken; the median counts
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Pods at once
    #[arg(long, default_value_t = 30)]
    pods: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let host = Arc::new(Host::isolated("bench")?);
    let inner = host.clone();
    host.run(async move { measure(inner, &args).await })
}

async fn measure(host: Arc<Host>, args: &Args) -> Result<()> {
    let registry = Registry::start(&host, 5000).await?;
    registry.push(&Image::busybox()?, "carrack/busybox", "1").await?;
    let mut starts = Vec::new();
    for _ in 1..args.rounds {
        let mut cluster = Cluster::start(host.clone(), Options::new("bench")).await?;
        starts.push(cluster.ready_after);
        cluster.take_down()?;
    }
    let mut cluster = Cluster::start(host, Options::new("bench")).await?;
    starts.push(cluster.ready_after);
    host::join_cgroup(&cluster.cgroup())?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = memory(&cluster)?;

    let image = registry.reference("carrack/busybox:1");
    start_pods(&cluster, &image, "warm", 1).await?;
    delete_pods(&cluster, "warm", 1).await?;
    let mut single = Vec::new();
    for round in 0..args.rounds {
        let name = format!("one-{round}");
        single.push(start_pods(&cluster, &image, &name, 1).await?);
        delete_pods(&cluster, &name, 1).await?;
    }
    let before = (memory(&cluster)?, supervisors(&cluster)?);
    let mut many = Vec::new();
    let mut each = 0;
    for round in 0..args.rounds.div_ceil(2) {
        let name = format!("many-{round}");
        many.push(start_pods(&cluster, &image, &name, args.pods).await?);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let own = supervisors(&cluster)?.saturating_sub(before.1);
        let agent = memory(&cluster)?.saturating_sub(before.0);
        each = (own + agent) / u64::try_from(args.pods)?;
        delete_pods(&cluster, &name, args.pods).await?;
    }
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(["figure", "median", "lowest", "highest"]);
    row(&mut table, "`carrack up` to node Ready", &mut starts);
    row(&mut table, "one pod, applied to Ready, image present", &mut single);
    row(&mut table, &format!("{} pods at once, applied to all Ready", args.pods), &mut many);
    table.add_row(["memory of the idle process (anonymous), kB", &idle.to_string(), "", ""]);
    table.add_row(["memory for each pod (supervisor and agent, private), kB", &each.to_string(), "", ""]);
    println!("{table}");
    cluster.take_down()?;
    Ok(())
}

fn row(table: &mut Table, what: &str, times: &mut [Duration]) {
    times.sort();
    let show = |t: Option<&Duration>| t.map_or(String::new(), |t| format!("{:.1} ms", t.as_secs_f64() * 1e3));
    table.add_row([
        what.to_owned(),
        show(times.get(times.len() / 2)),
        show(times.first()),
        show(times.last()),
    ]);
}

/// From the first create to the moment at which the last of them is seen to be Ready.
async fn start_pods(cluster: &Cluster, image: &str, name: &str, count: usize) -> Result<Duration> {
    let pods = cluster.pods("default");
    let config = watcher::Config::default().labels(&format!("bench={name}"));
    let mut news = watcher(pods.clone(), config).applied_objects().boxed();
    let began = Instant::now();
    let create = async {
        for n in 0..count {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": { "name": format!("{name}-{n}"), "labels": { "bench": name } },
                "spec": { "terminationGracePeriodSeconds": 0, "containers": [{
                    "name": "main", "image": image, "command": ["sleep", "100000"],
                }] },
            }))?;
            pods.create(&PostParams::default(), &pod).await?;
        }
        anyhow::Ok(())
    };
    let mut ready = std::collections::BTreeSet::new();
    let watch = async {
        while ready.len() < count {
            let pod = news.next().await.context("the watch ended")??;
            if carrack_tests::cluster::pod_is_ready(&pod) {
                ready.insert(pod.metadata.name.unwrap_or_default());
            }
        }
        anyhow::Ok(began.elapsed())
    };
    let both = async { tokio::try_join!(create, watch) };
    let (_, took) =
        tokio::time::timeout(Duration::from_secs(60), both).await.context("the pods are not Ready")??;
    Ok(took)
}

async fn delete_pods(cluster: &Cluster, name: &str, count: usize) -> Result<()> {
    let pods = cluster.pods("default");
    for n in 0..count {
        pods.delete(&format!("{name}-{n}"), &DeleteParams::default()).await?;
    }
    for n in 0..count {
        let pod = format!("{name}-{n}");
        carrack_tests::eventually("the pod is gone", Duration::from_secs(30), || async {
            Ok(pods.get_opt(&pod).await?.is_none().then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// Anonymous memory of the process that is everything, in kB.
fn memory(cluster: &Cluster) -> Result<u64> {
    let pid = cluster.pid().context("the cluster does not run")?;
    field(&format!("/proc/{pid}/status"), "RssAnon:")
}

/// Private memory of all supervisors together, in kB.
fn supervisors(cluster: &Cluster) -> Result<u64> {
    let dir = cluster.data_dir();
    let dir = dir.parent().context("the data directory has no parent")?.display().to_string();
    let mut sum = 0;
    for process in std::fs::read_dir("/proc")?.flatten() {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.contains("supervisor") && line.contains(&dir) {
            let path = process.path().join("smaps_rollup").display().to_string();
            sum += field(&path, "Private_Clean:").unwrap_or(0) + field(&path, "Private_Dirty:").unwrap_or(0);
        }
    }
    Ok(sum)
}

fn field(path: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path)?;
    let line =
        text.lines().find_map(|l| l.strip_prefix(name)).with_context(|| format!("{path} has no {name}"))?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
