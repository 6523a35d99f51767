//! The agent's side: starts, adopts and commands supervisors.

use crate::types::{
    ContainerSpec, ContainerState, Event, ExecSpec, ExitRecord, SandboxConfig, StartFailure, Started,
};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Why a call to a supervisor failed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The supervisor could not be started.
    #[error("cannot start the pod's supervisor: {0}")]
    Start(String),
    /// The connection broke; the supervisor may live.
    #[error("lost the connection to the pod's supervisor: {0}")]
    Connection(#[source] std::io::Error),
    /// The supervisor is of another protocol version.
    #[error("the pod's supervisor speaks protocol version {found}, this agent speaks {wanted}")]
    Version {
        /// Its version.
        found: u32,
        /// Ours.
        wanted: u32,
    },
    /// There is no such container.
    #[error("container {0} is not known to the pod's supervisor")]
    NotFound(String),
    /// The container is not in a state for this.
    #[error("{0}")]
    Refused(String),
}

/// Why a container could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its command, mounts or limits are at fault. The supervisor has written an exit record as well.
    #[error("{}", .0.message)]
    Failed(StartFailure),
    /// The supervisor could not be asked.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

/// A pod's supervisor, seen from the agent. Cheap to clone; dropping it leaves the supervisor running.
#[derive(Clone, Debug)]
pub struct Sandbox {
    pid: u32,
}

/// Starts a supervisor for a pod: runs `exe supervisor <dir>`.
pub async fn start(_exe: &Path, _config: &SandboxConfig) -> Result<Sandbox, SandboxError> {
    Err(SandboxError::Start("not built yet".into()))
}

/// Connects to the supervisor that runs in `dir`; `None` when none does.
pub async fn adopt(_dir: &Path) -> Result<Option<Sandbox>, SandboxError> {
    Err(SandboxError::Start("not built yet".into()))
}

/// The exit records in a pod's run directory, for a pod whose supervisor is gone.
pub fn exit_records(_dir: &Path) -> std::io::Result<Vec<ExitRecord>> {
    Err(std::io::ErrorKind::Unsupported.into())
}

impl Sandbox {
    /// The supervisor's process number on the host.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }
    /// A file that stands for the pod's network namespace.
    #[must_use]
    pub fn netns(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.pid))
    }
    /// Starts a container; returns when its command runs.
    pub async fn start_container(&self, _container: &ContainerSpec) -> Result<Started, StartError> {
        Err(SandboxError::Start("not built yet".into()).into())
    }
    /// Signals the first process of a container. One that ended already is no error.
    pub async fn kill(&self, _id: &str, _signal: i32) -> Result<(), SandboxError> {
        Err(SandboxError::Start("not built yet".into()))
    }
    /// Every container that was started and not removed.
    pub async fn list(&self) -> Result<Vec<ContainerState>, SandboxError> {
        Err(SandboxError::Start("not built yet".into()))
    }
    /// Events from now on. Call it before [`Sandbox::list`] to miss nothing.
    #[must_use]
    pub fn events(&self) -> mpsc::Receiver<Event> {
        mpsc::channel(1).1
    }
    /// Runs a further process in a container.
    pub async fn exec(&self, _id: &str, _exec: &ExecSpec) -> Result<Exec, StartError> {
        Err(SandboxError::Start("not built yet".into()).into())
    }
    /// Streams of a running container.
    pub async fn attach(&self, _id: &str) -> Result<Attach, SandboxError> {
        Err(SandboxError::Start("not built yet".into()))
    }
    /// Closes the container's log file and opens it by name again, after the agent renamed it.
    pub async fn reopen_log(&self, _id: &str) -> Result<(), SandboxError> {
        Err(SandboxError::Start("not built yet".into()))
    }
    /// Forgets an ended container and deletes its record. Unknown ids are no error.
    pub async fn remove(&self, _id: &str) -> Result<(), SandboxError> {
        Err(SandboxError::Start("not built yet".into()))
    }
    /// Kills what runs, waits for it, and ends the supervisor. Returns when it is gone.
    pub async fn shutdown(&self) -> Result<(), SandboxError> {
        Err(SandboxError::Start("not built yet".into()))
    }
}

/// A process started by [`Sandbox::exec`]. All file descriptors are in non-blocking mode.
#[derive(Debug)]
pub struct Exec {
    /// Process number on the host.
    pub pid: u32,
    /// Its stdin, when asked for and without a terminal.
    pub stdin: Option<OwnedFd>,
    /// Its stdout, without a terminal.
    pub stdout: Option<OwnedFd>,
    /// Its stderr, without a terminal.
    pub stderr: Option<OwnedFd>,
    /// The terminal's master side.
    pub tty: Option<OwnedFd>,
}

impl Exec {
    /// Waits for its exit code (128 + signal when a signal ended it). It can be called once.
    pub async fn wait(&mut self) -> Result<i32, SandboxError> {
        Err(SandboxError::Start("not built yet".into()))
    }
    /// Tells the terminal its size.
    pub fn resize(&self, _rows: u16, _cols: u16) -> Result<(), SandboxError> {
        Err(SandboxError::Start("not built yet".into()))
    }
}

/// The streams of a running container, from the moment of [`Sandbox::attach`]. All in non-blocking mode.
/// A reader that falls behind by more than a pipe's size (1 MiB) loses the stream, not the container's log.
#[derive(Debug)]
pub struct Attach {
    /// Its stdin, if the container keeps one; with a terminal this is the master side.
    pub stdin: Option<OwnedFd>,
    /// Its output.
    pub stdout: Option<OwnedFd>,
    /// Its errors; absent with a terminal.
    pub stderr: Option<OwnedFd>,
    /// The terminal's master side, to resize it; do not read from it.
    pub tty: Option<OwnedFd>,
}

impl Attach {
    /// Tells the terminal its size.
    pub fn resize(&self, _rows: u16, _cols: u16) -> Result<(), SandboxError> {
        Err(SandboxError::Start("not built yet".into()))
    }
}
