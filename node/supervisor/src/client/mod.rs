//! The agent's side: starts, adopts and commands supervisors.

mod connection;
mod ready;
mod start;

use crate::protocol::{FdRole, Op, Reply};
use crate::types::{ContainerSpec, ContainerState, ContainerStatus, Event, ExecSpec, StartFailure, Started};
use connection::{Answer, Connection};
use rustix::termios::{Winsize, tcsetwinsize};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

pub use ready::async_fd;
pub use start::{adopt, exit_records, start};

/// Events that wait for a reader.
const MAX_EVENTS: usize = 1024;

/// Why a call to a supervisor failed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The supervisor could not be started.
    #[error("cannot start the pod's supervisor: {0}")]
    Start(String),
    /// The connection broke; the supervisor may live. The next call connects again.
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
    /// The supervisor is no more.
    #[error("the pod's supervisor is gone")]
    Gone,
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
    /// Its command, mounts or limits are at fault. For a container, the supervisor has written an exit record as well.
    #[error("{}", .0.message)]
    Failed(StartFailure),
    /// The supervisor could not be asked.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

/// A pod's supervisor, seen from the agent. Cheap to clone; dropping it leaves the supervisor running.
///
/// A call that is not awaited to its end may still be carried out: [`Sandbox::list`] tells.
#[derive(Clone, Debug)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    pid: u32,
    pidfd: AsyncFd<OwnedFd>,
    connection: tokio::sync::Mutex<Arc<Connection>>,
}

