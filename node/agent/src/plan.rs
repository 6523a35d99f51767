//! Decides what is to be done for a pod next. No I/O, no clock: a pod, what is known of it, and the time go in; the
//! actions that can be taken now and the time at which to look again come out.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::ephemeral::ephemeral_containers;
use crate::restart::Restart;
use crate::state::{
    ContainerState, Containers, Fetch, MINIMUM_GRACE, Run, Stop, all_containers, init_containers, is_sidecar,
    main_containers,
};

/// What is known of a pod.
pub(crate) struct View<'a> {
    /// The pod as it should be.
    pub pod: &'a Pod,
    /// It is to be ended, for this long at most; none while it is to live.
    pub ending: Option<Ending>,
    /// Its cgroup, supervisor and network stand.
    pub sandbox: bool,
    /// Its volumes are mounted.
    pub volumes: bool,
    /// The sandbox or the volumes failed and are not to be tried again before this.
    pub retry_at: Option<Timestamp>,
    /// Its containers.
    pub containers: &'a Containers,
}

/// How a pod is to be ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ending {
    /// When SIGKILL is due.
    pub deadline: Timestamp,
}

/// One thing to do. Each can be repeated without harm.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Make the cgroup, the supervisor and the network.
    CreateSandbox,
    /// Fetch the sources of the volumes and mount them.
    SetUpVolumes,
    /// Settle which image a container's next run starts from, by its pull policy.
    Pull(String),
    /// Start a container.
    Start(String),
    /// Run the preStop hook of a container, then send it SIGTERM.
    RunHook(String, Timestamp),
    /// Send a container its stop signal; SIGKILL is due at the time.
    Terminate(String, Timestamp),
    /// Send a container SIGKILL.
    Kill(String),
    /// Every container has ended for good: give back the sandbox, keep logs and records.
    ReleaseSandbox,
    /// The pod is gone: remove everything of it.
    Remove,
}

/// What to do and when to look again if nothing happens.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// To be done now, in this order.
    pub actions: Vec<Action>,
    /// The next time at which something is due by the clock alone.
    pub wake: Option<Timestamp>,
}

impl Plan {
    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Looks again at this time, if not before.
    pub(crate) fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |earlier| earlier.min(at)));
    }
}

/// How the main containers, taken together, stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Something still runs or is to run.
    Open,
    /// All ended with code 0, for good.
    Succeeded,
    /// All ended, at least one with another code, for good; or an init container failed for good.
    Failed,
}

/// Whether the pod's work is over, and how it went.
pub(crate) fn outcome(pod: &Pod, containers: &Containers) -> Outcome {
    if init_failed(pod, containers) {
        return Outcome::Failed;
    }
    let mut failed = false;
    for container in main_containers(pod) {
        let policy = Restart::of_main(pod, container);
        match containers.get(&container.name).map(|c| &c.run) {
            Some(Run::Exited(exit)) if !policy.again(exit.code) => failed |= exit.code != 0,
            _ => return Outcome::Open,
        }
    }
    if failed { Outcome::Failed } else { Outcome::Succeeded }
}

fn init_failed(pod: &Pod, containers: &Containers) -> bool {
    init_containers(pod).iter().any(|container| {
        let exit = containers.get(&container.name).and_then(|c| c.exit());
        exit.is_some_and(|e| e.code != 0 && !Restart::of_init(pod, container).again(e.code))
    })
}

/// Whether all init containers have done what the main containers wait for.
pub(crate) fn initialized(pod: &Pod, containers: &Containers) -> bool {
    began(pod, containers) || init_containers(pod).iter().all(|container| init_done(container, containers))
}

/// Whether the main containers have had their turn in this sandbox, so that init containers are not looked at again.
fn began(pod: &Pod, containers: &Containers) -> bool {
    // A main container that had ended for good stays so in a new sandbox, where the init containers run once more.
    let set_back = |state: &ContainerState| state.run == Run::Absent && state.previous.is_some();
    let state = |container: &Container| containers.get(&container.name);
    let ordinary = init_containers(pod).iter().filter(|container| !is_sidecar(container));
    let anew = ordinary.filter_map(state).any(set_back);
    !anew && main_containers(pod).iter().filter_map(state).any(|state| state.run != Run::Absent)
}

fn init_done(container: &Container, containers: &Containers) -> bool {
    let Some(state) = containers.get(&container.name) else { return false };
    if is_sidecar(container) {
        return state.is_running() && state.started;
    }
    state.exit().is_some_and(|exit| exit.code == 0)
}

/// What is to be done for the pod now.
pub(crate) fn plan(view: &View<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if let Some(ending) = view.ending {
        end_all(view, ending, now, &mut plan);
        if plan.actions.is_empty() && !any_running(view) {
            match view.retry_at {
                Some(at) if at > now => plan.wake_at(at),
                _ => plan.act(Action::Remove),
            }
        }
        return plan;
    }
    if outcome(view.pod, view.containers) != Outcome::Open {
        let grace = grace_of(view.pod, None);
        end_all(view, Ending { deadline: now + grace }, now, &mut plan);
        if view.sandbox && plan.actions.is_empty() && !any_running(view) {
            plan.act(Action::ReleaseSandbox);
        }
        return plan;
    }
    prepare(view, now, &mut plan);
    condemn(view, now, &mut plan);
    for container in ephemeral_containers(view.pod) {
        bring_up(&container, Restart::NEVER, view, now, &mut plan);
    }
    start(view, now, &mut plan);
    plan
}

fn any_running(view: &View<'_>) -> bool {
    view.containers.values().any(|c| c.is_running())
}

