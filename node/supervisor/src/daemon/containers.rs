//! The containers of the pod: what they are made with, and what is known of them.

use super::clock;
use super::logs::LogFile;
use super::output::Output;
use super::server::Asker;
use super::set_nonblocking;
use crate::types::{
    ContainerSpec, ContainerState, ContainerStatus, ExitRecord, SandboxConfig, StartFailure, Started,
};
use carrack_runtime::{LaunchError, LaunchErrorKind, Launching, PidNamespace, Sandbox, Stdio};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Longest container id.
const MAX_ID: usize = 128;

/// A container that was asked for.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) restart: u32,
    pub(crate) phase: Phase,
}

/// Where it is in its life.
#[derive(Debug)]
pub(crate) enum Phase {
    Starting(Box<Alive>),
    Running(Box<Alive>),
    Exited {
        record: ExitRecord,
        /// The record is on disk.
        durable: bool,
    },
}

/// What is held for a container with a process.
#[derive(Debug)]
pub(crate) struct Alive {
    pub(crate) spec: ContainerSpec,
    pub(crate) launching: Launching,
    pub(crate) started: Started,
    pub(crate) log: LogFile,
    pub(crate) stdin: Stdin,
    /// The terminal's master side, shared with its output.
    pub(crate) tty: Option<OwnedFd>,
    /// Streams being copied; a stream leaves at its end.
    pub(crate) outputs: Vec<(u64, Output)>,
    /// Connection and request to be answered when it runs.
    pub(crate) asked_by: Option<Asker>,
}

/// What became of the writing end of stdin.
#[derive(Debug)]
pub(crate) enum Stdin {
    /// There is none: `/dev/null`, or a terminal.
    None,
    /// Every attached client gets a copy.
    Kept(OwnedFd),
    /// The first attached client gets it for good.
    Once(Option<OwnedFd>),
}

/// A container's process and the reading ends of its streams.
pub(crate) struct Born {
    pub(crate) launching: Launching,
    pub(crate) log: LogFile,
    pub(crate) stdin: Stdin,
    pub(crate) outputs: Vec<Output>,
}

/// Starts the process. Nothing is left behind when it fails.
pub(crate) fn launch(
    spec: &ContainerSpec,
    config: &SandboxConfig,
    sandbox: &Sandbox,
) -> Result<Born, StartFailure> {
    let path = log_path(spec, config);
    let log = LogFile::open(&path, config.logs)
        .map_err(|error| failure(format!("cannot open the log {}: {error}", path.display())))?;
    if spec.spec.tty {
        let launching =
            carrack_runtime::start(&spec.spec, sandbox, None).map_err(|error| from_launch(&error))?;
        return Ok(Born { launching, log, stdin: Stdin::None, outputs: Vec::new() });
    }
    let pipes = pipes(spec.stdin).map_err(|errno| failure(format!("cannot make pipes: {errno}")))?;
    let launching = carrack_runtime::start(&spec.spec, sandbox, Some(&pipes.inner))
        .map_err(|error| from_launch(&error))?;
    let stdin = match pipes.stdin {
        None => Stdin::None,
        Some(fd) if spec.stdin_once => Stdin::Once(Some(fd)),
        Some(fd) => Stdin::Kept(fd),
    };
    let outputs = vec![Output::new(pipes.stdout, "stdout"), Output::new(pipes.stderr, "stderr")];
    Ok(Born { launching, log, stdin, outputs })
}

fn log_path(spec: &ContainerSpec, config: &SandboxConfig) -> PathBuf {
    let usual = || config.log_dir.join(&spec.name).join(format!("{}.log", spec.restart));
    spec.log_path.clone().unwrap_or_else(usual)
}

