//! What the node's HTTP API asks for, answered from the workers' snapshots and the supervisors.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use carrack_runtime::ExecProcess;
use carrack_supervisor::{ExecSpec, Sandbox, StartError};
use k8s_openapi::List;
use k8s_openapi::api::core::v1::Pod;
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};

use crate::http::{
    ApiFailure, Attach, ExecRequest, ExitStatus, LogSource, NodeApi, Reader, Streams, Target, TerminalSize,
    Writer,
};
use crate::manager::Pods;
use crate::shared::Shared;
use crate::state::{ContainerState, Run};
use crate::stats;
use crate::terminal::Terminal;
use crate::worker::Snapshot;

/// How many changes of a terminal's size may wait.
const RESIZES: usize = 8;

/// The agent, for its HTTP API.
pub(crate) struct Api {
    shared: Arc<Shared>,
    pods: Pods,
}

impl Api {
    /// Over the agent's pods.
    pub(crate) fn new(shared: Arc<Shared>, pods: Pods) -> Self {
        Self { shared, pods }
    }

    /// What is used now. The kernel sums up what it counts on each processor, which may take a while.
    async fn measure(&self) -> Result<stats::Sample, ApiFailure> {
        let (shared, pods) = (self.shared.clone(), self.pods.list());
        let measure = move || stats::measure(&shared.cgroups, &pods, &shared.rates.now());
        let measured = tokio::task::spawn_blocking(measure).await;
        measured.map_err(internal)?.map_err(internal)
    }

    fn pod(&self, target: &Target) -> Result<Snapshot, ApiFailure> {
        let found = self.pods.find(&target.namespace, &target.pod, target.uid.as_deref());
        found.ok_or_else(|| {
            ApiFailure::NotFound(format!("pod \"{}/{}\" is not on this node", target.namespace, target.pod))
        })
    }

    fn state<'a>(&self, snapshot: &'a Snapshot, target: &Target) -> Result<&'a ContainerState, ApiFailure> {
        let declared = snapshot
            .pod
            .as_ref()
            .is_some_and(|pod| crate::state::any_container(pod, &target.container).is_some());
        match snapshot.containers.get(&target.container) {
            Some(state) => Ok(state),
            None if declared => Err(waiting(target)),
            None => Err(ApiFailure::NotFound(format!(
                "container \"{}\" not found in pod \"{}\"",
                target.container, target.pod
            ))),
        }
    }

    /// The supervisor and the id of the present run of a container.
    fn running(&self, target: &Target) -> Result<(Sandbox, String, Snapshot), ApiFailure> {
        let snapshot = self.pod(target)?;
        let Run::Running { id, .. } = self.state(&snapshot, target)?.run.clone() else {
            return Err(ApiFailure::Conflict(format!("container \"{}\" is not running", target.container)));
        };
        let sandbox = snapshot.sandbox.clone();
        let sandbox =
            sandbox.ok_or_else(|| ApiFailure::Conflict("the pod's sandbox is not ready".to_owned()))?;
        Ok((sandbox, id, snapshot))
    }
}

fn waiting(target: &Target) -> ApiFailure {
    ApiFailure::BadRequest(format!(
        "container \"{}\" in pod \"{}\" is waiting to start: ContainerCreating",
        target.container, target.pod
    ))
}

fn internal(error: impl std::error::Error) -> ApiFailure {
    ApiFailure::Internal(crate::errors::chain(&error))
}

impl NodeApi for Api {
    fn healthy(&self) -> Result<(), String> {
        match *self.shared.network.borrow() {
            Some(_) => Ok(()),
            None => Err("the network is not ready".to_owned()),
        }
    }

    fn pods(&self) -> List<Pod> {
        let items = self.pods.list().into_iter().filter_map(|s| s.pod).map(|pod| Pod::clone(&pod)).collect();
        List { items, ..List::default() }
    }

    async fn stats_summary(&self) -> Result<serde_json::Value, ApiFailure> {
        Ok(stats::summary(&self.measure().await?, &self.shared.options.node_name))
    }

    async fn resource_metrics(&self) -> Result<String, ApiFailure> {
        self.measure().await.map(|sample| stats::resource_metrics(&sample))
    }

