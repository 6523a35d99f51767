//! Measures what requests about one pod cost: processor time of this process for each, without connections.
//!
//! `cargo run --profile bench -p carrack-server --example writes [requests of each round] [rounds] [words of the kinds]`
//!
//! A server with RBAC and all plugins of admission answers 32 requests at a time; bodies are made before. The figures are
//! medians of the rounds, which do all kinds of requests in turn, so that what else the machine does strikes all alike.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)] // as in the tests it shares code with

#[path = "../tests/guarded/mod.rs"]
mod guarded;

use carrack_server::{RequestBody, UserInfo, full};
use futures::StreamExt;
use guarded::{Cluster, Setup, named};
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower_service::Service;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Requests under way at once, each about a pod of its own.
const CLIENTS: usize = 32;
const PODS: &str = "/api/v1/namespaces/default/pods";
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// A kind of request: its name, and what makes the request of a turn about a pod, which is given as it was read.
type Kind = (&'static str, fn(&Value, usize) -> Request<RequestBody>);

const KINDS: &[Kind] = &[
    ("create", |pod, turn| {
        let new = client_pod(&format!("{}-{turn}", name(pod)), turn);
        request("POST", PODS, JSON, &new)
    }),
    ("get", |pod, _| request("GET", &path(pod), JSON, &Value::Null)),
    ("update", |pod, turn| {
        let mut new = pod.clone();
        new["metadata"]["annotations"]["example.com/turn"] = turn.to_string().into();
        new["metadata"]["resourceVersion"].take();
        request("PUT", &path(pod), JSON, &new)
    }),
    ("merge patch", |pod, turn| request("PATCH", &path(pod), MERGE, &annotation(turn))),
    ("strategic merge patch", |pod, turn| request("PATCH", &path(pod), STRATEGIC, &annotation(turn))),
    ("JSON patch", |pod, turn| {
        let path_of_turn = "/metadata/annotations/example.com~1turn";
        let patch = json!([{"op": "replace", "path": path_of_turn, "value": turn.to_string()}]);
        request("PATCH", &path(pod), JSON_PATCH, &patch)
    }),
    ("apply of an annotation", |pod, turn| {
        let annotations = json!({"example.com/applied": turn.to_string()});
        let config = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"annotations": annotations}});
        request("PATCH", &format!("{}?fieldManager=one", path(pod)), APPLY, &config)
    }),
    ("apply of the whole pod", |pod, turn| {
        let config = client_pod(name(pod), turn);
        request("PATCH", &format!("{}?fieldManager=all&force=true", path(pod)), APPLY, &config)
    }),
    ("merge patch of the status", |pod, turn| {
        let patch = json!({"status": {"message": turn.to_string()}});
        request("PATCH", &format!("{}/status", path(pod)), MERGE, &patch)
    }),
    ("strategic merge patch of the status", |pod, turn| {
        let patch = json!({"status": {"message": turn.to_string()}});
        request("PATCH", &format!("{}/status", path(pod)), STRATEGIC, &patch)
    }),
    ("update of the status", |pod, turn| {
        let mut new = pod.clone();
        new["status"]["message"] = turn.to_string().into();
        new["metadata"]["resourceVersion"].take();
        request("PUT", &format!("{}/status", path(pod)), JSON, &new)
    }),
];

