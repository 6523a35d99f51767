//! Many clients, each with a connection of its own, each making one request after the other.

use std::time::{Duration, Instant};

use anyhow::Result;
use http::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::client::{Client, JSON};
use crate::pods;
use crate::report::{Figure, Load};
use crate::server::Server;

const CLIENTS: [usize; 3] = [1, 32, 256];

/// Nodes that renew their leases every ten seconds.
const LEASES: usize = 5_000;
const RENEWAL: Duration = Duration::from_secs(10);

/// What a client does over and over.
#[derive(Clone, Copy)]
enum Work {
    Create,
    Get,
    Update,
    PatchStatus,
}

const WORKS: &[(&str, Work)] = &[
    ("create", Work::Create),
    ("get", Work::Get),
    ("update", Work::Update),
    ("patch of the status", Work::PatchStatus),
];

/// All loads with each number of clients.
pub(crate) async fn all(server: &Server, time: Duration) -> Result<Vec<Load>> {
    let mut loads = Vec::new();
    for (name, work) in WORKS {
        for clients in CLIENTS {
            eprintln!("{name}, {clients}");
            loads.push(load(server, name, *work, clients, time).await?);
        }
    }
    Ok(loads)
}

async fn load(server: &Server, name: &str, work: Work, clients: usize, time: Duration) -> Result<Load> {
    let mut all = Vec::new();
    for n in 0..clients {
        all.push(One::new(server.client().await?, name, clients, n, work).await?);
    }
    let (cpu, start) = (server.cpu()?, Instant::now());
    let tasks: Vec<_> = all.into_iter().map(|one| tokio::spawn(one.run(work, start + time))).collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let what = format!("{name}, {clients}");
    Ok(Load::new(what, latencies, start.elapsed(), server.cpu()? - cpu))
}

/// A client and its pod.
struct One {
    client: Client,
    name: String,
    path: String,
    pod: Value,
}

impl One {
    async fn new(mut client: Client, what: &str, clients: usize, n: usize, work: Work) -> Result<One> {
        let name = format!("{}-{clients}-{n}", what.replace(' ', "-"));
        let mut pod = pods::pod(&name, n);
        if !matches!(work, Work::Create) {
            let body = Bytes::from(pod.to_string());
            let stored = client.done(Method::POST, pods::PATH, JSON, body).await?.body;
            pod = serde_json::from_slice(&stored)?;
            // Updates do not ask whether somebody else was faster.
            if let Some(metadata) = pod["metadata"].as_object_mut() {
                metadata.remove("resourceVersion");
            }
        }
        Ok(One { client, path: format!("{}/{name}", pods::PATH), name, pod })
    }

    async fn run(mut self, work: Work, end: Instant) -> Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        for turn in 0.. {
            if Instant::now() >= end {
                break;
            }
            latencies.push(self.once(work, turn).await?);
        }
        Ok(latencies)
    }

    async fn once(&mut self, work: Work, turn: usize) -> Result<Duration> {
        let One { client, name, path, pod } = self;
        let answer = match work {
            Work::Create => {
                pod["metadata"]["name"] = format!("{name}-{turn}").into();
                client.done(Method::POST, pods::PATH, JSON, pod.to_string().into()).await?
            }
            Work::Get => client.done(Method::GET, path, JSON, Bytes::new()).await?,
            Work::Update => {
                pod["metadata"]["annotations"]["example.com/turn"] = turn.to_string().into();
                client.done(Method::PUT, path, JSON, pod.to_string().into()).await?
            }
            Work::PatchStatus => {
                let patch = json!({"status": {"message": turn.to_string()}}).to_string().into();
                let kind = "application/merge-patch+json";
                client.done(Method::PATCH, &format!("{path}/status"), kind, patch).await?
            }
        };
        Ok(answer.whole)
    }
}

/// Thousands of nodes keep their leases.
pub(crate) async fn leases(server: &Server) -> Result<Vec<Figure>> {
    const RENEWERS: usize = 16;
    const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let lease = |n: usize| {
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": format!("node-{n}"), "namespace": "kube-node-lease"},
            "spec": {
                "holderIdentity": format!("node-{n}"), "leaseDurationSeconds": 40
            }
        })
    };
    let mut renewers = Vec::new();
    for first in 0..RENEWERS {
        let (mut client, mut held) = (server.client().await?, Vec::new());
        for n in (first..LEASES).step_by(RENEWERS) {
            let made = client.done(Method::POST, PATH, JSON, lease(n).to_string().into()).await?.body;
            held.push(serde_json::from_slice::<Value>(&made)?);
        }
        renewers.push((client, held));
    }
    let (cpu, start) = (server.cpu()?, Instant::now());
    let pause = RENEWAL * RENEWERS as u32 / LEASES as u32;
    let tasks = renewers.into_iter().map(|(mut client, held)| {
        tokio::spawn(async move {
            let mut turns = tokio::time::interval(pause);
            let mut latencies = Vec::new();
            for mut lease in held {
                turns.tick().await;
                let path = format!("{PATH}/{}", lease["metadata"]["name"].as_str().unwrap_or_default());
                lease["spec"]["leaseTransitions"] = 1.into();
                latencies.push(client.done(Method::PUT, &path, JSON, lease.to_string().into()).await?.whole);
            }
            anyhow::Ok(latencies)
        })
    });
    let mut latencies = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        latencies.extend(task.await??);
    }
    let load = Load::new("leases".to_owned(), latencies, start.elapsed(), server.cpu()? - cpu);
    let share = (server.cpu()? - cpu).as_secs_f64() / start.elapsed().as_secs_f64();
    Ok(vec![
        Figure::new("5,000 leases renewed every 10 s: share of a core", share * 100.0, "%"),
        Figure::new("a renewal, p99", load.p99.as_secs_f64() * 1e3, "ms"),
    ])
}
