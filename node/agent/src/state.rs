//! What the agent knows of the containers of one pod. It is derived from the supervisor's records and from what
//! the worker has seen; the part that must survive a restart of the agent is written to disk by [`crate::disk`].

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use serde::{Deserialize, Serialize};

use crate::ephemeral::ephemeral_container;
use crate::restart::Restart;

/// The first delay between two runs of a container that ends, or between two pulls of an image that fails.
pub(crate) const BACKOFF_FIRST: SignedDuration = SignedDuration::from_secs(10);
/// The longest such delay.
pub(crate) const BACKOFF_MAX: SignedDuration = SignedDuration::from_secs(300);
/// A container that ran this long is forgiven its past.
pub(crate) const BACKOFF_RESET: SignedDuration = SignedDuration::from_secs(600);
/// What a container is given at least between the end of its preStop hook and SIGKILL.
pub(crate) const MINIMUM_GRACE: SignedDuration = SignedDuration::from_secs(2);

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Exit {
    /// The container's id, `carrack://` is added where the API wants a scheme.
    pub id: String,
    /// As a shell would see it: 128 + n for signal n.
    pub code: i32,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError` or `ContainerStatusUnknown`.
    pub reason: String,
    /// The termination message, or why it could not start.
    pub message: Option<String>,
    /// When it started; none if it never did.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
}

/// What a container is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) enum Run {
    /// It has not been started in this sandbox.
    #[default]
    Absent,
    /// It runs.
    Running {
        /// The container's id.
        id: String,
        /// Its first process, as the host sees it.
        pid: u32,
        /// When it was started.
        started_at: Timestamp,
    },
    /// It has ended.
    Exited(Exit),
}

/// Why a container is not running yet, in the words of the API (`ErrImagePull`, `CreateContainerConfigError`, …).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// One word.
    pub reason: String,
    /// A sentence for the user.
    pub message: String,
}

/// The image of a container, on this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Image {
    /// `sha256:…` of the image's configuration.
    pub id: String,
    /// The name to show as `status.image`.
    pub name: String,
    /// The name to show as `status.imageID`.
    pub digest: String,
}

/// Whether the image that the next run starts from is settled. It is settled anew for each run, as the kubelet does:
/// `Always` asks the registry, the other policies look at what is on the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fetch {
    /// Not yet.
    #[default]
    Needed,
    /// Somebody is at it.
    UnderWay,
    /// It is what [`ContainerState::image`] says.
    Done,
}

/// How far the ending of a container has come.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stop {
    /// Its preStop hook runs; SIGTERM follows when it is done, or at the deadline.
    Hook {
        /// The end of the grace period.
        deadline: Timestamp,
    },
    /// SIGTERM was sent; SIGKILL follows.
    Term {
        /// When SIGKILL is due.
        kill_at: Timestamp,
    },
    /// SIGKILL was sent.
    Killed,
}

/// One container of a pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ContainerState {
    /// How many times it was started after the first; it only grows.
    pub restarts: u32,
    /// What it is doing.
    pub run: Run,
    /// How the run before this one ended.
    pub previous: Option<Exit>,
    /// Why it is not running, where there is more to say than that it is being made.
    pub waiting: Option<Waiting>,
    /// Not to be started (or its image pulled) before this.
    pub retry_at: Option<Timestamp>,
    /// The delay that led to `retry_at`, in seconds.
    pub delay_seconds: i64,
    /// The image of the present run, or of the next one once that is settled.
    #[serde(default, rename = "imageUsed")]
    pub image: Option<Image>,
    /// Whether the image of the next run is settled.
    #[serde(skip)]
    pub fetch: Fetch,
    /// It has passed its startup probe, or has none and runs. Kept on disk, so that a restart of the
    /// agent takes no pod out of its services.
    #[serde(default)]
    pub started: bool,
    /// Its readiness probe passes, or it has none and has started.
    #[serde(default)]
    pub ready: bool,
    /// The resources that the node has promised it; those of its spec once a resize to them is granted.
    #[serde(default)]
    pub allocated: Option<ResourceRequirements>,
    /// The resources that the control group of its present run was given.
    #[serde(default)]
    pub applied: Option<ResourceRequirements>,
    /// It is being ended.
    #[serde(skip)]
    pub stop: Option<Stop>,
    /// Why it has to be ended though the pod stays: a failed probe, or a changed image.
    #[serde(skip)]
    pub condemned: Option<Condemned>,
}

/// Why a container of a living pod has to end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condemned {
    /// A sentence for the event.
    pub message: String,
    /// The grace period, if not the pod's.
    pub grace_seconds: Option<i64>,
}

impl ContainerState {
    /// Whether it runs now.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.run, Run::Running { .. })
    }

    /// Its last exit, if it is not running.
    pub(crate) fn exit(&self) -> Option<&Exit> {
        match &self.run {
            Run::Exited(exit) => Some(exit),
            _ => None,
        }
    }

    /// Puts off the next attempt, twice as long as the last time.
    pub(crate) fn back_off(&mut self, now: Timestamp) {
        let last = SignedDuration::from_secs(self.delay_seconds);
        let delay = if last.is_zero() { BACKOFF_FIRST } else { (last * 2).min(BACKOFF_MAX) };
        self.delay_seconds = delay.as_secs();
        self.retry_at = Some(now + delay);
    }

    /// Forgets the delays: the next failure starts at the first one again.
    pub(crate) fn forgive(&mut self) {
        self.delay_seconds = 0;
        self.retry_at = None;
    }

    /// A run was ended so that another begins: at once, and whatever the restart policy says of how it ended.
    pub(crate) fn restarts_now(&mut self, policy: Restart<'_>) {
        self.forgive();
        if self.exit().is_some_and(|exit| !policy.again(exit.code))
            && let Run::Exited(exit) = std::mem::take(&mut self.run)
        {
            self.previous = Some(exit);
        }
    }

    /// Takes note that a run has ended. The first restart is immediate, later ones wait; a long run clears the past.
    pub(crate) fn ended(&mut self, exit: Exit, now: Timestamp) {
        let ran = exit.started_at.map_or(SignedDuration::ZERO, |at| exit.finished_at.duration_since(at));
        if ran >= BACKOFF_RESET {
            self.forgive();
        }
        let first_end = self.restarts == 0 && exit.started_at.is_some() && self.delay_seconds == 0;
        if !first_end {
            self.back_off(now);
        }
        self.run = Run::Exited(exit);
        self.started = false;
        self.ready = false;
        self.stop = None;
        self.condemned = None;
    }
}

/// All containers of a pod, by name; init containers too.
pub(crate) type Containers = BTreeMap<String, ContainerState>;

/// The pod's containers in the order in which they appear, init containers first; without ephemeral ones.
pub(crate) fn all_containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    init_containers(pod).iter().chain(main_containers(pod))
}

/// The container of a name, of any sort: an init, main or ephemeral one.
pub(crate) fn any_container(pod: &Pod, name: &str) -> Option<Container> {
    all_containers(pod).find(|c| c.name == name).cloned().or_else(|| ephemeral_container(pod, name))
}

/// The pod's init containers, sidecars included.
pub(crate) fn init_containers(pod: &Pod) -> &[Container] {
    pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default()
}

/// The pod's main containers.
pub(crate) fn main_containers(pod: &Pod) -> &[Container] {
    pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default()
}

/// Whether an init container is a sidecar: started in order, then kept running beside the main containers.
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}
