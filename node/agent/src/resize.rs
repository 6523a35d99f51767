//! In-place resize of pods (KEP-1287), decided. Three states of a container's resources are told apart: what the pod's
//! spec wants, what the node has *allocated*, which is what the sum over its pods is held against, and what was
//! *applied* to the control group of the run that goes on. No I/O, no clock.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};

use crate::spec::{bytes, container_limits, milli, pod_limits};
use crate::state::{Containers, all_containers, init_containers, is_sidecar, main_containers};

/// Amounts of what pods are placed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    /// Thousandths of a core.
    pub cpu: u64,
    /// Bytes.
    pub memory: u64,
}

impl Amounts {
    /// Those of a list such as `requests`; what is not in it counts nothing.
    pub(crate) fn of(list: Option<&BTreeMap<String, Quantity>>) -> Self {
        Self { cpu: milli(list, "cpu").unwrap_or(0), memory: bytes(list, "memory").unwrap_or(0) }
    }

    /// The sum; at the end of the range it stays there.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { cpu: self.cpu.saturating_add(other.cpu), memory: self.memory.saturating_add(other.memory) }
    }

    fn max(self, other: Self) -> Self {
        Self { cpu: self.cpu.max(other.cpu), memory: self.memory.max(other.memory) }
    }
}

/// What a pod asks for: its main containers and sidecars together, or as much as an init container needs beside the
/// sidecars before it, and its overhead.
pub(crate) fn request_of(pod: &Pod) -> Amounts {
    let of = |container: &Container| {
        Amounts::of(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
    };
    let (mut sidecars, mut most) = (Amounts::default(), Amounts::default());
    for container in init_containers(pod) {
        let with_this = sidecars.plus(of(container));
        most = most.max(with_this);
        if is_sidecar(container) {
            sidecars = with_this;
        }
    }
    let together = main_containers(pod).iter().map(of).fold(sidecars, Amounts::plus);
    let overhead = pod.spec.as_ref().and_then(|spec| spec.overhead.as_ref());
    most.max(together).plus(Amounts::of(overhead))
}

/// What becomes of a pod's wish for other resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It has them.
    Granted,
    /// Not now; asked again when other pods may have gone.
    Deferred(String),
    /// Never on this node.
    Infeasible(String),
}

/// Whether a pod that was given `allocated` can have `wanted` on a node of `capacity`, of which other pods have `used`.
/// What it asks no more of than it has is never refused.
pub(crate) fn judge(wanted: Amounts, allocated: Amounts, used: Amounts, capacity: Amounts) -> Verdict {
    let rows = [
        ("memory", wanted.memory, allocated.memory, used.memory, capacity.memory),
        ("cpu", wanted.cpu, allocated.cpu, used.cpu, capacity.cpu),
    ];
    let more = rows.iter().filter(|(_, wanted, allocated, ..)| wanted > allocated);
    for (name, wanted, _, _, capacity) in more.clone() {
        if wanted > capacity {
            return Verdict::Infeasible(format!(
                "Node didn't have enough capacity: {name}, requested: {wanted}, capacity: {capacity}"
            ));
        }
    }
    for (name, wanted, _, used, capacity) in more {
        if wanted.saturating_add(*used) > *capacity {
            return Verdict::Deferred(format!(
                "Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}"
            ));
        }
    }
    Verdict::Granted
}

/// The pod with the resources that the node has allocated in place of those that its spec wants.
pub(crate) fn allocated_pod(pod: &Pod, containers: &Containers) -> Pod {
    let mut pod = pod.clone();
    if let Some(spec) = &mut pod.spec {
        for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
            if let Some(allocated) = containers.get(&container.name).and_then(|s| s.allocated.clone()) {
                container.resources = Some(allocated);
            }
        }
    }
    pod
}

/// Allocates what the spec wants: to containers that have nothing yet, or with `anew` to all.
pub(crate) fn allocate(pod: &Pod, containers: &mut Containers, anew: bool) {
    for container in all_containers(pod) {
        let state = containers.entry(container.name.clone()).or_default();
        if anew || state.allocated.is_none() {
            state.allocated = Some(container.resources.clone().unwrap_or_default());
        }
    }
}

/// Whether the spec wants for a container what it has been allocated.
pub(crate) fn is_settled(pod: &Pod, containers: &Containers) -> bool {
    all_containers(pod).all(|container| {
        let allocated = containers.get(&container.name).and_then(|state| state.allocated.as_ref());
        allocated.is_none_or(|allocated| same(container.resources.as_ref(), Some(allocated)))
    })
}

/// Two ways of writing the same amounts are the same.
fn same(a: Option<&ResourceRequirements>, b: Option<&ResourceRequirements>) -> bool {
    container_limits(a) == container_limits(b)
}

/// How a running container gets what it was allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Its control group is given other limits.
    Update,
    /// Its `resizePolicy` wants it to be started again.
    Restart,
}