impl Sandbox {
    fn new(dir: &Path, connection: Connection, pid: u32) -> Result<Self, SandboxError> {
        let number =
            i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).ok_or(SandboxError::Gone)?;
        let pidfd = rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty());
        let pidfd = pidfd.map_err(|_| SandboxError::Gone)?;
        // The connection is open, so the number was its one when the descriptor was made, unless it has just ended.
        if connection.is_closed() {
            return Err(SandboxError::Gone);
        }
        let pidfd = async_fd(pidfd, Interest::READABLE).map_err(SandboxError::Connection)?;
        let connection = tokio::sync::Mutex::new(Arc::new(connection));
        Ok(Self { inner: Arc::new(Inner { dir: dir.to_owned(), pid, pidfd, connection }) })
    }

    /// The supervisor's process number on the host.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.inner.pid
    }

    /// A file that stands for the pod's network namespace.
    #[must_use]
    pub fn netns(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.inner.pid))
    }

    /// Starts a container; returns when its command runs.
    pub async fn start_container(&self, container: &ContainerSpec) -> Result<Started, StartError> {
        match self.call(Op::Start(Box::new(container.clone()))).await?.0 {
            Reply::Started(started) => Ok(started),
            Reply::StartFailed(failure) => Err(StartError::Failed(failure)),
            other => Err(unexpected(other).into()),
        }
    }

    /// Signals the first process of a container. One that ended already is no error.
    pub async fn kill(&self, id: &str, signal: i32) -> Result<(), SandboxError> {
        self.done(Op::Kill { container: id.into(), signal }).await
    }

    /// Every container that was started and not removed.
    pub async fn list(&self) -> Result<Vec<ContainerState>, SandboxError> {
        match self.call(Op::List).await?.0 {
            Reply::Containers(states) => Ok(states),
            other => Err(unexpected(other)),
        }
    }

    /// Events from now on, ending with [`Event::Gone`]. Call it before [`Sandbox::list`] to miss nothing. After a lost
    /// connection the ends of all containers still known are told again.
    #[must_use]
    pub fn events(&self) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(MAX_EVENTS);
        let sandbox = self.clone();
        // Subscribed here, before this returns, if the connection is free; otherwise told again from the list.
        let subscribed = sandbox.inner.connection.try_lock().ok().map(|connection| connection.events());
        tokio::spawn(async move { sandbox.pump(subscribed, &sender).await });
        receiver
    }

    /// Hands events on until the supervisor or the reader is gone.
    async fn pump(&self, subscribed: Option<mpsc::Receiver<Event>>, to: &mpsc::Sender<Event>) {
        let mut source = subscribed;
        loop {
            let events = match source.take() {
                Some(events) => Ok(events),
                None => self.resubscribe(to).await,
            };
            let Ok(mut events) = events else { break };
            loop {
                let event = tokio::select! {
                    event = events.recv() => event,
                    _ = self.inner.pidfd.readable() => {
                        // What it managed to say before comes first.
                        while let Some(event) = events.recv().await {
                            let _ = to.send(event).await;
                        }
                        let _ = to.send(Event::Gone).await;
                        return;
                    }
                    () = to.closed() => return,
                };
                let Some(event) = event else { break };
                if to.send(event).await.is_err() {
                    return;
                }
            }
        }
        let _ = to.send(Event::Gone).await;
    }

    /// A new stream of events, after the ends that the old one may have missed.
    async fn resubscribe(&self, to: &mpsc::Sender<Event>) -> Result<mpsc::Receiver<Event>, SandboxError> {
        let events = self.connection().await?.events();
        for state in self.list().await? {
            if let ContainerStatus::Exited(record) = state.status {
                let _ = to.send(Event::Exited(record)).await;
            }
        }
        Ok(events)
    }

    /// Runs a further process in a container; returns when its command runs.
    pub async fn exec(&self, id: &str, exec: &ExecSpec) -> Result<Exec, StartError> {
        let (sender, exit) = oneshot::channel();
        let op = Op::Exec { container: id.into(), exec: exec.clone() };
        let (reply, fds) = self.connection().await?.call_with(op, Some(sender)).await?;
        let mut streams = Streams::from(fds);
        match reply {
            Reply::Exec { pid } => Ok(Exec {
                pid,
                stdin: streams.stdin.take(),
                stdout: streams.stdout.take(),
                stderr: streams.stderr.take(),
                tty: streams.tty.take(),
                exit: Some(exit),
            }),
            Reply::StartFailed(failure) => Err(StartError::Failed(failure)),
            other => Err(unexpected(other).into()),
        }
    }

    /// Streams of a running container.
    pub async fn attach(&self, id: &str) -> Result<Attach, SandboxError> {
        let (reply, fds) = self.call(Op::Attach { container: id.into() }).await?;
        let Reply::Attached = reply else { return Err(unexpected(reply)) };
        let Streams { stdin, stdout, stderr, tty } = Streams::from(fds);
        Ok(Attach { stdin, stdout, stderr, tty })
    }

    /// Closes the container's log file and opens it by name again, after the agent renamed it.
    pub async fn reopen_log(&self, id: &str) -> Result<(), SandboxError> {
        self.done(Op::ReopenLog { container: id.into() }).await
    }

    /// Forgets an ended container and deletes its record. Unknown ids are no error, running ones are.
    pub async fn remove(&self, id: &str) -> Result<(), SandboxError> {
        self.done(Op::Remove { container: id.into() }).await
    }

    /// Kills what runs, waits for it, and ends the supervisor. Returns when it is gone. The run directory stays.
    pub async fn shutdown(&self) -> Result<(), SandboxError> {
        match self.done(Op::Shutdown).await {
            Ok(()) | Err(SandboxError::Connection(_) | SandboxError::Gone) => {}
            Err(error) => return Err(error),
        }
        self.inner.pidfd.readable().await.map(|_| ()).map_err(SandboxError::Connection)
    }

    async fn done(&self, op: Op) -> Result<(), SandboxError> {
        match self.call(op).await?.0 {
            Reply::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    async fn call(&self, op: Op) -> Result<Answer, SandboxError> {
        self.connection().await?.call(op).await
    }

    /// The connection, made anew if the supervisor closed it (as it does to those who do not read).
    async fn connection(&self) -> Result<Arc<Connection>, SandboxError> {
        let mut connection = self.inner.connection.lock().await;
        if connection.is_closed() {
            let found = adopt(&self.inner.dir).await?.ok_or(SandboxError::Gone)?;
            if found.pid() != self.inner.pid {
                return Err(SandboxError::Gone);
            }
            *connection = found.inner.connection.lock().await.clone();
        }
        Ok(connection.clone())
    }
}

/// A reply that says no, as an error.
fn unexpected(reply: Reply) -> SandboxError {
    match reply {
        Reply::NotFound(id) => SandboxError::NotFound(id),
        Reply::Refused(why) => SandboxError::Refused(why),
        other => SandboxError::Refused(format!("the pod's supervisor answered beside the point: {other:?}")),
    }
}

/// Descriptors by role.
#[derive(Default)]
struct Streams {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    tty: Option<OwnedFd>,
}

impl From<Vec<(FdRole, OwnedFd)>> for Streams {
    fn from(fds: Vec<(FdRole, OwnedFd)>) -> Self {
        let mut streams = Self::default();
        for (role, fd) in fds {
            match role {
                FdRole::Stdin => streams.stdin = Some(fd),
                FdRole::Stdout => streams.stdout = Some(fd),
                FdRole::Stderr => streams.stderr = Some(fd),
                FdRole::Tty => streams.tty = Some(fd),
            }
        }
        streams
    }
}

/// A process started by [`Sandbox::exec`]. All file descriptors are in non-blocking mode.
#[derive(Debug)]
pub struct Exec {
    /// Process number on the host.
    pub pid: u32,
    /// Its stdin, when asked for and without a terminal.
    pub stdin: Option<OwnedFd>,
    /// Its stdout, without a terminal. Read it to its end: the exit code may be known before.
    pub stdout: Option<OwnedFd>,
    /// Its stderr, without a terminal.
    pub stderr: Option<OwnedFd>,
    /// The terminal's master side: stdin, stdout and stderr in one. It reads as EIO at its end.
    pub tty: Option<OwnedFd>,
    exit: Option<oneshot::Receiver<i32>>,
}

impl Exec {
    /// Waits for its exit code (128 + signal when a signal ended it). It can be called once; being cancelled does not
    /// count.
    pub async fn wait(&mut self) -> Result<i32, SandboxError> {
        let exit = self.exit.as_mut().ok_or_else(|| SandboxError::Refused("waited for already".into()))?;
        let code = exit.await.map_err(|_| SandboxError::Connection(std::io::ErrorKind::BrokenPipe.into()));
        self.exit = None;
        code
    }

    /// Tells the terminal its size.
    pub fn resize(&self, rows: u16, cols: u16) -> Result<(), SandboxError> {
        resize(self.tty.as_ref(), rows, cols)
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
    pub fn resize(&self, rows: u16, cols: u16) -> Result<(), SandboxError> {
        resize(self.tty.as_ref(), rows, cols)
    }
}

fn resize(tty: Option<&OwnedFd>, rows: u16, cols: u16) -> Result<(), SandboxError> {
    let tty = tty.ok_or_else(|| SandboxError::Refused("there is no terminal".into()))?;
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(tty, size)
        .map_err(|errno| SandboxError::Refused(format!("cannot resize the terminal: {errno}")))
}
