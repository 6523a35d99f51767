//! The row that `kubectl get pods` prints: readiness, restarts and the one word that says how a pod is.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::Value;

use crate::meta;
use crate::table::duration;
use crate::table::read::{age, integer, list, or_none, text, time};
use crate::table::{Column, Printer};

pub(super) const PRINTER: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Ready", "The aggregate readiness state of this pod for accepting traffic."),
        Column::text("Status", "The aggregate status of the containers in this pod."),
        Column::text(
            "Restarts",
            "The number of times the containers in this pod have been restarted and when the last container in this \
             pod has restarted.",
        ),
        Column::AGE,
        Column::text("IP", "core.v1.PodStatus#podIP").wide(),
        Column::text("Node", "core.v1.PodSpec#nodeName").wide(),
        Column::text("Nominated Node", "core.v1.PodStatus#nominatedNodeName").wide(),
        Column::text("Readiness Gates", "core.v1.PodSpec#readinessGates").wide(),
    ],
    cells,
};

fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod);
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts != 0 => {
            format!("{} ({} ago)", summary.restarts, duration::since(Some(last), now))
        }
        _ => summary.restarts.to_string(),
    };
    vec![
        meta::name(pod).into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(pod, now),
        or_none(text(pod, "/status/podIPs/0/ip")).into(),
        or_none(text(pod, "/spec/nodeName")).into(),
        or_none(text(pod, "/status/nominatedNodeName")).into(),
        readiness_gates(pod).into(),
    ]
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let is_true = |gate: &&Value| {
        condition(pod, text(gate, "/conditionType")).is_some_and(|c| text(c, "/status") == "True")
    };
    format!("{}/{}", gates.iter().filter(is_true).count(), gates.len())
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    list(pod, "/status/conditions").iter().find(|c| text(c, "/type") == kind)
}

fn condition_is_true(pod: &Value, kind: &str) -> bool {
    condition(pod, kind).is_some_and(|c| text(c, "/status") == "True")
}

/// What a pod's containers amount to.
struct Summary {
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
    reason: String,
}

/// Restarts counted so far and when the last one was.
#[derive(Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += integer(status, "/restartCount");
        self.last = self.last.max(time(status, "/lastState/terminated/finishedAt"));
    }
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let phase = text(pod, "/status/phase");
        let pod_reason = text(pod, "/status/reason");
        let mut reason = if pod_reason.is_empty() { phase } else { pod_reason }.to_owned();
        if condition(pod, "PodScheduled").is_some_and(|c| text(c, "/reason") == "SchedulingGated") {
            "SchedulingGated".clone_into(&mut reason);
        }
        let sidecars: Vec<&str> = list(pod, "/spec/initContainers")
            .iter()
            .filter(|c| text(c, "/restartPolicy") == "Always")
            .map(|c| text(c, "/name"))
            .collect();
        let total = list(pod, "/spec/containers").len() + sidecars.len();
        let init = Init::of(pod, &sidecars);
        let mut ready = init.ready;
        let mut restarts = init.all;
        if let Some(init_reason) = init.reason.as_ref() {
            reason.clone_from(init_reason);
        }
        if init.reason.is_none() || condition_is_true(pod, "Initialized") {
            restarts = init.sidecars;
            ready += containers(pod, &mut restarts, &mut reason);
        }
        if meta::is_deleting(pod) {
            if pod_reason == "NodeLost" {
                "Unknown".clone_into(&mut reason);
            } else if !matches!(phase, "Succeeded" | "Failed") {
                "Terminating".clone_into(&mut reason);
            }
        }
        Summary { ready, total, restarts: restarts.count, last_restart: restarts.last, reason }
    }
}

/// What the init containers amount to.
#[derive(Default)]
struct Init {
    /// How far initialization is, unless it is done.
    reason: Option<String>,
    /// Sidecars that are ready.
    ready: usize,
    /// Restarts of all init containers up to the one that runs.
    all: Restarts,
    /// Restarts of sidecars alone.
    sidecars: Restarts,
}

impl Init {
    fn of(pod: &Value, sidecars: &[&str]) -> Self {
        let mut out = Init::default();
        let sidecars: HashSet<&str> = sidecars.iter().copied().collect();
        for (index, status) in list(pod, "/status/initContainerStatuses").iter().enumerate() {
            let sidecar = sidecars.contains(text(status, "/name"));
            out.all.add(status);
            if sidecar {
                out.sidecars.add(status);
            }
            let ended = status.pointer("/state/terminated");
            if ended.is_some_and(|t| integer(t, "/exitCode") == 0) {
                continue;
            }
            if sidecar && status.get("started") == Some(&Value::Bool(true)) {
                out.ready += usize::from(status.get("ready") == Some(&Value::Bool(true)));
                continue;
            }
            let waiting = text(status, "/state/waiting/reason");
            out.reason = Some(match ended {
                Some(ended) => format!("Init:{}", end_reason(ended)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{index}/{}", list(pod, "/spec/initContainers").len()),
            });
            break;
        }
        out
    }
}

/// Why a container ended: its reason, or its signal or exit code.
fn end_reason(ended: &Value) -> String {
    match (text(ended, "/reason"), integer(ended, "/signal")) {
        ("", 0) => format!("ExitCode:{}", integer(ended, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// Goes through the containers, the first one having the last word; answers how many are ready.
fn containers(pod: &Value, restarts: &mut Restarts, reason: &mut String) -> usize {
    let mut ready = 0;
    for status in list(pod, "/status/containerStatuses").iter().rev() {
        restarts.add(status);
        let waiting = text(status, "/state/waiting/reason");
        if !waiting.is_empty() {
            waiting.clone_into(reason);
        } else if let Some(ended) = status.pointer("/state/terminated") {
            *reason = end_reason(ended);
        } else if status.get("ready") == Some(&Value::Bool(true))
            && status.pointer("/state/running").is_some()
        {
            ready += 1;
        }
    }
    // One that ended well does not hide one that still runs.
    if reason == "Completed" && ready > 0 {
        let word = if condition_is_true(pod, "Ready") { "Running" } else { "NotReady" };
        word.clone_into(reason);
    }
    ready
}
