//! Works out a pod's status from what is known of its containers. No I/O, no clock.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::ephemeral::ephemeral_containers;
use crate::plan::{Outcome, initialized, outcome};
use crate::resize::Progress;
use crate::restart::{Restart, keep_ended};
use crate::state::{
    ContainerState, Containers, Exit, Image, Run, Waiting, init_containers, is_sidecar, main_containers,
};

/// The scheme before container ids in the API.
pub(crate) const ID_SCHEME: &str = "carrack://";

/// Conditions that are there only while they hold.
pub(crate) const PASSING: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

/// What the status says beside the containers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The pod's own address, once it has one.
    pub pod_ip: Option<String>,
    /// The node's address.
    pub host_ip: String,
    /// When the agent first saw the pod.
    pub start_time: Option<Timestamp>,
    /// The sandbox stands and has its network.
    pub sandbox: bool,
    /// The pod was ended by the node before its time: reason and message.
    pub failed: Option<Waiting>,
    /// How far a change of its resources has come.
    pub resize: Progress,
    /// The pod is being deleted and all its containers have ended.
    pub ended: bool,
}

/// The status of `pod`. Conditions that others own (`PodScheduled`, readiness gates) are taken from the pod as it is;
/// times of conditions that have not changed are kept.
pub(crate) fn pod_status(pod: &Pod, containers: &Containers, facts: &Facts, now: Timestamp) -> PodStatus {
    let before = pod.status.clone().unwrap_or_default();
    let phase = phase(pod, containers, facts);
    let over = matches!(phase, "Succeeded" | "Failed");
    let waiting_reason = if initialized(pod, containers) || init_containers(pod).is_empty() {
        "ContainerCreating"
    } else {
        "PodInitializing"
    };
    let statuses = |list: &[Container], init: bool| -> Vec<ContainerStatus> {
        list.iter()
            .map(|container| {
                let policy =
                    if init { Restart::of_init(pod, container) } else { Restart::of_main(pod, container) };
                let state = containers.get(&container.name).cloned().unwrap_or_default();
                container_status(pod, container, &state, policy, over, waiting_reason, now)
            })
            .collect()
    };
    let ephemeral = ephemeral_statuses(pod, containers, over, now);
    let mut main = statuses(main_containers(pod), false);
    let mut init = statuses(init_containers(pod), true);
    main.sort_by(|a, b| a.name.cmp(&b.name));
    for (status, container) in init.iter_mut().zip(init_containers(pod)) {
        status.ready = match containers.get(&container.name) {
            Some(state) if is_sidecar(container) => state.ready,
            Some(state) => state.exit().is_some_and(|e| e.code == 0),
            None => false,
        };
    }
    let mut status = PodStatus {
        phase: Some(phase.to_owned()),
        host_ip: Some(facts.host_ip.clone()),
        host_ips: Some(vec![HostIP { ip: facts.host_ip.clone() }]),
        pod_ip: facts.pod_ip.clone(),
        pod_ips: facts.pod_ip.clone().map(|ip| vec![PodIP { ip }]),
        start_time: before.start_time.clone().or_else(|| facts.start_time.map(Time)),
        qos_class: Some(qos_class(pod).to_owned()),
        container_statuses: Some(main),
        init_container_statuses: (!init.is_empty()).then_some(init),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        observed_generation: pod.metadata.generation,
        reason: facts.failed.as_ref().map(|f| f.reason.clone()),
        message: facts.failed.as_ref().map(|f| f.message.clone()),
        ..PodStatus::default()
    };
    keep_ended(pod, &before, &mut status);
    status.conditions = Some(conditions(pod, containers, facts, &status, &before, now));
    status
}

/// Those of ephemeral containers, which are neither ready nor started: both are words of probes.
fn ephemeral_statuses(
    pod: &Pod,
    containers: &Containers,
    over: bool,
    now: Timestamp,
) -> Vec<ContainerStatus> {
    let status = |container: &Container| {
        let state = containers.get(&container.name).cloned().unwrap_or_default();
        let status = container_status(pod, container, &state, Restart::NEVER, over, "ContainerCreating", now);
        ContainerStatus { ready: false, started: None, ..status }
    };
    ephemeral_containers(pod).iter().map(status).collect()
}

