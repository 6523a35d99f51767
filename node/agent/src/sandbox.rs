//! The pod's own frame: control group, supervisor, network and volumes. Each step can be repeated and undone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use carrack_cgroups::{CgroupError, Limits};
use carrack_network::{AttachError, PodAddress, PodRef};
use carrack_supervisor::{ContainerStatus, ExitRecord, LogLimits, Sandbox, SandboxConfig, SandboxError};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use tokio::task::block_in_place;

use crate::errors::chain;
use crate::files::hostname;
use crate::leftovers;
use crate::objects::Following;
use crate::plan::{Outcome, outcome};
use crate::resize::allocated_pod;
use crate::restart::begin_anew;
use crate::sources;
use crate::spec::pod_limits;
use crate::state::{Exit, Run, any_container};
use crate::status::qos_class;
use crate::worker::{Message, Worker};

/// The name of the control group that the supervisor itself is in, beside those of the containers.
const SUPERVISOR_CGROUP: &str = "sandbox";
/// The supervisor is the last that the kernel may kill of a pod.
const SUPERVISOR_OOM_SCORE: i32 = -998;

/// How long after a failure the sources of volumes are asked for again.
const REFRESH_RETRY: SignedDuration = SignedDuration::from_secs(30);

/// Why a pod's frame could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The control group.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The supervisor.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The network.
    #[error("failed to set up the pod's network")]
    Network(#[from] AttachError),
    /// The agent is ending.
    #[error("the node agent is shutting down")]
    ShuttingDown,
    /// A directory of the pod.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// The control group of a pod, relative to the agent's: `burstable/pod<uid>`; guaranteed pods are at the top.
pub(crate) fn pod_cgroup(pod: &Pod) -> String {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    match qos_class(pod) {
        "Guaranteed" => format!("pod{uid}"),
        class => format!("{}/pod{uid}", class.to_lowercase()),
    }
}

impl Worker {
    /// The pod's control group.
    pub(crate) fn cgroup_path(&self) -> String {
        pod_cgroup(&self.pod)
    }

    pub(crate) fn host_network(&self) -> bool {
        self.pod.spec.as_ref().and_then(|s| s.host_network).unwrap_or(false)
    }

    /// The address that the pod is reached at.
    pub(crate) fn pod_ip(&self) -> Option<String> {
        if self.host_network() {
            return self.sandbox.as_ref().map(|_| self.shared.options.node_ip.to_string());
        }
        self.address.as_ref().map(|a| a.ip.to_string())
    }

    /// Makes control group, supervisor and network, or says why not and comes back to it later.
    pub(crate) async fn create_sandbox(&mut self) {
        match self.try_create_sandbox().await {
            Ok(()) => {
                self.retry_at = None;
                for state in self.containers.values_mut() {
                    state.waiting = state.waiting.take().filter(|w| w.reason != "CreatePodSandboxError");
                }
            }
            Err(error) => {
                let message = format!("Failed to create pod sandbox: {}", chain(&error));
                self.shared.events.warning(&self.about, "FailedCreatePodSandBox", &message);
                self.hold_up("CreatePodSandboxError", &message);
                self.retry_later();
            }
        }
    }

    async fn try_create_sandbox(&mut self) -> Result<(), FrameError> {
        let dir = self.shared.options.place.sandbox_dir(&self.key.uid);
        let sandbox = match carrack_supervisor::adopt(&dir).await? {
            Some(sandbox) => sandbox,
            None => {
                let config = block_in_place(|| self.sandbox_config(dir))?;
                carrack_supervisor::start(&self.shared.options.supervisor, &config).await?
            }
        };
        if let Err(error) = self.connect(&sandbox).await {
            // A pod without its network is of no use to its containers, and no container runs yet.
            let _ = sandbox.shutdown().await;
            return Err(error);
        }
        self.begin(sandbox);
        Ok(())
    }

    fn sandbox_config(&self, dir: PathBuf) -> Result<SandboxConfig, FrameError> {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let path = self.cgroup_path();
        let allocated = allocated_pod(&self.pod, &self.containers);
        self.shared.cgroups.create(&path, &pod_limits(&allocated, None))?;
        let own = self.shared.cgroups.create(&format!("{path}/{SUPERVISOR_CGROUP}"), &Limits::default())?;
        let log_dir = self.log_dir();
        std::fs::create_dir_all(&log_dir)
            .map_err(|source| FrameError::Io { path: log_dir.clone(), source })?;
        let sysctls = spec.security_context.and_then(|s| s.sysctls).unwrap_or_default();
        Ok(SandboxConfig {
            dir,
            log_dir,
            hostname: hostname(&self.pod),
            host_network: self.host_network(),
            host_pid: spec.host_pid.unwrap_or(false),
            host_ipc: spec.host_ipc.unwrap_or(false),
            share_process_namespace: spec.share_process_namespace.unwrap_or(false),
            sysctls: sysctls.into_iter().map(|s| (s.name, s.value)).collect::<BTreeMap<_, _>>(),
            cgroup_procs: own.procs_files(),
            oom_score_adj: SUPERVISOR_OOM_SCORE,
            logs: LogLimits::default(),
        })
    }

    pub(crate) fn log_dir(&self) -> PathBuf {
        self.shared.options.place.log_dir(&self.key.namespace, &self.key.name, &self.key.uid)
    }

    async fn connect(&mut self, sandbox: &Sandbox) -> Result<(), FrameError> {
        if self.host_network() {
            return Ok(());
        }
        let network = self.shared.network().await.ok_or(FrameError::ShuttingDown)?;
        let address: PodAddress = network.attach(&self.pod_ref(), &sandbox.netns()).await?;
        self.address = Some(address);
        Ok(())
    }

    fn pod_ref(&self) -> PodRef {
        PodRef {
            id: self.key.uid.clone(),
            namespace: self.key.namespace.clone(),
            name: self.key.name.clone(),
        }
    }

    /// Listens to the supervisor from now on.
    fn begin(&mut self, sandbox: Sandbox) {
        let mut events = sandbox.events();
        let me = self.me.clone();
        self.feed = Some(tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if me.send(Message::Supervisor(event)).await.is_err() {
                    return;
                }
            }
        }));
        self.sandbox = Some(sandbox);
    }

    /// Takes over what an earlier agent left of this pod, and takes note of what ended meanwhile.
    pub(crate) async fn take_over(&mut self) {
        let dir = self.shared.options.place.sandbox_dir(&self.key.uid);
        let adopted = match carrack_supervisor::adopt(&dir).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(pod = %self.key.name, %error, "the pod's supervisor can not be taken over; replacing it");
                None
            }
        };
        let Some(sandbox) = adopted else {
            let had_run = !self.containers.is_empty();
            self.bury_the_lost(&dir).await;
            if had_run {
                self.begin_anew();
            }
            return;
        };
        if let Err(error) = self.connect(&sandbox).await {
            tracing::error!(pod = %self.key.name, %error, "the network of a running pod was not taken over");
        }
        self.begin(sandbox.clone());
        match sandbox.list().await {
            Ok(list) => {
                for found in list {
                    match found.status {
                        ContainerStatus::Running(started) => {
                            self.found_running(&found.name, found.id, found.restart, started);
                        }
                        ContainerStatus::Exited(record) => self.container_ended(record).await,
                        ContainerStatus::Starting => {}
                    }
                }
            }
            Err(error) => {
                tracing::error!(pod = %self.key.name, %error, "the supervisor does not list its containers")
            }
        }
        self.clear_ended_runs();
        self.set_up_volumes().await;
    }

    /// Removes the files of runs that ended while they could not be cleared away.
    fn clear_ended_runs(&self) {
        let dir = self.shared.options.place.pod_dir(&self.key.uid).join("containers");
        let result = block_in_place(|| {
            leftovers::ended_runs(&dir, &self.containers)?
                .iter()
                .try_for_each(|dir| carrack_files::remove_tree(dir.as_path()))
        });
        if let Err(error) = result {
            tracing::warn!(pod = %self.key.name, %error, "files of ended containers were not removed");
        }
    }

    /// There is no supervisor: whatever was running is not any more.
    async fn bury_the_lost(&mut self, dir: &std::path::Path) {
        let records = carrack_supervisor::exit_records(dir).unwrap_or_default();
        for record in records {
            self.container_ended(record).await;
        }
        self.lose_containers();
        self.discard_frame().await;
    }

    /// Containers that count as running, without a supervisor that could say how they ended.
    fn lose_containers(&mut self) {
        let now = Timestamp::now();
        for state in self.containers.values_mut() {
            if let Run::Running { id, started_at, .. } = state.run.clone() {
                let exit = Exit {
                    id,
                    code: 137,
                    signal: None,
                    reason: "ContainerStatusUnknown".to_owned(),
                    message: Some(
                        "The container could not be located when the pod's sandbox was lost".to_owned(),
                    ),
                    started_at: Some(started_at),
                    finished_at: now,
                };
                state.ended(exit, now);
            }
        }
    }

    /// The supervisor has died: its containers are killed, and the pod gets a new sandbox if it is to live on.
    pub(crate) async fn sandbox_gone(&mut self) {
        if self.sandbox.take().is_none() {
            return;
        }
        self.shared.events.normal(
            &self.about,
            "SandboxChanged",
            "Pod sandbox changed, it will be killed and re-created.",
        );
        let dir = self.shared.options.place.sandbox_dir(&self.key.uid);
        self.bury_the_lost(&dir).await;
        self.begin_anew();
    }

    /// In a new sandbox everything runs again that is to run at all, init containers first.
    fn begin_anew(&mut self) {
        if outcome(&self.pod, &self.containers) != Outcome::Open {
            return;
        }
        begin_anew(&self.pod, &mut self.containers);
    }

    /// Gives back control group, supervisor and network; volumes, logs and records stay.
    pub(crate) async fn release_sandbox(&mut self) {
        self.following = Following::default();
        self.shared.ledger.release(&self.key.uid);
        if let Some(sandbox) = self.sandbox.take()
            && let Err(error) = sandbox.shutdown().await
        {
            tracing::warn!(pod = %self.key.name, %error, "the supervisor did not end when asked; killing it");
        }
        self.discard_frame().await;
    }

    /// Kills and removes what may be left of the frame. Answers whether nothing is.
    async fn discard_frame(&mut self) -> bool {
        self.sandbox = None;
        if let Some(feed) = self.feed.take() {
            feed.abort();
        }
        for (_, probe) in self.probes.drain() {
            probe.abort();
        }
        let mut clean = true;
        let path = self.cgroup_path();
        let removed = block_in_place(|| self.shared.cgroups.get(&path).and_then(|group| group.remove()));
        if let Err(error) = removed {
            tracing::warn!(pod = %self.key.name, %error, "the pod's control group was not removed");
            clean = false;
        }
        if !self.host_network()
            && let Some(network) = self.shared.network().await
        {
            if let Err(error) = network.detach(&self.key.uid).await {
                tracing::warn!(pod = %self.key.name, %error, "the pod's network was not removed");
                clean = false;
            }
            self.address = None;
        }
        clean
    }

    /// Removes everything of the pod. Answers whether all of it is gone; what is not is tried again.
    pub(crate) async fn remove(&mut self) -> bool {
        self.release_sandbox().await;
        let clean = self.discard_frame().await;
        let uid = self.key.uid.clone();
        let sandbox_dir = self.shared.options.place.sandbox_dir(&uid);
        let log_dir = self.log_dir();
        let result = block_in_place(|| {
            carrack_files::remove_tree(&sandbox_dir)?;
            carrack_files::remove_tree(&log_dir)?;
            // The records are below the volumes' directory and go last, so that a crash on the way is taken up again.
            self.shared.volumes.tear_down(&uid).map_err(std::io::Error::other)
        });
        match result {
            Ok(()) if clean => true,
            Ok(()) => self.later(),
            Err(error) => {
                tracing::warn!(pod = %self.key.name, %error, "something of a pod that has ended was not removed");
                self.later()
            }
        }
    }

    fn later(&mut self) -> bool {
        self.retry_later();
        false
    }

    /// Fetches what the volumes are made of and mounts them.
    pub(crate) async fn set_up_volumes(&mut self) {
        let failure = match self.gather_sources().await {
            Ok(()) => {
                let pod = Arc::clone(&self.pod);
                match block_in_place(|| self.shared.volumes.set_up(&pod, &self.sources)) {
                    Ok(volumes) => {
                        self.volumes = Some(volumes);
                        self.clear_hold_up();
                        return;
                    }
                    Err(error) => chain(&error),
                }
            }
            Err(error) => error,
        };
        self.shared.events.warning(&self.about, "FailedMount", &failure);
        self.retry_later();
    }

    fn clear_hold_up(&mut self) {
        if self.sandbox.is_some() {
            self.retry_at = None;
        }
    }

    async fn gather_sources(&mut self) -> Result<(), String> {
        self.sources = sources::gather(&self.shared, &self.pod, &mut self.following, &self.sources).await?;
        self.refresh_at = sources::renew_at(&self.sources, Timestamp::now());
        Ok(())
    }

    /// Brings configMap, secret, token and downward volumes up to date; what can not be had now stays as it was.
    pub(crate) async fn refresh_volumes(&mut self) {
        if let Err(error) = self.gather_sources().await {
            tracing::warn!(pod = %self.key.name, error, "the sources of the volumes were not refreshed");
            self.refresh_at = Some(Timestamp::now() + REFRESH_RETRY);
            return;
        }
        let pod = Arc::clone(&self.pod);
        match block_in_place(|| self.shared.volumes.set_up(&pod, &self.sources)) {
            Ok(volumes) => {
                self.volumes = Some(volumes);
                self.retry_configuration();
            }
            Err(error) => self.shared.events.warning(&self.about, "FailedMount", chain(&error)),
        }
    }

    /// Containers that lacked a ConfigMap or Secret may have it now.
    fn retry_configuration(&mut self) {
        for state in self.containers.values_mut() {
            if state.waiting.as_ref().is_some_and(|w| w.reason == "CreateContainerConfigError") {
                state.forgive();
            }
        }
    }

    /// What the supervisor tells.
    pub(crate) async fn supervisor_said(&mut self, event: carrack_supervisor::Event) {
        match event {
            carrack_supervisor::Event::Exited(record) => self.container_ended(record).await,
            carrack_supervisor::Event::Started { id, started } => {
                tracing::trace!(pod = %self.key.name, id, pid = started.pid, "a container runs");
            }
            carrack_supervisor::Event::Gone => self.sandbox_gone().await,
        }
    }

    /// Whether a record tells of a run that is not known yet to have ended.
    pub(crate) fn is_news(&self, record: &ExitRecord) -> bool {
        let declared = any_container(&self.pod, &record.name).is_some();
        let state = self.containers.get(&record.name);
        declared
            && match state.map(|s| &s.run) {
                Some(Run::Exited(exit)) => {
                    exit.id != record.id && state.is_some_and(|s| s.restarts < record.restart)
                }
                Some(Run::Running { id, .. }) => *id == record.id,
                Some(Run::Absent) | None => true,
            }
    }
}
