//! Watchers of the pods of one label each, as nodes watch theirs, while all pods change in turn.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::client::Client;
use crate::lists;
use crate::pods;
use crate::report::{Figure, Load};
use crate::server::Server;

/// Changes a second, and who makes them.
const RATE: u32 = 1_000;
const WRITERS: usize = 16;

/// Delays that are taken together at most; a watch of some seconds has fewer.
const SAMPLES: usize = 1 << 16;

/// Delay from the request that changes a pod to the event at its watcher.
pub(crate) async fn all(server: &Server, watchers: usize, time: Duration) -> Result<Vec<Figure>> {
    eprintln!("{watchers} watchers");
    let newest: Value =
        serde_json::from_slice(&server.client().await?.get(&format!("{}?limit=1", pods::PATH)).await?.body)?;
    let version = newest["metadata"]["resourceVersion"].as_str().context("a list without a version")?;
    let (seen, mut delays) = mpsc::channel(SAMPLES);
    let epoch = Instant::now();
    let before = server.memory()?;
    let mut tasks = Vec::new();
    for n in 0..watchers {
        // Labels are set below; until then nothing is selected.
        let path =
            format!("{}?watch=true&resourceVersion={version}&labelSelector=watcher%3Dw{n}", pods::PATH);
        let (client, events) = server.client().await?.watch(&path).await?;
        tasks.push(tokio::spawn(follow(client, events, epoch, seen.clone())));
    }
    drop(seen);
    let memory = server.memory()?.saturating_sub(before) as f64 / 1e6;
    let (cpu, start) = (server.cpu()?, Instant::now());
    let pause = Duration::from_secs(1) * WRITERS as u32 / RATE;
    let mut writers = Vec::new();
    for first in 0..WRITERS {
        let mut client = server.client().await?;
        writers.push(tokio::spawn(async move {
            let mut turns = tokio::time::interval(pause);
            let mut written = 0;
            for n in (first..lists::PODS).step_by(WRITERS).cycle() {
                if start.elapsed() >= time {
                    break;
                }
                turns.tick().await;
                let patch = json!({"metadata": {
                    "labels": {"watcher": format!("w{}", n % watchers)},
                    "annotations": {"example.com/turn": epoch.elapsed().as_nanos().to_string()}
                }});
                let path = format!("{}/list-{n}", pods::PATH);
                client
                    .done(Method::PATCH, &path, "application/merge-patch+json", patch.to_string().into())
                    .await?;
                written += 1;
            }
            anyhow::Ok(written)
        }));
    }
    let mut written = 0;
    for writer in writers {
        written += writer.await??;
    }
    let took = start.elapsed();
    let mut latencies = Vec::new();
    while latencies.len() < written {
        let next = tokio::time::timeout(Duration::from_secs(10), delays.recv()).await;
        latencies.push(next.context("events are missing")?.context("the watchers ended")?);
    }
    let cpu = server.cpu()? - cpu;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    let load = Load::new("watch".to_owned(), latencies, took, cpu);
    let named = |what: &str| format!("{watchers} watchers, {:.0} changes/s: {what}", load.per_second);
    Ok(vec![
        Figure::new(named("delay p50"), load.p50.as_secs_f64() * 1e3, "ms"),
        Figure::new(named("delay p99"), load.p99.as_secs_f64() * 1e3, "ms"),
        Figure::new(named("share of a core"), 100.0 * cpu.as_secs_f64() / took.as_secs_f64(), "%"),
        Figure::new(named("their memory, connections included"), memory, "MB"),
    ])
}

/// Reads events, one JSON object in a line.
async fn follow(
    _client: Client,
    mut events: Incoming,
    epoch: Instant,
    seen: mpsc::Sender<Duration>,
) -> Result<()> {
    let mut line = Vec::new();
    while let Some(frame) = events.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let now = epoch.elapsed();
        for part in data.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if line.ends_with(b"\n") {
                let event: Value = serde_json::from_slice(&line)?;
                let sent = event["object"]["metadata"]["annotations"]["example.com/turn"].as_str();
                let sent: u64 = sent.context("an event without its time")?.parse()?;
                seen.send(now.saturating_sub(Duration::from_nanos(sent))).await?;
                line.clear();
            }
        }
    }
    Ok(())
}
