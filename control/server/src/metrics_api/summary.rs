//! What a node says at `/stats/summary`. Upstream: staging/src/k8s.io/kubelet, pkg/apis/stats/v1alpha1/types.go. Over how
//! long a rate is (`windowMilliseconds`) is this project's own; other nodes do not tell.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

/// A complete measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// When it was made.
    pub(super) at: Timestamp,
    /// CPU use, in billionths of a core.
    pub(super) nano_cores: u64,
    /// Over how long that is, if the node tells.
    pub(super) over: Option<Duration>,
    /// Memory that is not easily given back, in bytes.
    pub(super) working_set: u64,
}

/// The containers of pods, by namespace and name.
type Pods = HashMap<String, HashMap<String, Vec<(String, Reading)>>>;

/// What is needed of a node's answer.
#[derive(Debug, Default)]
pub(super) struct Summary {
    node: Option<Reading>,
    pods: Pods,
}

impl Summary {
    /// Reads an answer. Pods of which anything is missing are left out: a sum over some containers would mislead.
    pub(super) fn read(text: &[u8]) -> Result<Self, serde_json::Error> {
        let sent: Sent = serde_json::from_slice(text)?;
        let mut pods = Pods::new();
        for pod in sent.pods {
            let readings: Option<Vec<_>> =
                pod.containers.into_iter().map(|c| Some((c.name, reading(c.cpu, c.memory)?))).collect();
            if let Some(readings) = readings {
                pods.entry(pod.pod_ref.namespace).or_default().insert(pod.pod_ref.name, readings);
            }
        }
        Ok(Summary { node: reading(sent.node.cpu, sent.node.memory), pods })
    }

    /// The node as a whole.
    pub(super) fn node(&self) -> Option<Reading> {
        self.node
    }

    /// The containers of a pod, by their names.
    pub(super) fn pod(&self, namespace: &str, name: &str) -> Option<&[(String, Reading)]> {
        self.pods.get(namespace)?.get(name).map(Vec::as_slice)
    }
}

#[derive(Deserialize)]
struct Sent {
    node: SentNode,
    #[serde(default)]
    pods: Vec<SentPod>,
}

#[derive(Deserialize)]
struct SentNode {
    cpu: Option<Cpu>,
    memory: Option<Memory>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SentPod {
    pod_ref: PodRef,
    #[serde(default)]
    containers: Vec<SentContainer>,
}

#[derive(Deserialize)]
struct PodRef {
    name: String,
    namespace: String,
}

#[derive(Deserialize)]
struct SentContainer {
    name: String,
    cpu: Option<Cpu>,
    memory: Option<Memory>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cpu {
    time: Timestamp,
    usage_nano_cores: Option<u64>,
    window_milliseconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Memory {
    working_set_bytes: Option<u64>,
}

/// A reading; `None` when something is not known. What runs has some memory: none means that the kernel's counters were
/// gone, as metrics-server takes it.
fn reading(cpu: Option<Cpu>, memory: Option<Memory>) -> Option<Reading> {
    let (cpu, memory) = (cpu?, memory?);
    let working_set = memory.working_set_bytes.filter(|bytes| *bytes > 0)?;
    let over = cpu.window_milliseconds.map(Duration::from_millis);
    Some(Reading { at: cpu.time, nano_cores: cpu.usage_nano_cores?, over, working_set })
}
