//! What the node and its pods use, for `/metrics/resource` (Prometheus' text format, the kubelet's names) and
//! `/stats/summary` (the kubelet's stats/v1alpha1). Measuring is apart from writing.

use std::fmt::Write;
use std::io;

use carrack_cgroups::{CgroupError, Cgroups, Stats};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::rates::{Rate, Since, container_path};
use crate::sandbox::pod_cgroup;
use crate::state::Run;
use crate::worker::Snapshot;

/// The kernel's unit of time in /proc/stat: a hundredth of a second for user space, whatever its own clock.
const TICK_NANOSECONDS: u64 = 10_000_000;

/// What is used at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// CPU time since its beginning, in nanoseconds.
    pub cpu: u64,
    /// How fast CPU time is used of late; none where there is nothing to compare with yet.
    pub rate: Option<Rate>,
    /// Memory charged, in bytes.
    pub memory: u64,
    /// Of it what is not easily given back.
    pub working_set: u64,
}

impl From<Stats> for Usage {
    fn from(stats: Stats) -> Self {
        let Stats { cpu_usage_ns, memory_current, memory_working_set, .. } = stats;
        Self { cpu: cpu_usage_ns, rate: None, memory: memory_current, working_set: memory_working_set }
    }
}

/// A running container.
#[derive(Clone, Debug)]
pub(crate) struct ContainerSample {
    pub name: String,
    pub started_at: Timestamp,
    pub usage: Usage,
}

/// A pod that has a sandbox.
#[derive(Clone, Debug)]
pub(crate) struct PodSample {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub started_at: Option<Timestamp>,
    pub usage: Usage,
    pub containers: Vec<ContainerSample>,
}

/// Everything at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub time: Timestamp,
    /// The whole machine.
    pub node: Usage,
    /// Memory that could be had, in bytes.
    pub available: u64,
    pub pods: Vec<PodSample>,
}