    async fn logs(&self, target: &Target, previous: bool) -> Result<LogSource, ApiFailure> {
        let snapshot = self.pod(target)?;
        let state = self.state(&snapshot, target)?;
        let restart = run_to_show(state, target, previous)?;
        let meta = snapshot.pod.as_ref().map(|pod| pod.metadata.clone()).unwrap_or_default();
        let uid = meta.uid.unwrap_or_default();
        let dir = self.shared.options.place.log_dir(&target.namespace, &target.pod, &uid);
        let path = dir.join(&target.container).join(format!("{restart}.log"));
        let ended = follow_end(self.pods.follow(&uid), target.container.clone(), restart);
        Ok(LogSource { path, ended })
    }

    async fn exec(&self, target: &Target, request: ExecRequest) -> Result<Streams, ApiFailure> {
        let (sandbox, id, _) = self.running(target)?;
        let Attach { tty, stdin, .. } = request.streams;
        let process = ExecProcess { args: request.command, env: Vec::new(), cwd: None, user: None, tty };
        let mut exec =
            sandbox.exec(&id, &ExecSpec { process, stdin }).await.map_err(|error| match error {
                StartError::Failed(failure) => ApiFailure::Internal(failure.message),
                StartError::Sandbox(error) => internal(error),
            })?;
        let (stdin_fd, stdout, stderr, tty_fd) =
            (exec.stdin.take(), exec.stdout.take(), exec.stderr.take(), exec.tty.take());
        let (mut streams, resize) = streams(request.streams, stdin_fd, stdout, stderr, tty_fd)?;
        streams.exit = Box::pin(async move {
            // Resizes reach the terminal through the same master; the task ends with the client.
            let _resize = resize;
            exec.wait().await.map(|code| ExitStatus { code }).map_err(|error| error.to_string())
        });
        Ok(streams)
    }

    async fn attach(&self, target: &Target, request: Attach) -> Result<Streams, ApiFailure> {
        let (sandbox, id, snapshot) = self.running(target)?;
        let uid = snapshot.pod.as_ref().and_then(|p| p.metadata.uid.clone()).unwrap_or_default();
        let restart = self.state(&snapshot, target)?.restarts;
        let attach = sandbox.attach(&id).await.map_err(internal)?;
        let is_tty = attach.tty.is_some();
        let wanted = Attach { tty: is_tty, ..request };
        let (stdin, stdout) = (attach.stdin, attach.stdout);
        let (mut streams, resize) = attach_streams(wanted, stdin, stdout, attach.stderr, attach.tty)?;
        let mut ended = follow_end(self.pods.follow(&uid), target.container.clone(), restart);
        streams.exit = Box::pin(async move {
            let _resize = resize;
            // What attaches sees the end of the container, not its exit code.
            let _ = ended.wait_for(|ended| *ended).await;
            Ok(ExitStatus { code: 0 })
        });
        Ok(streams)
    }

    async fn port_forward(&self, namespace: &str, pod: &str, port: u16) -> Result<TcpStream, ApiFailure> {
        let target = Target {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            uid: None,
            container: String::new(),
        };
        let snapshot = self.pod(&target)?;
        let sandbox =
            snapshot.sandbox.ok_or_else(|| ApiFailure::Conflict("the pod does not run".to_owned()))?;
        let netns = sandbox.netns();
        let connected = tokio::task::spawn_blocking(move || connect_inside(netns, port)).await;
        let stream = connected.map_err(internal)?.map_err(|error| {
            ApiFailure::Internal(format!("failed to connect to localhost:{port} inside the pod: {error}"))
        })?;
        stream.set_nonblocking(true).map_err(internal)?;
        TcpStream::from_std(stream).map_err(internal)
    }
}

/// Which run's log is meant.
fn run_to_show(state: &ContainerState, target: &Target, previous: bool) -> Result<u32, ApiFailure> {
    if previous {
        return match state.restarts.checked_sub(1) {
            Some(restart) if state.previous.is_some() => Ok(restart),
            _ => Err(ApiFailure::BadRequest(format!(
                "previous terminated container \"{}\" in pod \"{}\" not found",
                target.container, target.pod
            ))),
        };
    }
    if state.run == Run::Absent && state.previous.is_none() {
        let reason = state.waiting.as_ref().map_or("ContainerCreating", |w| w.reason.as_str());
        return Err(ApiFailure::BadRequest(format!(
            "container \"{}\" in pod \"{}\" is waiting to start: {reason}",
            target.container, target.pod
        )));
    }
    Ok(state.restarts)
}