#[tokio::main(worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, usual| arguments.get(at).map_or(usual, |text| text.parse().expect("a number"));
    let (count, rounds) = (number(0, 1_000), number(1, 7));
    let wanted = arguments.get(2).map_or("", String::as_str);
    let kinds: Vec<&Kind> = KINDS.iter().filter(|(name, _)| name.contains(wanted)).collect();
    let cluster = Cluster::start(Setup::default()).await;
    cluster
        .root("POST", "/api/v1/namespaces/default/serviceaccounts", named("ServiceAccount", "default"))
        .await;
    // Each kind has pods of its own, so that what managers of others own does not weigh on it.
    let mut pods = vec![Vec::new(); kinds.len()];
    for (kind, pods) in pods.iter_mut().enumerate() {
        for n in 0..CLIENTS {
            pods.push(cluster.root("POST", PODS, client_pod(&format!("pod-{kind}-{n}"), 0)).await);
        }
    }
    let mut figures = vec![Vec::new(); kinds.len()];
    let mut turn = 0;
    for _ in 0..rounds {
        for (((_, make), pods), figures) in kinds.iter().zip(&mut pods).zip(&mut figures) {
            for pod in pods.iter_mut() {
                *pod = cluster.root("GET", &path(pod), Value::Null).await;
            }
            let turns = (turn + 1)..=(turn + count);
            turn += count;
            let requests: Vec<_> = turns.map(|turn| make(&pods[turn % CLIENTS], turn)).collect();
            let before = processor_time();
            run(&cluster, requests).await;
            figures.push((processor_time() - before) / 1_000 / count as u64);
        }
    }
    let median = |figures: &mut Vec<u64>| {
        figures.sort_unstable();
        figures[figures.len() / 2]
    };
    let medians: Vec<u64> = figures.iter_mut().map(median).collect();
    println!("| request | CPU each | beside the first | least | most |\n|---|---|---|---|---|");
    for (((name, _), median), all) in kinds.iter().zip(&medians).zip(&figures) {
        let ratio = *median as f64 / medians[0] as f64;
        println!("| {name} | {median} µs | ×{ratio:.2} | {} µs | {} µs |", all[0], all[all.len() - 1]);
    }
}

/// Answers all requests, so many at a time.
async fn run(cluster: &Cluster, requests: Vec<Request<RequestBody>>) {
    let answers = requests.into_iter().map(|request| {
        let mut service = cluster.api.as_user(UserInfo::new("root", ["system:masters"]));
        tokio::spawn(async move {
            let answer = service.call(request).await.unwrap();
            let code = answer.status();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(code.is_success(), "{code}: {}", String::from_utf8_lossy(&body));
        })
    });
    // A stream of tasks starts each only when there is room for it.
    let mut answers = futures::stream::iter(answers).buffer_unordered(CLIENTS);
    while let Some(done) = answers.next().await {
        done.unwrap();
    }
}

/// Nanoseconds that the threads of this process have run.
fn processor_time() -> u64 {
    let of_thread = |entry: std::fs::DirEntry| {
        let text = std::fs::read_to_string(entry.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    let threads = std::fs::read_dir("/proc/self/task").expect("/proc is mounted");
    threads.flatten().filter_map(of_thread).sum()
}

fn request(method: &str, path: &str, media: &str, body: &Value) -> Request<RequestBody> {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    Request::builder().method(method).uri(path).header("content-type", media).body(full(text)).unwrap()
}

fn name(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().unwrap()
}

fn path(pod: &Value) -> String {
    format!("{PODS}/{}", name(pod))
}

fn annotation(turn: usize) -> Value {
    json!({"metadata": {"annotations": {"example.com/turn": turn.to_string()}}})
}

/// A pod as its author writes it, about 4 kB when it is stored.
fn client_pod(name: &str, turn: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "default",
            "labels": {"app": "bench", "pod-template-hash": "5d59d67564", "tier": "backend"},
            "annotations": {"example.com/turn": turn.to_string(), "example.com/filling": "x".repeat(700)}
        },
        "spec": {
            "schedulerName": "none",
            "nodeSelector": {"example.com/node": "node-1"},
            "containers": [{
                "name": "main", "image": "registry.example.com/team/service:v1.2.3",
                "ports": [{"containerPort": 8080, "name": "http"}],
                "env": [{"name": "MODE", "value": "production"}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}}
            }],
            "tolerations": [{"key": "dedicated", "operator": "Exists"}]
        }
    })
}