/// Measures the machine and the pods that run. Reads files of the kernel; quick, but blocking.
pub(crate) fn measure(cgroups: &Cgroups, pods: &[Snapshot], since: &Since) -> Result<Sample, MeasureError> {
    let memory = std::fs::read_to_string("/proc/meminfo").map_err(MeasureError::Machine)?;
    let (mut node, available) = machine(&memory, node_cpu()?);
    node.rate = since.of_node(node.cpu);
    let running = pods.iter().filter(|pod| pod.sandbox.is_some());
    let pods = running.filter_map(|snapshot| Some((snapshot, snapshot.pod.as_deref()?)));
    let pods =
        pods.map(|(snapshot, pod)| measure_pod(cgroups, snapshot, pod, since)).collect::<Result<_, _>>()?;
    Ok(Sample { time: Timestamp::now(), node, available, pods })
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeasureError {
    /// Files of /proc.
    #[error("the machine's usage can not be read: is /proc mounted?")]
    Machine(#[source] io::Error),
    /// A control group.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

fn measure_pod(
    cgroups: &Cgroups,
    snapshot: &Snapshot,
    pod: &Pod,
    since: &Since,
) -> Result<PodSample, CgroupError> {
    let group = |path: &str, started: Option<Timestamp>| -> Result<Usage, CgroupError> {
        let usage = Usage::from(cgroups.get(path)?.stats()?);
        Ok(Usage { rate: since.of_group(path, usage.cpu, started), ..usage })
    };
    let path = pod_cgroup(pod);
    let mut containers = Vec::new();
    for (name, state) in snapshot.containers.iter() {
        let Run::Running { id, started_at, .. } = &state.run else { continue };
        let usage = group(&container_path(&path, id), Some(*started_at))?;
        containers.push(ContainerSample { name: name.clone(), started_at: *started_at, usage });
    }
    let meta = &pod.metadata;
    Ok(PodSample {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        started_at: pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|time| time.0),
        usage: group(&path, None)?,
        containers,
    })
}

/// CPU time that the machine has used since it started, in nanoseconds.
pub(crate) fn node_cpu() -> Result<u64, MeasureError> {
    std::fs::read_to_string("/proc/stat").map(|stat| busy(&stat)).map_err(MeasureError::Machine)
}

/// Busy time in nanoseconds from the text of /proc/stat.
fn busy(stat: &str) -> u64 {
    // user nice system idle iowait irq softirq steal; guests are in user already.
    let all = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let all: Vec<u64> = all.split_whitespace().map(|ticks| ticks.parse().unwrap_or(0)).collect();
    [0, 1, 2, 5, 6, 7].iter().filter_map(|at| all.get(*at)).sum::<u64>() * TICK_NANOSECONDS
}

/// The machine's usage from the text of /proc/meminfo and the CPU time, and the memory that could be had.
fn machine(memory: &str, cpu: u64) -> (Usage, u64) {
    let kib = |name: &str| {
        let line = memory.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let used = kib("MemTotal").saturating_sub(kib("MemFree"));
    let working = used.saturating_sub(kib("Inactive(file)"));
    let usage = Usage { cpu, rate: None, memory: used * 1024, working_set: working * 1024 };
    (usage, kib("MemAvailable") * 1024)
}

/// A metric of the kubelet.
struct Metric {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    value: fn(&Usage) -> f64,
}

const fn metric(
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    value: fn(&Usage) -> f64,
) -> Metric {
    Metric { name, help, kind, value }
}

fn cpu_seconds(usage: &Usage) -> f64 {
    usage.cpu as f64 / 1e9
}

fn working_set(usage: &Usage) -> f64 {
    usage.working_set as f64
}

const CONTAINER: [Metric; 2] = [
    metric(
        "container_cpu_usage_seconds_total",
        "Cumulative cpu time consumed by the container in core-seconds",
        "counter",
        cpu_seconds,
    ),
    metric(
        "container_memory_working_set_bytes",
        "Current working set of the container in bytes",
        "gauge",
        working_set,
    ),
];
const NODE: [Metric; 2] = [
    metric(
        "node_cpu_usage_seconds_total",
        "Cumulative cpu time consumed by the node in core-seconds",
        "counter",
        cpu_seconds,
    ),
    metric("node_memory_working_set_bytes", "Current working set of the node in bytes", "gauge", working_set),
];
const POD: [Metric; 2] = [
    metric(
        "pod_cpu_usage_seconds_total",
        "Cumulative cpu time consumed by the pod in core-seconds",
        "counter",
        cpu_seconds,
    ),
    metric("pod_memory_working_set_bytes", "Current working set of the pod in bytes", "gauge", working_set),
];

/// The body of `/metrics/resource`.
pub(crate) fn resource_metrics(sample: &Sample) -> String {
    let mut out = String::new();
    let time = sample.time.as_millisecond();
    let containers = || sample.pods.iter().flat_map(|pod| pod.containers.iter().map(move |c| (pod, c)));
    for metric in &CONTAINER {
        head(&mut out, metric.name, metric.help, metric.kind);
        for (pod, container) in containers() {
            line(
                &mut out,
                metric.name,
                &of_container(pod, container),
                (metric.value)(&container.usage),
                Some(time),
            );
        }
    }
    let (name, help) =
        ("container_start_time_seconds", "Start time of the container since unix epoch in seconds");
    head(&mut out, name, help, "gauge");
    for (pod, container) in containers() {
        let started = container.started_at.as_millisecond() as f64 / 1e3;
        line(&mut out, name, &of_container(pod, container), started, None);
    }
    for metric in &NODE {
        head(&mut out, metric.name, metric.help, metric.kind);
        line(&mut out, metric.name, "", (metric.value)(&sample.node), Some(time));
    }
    for metric in &POD {
        head(&mut out, metric.name, metric.help, metric.kind);
        for pod in &sample.pods {
            let labels = format!("{{namespace=\"{}\",pod=\"{}\"}}", pod.namespace, pod.name);
            line(&mut out, metric.name, &labels, (metric.value)(&pod.usage), Some(time));
        }
    }
    let (name, help) =
        ("resource_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise");
    head(&mut out, name, help, "gauge");
    line(&mut out, name, "", 0.0, None);
    out
}

/// Names of the API need no escaping here.
fn of_container(pod: &PodSample, container: &ContainerSample) -> String {
    format!("{{container=\"{}\",namespace=\"{}\",pod=\"{}\"}}", container.name, pod.namespace, pod.name)
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    // Writing to a text can not fail.
    let _ = writeln!(out, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &str, value: f64, milliseconds: Option<i64>) {
    let _ = match milliseconds {
        Some(time) => writeln!(out, "{name}{labels} {value} {time}"),
        None => writeln!(out, "{name}{labels} {value}"),
    };
}

/// The body of `/stats/summary`.
pub(crate) fn summary(sample: &Sample, node: &str) -> Value {
    let time = sample.time.to_string();
    let cpu = |usage: &Usage| {
        let mut cpu = json!({ "time": time, "usageCoreNanoSeconds": usage.cpu });
        if let Some(Rate { nano_cores, over }) = usage.rate {
            cpu["usageNanoCores"] = nano_cores.into();
            // Not of upstream's form, whose readers pass over it: over how long the rate is, for `metrics.k8s.io`.
            cpu["windowMilliseconds"] = u64::try_from(over.as_millis()).unwrap_or(u64::MAX).into();
        }
        cpu
    };
    let memory = |usage: &Usage| json!({ "time": time, "usageBytes": usage.memory, "workingSetBytes": usage.working_set });
    let container = |c: &ContainerSample| json!({ "name": c.name, "startTime": c.started_at, "cpu": cpu(&c.usage), "memory": memory(&c.usage) });
    let pod = |pod: &PodSample| {
        let containers: Vec<Value> = pod.containers.iter().map(container).collect();
        json!({
            "podRef": { "name": pod.name, "namespace": pod.namespace, "uid": pod.uid },
            "startTime": pod.started_at, "containers": containers,
            "cpu": cpu(&pod.usage), "memory": memory(&pod.usage),
        })
    };
    let mut of_node = memory(&sample.node);
    of_node["availableBytes"] = json!(sample.available);
    let pods: Vec<Value> = sample.pods.iter().map(pod).collect();
    json!({ "node": { "nodeName": node, "cpu": cpu(&sample.node), "memory": of_node }, "pods": pods })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Sample {
        let rate = Some(Rate { nano_cores: 7, over: std::time::Duration::from_millis(14_213) });
        let usage = Usage { cpu: 1_500_000_000, rate, memory: 300, working_set: 200 };
        let started_at = Timestamp::from_second(100).unwrap();
        let main = ContainerSample { name: "main".into(), started_at, usage };
        let (namespace, name, uid) = ("default".into(), "web".into(), "u".into());
        let pod = PodSample {
            namespace,
            name,
            uid,
            started_at: Some(started_at),
            usage: Usage { cpu: 2_000_000_000, ..usage },
            containers: vec![main],
        };
        let time = Timestamp::from_second(160).unwrap();
        Sample {
            time,
            node: Usage { cpu: 9_000_000_000, rate: None, memory: 50, working_set: 40 },
            available: 7,
            pods: vec![pod],
        }
    }

    #[test]
    fn metrics_are_named_as_the_kubelets() {
        let text = resource_metrics(&sample());
        for wanted in [
            "# HELP node_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the node in core-seconds",
            "# TYPE container_cpu_usage_seconds_total counter",
            "container_cpu_usage_seconds_total{container=\"main\",namespace=\"default\",pod=\"web\"} 1.5 160000",
            "container_memory_working_set_bytes{container=\"main\",namespace=\"default\",pod=\"web\"} 200 160000",
            "container_start_time_seconds{container=\"main\",namespace=\"default\",pod=\"web\"} 100",
            "node_cpu_usage_seconds_total 9 160000",
            "node_memory_working_set_bytes 40 160000",
            "pod_cpu_usage_seconds_total{namespace=\"default\",pod=\"web\"} 2 160000",
            "resource_scrape_error 0",
        ] {
            assert!(text.lines().any(|line| line == wanted), "{wanted} is not in\n{text}");
        }
    }

    #[test]
    fn the_summary_is_that_of_the_kubelet() {
        let shown = summary(&sample(), "n1");
        assert_eq!(
            (&shown["node"]["nodeName"], &shown["node"]["memory"]["availableBytes"]),
            (&json!("n1"), &json!(7))
        );
        let pod = &shown["pods"][0];
        assert_eq!(pod["podRef"], json!({ "name": "web", "namespace": "default", "uid": "u" }));
        assert_eq!(pod["containers"][0]["cpu"]["usageCoreNanoSeconds"], 1_500_000_000u64);
        assert_eq!(pod["containers"][0]["cpu"]["usageNanoCores"], 7);
        assert_eq!(pod["containers"][0]["cpu"]["windowMilliseconds"], 14_213);
        assert!(shown["node"]["cpu"].get("usageNanoCores").is_none(), "nothing to compare with");
        assert_eq!(pod["containers"][0]["startTime"], "1970-01-01T00:01:40Z");
        assert_eq!(pod["memory"]["workingSetBytes"], 200);
    }

    #[test]
    fn the_machine_is_read_from_proc() {
        let memory = "MemTotal: 1000 kB\nMemFree: 300 kB\nMemAvailable: 600 kB\nInactive(file): 200 kB\n";
        let (usage, available) = machine(memory, busy("cpu  1 2 3 1000 1000 4 5 6 7 8\ncpu0 1 2 3\n"));
        let expected = Usage { cpu: 210_000_000, rate: None, memory: 700 * 1024, working_set: 500 * 1024 };
        assert_eq!(usage, expected);
        assert_eq!(available, 600 * 1024);
    }
}
