//! Starting and ending the containers of a pod, and taking note of how they ended.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use carrack_cgroups::{Cgroup, CgroupError, DevicePolicy, Limits};
use carrack_images::Image as StoredImage;
use carrack_runtime::{CgroupPaths, Mount, Root};
use carrack_supervisor::{ContainerSpec, ExitRecord, StartError, Started};
use carrack_volumes::{EnvError, MountRequest, VolumeError, environment};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use tokio::task::block_in_place;

use crate::ephemeral::{process_of, target_of};
use crate::errors::chain;
use crate::files::{Contents, Files, hostname};
use crate::hooks::post_start;
use crate::probes::{self, Finding, Known};
use crate::restart::Restart;
use crate::spec::{Parts, SpecError, container_limits, container_spec, volume_mount};
use crate::state::{Condemned, Exit, Fetch, Run, Stop, Waiting, any_container};
use crate::termination;
use crate::worker::Worker;

/// Why a container was not started.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Its description can not be carried out: `CreateContainerConfigError`.
    #[error(transparent)]
    Environment(#[from] EnvError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// What it stands on could not be made: `CreateContainerError`.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("{0}: {1}")]
    Io(PathBuf, #[source] io::Error),
    #[error("{0}")]
    State(String),
    /// It was made, and its command could not be run: `RunContainerError`.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl Failure {
    fn reason(&self) -> &'static str {
        match self {
            Self::Environment(_) | Self::Spec(_) => "CreateContainerConfigError",
            Self::Volume(_) | Self::Cgroup(_) | Self::Io(..) | Self::State(_) => "CreateContainerError",
            Self::Start(_) => "RunContainerError",
        }
    }
}

impl Worker {
    /// The container of a name, with the resources that the node has allocated to it.
    pub(crate) fn container(&self, name: &str) -> Option<Container> {
        let mut container = any_container(&self.pod, name)?;
        if let Some(allocated) = self.containers.get(name).and_then(|state| state.allocated.clone()) {
            container.resources = Some(allocated);
        }
        Some(container)
    }

    /// Starts a container, or says why not and when to try again.
    pub(crate) async fn start_container(&mut self, name: &str) {
        let Some(container) = self.container(name) else { return };
        let id = new_id();
        let state = self.containers.entry(name.to_owned()).or_default();
        let again = state.run != Run::Absent || state.previous.is_some();
        let restart = state.restarts + u32::from(again);
        // Whatever comes of this attempt: the next one settles its image anew.
        state.fetch = Fetch::Needed;
        match self.try_start(&container, &id, restart).await {
            Ok(started) => self.has_started(&container, id, restart, started),
            Err(failure) => self.has_not_started(&container, id, restart, &failure),
        }
    }

    async fn try_start(&mut self, container: &Container, id: &str, restart: u32) -> Result<Started, Failure> {
        let sandbox =
            self.sandbox.clone().ok_or_else(|| Failure::State("the pod has no sandbox".to_owned()))?;
        let services = self.shared.services().await.unwrap_or_default();
        let links = crate::service_env::variables(&self.pod, &services);
        let spec = block_in_place(|| self.describe(container, id, restart, &links))?;
        let (tty, stdin) = (container.tty.unwrap_or(false), container.stdin.unwrap_or(false));
        let log = self.log_path(&container.name, restart);
        let request = ContainerSpec {
            id: id.to_owned(),
            name: container.name.clone(),
            restart,
            spec: carrack_runtime::Spec { tty, ..spec },
            log_path: Some(log),
            stdin,
            stdin_once: container.stdin_once.unwrap_or(false),
        };
        Ok(sandbox.start_container(&request).await?)
    }

    pub(crate) fn log_path(&self, name: &str, restart: u32) -> PathBuf {
        self.log_dir().join(name).join(format!("{restart}.log"))
    }