/// The pod's phase. A pod that was over stays over.
fn phase(pod: &Pod, containers: &Containers, facts: &Facts) -> &'static str {
    match pod.status.as_ref().and_then(|s| s.phase.as_deref()) {
        Some("Succeeded") => return "Succeeded",
        Some("Failed") => return "Failed",
        _ => {}
    }
    if facts.failed.is_some() {
        return "Failed";
    }
    match outcome(pod, containers) {
        Outcome::Succeeded => return "Succeeded",
        Outcome::Failed if !containers.values().any(ContainerState::is_running) => return "Failed",
        _ => {}
    }
    if facts.ended {
        return ended_phase(pod, containers);
    }
    let unstarted = |c: &Container| match containers.get(&c.name) {
        Some(state) => state.run == Run::Absent && state.restarts == 0,
        None => true,
    };
    if !initialized(pod, containers) || main_containers(pod).iter().any(unstarted) {
        "Pending"
    } else {
        "Running"
    }
}

/// How a pod that was deleted ended: as its containers did.
fn ended_phase(pod: &Pod, containers: &Containers) -> &'static str {
    let succeeded = main_containers(pod)
        .iter()
        .all(|c| containers.get(&c.name).and_then(|s| s.exit()).is_some_and(|e| e.code == 0));
    if succeeded { "Succeeded" } else { "Failed" }
}

fn container_status(
    pod: &Pod,
    container: &Container,
    state: &ContainerState,
    policy: Restart<'_>,
    over: bool,
    creating: &str,
    now: Timestamp,
) -> ContainerStatus {
    let (image, image_id) = match &state.image {
        Some(Image { name, digest, .. }) => (name.clone(), digest.clone()),
        None => (container.image.clone().unwrap_or_default(), String::new()),
    };
    let id = match &state.run {
        Run::Running { id, .. } => Some(id),
        Run::Exited(exit) => Some(&exit.id),
        Run::Absent => state.previous.as_ref().map(|e| &e.id),
    };
    let allocated = state.allocated.as_ref().or(container.resources.as_ref());
    let resources = state.applied.as_ref().filter(|_| state.is_running()).or(allocated);
    let (current, last) = api_state(pod, container, state, policy, over, creating, now);
    ContainerStatus {
        name: container.name.clone(),
        image,
        image_id,
        container_id: id.filter(|id| !id.is_empty()).map(|id| format!("{ID_SCHEME}{id}")),
        ready: state.ready,
        started: Some(state.started),
        restart_count: i32::try_from(state.restarts).unwrap_or(i32::MAX),
        state: Some(current),
        last_state: Some(last.map(terminated).unwrap_or_default()),
        resources: resources.cloned(),
        allocated_resources: allocated.and_then(|r| r.requests.clone()),
        volume_mounts: volume_mounts(container),
        ..ContainerStatus::default()
    }
}

fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_deref().unwrap_or_default().iter();
    let shown = mounts.map(|mount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only,
        recursive_read_only: mount
            .read_only
            .filter(|only| *only)
            .map(|_| mount.recursive_read_only.clone().unwrap_or_else(|| "Disabled".to_owned())),
    });
    let shown: Vec<_> = shown.collect();
    (!shown.is_empty()).then_some(shown)
}

/// The state that is shown, and the run that ended before it.
fn api_state<'a>(
    pod: &Pod,
    container: &Container,
    state: &'a ContainerState,
    policy: Restart<'_>,
    over: bool,
    creating: &str,
    now: Timestamp,
) -> (ApiState, Option<&'a Exit>) {
    let previous = state.previous.as_ref();
    match &state.run {
        Run::Running { started_at, .. } => {
            let running = ContainerStateRunning { started_at: Some(Time(*started_at)) };
            (ApiState { running: Some(running), ..ApiState::default() }, previous)
        }
        Run::Exited(exit) if over || !policy.again(exit.code) => (terminated(exit), previous),
        Run::Exited(exit) => match (&state.waiting, state.retry_at) {
            (Some(why), _) => (waiting(&why.reason, &why.message), Some(exit)),
            (None, Some(at)) if at > now => {
                (waiting("CrashLoopBackOff", &back_off_message(pod, container, state)), Some(exit))
            }
            _ => (terminated(exit), previous),
        },
        Run::Absent => match &state.waiting {
            Some(why) => (waiting(&why.reason, &why.message), previous),
            None => (waiting(creating, ""), previous),
        },
    }
}

