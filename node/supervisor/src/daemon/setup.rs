//! From a fresh process to a pod's sandbox: lock, namespaces, socket.

use super::{Doing, SupervisorError};
use crate::protocol::{Layout, short_socket_name};
use crate::records;
use crate::types::{ExitRecord, SandboxConfig};
use carrack_runtime::{Sandbox, SandboxSpec};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// What the loop works with.
pub(crate) struct Ready {
    pub(crate) layout: Layout,
    pub(crate) config: SandboxConfig,
    pub(crate) sandbox: Sandbox,
    pub(crate) listener: OwnedFd,
    /// SIGCHLD and SIGTERM, pending.
    pub(crate) signals: OwnedFd,
    /// Records of an earlier supervisor of this pod.
    pub(crate) records: Vec<ExitRecord>,
    /// Held as long as this process lives.
    pub(crate) lock: File,
}

pub(crate) fn set_up(dir: &Path) -> Result<Ready, SupervisorError> {
    let layout = Layout(dir.to_owned());
    let config = read_config(&layout)?;
    carrack_runtime::daemonize(&config.cgroup_procs)?;
    let lock = lock(&layout)?;
    // Signals that come from now on wait until the loop looks.
    let signals =
        carrack_runtime::signal_fd(&[libc::SIGCHLD, libc::SIGTERM]).doing(|| "listen for signals")?;
    // An absent directory (a removed mount, say) must not be kept busy.
    rustix::process::chdir("/").doing(|| "enter /")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).doing(|| "become a subreaper")?;
    if !carrack_runtime::set_oom_score_adj(config.oom_score_adj)? {
        eprintln!("the host does not let the OOM score adjustment be lowered to {}", config.oom_score_adj);
    }
    let sandbox = Sandbox::enter(&SandboxSpec {
        hostname: (!config.host_network).then(|| config.hostname.clone()),
        private_ipc: !config.host_ipc,
        shared_pid: config.share_process_namespace && !config.host_pid,
        sysctls: config.sysctls.clone(),
    })?;
    let exits = layout.exits();
    make_private_dir(&exits)?;
    let records = records::read_all(&exits).doing(|| format!("read the records in {}", exits.display()))?;
    let listener = listen(dir)?;
    write_pid(&layout)?;
    report_ready(&layout)?;
    Ok(Ready { layout, config, sandbox, listener, signals, records, lock })
}

fn read_config(layout: &Layout) -> Result<SandboxConfig, SupervisorError> {
    let path = layout.config();
    let text = std::fs::read(&path).doing(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text)
        .map_err(std::io::Error::from)
        .doing(|| format!("understand {}", path.display()))
}

/// One supervisor a directory: the lock goes with the process, however it ends.
fn lock(layout: &Layout) -> Result<File, SupervisorError> {
    let path = layout.lock();
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.doing(|| format!("open {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::AGAIN) => {
            Err(SupervisorError::AlreadyRuns { dir: layout.0.display().to_string() })
        }
        Err(errno) => Err(errno).doing(|| format!("lock {}", path.display())),
    }
}

fn make_private_dir(path: &Path) -> Result<(), SupervisorError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .doing(|| format!("make the directory {}", path.display()))
}

fn listen(dir: &Path) -> Result<OwnedFd, SupervisorError> {
    let name = || format!("listen on {}/socket", dir.display());
    let place = File::open(dir).doing(name)?;
    let path = short_socket_name(&place);
    // Left behind by one that was killed; nobody else listens, by the lock.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).doing(name),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).doing(name)?;
    let address = SocketAddrUnix::new(&path).doing(name)?;
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = rustix::net::bind(&socket, &address);
    rustix::process::umask(before);
    bound.doing(name)?;
    rustix::net::listen(&socket, BACKLOG).doing(name)?;
    Ok(socket)
}

fn write_pid(layout: &Layout) -> Result<(), SupervisorError> {
    std::fs::write(layout.pid(), format!("{}\n", std::process::id()))
        .doing(|| format!("write {}", layout.pid().display()))
}

/// Tells the agent and lets go of its pipes: from here on this process stands alone.
fn report_ready(layout: &Layout) -> Result<(), SupervisorError> {
    // An agent that has gone meanwhile will adopt later.
    let _ = std::io::stdout().write_all(b"ready\n").and_then(|()| std::io::stdout().flush());
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .doing(|| "open /dev/null")?;
    let log = File::options().append(true).create(true).mode(0o600).open(layout.log());
    let log = log.doing(|| format!("open {}", layout.log().display()))?;
    rustix::stdio::dup2_stdin(&null)
        .and_then(|()| rustix::stdio::dup2_stdout(&null))
        .and_then(|()| rustix::stdio::dup2_stderr(&log))
        .doing(|| "let go of stdio")
}
