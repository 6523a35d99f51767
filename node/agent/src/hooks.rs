//! Lifecycle hooks, and commands run in containers for them and for probes.

use std::sync::Arc;
use std::time::Duration;

use carrack_runtime::ExecProcess;
use carrack_supervisor::{ExecSpec, Sandbox};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::probes::{self, ExecFn, Target};
use crate::state::{Run, Stop};
use crate::worker::{Message, Worker};

/// How much of what a probe or hook prints is kept, in bytes.
const OUTPUT_LIMIT: u64 = 10 * 1024;
/// How long a postStart hook may take at the most.
const POST_START_LIMIT: Duration = Duration::from_secs(3600);

/// A way to run commands in one run of a container.
pub(crate) fn exec_in(sandbox: Sandbox, id: String) -> ExecFn {
    Arc::new(move |args, limit| {
        let (sandbox, id) = (sandbox.clone(), id.clone());
        Box::pin(async move { exec(&sandbox, &id, args, limit).await })
    })
}

/// Runs a command; its exit code and what it printed. When time is up it is left to end by itself, as upstream does.
async fn exec(
    sandbox: &Sandbox,
    id: &str,
    args: Vec<String>,
    limit: Duration,
) -> Result<(i32, String), String> {
    let process = ExecProcess { args, env: Vec::new(), cwd: None, user: None, tty: false };
    let work = async {
        let mut exec =
            sandbox.exec(id, &ExecSpec { process, stdin: false }).await.map_err(|error| error.to_string())?;
        let (out, err) = (exec.stdout.take(), exec.stderr.take());
        let (out, err) = tokio::join!(drain(out), drain(err));
        let code = exec.wait().await.map_err(|error| error.to_string())?;
        Ok((code, out + &err))
    };
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(format!("command timed out after {limit:?}")),
    }
}

/// Reads a pipe to its end and keeps the beginning.
async fn drain(pipe: Option<std::os::fd::OwnedFd>) -> String {
    let Some(fd) = pipe else { return String::new() };
    let Ok(mut receiver) = pipe::Receiver::from_owned_fd(fd) else { return String::new() };
    let mut kept = Vec::new();
    let _ = (&mut receiver).take(OUTPUT_LIMIT).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut receiver, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&kept).into_owned()
}

/// Carries out a hook.
async fn handle(
    container: Container,
    handler: LifecycleHandler,
    target: Target,
    limit: Duration,
) -> Result<(), String> {
    if let Some(exec) = handler.exec {
        return match (target.exec)(exec.command.unwrap_or_default(), limit).await? {
            (0, _) => Ok(()),
            (code, output) => Err(format!("command exited with {code}: {}", output.trim_end())),
        };
    }
    if let Some(get) = handler.http_get {
        let request = probes::http_get(&container, &get, &target);
        return tokio::time::timeout(limit, request).await.map_err(|_| "timed out".to_owned())?;
    }
    if let Some(sleep) = handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0)).min(limit)).await;
        return Ok(());
    }
    Err("this kind of hook is not supported by this node yet".to_owned())
}

fn target(worker: &Worker, id: &str) -> Option<Target> {
    let sandbox = worker.sandbox.clone()?;
    let address = worker.pod_ip().and_then(|ip| ip.parse().ok()).unwrap_or(worker.shared.options.host_ip());
    Some(Target { address, exec: exec_in(sandbox, id.to_owned()) })
}

/// Runs the postStart hook of a container that has just started; if it fails the container has to end.
pub(crate) fn post_start(worker: &Worker, container: &Container) {
    let Some(handler) = container.lifecycle.as_ref().and_then(|l| l.post_start.clone()) else { return };
    let Some(Run::Running { id, .. }) = worker.containers.get(&container.name).map(|s| s.run.clone()) else {
        return;
    };
    let Some(target) = target(worker, &id) else { return };
    let (me, shared, about) = (worker.me.clone(), worker.shared(), worker.about.clone());
    let container = container.clone();
    tokio::spawn(async move {
        let name = container.name.clone();
        if let Err(error) = handle(container, handler, target, POST_START_LIMIT).await {
            shared.events.warning(&about, "FailedPostStartHook", format!("PostStartHook failed: {error}"));
            let message = format!("FailedPostStartHook: container {name} is killed");
            let _ = me.send(Message::Condemn { container: name, id, message }).await;
        }
    });
}

impl Worker {
    /// Runs the preStop hook of a container; SIGTERM follows when it is done, or at the deadline.
    pub(crate) fn run_pre_stop(&mut self, name: &str, deadline: Timestamp) {
        let Some(container) = self.container(name) else { return };
        let Some(state) = self.containers.get_mut(name) else { return };
        state.stop = Some(Stop::Hook { deadline });
        let Run::Running { id, .. } = state.run.clone() else { return };
        let handler = container.lifecycle.as_ref().and_then(|l| l.pre_stop.clone());
        let (Some(handler), Some(target)) = (handler, target(self, &id)) else { return };
        let (me, shared, about, name) = (self.me.clone(), self.shared(), self.about.clone(), name.to_owned());
        let limit = Duration::try_from(deadline.duration_since(Timestamp::now())).unwrap_or_default();
        tokio::spawn(async move {
            if let Err(error) = handle(container, handler, target, limit).await {
                shared.events.warning(&about, "FailedPreStopHook", format!("PreStopHook failed: {error}"));
            }
            let _ = me.send(Message::HookDone { container: name, id }).await;
        });
    }
}