fn back_off_message(pod: &Pod, container: &Container, state: &ContainerState) -> String {
    let meta = &pod.metadata;
    format!(
        "back-off {} restarting failed container={} pod={}_{}({})",
        go_duration(state.delay_seconds),
        container.name,
        meta.name.as_deref().unwrap_or_default(),
        meta.namespace.as_deref().unwrap_or_default(),
        meta.uid.as_deref().unwrap_or_default(),
    )
}

/// Seconds as Go prints a duration: `10s`, `1m20s`, `5m0s`.
fn go_duration(seconds: i64) -> String {
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

fn waiting(reason: &str, message: &str) -> ApiState {
    let waiting = ContainerStateWaiting {
        reason: Some(reason.to_owned()),
        message: (!message.is_empty()).then(|| message.to_owned()),
    };
    ApiState { waiting: Some(waiting), ..ApiState::default() }
}

fn terminated(exit: &Exit) -> ApiState {
    let terminated = ContainerStateTerminated {
        container_id: (!exit.id.is_empty()).then(|| format!("{ID_SCHEME}{}", exit.id)),
        exit_code: exit.code,
        signal: exit.signal,
        reason: Some(exit.reason.clone()),
        message: exit.message.clone(),
        started_at: exit.started_at.map(Time),
        finished_at: Some(Time(exit.finished_at)),
    };
    ApiState { terminated: Some(terminated), ..ApiState::default() }
}

/// One verdict: holds or not, and if not, why.
struct Verdict {
    kind: &'static str,
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

fn conditions(
    pod: &Pod,
    containers: &Containers,
    facts: &Facts,
    status: &PodStatus,
    before: &PodStatus,
    now: Timestamp,
) -> Vec<PodCondition> {
    let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let done = over.then_some("PodCompleted");
    let unready = names(main_containers(pod), |c| containers.get(&c.name).is_some_and(|s| s.ready));
    let unfinished = names(init_containers(pod), |c| {
        containers.get(&c.name).is_some_and(|s| {
            if is_sidecar(c) { s.started && s.is_running() } else { s.exit().is_some_and(|e| e.code == 0) }
        })
    });
    let is_initialized = initialized(pod, containers);
    let succeeded = status.phase.as_deref() == Some("Succeeded");
    let containers_ready = !over && unready.is_empty() && is_initialized;
    let gate = containers_ready.then(|| missing_gate(pod)).flatten();
    let not_ready =
        (!unready.is_empty() && !over).then(|| format!("containers with unready status: {unready}"));
    let verdicts = [
        Verdict { kind: "PodReadyToStartContainers", holds: facts.sandbox, reason: None, message: None },
        Verdict {
            kind: "Initialized",
            holds: is_initialized || succeeded,
            reason: if succeeded { done } else { (!is_initialized).then_some("ContainersNotInitialized") },
            message: (!is_initialized && !succeeded)
                .then(|| format!("containers with incomplete status: {unfinished}")),
        },
        Verdict {
            kind: "Ready",
            holds: containers_ready && gate.is_none(),
            reason: done.or(if containers_ready && gate.is_some() {
                Some("ReadinessGatesNotReady")
            } else {
                (!containers_ready).then_some("ContainersNotReady")
            }),
            message: not_ready.clone().or(gate),
        },
        Verdict {
            kind: "ContainersReady",
            holds: containers_ready,
            reason: done.or((!containers_ready).then_some("ContainersNotReady")),
            message: not_ready,
        },
    ];
    let verdicts = verdicts.into_iter().chain(resize_verdicts(&facts.resize));
    verdicts.map(|v| condition(v, pod, before, now)).collect()
}

/// What is said of a resize until it is done.
fn resize_verdicts(resize: &Progress) -> impl Iterator<Item = Verdict> {
    let [pending, in_progress] = PASSING;
    let waits = resize.pending.as_ref().map(|(reason, message)| Verdict {
        kind: pending,
        holds: true,
        reason: Some(*reason),
        message: Some(message.clone()),
    });
    let runs = resize.under_way.then(|| Verdict {
        kind: in_progress,
        holds: true,
        reason: resize.error.is_some().then_some("Error"),
        message: resize.error.clone(),
    });
    waits.into_iter().chain(runs)
}

/// `[a b]`: the containers for which `good` does not hold, or nothing.
fn names(list: &[Container], good: impl Fn(&Container) -> bool) -> String {
    let bad: Vec<&str> = list.iter().filter(|c| !good(c)).map(|c| c.name.as_str()).collect();
    if bad.is_empty() { String::new() } else { format!("[{}]", bad.join(" ")) }
}

/// What is wrong with the readiness gates, if anything.
fn missing_gate(pod: &Pod) -> Option<String> {
    let gates = pod.spec.as_ref()?.readiness_gates.as_deref()?;
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    gates.iter().find_map(|gate| match conditions.iter().find(|c| c.type_ == gate.condition_type) {
        None => Some(format!(
            "corresponding condition of pod readiness gate \"{}\" does not exist.",
            gate.condition_type
        )),
        Some(c) if c.status != "True" => Some(format!(
            "the status of pod readiness gate \"{}\" is not \"True\", but {}",
            gate.condition_type, c.status
        )),
        Some(_) => None,
    })
}

fn condition(verdict: Verdict, pod: &Pod, before: &PodStatus, now: Timestamp) -> PodCondition {
    let status = if verdict.holds { "True" } else { "False" };
    let old = before.conditions.iter().flatten().find(|c| c.type_ == verdict.kind);
    let since = match old {
        Some(old) if old.status == status => old.last_transition_time.clone(),
        _ => Some(Time(now)),
    };
    PodCondition {
        type_: verdict.kind.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message.filter(|m| !m.is_empty()),
        last_transition_time: since,
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`, as upstream tells them apart: by cpu and memory alone.
pub(crate) fn qos_class(pod: &Pod) -> &'static str {
    if let Some(class) = pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        match class {
            "Guaranteed" => return "Guaranteed",
            "Burstable" => return "Burstable",
            "BestEffort" => return "BestEffort",
            _ => {}
        }
    }
    let (mut any, mut guaranteed) = (false, true);
    for container in crate::state::all_containers(pod) {
        let resources = container.resources.clone().unwrap_or_default();
        let (requests, limits) =
            (resources.requests.unwrap_or_default(), resources.limits.unwrap_or_default());
        for kind in ["cpu", "memory"] {
            let (request, limit) = (requests.get(kind), limits.get(kind));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|r| Some(r) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn running(id: &str) -> ContainerState {
        let run = Run::Running { id: id.to_owned(), pid: 1, started_at: Timestamp::UNIX_EPOCH };
        let image = Image { id: "sha256:c".into(), name: "web:1".into(), digest: "r/web@sha256:m".into() };
        ContainerState { run, image: Some(image), started: true, ready: true, ..ContainerState::default() }
    }

    #[test]
    fn a_resize_is_shown_until_it_is_done() {
        let sized = |cpu: &str| json!({ "requests": { "cpu": cpu }, "limits": { "cpu": cpu } });
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "web", "generation": 4 },
            "spec": { "containers": [{ "name": "main", "resources": sized("3") }] },
        }))
        .unwrap();
        let mut main = running("abc");
        main.allocated = serde_json::from_value(sized("2")).unwrap();
        main.applied = serde_json::from_value(sized("1")).unwrap();
        let mut containers = Containers::from([("main".to_owned(), main)]);
        let resize = Progress {
            pending: Some(("Deferred", "no room".into())),
            under_way: true,
            error: Some("below usage".into()),
        };
        let facts = Facts { resize, ..Facts::default() };
        let shown =
            serde_json::to_value(pod_status(&pod, &containers, &facts, Timestamp::UNIX_EPOCH)).unwrap();
        let container = &shown["containerStatuses"][0];
        assert_eq!(container["allocatedResources"], json!({ "cpu": "2" }));
        assert_eq!(container["resources"], sized("1"), "what it runs with");
        let of = |kind: &str| {
            let all = shown["conditions"].as_array().unwrap().iter();
            let found = all.clone().find(|c| c["type"] == kind).unwrap();
            (found["status"].clone(), found["reason"].clone(), found["message"].clone())
        };
        assert_eq!(of("PodResizePending"), (json!("True"), json!("Deferred"), json!("no room")));
        assert_eq!(of("PodResizeInProgress"), (json!("True"), json!("Error"), json!("below usage")));
        containers.get_mut("main").unwrap().run = Run::Absent;
        let status = pod_status(&pod, &containers, &Facts::default(), Timestamp::UNIX_EPOCH);
        let shown = serde_json::to_value(status).unwrap();
        assert_eq!(shown["containerStatuses"][0]["resources"], sized("2"), "what it will run with");
        let kinds = shown["conditions"].as_array().unwrap().iter().map(|c| c["type"].as_str().unwrap());
        assert!(kinds.clone().count() == 4 && !kinds.into_iter().any(|kind| kind.contains("Resize")));
    }

    #[test]
    fn ephemeral_containers_are_shown_and_count_for_nothing() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "web" },
            "spec": { "containers": [{ "name": "main" }],
                "ephemeralContainers": [{ "name": "look" }, { "name": "later", "image": "busybox" }] },
        }))
        .unwrap();
        let containers =
            Containers::from([("main".to_owned(), running("abc")), ("look".to_owned(), running("def"))]);
        let status = pod_status(&pod, &containers, &Facts::default(), Timestamp::UNIX_EPOCH);
        let shown = serde_json::to_value(&status).unwrap();
        let all = &shown["ephemeralContainerStatuses"];
        assert_eq!(all[0]["containerID"], "carrack://def");
        assert_eq!((&all[0]["ready"], &all[0]["started"]), (&json!(false), &json!(null)));
        assert_eq!(all[1]["state"]["waiting"]["reason"], "ContainerCreating");
        assert_eq!((&shown["phase"], &shown["qosClass"]), (&json!("Running"), &json!("BestEffort")));
        let ready = shown["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Ready").unwrap();
        assert_eq!(ready["status"], "True");
    }

    #[test]
    fn a_running_pod_shows_what_describe_prints() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "web", "generation": 3 },
            "spec": { "containers": [{
                "name": "main", "image": "web:1",
                "resources": { "requests": { "cpu": "100m" }, "limits": { "cpu": "1" } },
                "volumeMounts": [{ "name": "v", "mountPath": "/v", "readOnly": true }],
            }] },
        }))
        .unwrap();
        let facts = Facts {
            pod_ip: Some("10.0.0.2".into()),
            host_ip: "10.1.0.1".into(),
            sandbox: true,
            ..Facts::default()
        };
        let containers = Containers::from([("main".to_owned(), running("abc"))]);
        let status = pod_status(&pod, &containers, &facts, Timestamp::UNIX_EPOCH);
        let shown = serde_json::to_value(&status).unwrap();
        assert_eq!(shown["qosClass"], "Burstable");
        assert_eq!(shown["podIPs"], json!([{ "ip": "10.0.0.2" }]));
        assert_eq!(shown["hostIPs"], json!([{ "ip": "10.1.0.1" }]));
        assert_eq!(shown["observedGeneration"], 3);
        let container = &shown["containerStatuses"][0];
        assert_eq!(container["imageID"], "r/web@sha256:m");
        assert_eq!(container["containerID"], "carrack://abc");
        assert_eq!(container["allocatedResources"], json!({ "cpu": "100m" }));
        assert_eq!(container["resources"]["limits"], json!({ "cpu": "1" }));
        assert_eq!(container["volumeMounts"][0]["recursiveReadOnly"], "Disabled");
        assert_eq!((&container["started"], &container["ready"]), (&json!(true), &json!(true)));
        for kind in ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"] {
            let found = shown["conditions"].as_array().unwrap().iter().find(|c| c["type"] == kind).unwrap();
            assert_eq!(
                (&found["status"], &found["observedGeneration"]),
                (&json!("True"), &json!(3)),
                "{kind}"
            );
        }
    }
}
