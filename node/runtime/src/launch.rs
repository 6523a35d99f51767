//! The maker's side: forks the process that becomes a container or a further process in one, and hears how it fares.

use crate::container;
use crate::join;
use crate::process::{Stdio, join_cgroup, open_place};
use crate::report::{self, Heard, LaunchError, LaunchErrorKind, Listener, Reporter, Step};
use crate::sandbox::Sandbox;
use crate::spec::{CgroupPaths, ExecProcess, PidNamespace, Spec};
use crate::sys::{self, Fork};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// A process on its way to its program.
#[derive(Debug)]
pub struct Launching {
    /// Its number, as this process sees it. It is this process' child and must be waited for.
    pub pid: u32,
    /// A descriptor for it.
    pub pidfd: OwnedFd,
    listener: Listener,
    console: Option<OwnedFd>,
}

/// How far it is.
#[derive(Debug)]
pub enum Progress {
    /// Not there yet.
    Pending,
    /// The program runs (or ended already). With a terminal, its master side comes along.
    Running(Option<OwnedFd>),
    /// It failed; the process ends by itself.
    Failed(LaunchError),
}

impl Launching {
    /// Takes what the process reported so far. Call it when this becomes readable.
    pub fn progress(&mut self) -> Progress {
        loop {
            match self.listener.hear() {
                Ok(Heard::Console(master)) => self.console = Some(master),
                Ok(Heard::Failed(error)) => return Progress::Failed(error),
                Ok(Heard::Running) => return Progress::Running(self.console.take()),
                Ok(Heard::Nothing) => return Progress::Pending,
                Err(errno) => return Progress::Failed(LaunchError::step("hear from the new process", errno)),
            }
        }
    }
}

impl AsFd for Launching {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Starts a container: a child of this process, in the namespaces this process is in. `stdio` is given unless the
/// spec asks for a terminal. This process must have one thread only.
pub fn start(spec: &Spec, sandbox: &Sandbox, stdio: Option<&Stdio>) -> Result<Launching, LaunchError> {
    if spec.user_namespace {
        return Err(LaunchError::invalid("user namespaces are not supported yet (spec.hostUsers: false)"));
    }
    if spec.tty == stdio.is_some() {
        return Err(LaunchError::invalid("a container has either a terminal or streams"));
    }
    let new_pid = if spec.pid == PidNamespace::Private { libc::CLONE_NEWPID } else { 0 };
    let target = match spec.pid {
        PidNamespace::Of(pid) => Some(open_process(pid)?),
        _ => None,
    };
    spawn(spec, new_pid, target.as_ref().map(AsFd::as_fd), |reporter| {
        container::run(spec, sandbox, stdio, reporter)
    })
}

/// Starts a further process in the container of `spec` whose first process is `container` (a pidfd). It enters all its
/// namespaces and control groups and has its capabilities, filters and limits. This process must have one thread only.
pub fn exec(
    spec: &Spec,
    process: &ExecProcess,
    container: BorrowedFd<'_>,
    stdio: Option<&Stdio>,
) -> Result<Launching, LaunchError> {
    if process.tty == stdio.is_some() {
        return Err(LaunchError::invalid("a process has either a terminal or streams"));
    }
    let here = spec.cgroups.v2_dir.as_deref().and_then(|dir| present_cgroup(container, dir));
    let moved = here.map(|dir| Spec {
        cgroups: CgroupPaths { v2_dir: Some(dir), ..spec.cgroups.clone() },
        ..spec.clone()
    });
    let spec = moved.as_ref().unwrap_or(spec);
    spawn(spec, 0, Some(container), |reporter| join::run(spec, process, container, stdio, reporter))
}

fn open_process(pid: u32) -> Result<OwnedFd, LaunchError> {
    let name = || format!("find process {pid}");
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH).step(name)?;
    pidfd_open(pid, PidfdFlags::empty()).step(name)
}