/// Turns true when the given run of a container has ended, or its pod is gone.
fn follow_end(
    snapshot: Option<watch::Receiver<Snapshot>>,
    container: String,
    restart: u32,
) -> watch::Receiver<bool> {
    let over = move |snapshot: &Snapshot| {
        snapshot.containers.get(&container).is_none_or(|s| s.restarts > restart || !s.is_running())
    };
    let Some(mut snapshot) = snapshot else { return watch::channel(true).1 };
    let (ended, receiver) = watch::channel(over(&snapshot.borrow()));
    tokio::spawn(async move {
        tokio::select! {
            // An error means that the worker has ended, and the container with it.
            _ = snapshot.wait_for(over) => { ended.send_replace(true); }
            () = ended.closed() => {}
        }
    });
    receiver
}

type Open = (Streams, Option<tokio::task::JoinHandle<()>>);

/// The streams of a process that has pipes, or a terminal.
fn streams(
    wanted: Attach,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    tty: Option<OwnedFd>,
) -> Result<Open, ApiFailure> {
    if let Some(master) = tty {
        let terminal = Terminal::new(master);
        let writer = terminal.writer().map_err(internal)?;
        let reader: Reader = Box::new(terminal.reader().map_err(internal)?);
        let (resize, task) = resizer(terminal);
        let streams = Streams {
            stdin: wanted.stdin.then(|| Box::new(writer) as Writer),
            stdout: keep(Some(reader), wanted.stdout),
            stderr: None,
            resize: Some(resize),
            exit: Box::pin(std::future::pending()),
        };
        return Ok((streams, Some(task)));
    }
    let reader = |fd: Option<OwnedFd>| -> Result<Option<Reader>, ApiFailure> {
        fd.map(|fd| pipe::Receiver::from_owned_fd(fd).map(|r| Box::new(r) as Reader).map_err(internal))
            .transpose()
    };
    let writer = |fd: Option<OwnedFd>| -> Result<Option<Writer>, ApiFailure> {
        fd.map(|fd| pipe::Sender::from_owned_fd(fd).map(|w| Box::new(w) as Writer).map_err(internal))
            .transpose()
    };
    // A stream that nobody wants is still read, or the process would stop when its pipe is full.
    let (out, err) = (reader(stdout)?, reader(stderr)?);
    let streams = Streams {
        stdin: writer(stdin)?,
        stdout: keep(out, wanted.stdout),
        stderr: keep(err, wanted.stderr),
        resize: None,
        exit: Box::pin(std::future::pending()),
    };
    Ok((streams, None))
}

/// The streams of a container that was running before: with a terminal, its output comes by a pipe of its own.
fn attach_streams(
    wanted: Attach,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    tty: Option<OwnedFd>,
) -> Result<Open, ApiFailure> {
    let Some(master) = tty else {
        let stdin = stdin.filter(|_| wanted.stdin);
        return streams(wanted, stdin, stdout, stderr, None);
    };
    let terminal = Terminal::new(master);
    let writer = terminal.writer().map_err(internal)?;
    let (resize, task) = resizer(terminal);
    let (mut open, _) = streams(wanted, None, stdout, None, None)?;
    open.stdin = wanted.stdin.then(|| Box::new(writer) as Writer);
    open.resize = Some(resize);
    Ok((open, Some(task)))
}

fn keep(reader: Option<Reader>, wanted: bool) -> Option<Reader> {
    let mut reader = reader?;
    if wanted {
        return Some(reader);
    }
    tokio::spawn(async move {
        let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
    });
    None
}

fn resizer(terminal: Terminal) -> (mpsc::Sender<TerminalSize>, tokio::task::JoinHandle<()>) {
    let (sender, mut sizes) = mpsc::channel::<TerminalSize>(RESIZES);
    let task = tokio::spawn(async move {
        while let Some(size) = sizes.recv().await {
            if let Err(error) = terminal.resize(size.height, size.width) {
                tracing::debug!(%error, "a terminal was not resized");
            }
        }
    });
    (sender, task)
}

/// Connects to a port on the loopback address of another network namespace. The thread that enters it is this call's
/// own and ends with it.
fn connect_inside(netns: std::path::PathBuf, port: u16) -> std::io::Result<std::net::TcpStream> {
    let inside = move || -> std::io::Result<std::net::TcpStream> {
        let namespace = std::fs::File::open(netns)?;
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
        std::net::TcpStream::connect(("127.0.0.1", port))
    };
    let thread = std::thread::Builder::new().name("port-forward".to_owned()).spawn(inside)?;
    thread.join().map_err(|_| std::io::Error::other("the connecting thread panicked"))?
}