/// The sandbox and the volumes, unless they failed a moment ago.
fn prepare(view: &View<'_>, now: Timestamp, plan: &mut Plan) {
    if view.sandbox && view.volumes {
        return;
    }
    match view.retry_at {
        Some(at) if at > now => plan.wake_at(at),
        _ => {
            if !view.volumes {
                plan.act(Action::SetUpVolumes);
            }
            if !view.sandbox {
                plan.act(Action::CreateSandbox);
            }
        }
    }
}

/// Ends the containers that have to end though the pod lives on.
fn condemn(view: &View<'_>, now: Timestamp, plan: &mut Plan) {
    for container in all_containers(view.pod) {
        let Some(state) = view.containers.get(&container.name) else { continue };
        let Some(condemned) = &state.condemned else { continue };
        let deadline = now + grace_of(view.pod, condemned.grace_seconds);
        end_one(container, view, deadline, now, plan);
    }
}

/// Starts what may start: init containers in order, then the main containers.
fn start(view: &View<'_>, now: Timestamp, plan: &mut Plan) {
    let began = began(view.pod, view.containers);
    for container in init_containers(view.pod) {
        if began && !is_sidecar(container) {
            continue;
        }
        if init_done(container, view.containers) {
            continue;
        }
        bring_up(container, Restart::of_init(view.pod, container), view, now, plan);
        if !began {
            fetch_ahead(view, now, plan);
            return;
        }
    }
    for container in main_containers(view.pod) {
        bring_up(container, Restart::of_main(view.pod, container), view, now, plan);
    }
}

/// While init containers run, the images of the main containers are fetched already.
fn fetch_ahead(view: &View<'_>, now: Timestamp, plan: &mut Plan) {
    for container in main_containers(view.pod) {
        need_image(container, view, now, plan);
    }
}

/// Takes a container one step nearer to running.
fn bring_up(container: &Container, policy: Restart<'_>, view: &View<'_>, now: Timestamp, plan: &mut Plan) {
    let state = view.containers.get(&container.name);
    match state.map(|s| &s.run) {
        Some(Run::Running { .. }) => return,
        Some(Run::Exited(exit)) if !policy.again(exit.code) => return,
        _ => {}
    }
    let present = need_image(container, view, now, plan);
    if let Some(at) = state.and_then(|s| s.retry_at).filter(|at| *at > now) {
        plan.wake_at(at);
    } else if present && view.sandbox && view.volumes {
        plan.act(Action::Start(container.name.clone()));
    }
}

/// Whether the image of the next run is settled; if not, asks for it unless that is under way or failed a moment ago.
fn need_image(container: &Container, view: &View<'_>, now: Timestamp, plan: &mut Plan) -> bool {
    let state = view.containers.get(&container.name);
    match state.map(|s| s.fetch) {
        Some(Fetch::Done) => return true,
        Some(Fetch::UnderWay) => return false,
        Some(Fetch::Needed) | None => {}
    }
    match state.and_then(|s| s.retry_at) {
        Some(at) if at > now => plan.wake_at(at),
        _ => plan.act(Action::Pull(container.name.clone())),
    }
    false
}

/// Ends every running container: the main and the ephemeral ones together, then the sidecars in reverse order.
fn end_all(view: &View<'_>, ending: Ending, now: Timestamp, plan: &mut Plan) {
    let mut waiting = false;
    for container in main_containers(view.pod) {
        waiting |= end_one(container, view, ending.deadline, now, plan);
    }
    for container in ephemeral_containers(view.pod) {
        waiting |= end_one(&container, view, ending.deadline, now, plan);
    }
    for container in init_containers(view.pod).iter().rev() {
        // Sidecars serve the main containers until the last of these has ended, or time is up.
        if waiting && is_sidecar(container) && now < ending.deadline {
            plan.wake_at(ending.deadline);
            return;
        }
        waiting |= end_one(container, view, ending.deadline, now, plan);
    }
}

/// The next step of ending one container; answers whether it still runs.
fn end_one(
    container: &Container,
    view: &View<'_>,
    deadline: Timestamp,
    now: Timestamp,
    plan: &mut Plan,
) -> bool {
    let name = &container.name;
    let Some(state) = view.containers.get(name).filter(|s| s.is_running()) else { return false };
    match &state.stop {
        None if deadline <= now => plan.act(Action::Kill(name.clone())),
        None if has_pre_stop(container) => plan.act(Action::RunHook(name.clone(), deadline)),
        None => plan.act(Action::Terminate(name.clone(), deadline)),
        Some(Stop::Hook { deadline: due }) => {
            let due = (*due).min(deadline);
            if due <= now {
                plan.act(Action::Terminate(name.clone(), deadline.max(now + MINIMUM_GRACE)));
            } else {
                plan.wake_at(due);
            }
        }
        Some(Stop::Term { kill_at }) => {
            let due = if view.ending.is_some() { (*kill_at).min(deadline.max(now)) } else { *kill_at };
            if due <= now {
                plan.act(Action::Kill(name.clone()));
            } else {
                plan.wake_at(due);
            }
        }
        Some(Stop::Killed) => {}
    }
    true
}

fn has_pre_stop(container: &Container) -> bool {
    container.lifecycle.as_ref().is_some_and(|l| l.pre_stop.is_some())
}

/// The grace period: the given one, or the pod's, or 30 s.
pub(crate) fn grace_of(pod: &Pod, seconds: Option<i64>) -> SignedDuration {
    let own = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    SignedDuration::from_secs(seconds.or(own).unwrap_or(30).clamp(0, 10 * 365 * 86_400))
}