/// Goes on in a child of this process, in a session of its own, while this process ends with success. The child is born
/// in or joins the control groups of the `cgroup.procs` files `procs`. This process must have one thread only.
pub fn daemonize(procs: &[PathBuf]) -> Result<(), LaunchError> {
    // Version 2 has no `tasks`.
    let v2 = procs.iter().filter_map(|procs| procs.parent()).find(|dir| !dir.join("tasks").exists());
    let dir = v2
        .map(|dir| open_place(dir).step(|| format!("open the control group {}", dir.display())))
        .transpose()?;
    if let Fork::Parent { .. } = sys::fork(0, dir.as_ref().map(AsFd::as_fd)).step(|| "make a process")? {
        sys::exit_now(0);
    }
    rustix::process::setsid().step(|| "start a session")?;
    procs.iter().filter(|procs| procs.parent() != v2).try_for_each(|procs| join_cgroup(procs))
}

/// Forks into the control group and, if told so, the process namespace of another process.
fn spawn(
    spec: &Spec,
    flags: libc::c_int,
    pid_namespace: Option<BorrowedFd<'_>>,
    body: impl FnOnce(&Reporter) -> Result<Infallible, LaunchError>,
) -> Result<Launching, LaunchError> {
    let open = |dir: &Path| open_place(dir).step(|| format!("open the control group {}", dir.display()));
    let cgroup = spec.cgroups.v2_dir.as_deref().map(open).transpose()?;
    let (reporter, listener) = report::channel().step(|| "make a socket pair")?;
    let fork = match pid_namespace {
        Some(target) => fork_into(target, flags, cgroup.as_ref().map(AsFd::as_fd)),
        None => sys::fork(flags, cgroup.as_ref().map(AsFd::as_fd)).step(|| "make a process"),
    };
    match fork? {
        Fork::Parent { pid, pidfd } => Ok(Launching { pid, pidfd, listener, console: None }),
        Fork::Child => {
            // The maker's end: as long as a copy is open here, its death would not show.
            drop(listener);
            // Whatever happens here, this process must never return into the code of its maker.
            let error = match catch_unwind(AssertUnwindSafe(|| body(&reporter))) {
                Ok(Ok(never)) => match never {},
                Ok(Err(error)) => error,
                Err(_) => LaunchError::new(LaunchErrorKind::Step, "cannot start the process: internal error"),
            };
            // If nobody hears it any more, there is nobody to tell.
            let _ = reporter.failed(error);
            sys::exit_now(1)
        }
    }
}

/// The control group in which a container's first process is now. One that may write to its control groups (systemd
/// in a privileged container) divides its own and moves into a part; then nothing can be born in the whole any more.
fn present_cgroup(container: BorrowedFd<'_>, v2_dir: &Path) -> Option<PathBuf> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", container.as_raw_fd())).ok()?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().to_owned();
    let table = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = table.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // The directory ends as the path begins; what the path has more is the part.
    let part = Path::new(path).ancestors().filter(|whole| !whole.as_os_str().is_empty());
    let mut part = part
        .filter(|whole| v2_dir.ends_with(whole))
        .filter_map(|whole| Path::new(path).strip_prefix(whole).ok());
    part.next().filter(|part| !part.as_os_str().is_empty()).map(|part| v2_dir.join(part))
}

/// Children are born in the namespace that this process is set to have them in; its own never changes.
fn fork_into(
    target: BorrowedFd<'_>,
    flags: libc::c_int,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Fork, LaunchError> {
    let gone = |errno| match errno {
        Errno::SRCH | Errno::NOMEM => {
            LaunchError::new(LaunchErrorKind::ContainerGone, "the container is not running")
        }
        errno => LaunchError::step("enter the process namespace", errno),
    };
    let own = rustix::fs::open(
        "/proc/self/ns/pid_for_children",
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .step(|| "open the process namespace")?;
    sys::setns(target, libc::CLONE_NEWPID).map_err(gone)?;
    let fork = sys::fork(flags, cgroup).map_err(gone);
    if !matches!(fork, Ok(Fork::Child)) {
        sys::setns(&own, libc::CLONE_NEWPID).step(|| "go back to the process namespace")?;
    }
    fork
}
