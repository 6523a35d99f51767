//! Further processes in containers. Their streams belong to the agent; the supervisor only starts and reaps them.

use super::containers::{Exit, Phase, Pipes, from_launch, pipes};
use super::server::{Asker, Server, Source};
use super::set_nonblocking;
use crate::protocol::{FdRole, Reply, ServerMessage};
use crate::types::{ContainerSpec, ExecSpec, StartFailure};
use carrack_runtime::{Launching, Progress};
use rustix::event::epoll;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A process started by an exec request.
#[derive(Debug)]
pub(crate) struct Exec {
    /// Connection and request it belongs to: where its end is told.
    pub(crate) asked_by: Asker,
    pub(crate) launching: Launching,
    /// What the agent gets when it runs.
    pub(crate) fds: Vec<(FdRole, OwnedFd)>,
    /// It runs, and the agent knows.
    pub(crate) running: bool,
}

/// Starts it in the container whose first process is `container`.
pub(crate) fn launch(
    spec: &ContainerSpec,
    exec: &ExecSpec,
    container: BorrowedFd<'_>,
    asked_by: Asker,
) -> Result<Exec, StartFailure> {
    let run = |stdio| {
        carrack_runtime::exec(&spec.spec, &exec.process, container, stdio).map_err(|e| from_launch(&e))
    };
    if exec.process.tty {
        return Ok(Exec { asked_by, launching: run(None)?, fds: Vec::new(), running: false });
    }
    let Pipes { inner, stdin, stdout, stderr } = pipes(exec.stdin).map_err(|errno| StartFailure {
        message: format!("cannot make pipes: {errno}"),
        reason: "StartError".into(),
        exit_code: 128,
    })?;
    let mut fds = vec![(FdRole::Stdout, stdout), (FdRole::Stderr, stderr)];
    fds.extend(stdin.map(|fd| (FdRole::Stdin, fd)));
    Ok(Exec { asked_by, launching: run(Some(&inner))?, fds, running: false })
}

impl Exec {
    /// Adds the terminal, if there is one.
    pub(crate) fn take_console(&mut self, console: Option<OwnedFd>) {
        if let Some(master) = console {
            // A blocking terminal works too; the agent then finds out itself.
            let _ = set_nonblocking(master.as_fd());
            self.fds.push((FdRole::Tty, master));
        }
    }
}

impl Server {
    pub(crate) fn exec(&mut self, id: &str, exec: &ExecSpec, asked_by: Asker) {
        let alive = match self.containers.get_mut(id).map(|container| &mut container.phase) {
            None => return self.reply(asked_by, Reply::NotFound(id.into()), Vec::new()),
            Some(Phase::Running(alive)) => alive,
            Some(_) => {
                let refused = Reply::Refused(format!("container {id} is not running"));
                return self.reply(asked_by, refused, Vec::new());
            }
        };
        match launch(&alive.spec, exec, alive.launching.pidfd.as_fd(), asked_by) {
            Ok(exec) => {
                let pid = exec.launching.pid;
                // As for containers: its end is seen in any case.
                let _ = self.watch(&exec.launching, Source::ExecLaunch(pid));
                self.execs.insert(pid, exec);
            }
            Err(failure) => self.reply(asked_by, Reply::StartFailed(failure), Vec::new()),
        }
    }

    /// News from an exec on its way.
    pub(crate) fn exec_launch(&mut self, token: u64, pid: u32) {
        let Some(exec) = self.execs.get_mut(&pid) else {
            self.sources.remove(&token);
            return;
        };
        match exec.launching.progress() {
            Progress::Pending => return,
            Progress::Running(console) => {
                let _ = epoll::delete(&self.epoll, &exec.launching);
                exec.take_console(console);
                exec.running = true;
                let (asked_by, fds) = (exec.asked_by, std::mem::take(&mut exec.fds));
                self.reply(asked_by, Reply::Exec { pid }, fds);
            }
            Progress::Failed(error) => {
                let asked_by = exec.asked_by;
                self.execs.remove(&pid);
                self.reply(asked_by, Reply::StartFailed(from_launch(&error)), Vec::new());
            }
        }
        self.sources.remove(&token);
        carrack_runtime::trim_heap();
    }

    pub(crate) fn exec_ended(&mut self, mut exec: Exec, exit: Exit) {
        if !exec.running {
            match exec.launching.progress() {
                Progress::Failed(error) => {
                    return self.reply(exec.asked_by, Reply::StartFailed(from_launch(&error)), Vec::new());
                }
                Progress::Running(console) => exec.take_console(console),
                Progress::Pending => {}
            }
            let fds = std::mem::take(&mut exec.fds);
            self.reply(exec.asked_by, Reply::Exec { pid: exec.launching.pid }, fds);
        }
        let (token, id) = exec.asked_by;
        self.tell(token, &ServerMessage::ExecExited { id, exit_code: exit.code() });
    }
}