/// Pipes of a process: its ends, and ours, which are non-blocking.
pub(crate) struct Pipes {
    pub(crate) inner: Stdio,
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Makes them; without `stdin` that is `/dev/null`.
pub(crate) fn pipes(stdin: bool) -> Result<Pipes, Errno> {
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let (inner_stdin, stdin) = if stdin {
        let (reader, writer) = pipe()?;
        set_nonblocking(&writer)?;
        (reader, Some(writer))
    } else {
        (rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?, None)
    };
    let (stdout, inner_stdout) = pipe()?;
    let (stderr, inner_stderr) = pipe()?;
    set_nonblocking(&stdout)?;
    set_nonblocking(&stderr)?;
    let inner = Stdio { stdin: inner_stdin, stdout: inner_stdout, stderr: inner_stderr };
    Ok(Pipes { inner, stdin, stdout, stderr })
}

/// Ids become file names.
pub(crate) fn check_id(id: &str) -> Result<(), StartFailure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if id.is_empty() || id.len() > MAX_ID || id.starts_with('.') || !id.chars().all(plain) {
        return Err(failure(format!("{id:?} is not a container id")));
    }
    Ok(())
}

fn failure(message: String) -> StartFailure {
    StartFailure { message, reason: "StartError".into(), exit_code: 128 }
}

/// The runtime's error in the words of a container's status.
pub(crate) fn from_launch(error: &LaunchError) -> StartFailure {
    let reason = match error.kind {
        LaunchErrorKind::CommandNotFound | LaunchErrorKind::NotExecutable => "ContainerCannotRun",
        _ => "StartError",
    };
    StartFailure { message: error.message.clone(), reason: reason.into(), exit_code: error.exit_code() }
}

impl Container {
    /// What is told about it.
    pub(crate) fn state(&self) -> ContainerState {
        let status = match &self.phase {
            Phase::Starting(_) => ContainerStatus::Starting,
            Phase::Running(alive) => ContainerStatus::Running(alive.started.clone()),
            Phase::Exited { record, .. } => ContainerStatus::Exited(record.clone()),
        };
        ContainerState { id: self.id.clone(), name: self.name.clone(), restart: self.restart, status }
    }

    /// What is held for it, if it has a process.
    pub(crate) fn alive(&mut self) -> Option<&mut Alive> {
        match &mut self.phase {
            Phase::Starting(alive) | Phase::Running(alive) => Some(alive),
            Phase::Exited { .. } => None,
        }
    }

    /// Its process, if it has one.
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.phase {
            Phase::Starting(alive) | Phase::Running(alive) => Some(alive.launching.pid),
            Phase::Exited { .. } => None,
        }
    }
}

impl Alive {
    /// Without a process namespace of its own, what the container's first process started may outlive it, and would
    /// run on unseen: it is killed through the control group, where the kernel has that.
    pub(crate) fn kill_leftovers(&self) {
        if self.spec.spec.pid == PidNamespace::Private {
            return;
        }
        self.kill_group();
    }

    /// Kills every process in the container's control group.
    pub(crate) fn kill_group(&self) {
        if let Some(dir) = &self.spec.spec.cgroups.v2_dir {
            // Before Linux 5.14 there is no such file; the agent kills by the group's list then.
            let _ = std::fs::write(dir.join("cgroup.kill"), "1");
        }
    }

    /// The record of its end.
    pub(crate) fn record(&self, exit: Exit, start_error: Option<StartFailure>) -> ExitRecord {
        ExitRecord {
            id: self.spec.id.clone(),
            name: self.spec.name.clone(),
            restart: self.spec.restart,
            pid: self.launching.pid,
            exit_code: start_error.as_ref().map_or(exit.code(), |error| error.exit_code),
            signal: if start_error.is_some() { None } else { exit.signal },
            started_at: self.started.started_at,
            finished_at: clock::now(),
            start_error,
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exit {
    pub(crate) status: i32,
    pub(crate) signal: Option<i32>,
}

impl Exit {
    /// The shell's exit code: 128 + signal when a signal ended it.
    pub(crate) fn code(self) -> i32 {
        self.signal.map_or(self.status, |signal| 128 + signal)
    }
}
