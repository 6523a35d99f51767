//! A further process in a running container, from birth to its program.

use crate::inroot::InRoot;
use crate::process::{self, Privileges, Program, Stdio};
use crate::report::{LaunchError, LaunchErrorKind, Reporter, Step};
use crate::spec::{ExecProcess, Spec};
use crate::sys;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd};

/// Runs in the new process. Returns only with an error.
pub(crate) fn run(
    spec: &Spec,
    exec: &ExecProcess,
    container: BorrowedFd<'_>,
    stdio: Option<&Stdio>,
    reporter: &Reporter,
) -> Result<Infallible, LaunchError> {
    process::detach(reporter)?;
    process::join_cgroups(spec)?;
    process::set_oom_score_adj(spec.oom_score_adj)?;
    let privileges = Privileges::of(spec)?;
    let namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWNET;
    sys::setns(container, namespaces).map_err(|errno| match errno {
        Errno::SRCH => LaunchError::new(LaunchErrorKind::ContainerGone, "the container is not running"),
        errno => LaunchError::step("enter the container", errno),
    })?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .step(|| "open the root directory")?;
    match stdio {
        Some(stdio) => process::take_stdio(stdio)?,
        None => drop(process::take_terminal(InRoot(root.as_fd()), reporter)?),
    }
    let program = Program {
        spec,
        args: &exec.args,
        env: merge_env(&spec.env, &exec.env),
        cwd: exec.cwd.as_deref().unwrap_or(&spec.cwd),
        user: exec.user.as_ref().unwrap_or(&spec.user),
        privileges,
    };
    process::become_program(program, reporter)
}

/// The container's environment with `added` on top.
fn merge_env(container: &[String], added: &[String]) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let replaced: Vec<String> = added.iter().map(|entry| name(entry)).collect();
    let kept = container.iter().filter(|entry| !replaced.contains(&name(entry)));
    kept.chain(added).cloned().collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn added_environment_wins() {
        let strings = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let merged = super::merge_env(&strings(&["A=1", "B=2"]), &strings(&["A=3", "C=4"]));
        assert_eq!(merged, ["B=2", "A=3", "C=4"]);
    }
}
