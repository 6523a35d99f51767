//! What agent and supervisor say to each other about pods, containers and their ends.

use carrack_runtime::Spec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a pod's supervisor needs to know to be the pod's sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// The pod's own run directory, absolute: socket, lock, records. Made when missing, mode 0700.
    pub dir: PathBuf,
    /// The pod's log directory, absolute.
    pub log_dir: PathBuf,
    /// The pod's host name (ignored with `host_network`, as in Kubernetes).
    pub hostname: String,
    /// Stay in the host's network (and UTS) namespace.
    pub host_network: bool,
    /// Containers without a process namespace of their own see the host's processes.
    pub host_pid: bool,
    /// Stay in the host's IPC namespace and use its `/dev/shm`.
    pub host_ipc: bool,
    /// Make one process namespace for all containers that ask for `PidNamespace::Inherit`.
    pub share_process_namespace: bool,
    /// Namespaced kernel parameters, as `net.ipv4.ip_forward` → `1`.
    pub sysctls: BTreeMap<String, String>,
    /// `cgroup.procs` files the supervisor itself joins. In version 2 this must be a leaf, such as `<pod>/sandbox`:
    /// a control group with children cannot hold processes.
    pub cgroup_procs: Vec<PathBuf>,
    /// The supervisor's own `oom_score_adj`.
    pub oom_score_adj: i32,
    /// How much of the containers' output is kept.
    pub logs: LogLimits,
}

/// How much of a container's log is kept. The supervisor rotates its logs by itself, also while no agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// A file of so many bytes is full, and the next one is begun.
    pub max_bytes: u64,
    /// So many files of one run of a container are kept, the present one included.
    pub max_files: usize,
}

impl Default for LogLimits {
    /// The kubelet's `containerLogMaxSize` and `containerLogMaxFiles`.
    fn default() -> Self {
        Self { max_bytes: 10 << 20, max_files: 5 }
    }
}

/// A container to be started by the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Unique within the pod, and for ever: letters, digits, `-`, `_`, `.`.
    pub id: String,
    /// The container's name in the pod.
    pub name: String,
    /// How often it was started before.
    pub restart: u32,
    /// What to run.
    pub spec: Spec,
    /// The log file; `<log_dir>/<name>/<restart>.log` when absent. Appended to, parents are made.
    pub log_path: Option<PathBuf>,
    /// Keep stdin open for [`attach`](crate::Sandbox::attach); otherwise it is `/dev/null`. A terminal always has one.
    pub stdin: bool,
    /// The first attach gets the only writing end: when it closes, the container reads end of file.
    pub stdin_once: bool,
}

/// The answer to a container start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Process number on the host.
    pub pid: u32,
    /// When the command began to run, in nanoseconds since 1970.
    pub started_at: u64,
}

/// How a container ended. On disk and synced before anybody is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The container's id.
    pub id: String,
    /// Its name in the pod.
    pub name: String,
    /// How often it was started before.
    pub restart: u32,
    /// Process number on the host it had; 0 when it never ran.
    pub pid: u32,
    /// The exit code; 128 + signal when a signal ended it.
    pub exit_code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// When the command began to run (or was tried), in nanoseconds since 1970.
    pub started_at: u64,
    /// When its end was seen, in nanoseconds since 1970.
    pub finished_at: u64,
    /// Why it could not be started at all, when that is so.
    #[serde(default)]
    pub start_error: Option<StartFailure>,
}

/// Why a command could not be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// One sentence for the user, such as `exec: "foo": executable file not found in $PATH`.
    pub message: String,
    /// The `reason` of a terminated state: `ContainerCannotRun` when the command is not there or not executable,
    /// `StartError` otherwise.
    pub reason: String,
    /// 127 not found, 126 not executable, 128 everything else.
    pub exit_code: i32,
}

/// What the supervisor knows of one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// The container's id.
    pub id: String,
    /// Its name in the pod.
    pub name: String,
    /// How often it was started before.
    pub restart: u32,
    /// Whether it runs.
    pub status: ContainerStatus,
}

/// Whether a container runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerStatus {
    /// It is being made; [`Event::Started`] or [`Event::Exited`] follows.
    Starting,
    /// It runs.
    Running(Started),
    /// It ended, or never started.
    Exited(ExitRecord),
}

/// What a supervisor tells by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The container of this id runs now.
    Started {
        /// The container's id.
        id: String,
        /// Its process.
        started: Started,
    },
    /// A container ended or could not start. Told at least once: after a lost connection it may come again.
    Exited(ExitRecord),
    /// The supervisor is no more. Nothing follows; what is left of the pod must be killed through its cgroup.
    Gone,
}

/// A further process to run inside a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Command, environment, user, working directory, terminal.
    pub process: carrack_runtime::ExecProcess,
    /// Whether to make a pipe for stdin; otherwise it is `/dev/null`. A terminal always has one.
    pub stdin: bool,
}