/// The running containers that do not have yet what they were allocated.
pub(crate) fn changes(pod: &Pod, containers: &Containers) -> Vec<(String, Change)> {
    let due = |container: &Container| {
        let state = containers.get(&container.name).filter(|state| state.is_running())?;
        let (applied, allocated) = (state.applied.as_ref()?, state.allocated.as_ref()?);
        Some((container.name.clone(), change(container, applied, allocated)?))
    };
    all_containers(pod).filter_map(due).collect()
}

fn change(
    container: &Container,
    applied: &ResourceRequirements,
    allocated: &ResourceRequirements,
) -> Option<Change> {
    let (old, new) = (container_limits(Some(applied)), container_limits(Some(allocated)));
    if old == new {
        return None;
    }
    let cpu =
        (old.cpu_millis_request, old.cpu_millis_limit) != (new.cpu_millis_request, new.cpu_millis_limit);
    // A request of memory is no more than advice to the kernel.
    let memory = old.memory_limit != new.memory_limit;
    let restarts = |name: &str| {
        let policies = container.resize_policy.iter().flatten();
        policies.filter(|p| p.resource_name == name).any(|p| p.restart_policy == "RestartContainer")
    };
    let restart = (cpu && restarts("cpu")) || (memory && restarts("memory"));
    Some(if restart { Change::Restart } else { Change::Update })
}

/// The pod as its running containers have it: what was applied, and elsewhere what is allocated.
pub(crate) fn applied_pod(pod: &Pod, containers: &Containers) -> Pod {
    let mut pod = allocated_pod(pod, containers);
    if let Some(spec) = &mut pod.spec {
        for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
            let state = containers.get(&container.name).filter(|state| state.is_running());
            if let Some(applied) = state.and_then(|state| state.applied.clone()) {
                container.resources = Some(applied);
            }
        }
    }
    pod
}

/// A memory limit that is to come down: whose it is (a container's name, or none for the pod), and to how many bytes.
pub(crate) type Decrease = (Option<String>, u64);

/// The memory limits that a change in place brings down.
pub(crate) fn memory_decreases(pod: &Pod, containers: &Containers) -> Vec<Decrease> {
    let (before, after) = (applied_pod(pod, containers), allocated_pod(pod, containers));
    let lower = |old: Option<u64>, new: Option<u64>| new.filter(|new| old.is_none_or(|old| *new < old));
    let whole = |pod: &Pod| pod_limits(pod, None).memory_limit;
    let changes = changes(pod, containers);
    // The pod's comes down last, when what is started again uses nothing of before.
    let at_once = changes.iter().all(|(_, change)| *change == Change::Update);
    let pods = lower(whole(&before), whole(&after)).filter(|_| at_once);
    let mut found: Vec<Decrease> = pods.map(|limit| (None, limit)).into_iter().collect();
    let limit = |container: &Container| container_limits(container.resources.as_ref()).memory_limit;
    for (name, change) in changes {
        let of = |pod: &Pod| all_containers(pod).find(|c| c.name == name).and_then(limit);
        if change == Change::Update
            && let Some(limit) = lower(of(&before), of(&after))
        {
            found.push((Some(name.clone()), limit));
        }
    }
    found
}

/// Why limits can not come down below what is in use, in upstream's words; none if they can. `used` tells the bytes.
pub(crate) fn refusal(decreases: &[Decrease], used: impl Fn(Option<&str>) -> u64) -> Option<String> {
    let below = decreases.iter().filter_map(|(name, limit)| {
        let now = used(name.as_deref());
        let whose = name.as_ref().map_or("pod".to_owned(), |name| format!("container {name:?}"));
        (*limit <= now)
            .then(|| format!("attempting to set {whose} memory limit ({limit}) below current usage ({now})"))
    });
    match &below.collect::<Vec<_>>()[..] {
        [] => None,
        [one] => Some(format!("cannot decrease memory limits: {one}")),
        all => Some(format!("cannot decrease memory limits: [{}]", all.join(", "))),
    }
}

/// How far a resize has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Progress {
    /// Why what the spec wants is not allocated: `Deferred` or `Infeasible`, and a sentence.
    pub pending: Option<(&'static str, String)>,
    /// What was allocated is not applied everywhere yet.
    pub under_way: bool,
    /// Why it could not be applied.
    pub error: Option<String>,
}

/// What events about a resize say of it: the containers' resources as the spec wants them, and what went wrong.
pub(crate) fn summary(pod: &Pod, error: Option<&str>) -> String {
    let sized = |c: &Container| Some(json!({ "name": c.name, "resources": c.resources.as_ref()? }));
    let list = |all: &[Container]| all.iter().filter_map(sized).collect::<Vec<Value>>();
    let mut told = json!({ "containers": list(main_containers(pod)), "generation": pod.metadata.generation });
    let init = list(init_containers(pod));
    if !init.is_empty() {
        told["initContainers"] = Value::Array(init);
    }
    if let Some(error) = error {
        told["error"] = json!(error);
    }
    told.to_string()
}
