//! A pod as the decision sees it: parsed once, when it arrives.

use std::cmp::max;
use std::collections::BTreeMap;
use std::sync::Arc;

use carrack_api::quantity::Quantity;
use carrack_client::Key;
use k8s_openapi::api::core::v1::{NodeSelector, PreferredSchedulingTerm, Toleration};

use crate::view::{Amounts, Container, Pod};

/// CPU that a container without a request counts for in scores, in thousandths.
const DEFAULT_CPU: i64 = 100;
/// Memory that a container without a request counts for in scores, in bytes.
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;
/// The scheduler that pods without a name of one are for.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// Amounts of the resources that every node has, and of others by name.
///
/// CPU is in thousandths, the others in bytes or pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// CPU, in thousandths.
    pub cpu: i64,
    /// Memory, in bytes.
    pub memory: i64,
    /// Local storage, in bytes.
    pub storage: i64,
    /// Everything else, by name.
    pub extended: BTreeMap<String, i64>,
}

/// A port on the host that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// TCP, UDP or SCTP.
    pub protocol: String,
    /// The number.
    pub port: i32,
    /// The host's address; empty for all.
    pub ip: String,
}

/// What a pod takes from its node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// What it asks for.
    pub requests: Requests,
    /// The same for scores: containers that ask for nothing count a little.
    pub scored: (i64, i64),
    /// Ports of the host.
    pub ports: Vec<HostPort>,
    /// Its priority.
    pub priority: i32,
}

/// A pod that waits for a node.
#[derive(Clone, Debug, Default)]
pub struct PodInfo {
    /// Namespace and name.
    pub key: Key,
    /// The uid.
    pub uid: String,
    /// The revision it was read at.
    pub revision: Option<String>,
    /// What it will take.
    pub usage: Usage,
    /// Labels that its node must have.
    pub selector: BTreeMap<String, String>,
    /// Terms of which its node must match one.
    pub required: Option<NodeSelector>,
    /// Terms that its node should match.
    pub preferred: Vec<PreferredSchedulingTerm>,
    /// Taints that it endures.
    pub tolerations: Vec<Toleration>,
    /// Images of its containers.
    pub images: Vec<String>,
    /// Whether it may make others go.
    pub preempts: bool,
    /// Names of the gates that hold it.
    pub gates: Vec<String>,
    /// What it asks for that cannot be honoured yet, as a sentence.
    pub unsupported: Option<String>,
    /// When it was created, in seconds since 1970: of equal priority, the older goes first.
    pub created: i64,
}

impl PodInfo {
    /// Reads what matters of a pod.
    #[must_use]
    pub fn of(pod: &Pod) -> Arc<Self> {
        let spec = &pod.spec;
        let node_affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
        let required =
            node_affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.clone());
        let preferred =
            node_affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.clone());
        let containers = spec.containers.iter().chain(&spec.init_containers);
        Arc::new(Self {
            key: Key::of(&pod.metadata),
            uid: pod.uid().to_owned(),
            revision: pod.metadata.resource_version.clone(),
            usage: Usage::of(pod),
            selector: spec.node_selector.clone(),
            required,
            preferred: preferred.unwrap_or_default(),
            tolerations: spec.tolerations.clone(),
            images: containers.filter_map(|c| c.image.clone()).collect(),
            preempts: spec.preemption_policy.as_deref() != Some("Never"),
            gates: spec.scheduling_gates.iter().map(|gate| gate.name.clone()).collect(),
            unsupported: unsupported(pod),
            created: pod.metadata.creation_timestamp.as_ref().map_or(0, |t| t.0.as_second()),
        })
    }
}

/// Demands that this scheduler would silently break: better no node than a wrong one.
fn unsupported(pod: &Pod) -> Option<String> {
    let affinity = pod.spec.affinity.as_ref();
    let near = affinity.and_then(|a| a.pod_affinity.as_ref());
    if near.is_some_and(|a| {
        a.required_during_scheduling_ignored_during_execution.as_ref().is_some_and(|t| !t.is_empty())
    }) {
        return Some("required pod affinity is not supported yet".into());
    }
    let apart = affinity.and_then(|a| a.pod_anti_affinity.as_ref());
    if apart.is_some_and(|a| {
        a.required_during_scheduling_ignored_during_execution.as_ref().is_some_and(|t| !t.is_empty())
    }) {
        return Some("required pod anti-affinity is not supported yet".into());
    }
    if pod.spec.topology_spread_constraints.iter().any(|c| c.when_unsatisfiable == "DoNotSchedule") {
        return Some("topology spread with DoNotSchedule is not supported yet".into());
    }
    let claims =
        pod.spec.volumes.iter().any(|v| v.persistent_volume_claim.is_some() || v.ephemeral.is_some());
    if claims {
        return Some("volumes of persistent volume claims are not supported yet".into());
    }
    if !pod.spec.resource_claims.is_empty() {
        return Some("resource claims are not supported yet".into());
    }
    None
}

impl Usage {
    /// What `pod` takes.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let spec = &pod.spec;
        let overhead = Requests::of(&spec.overhead);
        let mut requests = total(spec.containers.iter(), &spec.init_containers, requests_of);
        // A request of the pod as a whole takes the place of its containers' sum.
        if let Some(whole) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
            requests.replace(whole);
        }
        let mut scored = total(spec.containers.iter(), &spec.init_containers, scored_requests_of);
        if let Some(whole) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
            scored.replace(whole);
        }
        requests.add(&overhead);
        scored.add(&overhead);
        let containers = spec.containers.iter().chain(&spec.init_containers);
        let mut ports: Vec<HostPort> = containers.flat_map(|c| &c.ports).filter_map(host_port).collect();
        ports.sort();
        ports.dedup();
        Self { requests, scored: (scored.cpu, scored.memory), ports, priority: spec.priority.unwrap_or(0) }
    }
}

