//! How many decisions a second one core makes: `cargo run --profile bench -p carrack-scheduler --example throughput`.
//!
//! Each decision is followed by the bookkeeping that a real one brings: the pod is placed, and once the nodes are half
//! full the oldest pod leaves.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use carrack_scheduler::decide::{Decision, decide};
use carrack_scheduler::plugins::default_framework;
use carrack_scheduler::pod::PodInfo;
use carrack_scheduler::table::Table;
use carrack_scheduler::view::{Node, Pod};
use serde_json::{Value, json};

/// How long each case is measured.
const TIME: Duration = Duration::from_secs(2);

fn nodes(count: usize) -> Result<Table, serde_json::Error> {
    let mut table = Table::new();
    for number in 0..count {
        let node = json!({
            "metadata": { "name": format!("node-{number}"), "labels": {
                "kubernetes.io/hostname": format!("node-{number}"),
                "topology.kubernetes.io/zone": format!("zone-{}", number % 3),
            } },
            "status": { "allocatable": { "cpu": "32", "memory": "128Gi", "pods": "110" } },
        });
        table.set_node(&serde_json::from_value::<Node>(node)?);
    }
    Ok(table)
}

fn pod(number: usize, more: &Value) -> Result<Value, serde_json::Error> {
    let mut spec = json!({
        "containers": [{
            "image": "web:1",
            "resources": { "requests": { "cpu": "250m", "memory": "512Mi" } },
        }],
    });
    if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
        spec.extend(more.clone());
    }
    let name = format!("pod-{number}");
    Ok(json!({ "metadata": { "namespace": "ns", "name": name, "uid": name }, "spec": spec }))
}

fn measure(title: &str, count: usize, more: &Value) -> Result<String, serde_json::Error> {
    let framework = default_framework();
    let mut table = nodes(count)?;
    let mut placed: VecDeque<String> = VecDeque::new();
    let mut times: Vec<u64> = Vec::new();
    let start = Instant::now();
    let mut number = 0;
    while start.elapsed() < TIME {
        number += 1;
        let pod: Pod = serde_json::from_value(pod(number, more)?)?;
        let began = Instant::now();
        let pod = PodInfo::of(&pod);
        if let Decision::Bind(choice) = decide(&framework, &table, &pod) {
            table.place(&pod.uid, &choice.node, pod.usage.clone(), true);
            placed.push_back(pod.uid.clone());
        }
        if let Some(oldest) = (placed.len() > count * 50).then(|| placed.pop_front()).flatten() {
            table.remove_pod(&oldest);
        }
        times.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    times.sort_unstable();
    let total: u64 = times.iter().sum();
    let per_second = times.len() as f64 / (total as f64 / 1e9);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
    Ok(format!(
        "{title:<28} {count:>6} nodes  {per_second:>9.0} decisions/s  p50 {:>7.1} µs  p99 {:>7.1} µs",
        at(0.5),
        at(0.99)
    ))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::io::Write;

    let zone = json!({ "nodeSelector": { "topology.kubernetes.io/zone": "zone-1" } });
    let preferred = json!({ "affinity": { "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 10,
        "preference": { "matchExpressions": [{
            "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["zone-1", "zone-2"],
        }] },
    }] } } });
    let impossible = json!({ "nodeSelector": { "none": "such" } });
    let cases =
        [("plain", json!({})), ("node selector", zone), ("preferred", preferred), ("impossible", impossible)];
    let mut out = std::io::stdout();
    for count in [1, 1000, 5000] {
        for (title, more) in &cases {
            writeln!(out, "{}", measure(title, count, more)?)?;
        }
    }
    Ok(())
}
