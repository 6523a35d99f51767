//! Further processes in containers. Their streams belong to the agent; the supervisor only starts and reaps them.

use super::containers::{Pipes, from_launch, pipes};
use super::set_nonblocking;
use crate::protocol::FdRole;
use crate::types::{ContainerSpec, ExecSpec, StartFailure};
use carrack_runtime::Launching;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A process started by an exec request.
#[derive(Debug)]
pub(crate) struct Exec {
    /// Connection and request it belongs to: where its end is told.
    pub(crate) asked_by: (u64, u64),
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
    asked_by: (u64, u64),
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