    /// Makes what the container stands on (directories, files, control group) and describes it to the runtime.
    fn describe(
        &mut self,
        container: &Container,
        id: &str,
        restart: u32,
        links: &[(String, String)],
    ) -> Result<carrack_runtime::Spec, Failure> {
        let image = self.stored_image(&container.name)?;
        let environment = environment(&self.pod, container, &self.sources, &self.facts(), links)?;
        let dir = self.container_dir(&container.name, restart);
        let root = self.root(&image, &dir)?;
        let mut mounts = self.files(container, &dir)?;
        mounts.extend(self.volume_mounts(container, &environment)?);
        let target = self.target_process(&container.name)?;
        let group = self.container_cgroup(container, id)?;
        let parts = Parts {
            pod: &self.pod,
            container,
            image: &image.config,
            root,
            environment,
            mounts,
            target,
            cgroups: CgroupPaths { v2_dir: group.v2_dir(), procs: group.procs_files() },
            seccomp_dir: self.shared.options.place.kubelet_dir().join("seccomp"),
            node_memory: self.shared.machine.memory,
        };
        container_spec(parts).map_err(|error| {
            // Nothing runs in it yet; the next attempt makes its own.
            let _ = group.remove();
            error.into()
        })
    }

    /// The process whose process namespace an ephemeral container joins, if it names a container to look at.
    fn target_process(&self, name: &str) -> Result<Option<u32>, SpecError> {
        let Some(target) = target_of(&self.pod, name) else { return Ok(None) };
        process_of(&self.containers, target).map(Some).ok_or_else(|| SpecError::Target(target.to_owned()))
    }

    fn stored_image(&mut self, name: &str) -> Result<StoredImage, Failure> {
        let state = self.containers.entry(name.to_owned()).or_default();
        let Some(image) = &state.image else {
            return Err(Failure::State("the image is not on this node".to_owned()));
        };
        match self.shared.images.resolve(&image.id) {
            Some(image) => Ok(image),
            None => {
                state.fetch = Fetch::Needed;
                Err(Failure::State("the image is not on this node any more; it is fetched again".to_owned()))
            }
        }
    }

    fn facts(&self) -> carrack_volumes::Facts {
        let host = self.shared.options.node_ip.to_string();
        carrack_volumes::Facts {
            node_name: self.shared.options.node_name.clone(),
            pod_ips: self.pod_ip().into_iter().collect(),
            host_ips: vec![host],
        }
    }

    fn container_dir(&self, name: &str, restart: u32) -> PathBuf {
        self.shared
            .options
            .place
            .pod_dir(&self.key.uid)
            .join("containers")
            .join(name)
            .join(restart.to_string())
    }