fn host_port(port: &k8s_openapi::api::core::v1::ContainerPort) -> Option<HostPort> {
    let number = port.host_port.filter(|number| *number > 0)?;
    let ip = port.host_ip.clone().filter(|ip| ip != "0.0.0.0" && ip != "::").unwrap_or_default();
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
    Some(HostPort { protocol, port: number, ip })
}

fn requests_of(container: &Container) -> Requests {
    container.resources.requests.as_ref().map(Requests::of).unwrap_or_default()
}

fn scored_requests_of(container: &Container) -> Requests {
    let asked = container.resources.requests.as_ref();
    let mut requests = requests_of(container);
    if !asked.is_some_and(|r| r.contains_key("cpu")) {
        requests.cpu = DEFAULT_CPU;
    }
    if !asked.is_some_and(|r| r.contains_key("memory")) {
        requests.memory = DEFAULT_MEMORY;
    }
    requests
}

/// What containers and init containers need together: the former and the sidecars all at once, each other init
/// container with the sidecars started before it.
fn total<'a>(
    containers: impl Iterator<Item = &'a Container>,
    init: &[Container],
    of: fn(&Container) -> Requests,
) -> Requests {
    let mut running = Requests::default();
    containers.for_each(|container| running.add(&of(container)));
    let mut sidecars = Requests::default();
    let mut starting = Requests::default();
    for container in init {
        let mut needs = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            running.add(&needs);
            sidecars.add(&needs);
            needs = sidecars.clone();
        } else {
            needs.add(&sidecars);
        }
        starting.raise(&needs);
    }
    running.raise(&starting);
    running
}

impl Requests {
    /// Reads amounts; what is no quantity counts as nothing, since the API lets none through.
    #[must_use]
    pub fn of(amounts: &Amounts) -> Self {
        let mut requests = Self::default();
        requests.replace(amounts);
        requests
    }

    /// Sets those resources that `amounts` name.
    fn replace(&mut self, amounts: &Amounts) {
        for (name, quantity) in amounts {
            let Ok(amount) = Quantity::parse(&quantity.0) else { continue };
            match name.as_str() {
                "cpu" => self.cpu = amount.milli(),
                "memory" => self.memory = amount.units(),
                "ephemeral-storage" => self.storage = amount.units(),
                "pods" => {}
                _ => {
                    self.extended.insert(name.clone(), amount.units());
                }
            }
        }
    }

    fn add(&mut self, other: &Self) {
        self.combine(other, |a, b| a.saturating_add(b));
    }

    fn raise(&mut self, other: &Self) {
        self.combine(other, max);
    }

    fn combine(&mut self, other: &Self, with: fn(i64, i64) -> i64) {
        self.cpu = with(self.cpu, other.cpu);
        self.memory = with(self.memory, other.memory);
        self.storage = with(self.storage, other.storage);
        for (name, amount) in &other.extended {
            let own = self.extended.entry(name.clone()).or_insert(0);
            *own = with(*own, *amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn usage(spec: serde_json::Value) -> Usage {
        let pod: Pod = serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap();
        Usage::of(&pod)
    }

    fn container(cpu: &str, policy: Option<&str>) -> serde_json::Value {
        json!({ "resources": { "requests": { "cpu": cpu } }, "restartPolicy": policy })
    }

    #[test]
    fn init_containers_and_sidecars_count_as_they_run() {
        let always = Some("Always");
        let cases = [
            (json!([]), 300),
            (json!([container("1", None)]), 1000),
            (json!([container("50m", always)]), 350),
            (json!([container("50m", always), container("1", None)]), 1050),
            (json!([container("1", None), container("50m", always)]), 1000),
        ];
        for (init, expected) in cases {
            let spec = json!({
                "containers": [container("100m", None), container("200m", None)],
                "initContainers": init,
            });
            assert_eq!(usage(spec.clone()).requests.cpu, expected, "{spec}");
        }
    }

    #[test]
    fn overhead_extended_resources_and_defaults_for_scores() {
        let spec = json!({
            "containers": [
                { "resources": { "requests": { "memory": "1Gi", "example.com/gpu": "2" } } }, {},
            ],
            "overhead": { "cpu": "10m" },
        });
        let usage = usage(spec);
        assert_eq!(usage.requests.cpu, 10);
        assert_eq!(usage.requests.memory, 1 << 30);
        assert_eq!(usage.requests.extended["example.com/gpu"], 2);
        assert_eq!(usage.scored, (2 * DEFAULT_CPU + 10, (1 << 30) + DEFAULT_MEMORY));
    }

    #[test]
    fn host_ports_of_all_addresses_are_one() {
        let port =
            |ip: &str| json!({ "containerPort": 80, "hostPort": 8080, "hostIP": ip, "protocol": "TCP" });
        let spec = json!({ "containers": [{ "ports": [port("0.0.0.0"), port(""), port("10.0.0.1")] }] });
        let ips: Vec<_> = usage(spec).ports.into_iter().map(|p| p.ip).collect();
        assert_eq!(ips, ["", "10.0.0.1"]);
    }
}