    /// Fresh directories for what this run writes, over the image's layers.
    fn root(&self, image: &StoredImage, dir: &Path) -> Result<Root, Failure> {
        let (upper, work) = (dir.join("upper"), dir.join("work"));
        for path in [&upper, &work] {
            carrack_files::remove_tree(path).map_err(|e| Failure::Io(path.clone(), e))?;
            fs::create_dir_all(path).map_err(|e| Failure::Io(path.clone(), e))?;
        }
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&upper, mode).map_err(|e| Failure::Io(upper.clone(), e))?;
        Ok(Root::Overlay { lower: self.shared.images.layers(image), upper, work })
    }

    /// /etc/hosts and its like, and the termination log.
    fn files(&self, container: &Container, dir: &Path) -> Result<Vec<Mount>, Failure> {
        let etc = self.shared.options.place.pod_dir(&self.key.uid).join("etc");
        let contents = Contents {
            hostname: if self.host_network() {
                self.shared.options.node_name.clone()
            } else {
                hostname(&self.pod)
            },
            pod_ip: if self.host_network() { None } else { self.pod_ip() },
            resolv_conf: self.resolv_conf()?,
            domain: self.shared.options.cluster_domain.clone(),
        };
        let files = Files::write(&etc, &self.pod, &contents).map_err(|e| Failure::Io(etc.clone(), e))?;
        let mut mounts: Vec<Mount> =
            files.for_container(container).map(|(to, from)| Mount::bind(from, to)).collect();
        let message = dir.join("termination-log");
        fs::write(&message, "").map_err(|e| Failure::Io(message.clone(), e))?;
        // Whatever user the container runs as may write it, as with the kubelet.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        fs::set_permissions(&message, mode).map_err(|e| Failure::Io(message.clone(), e))?;
        let target = container.termination_message_path.as_deref().unwrap_or(termination::DEFAULT_PATH);
        mounts.push(Mount::bind(message, target));
        Ok(mounts)
    }

    fn resolv_conf(&self) -> Result<String, Failure> {
        let network = self.shared.network.borrow().clone();
        let network = network.ok_or_else(|| Failure::State("the node's network is not ready".to_owned()))?;
        let (policy, extra) = crate::resolv::wanted(&self.pod);
        Ok(network.resolv_conf(&self.key.namespace, policy, &extra))
    }

    fn volume_mounts(&self, container: &Container, env: &[(String, String)]) -> Result<Vec<Mount>, Failure> {
        let Some(volumes) = &self.volumes else {
            return Err(Failure::State("the volumes are not ready".to_owned()));
        };
        let mut mounts = Vec::new();
        for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
            let request = MountRequest { container: &container.name, index, mount, environment: env };
            let source = self.shared.volumes.mount_source(&self.pod, volumes, request)?;
            let volume = volumes.get(&mount.name).ok_or_else(|| VolumeError::Unknown(mount.name.clone()))?;
            mounts.push(volume_mount(mount, volume, source));
        }
        Ok(mounts)
    }

    fn container_cgroup(&self, container: &Container, id: &str) -> Result<Cgroup, CgroupError> {
        let privileged = container.security_context.as_ref().and_then(|s| s.privileged) == Some(true);
        let limits = Limits {
            device_policy: if privileged { DevicePolicy::All } else { DevicePolicy::Container },
            oom_group: true,
            ..container_limits(container.resources.as_ref())
        };
        self.shared.cgroups.create(&format!("{}/{id}", self.cgroup_path()), &limits)
    }

    fn has_started(&mut self, container: &Container, id: String, restart: u32, started: Started) {
        self.shared.events.normal(&self.about, "Created", format!("Container created: {}", container.name));
        self.shared.events.normal(&self.about, "Started", format!("Container started: {}", container.name));
        let state = self.containers.entry(container.name.clone()).or_default();
        if let Run::Exited(exit) = std::mem::take(&mut state.run) {
            state.previous = Some(exit);
        }
        state.restarts = restart;
        state.applied = Some(container.resources.clone().unwrap_or_default());
        self.running(container, id, started, Known::default());
        // Before anything can happen to it: a restart of the agent finds the number of this run.
        self.save();
        post_start(self, container);
    }

    /// The container runs: note it and watch it.
    fn running(&mut self, container: &Container, id: String, started: Started, known: Known) {
        let state = self.containers.entry(container.name.clone()).or_default();
        state.run = Run::Running { id: id.clone(), pid: started.pid, started_at: time(started.started_at) };
        state.waiting = None;
        state.retry_at = None;
        state.started = known.started || container.startup_probe.is_none();
        state.ready = known.ready || (container.readiness_probe.is_none() && state.started);
        state.stop = None;
        state.condemned = None;
        let nothing = container.startup_probe.is_none()
            && container.readiness_probe.is_none()
            && container.liveness_probe.is_none();
        if !nothing {
            self.probe(container, &id, known);
        }
    }

    fn probe(&mut self, container: &Container, id: &str, known: Known) {
        let Some(sandbox) = self.sandbox.clone() else { return };
        let address = self.pod_ip().and_then(|ip| ip.parse().ok()).unwrap_or(self.shared.options.host_ip());
        let target = probes::Target { address, exec: crate::hooks::exec_in(sandbox, id.to_owned()) };
        let (me, name, run) = (self.me.clone(), container.name.clone(), id.to_owned());
        let tell = probes::Tell::new(me, name, run);
        let task = tokio::spawn(probes::run(container.clone(), target, known, tell));
        if let Some(old) = self.probes.insert(container.name.clone(), task) {
            old.abort();
        }
    }

    fn has_not_started(&mut self, container: &Container, id: String, restart: u32, failure: &Failure) {
        let now = Timestamp::now();
        let message = chain(failure);
        self.shared.events.warning(&self.about, "Failed", format!("Error: {message}"));
        let state = self.containers.entry(container.name.clone()).or_default();
        state.waiting = Some(Waiting { reason: failure.reason().to_owned(), message: message.clone() });
        if let Failure::Start(StartError::Failed(start)) = failure {
            // It counts as a run that ended: the restart policy decides whether there is another.
            if let Run::Exited(exit) = std::mem::take(&mut state.run) {
                state.previous = Some(exit);
            }
            state.restarts = restart;
            let exit = Exit {
                id: id.clone(),
                code: start.exit_code,
                signal: None,
                reason: "StartError".to_owned(),
                message: Some(message),
                started_at: None,
                finished_at: now,
            };
            state.ended(exit, now);
            self.clear_away(&container.name, &id, restart);
        } else {
            state.back_off(now);
        }
    }

    /// A container that an earlier agent had started is found running.
    pub(crate) fn found_running(&mut self, name: &str, id: String, restart: u32, started: Started) {
        let Some(container) = self.container(name) else { return };
        let state = self.containers.entry(name.to_owned()).or_default();
        let same = matches!(&state.run, Run::Running { id: known, .. } if *known == id);
        let known =
            if same { Known { started: state.started, ready: state.ready } } else { Known::default() };
        if !same && let Run::Exited(exit) = std::mem::take(&mut state.run) {
            state.previous = Some(exit);
        }
        state.restarts = state.restarts.max(restart);
        if !same || state.applied.is_none() {
            state.applied = Some(container.resources.clone().unwrap_or_default());
        }
        self.running(&container, id, started, known);
    }

    /// A run has ended: note how, tell, and clear away what it stood on.
    pub(crate) async fn container_ended(&mut self, record: ExitRecord) {
        if !self.is_news(&record) {
            return;
        }
        let Some(container) = self.container(&record.name) else { return };
        let exit = block_in_place(|| self.exit_of(&container, &record));
        let now = Timestamp::now();
        let resized = self.restarts_for_resize(&record.name);
        let state = self.containers.entry(record.name.clone()).or_default();
        if let Run::Exited(old) = std::mem::take(&mut state.run) {
            state.previous = Some(old);
        }
        state.restarts = state.restarts.max(record.restart);
        state.ended(exit, now);
        if resized {
            state.restarts_now(Restart::of(&self.pod, &container));
        }
        self.tell_back_off(&container);
        if let Some(probe) = self.probes.remove(&record.name) {
            probe.abort();
        }
        // On disk before the supervisor's own record goes.
        self.save();
        self.clear_away(&record.name, &record.id, record.restart);
        if let Some(sandbox) = &self.sandbox
            && let Err(error) = sandbox.remove(&record.id).await
        {
            tracing::debug!(pod = %self.key.name, %error, "the supervisor keeps a record that is not needed any more");
        }
    }

    fn exit_of(&self, container: &Container, record: &ExitRecord) -> Exit {
        let path = format!("{}/{}", self.cgroup_path(), record.id);
        let oom = record.signal.is_some()
            && self
                .shared
                .cgroups
                .get(&path)
                .and_then(|group| group.oom_kills())
                .is_ok_and(|kills| kills > 0);
        let (reason, message) = match &record.start_error {
            Some(failure) => ("StartError", Some(failure.message.clone())),
            None => {
                let file = self.container_dir(&record.name, record.restart).join("termination-log");
                let log = self.log_path(&record.name, record.restart);
                let message = termination::message(container, record.exit_code, &file, &log);
                let reason = match (oom, record.exit_code) {
                    (true, _) => "OOMKilled",
                    (false, 0) => "Completed",
                    (false, _) => "Error",
                };
                (reason, message)
            }
        };
        Exit {
            id: record.id.clone(),
            code: record.exit_code,
            signal: record.signal,
            reason: reason.to_owned(),
            message,
            started_at: record.start_error.is_none().then(|| time(record.started_at)),
            finished_at: time(record.finished_at),
        }
    }

    fn tell_back_off(&self, container: &Container) {
        let policy = Restart::of(&self.pod, container);
        let Some(state) = self.containers.get(&container.name) else { return };
        let again = state.exit().is_some_and(|exit| policy.again(exit.code));
        if again && state.retry_at.is_some() && self.pod.metadata.deletion_timestamp.is_none() {
            let note = format!(
                "Back-off restarting failed container {} in pod {}_{}({})",
                container.name, self.key.name, self.key.namespace, self.key.uid
            );
            self.shared.events.warning(&self.about, "BackOff", note);
        }
    }

    /// Removes the control group and the files of a run. Logs of the last two runs stay for `kubectl logs --previous`.
    fn clear_away(&self, name: &str, id: &str, restart: u32) {
        let result = block_in_place(|| -> Result<(), Failure> {
            self.shared.cgroups.get(&format!("{}/{id}", self.cgroup_path()))?.remove()?;
            let dir = self.container_dir(name, restart);
            carrack_files::remove_tree(&dir).map_err(|e| Failure::Io(dir, e))?;
            if let Some(old) = restart.checked_sub(2) {
                let log = self.log_path(name, old);
                remove_log(&log).map_err(|e| Failure::Io(log, e))?;
            }
            Ok(())
        });
        if let Err(error) = result {
            tracing::warn!(pod = %self.key.name, container = name, %error, "something of an ended container was not removed");
        }
    }

    /// Sends the stop signal; SIGKILL is due at the given time.
    pub(crate) async fn terminate(&mut self, name: &str, kill_at: Timestamp) {
        self.shared.events.normal(&self.about, "Killing", self.why_killed(name));
        let signal = self.stop_signal(name);
        self.signal(name, signal).await;
        if let Some(state) = self.containers.get_mut(name) {
            state.stop = Some(Stop::Term { kill_at });
        }
    }

    fn why_killed(&self, name: &str) -> String {
        match self.containers.get(name).and_then(|s| s.condemned.as_ref()) {
            Some(condemned) => condemned.message.clone(),
            None => format!("Stopping container {name}"),
        }
    }

    /// The signal that asks a container to end: its own, its image's, or SIGTERM.
    fn stop_signal(&mut self, name: &str) -> i32 {
        let own = self.container(name).and_then(|c| c.lifecycle).and_then(|l| l.stop_signal);
        let named = own.or_else(|| self.stored_image(name).ok().and_then(|image| image.config.stop_signal));
        named.as_deref().and_then(signal_number).unwrap_or(nix::libc::SIGTERM)
    }

    /// Ends a container at once.
    pub(crate) async fn kill(&mut self, name: &str) {
        self.signal(name, nix::libc::SIGKILL).await;
        if let Some(state) = self.containers.get_mut(name) {
            state.stop = Some(Stop::Killed);
        }
    }

    async fn signal(&mut self, name: &str, signal: i32) {
        let Some(Run::Running { id, .. }) = self.containers.get(name).map(|s| s.run.clone()) else { return };
        let Some(sandbox) = self.sandbox.clone() else { return };
        if let Err(error) = sandbox.kill(&id, signal).await {
            tracing::warn!(pod = %self.key.name, container = name, %error, "a signal was not delivered");
        }
    }

    fn runs_as(&self, name: &str, id: &str) -> bool {
        matches!(self.containers.get(name).map(|s| &s.run), Some(Run::Running { id: now, .. }) if now == id)
    }

    /// What a probe found out about a run, if that run is still the present one.
    pub(crate) fn probe_found(&mut self, name: &str, id: &str, finding: Finding) {
        if !self.runs_as(name, id) {
            return;
        }
        let Some(state) = self.containers.get_mut(name) else { return };
        match finding {
            Finding::Started => state.started = true,
            Finding::Ready(ready) => state.ready = ready,
            Finding::Failed(kind, message) => {
                let note = format!("{kind} probe failed: {}", message.trim_end());
                self.shared.events.warning(&self.about, "Unhealthy", note);
            }
            Finding::Condemned(condemned) => {
                state.ready = false;
                state.condemned.get_or_insert(condemned);
            }
        }
    }

    /// The preStop hook of a run is done: its stop signal is due now.
    pub(crate) fn hook_done(&mut self, name: &str, id: &str) {
        if !self.runs_as(name, id) {
            return;
        }
        if let Some(state) = self.containers.get_mut(name)
            && matches!(state.stop, Some(Stop::Hook { .. }))
        {
            state.stop = Some(Stop::Hook { deadline: Timestamp::now() });
        }
    }

    /// A run has to end though its pod lives on.
    pub(crate) fn condemn(&mut self, name: &str, id: &str, message: String) {
        if self.runs_as(name, id)
            && let Some(state) = self.containers.get_mut(name)
        {
            state.condemned.get_or_insert(Condemned { message, grace_seconds: None });
        }
    }

    pub(crate) fn shared(&self) -> Arc<crate::shared::Shared> {
        Arc::clone(&self.shared)
    }
}

/// Nanoseconds since 1970 as a time; one that can not be is the epoch.
fn time(nanoseconds: u64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// 256 random bits in hex: unique for ever.
fn new_id() -> String {
    let bytes: [u8; 32] = rand::random();
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Removes a log with the files that it was rotated into.
fn remove_log(log: &Path) -> io::Result<()> {
    let files = match crate::http::log_files(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    files.iter().try_for_each(fs::remove_file)
}

/// `SIGQUIT`, `QUIT` or `3` as a number.
fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let full = if name.starts_with("SIG") { name.to_owned() } else { format!("SIG{name}") };
    full.parse::<nix::sys::signal::Signal>().ok().map(|s| s as i32)
}
