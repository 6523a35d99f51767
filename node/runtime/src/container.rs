//! The first process of a container, from birth to its program.

use crate::inroot::InRoot;
use crate::mounts::{self, Context};
use crate::process::{self, Privileges, Program, Stdio};
use crate::report::{LaunchError, Reporter, Step};
use crate::sandbox::Sandbox;
use crate::spec::Spec;
use crate::sys;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::umask;
use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Runs in the new process. Returns only with an error.
pub(crate) fn run(
    spec: &Spec,
    sandbox: &Sandbox,
    stdio: Option<&Stdio>,
    reporter: &Reporter,
) -> Result<Infallible, LaunchError> {
    process::detach(reporter)?;
    process::join_cgroups(spec)?;
    process::set_oom_score_adj(spec.oom_score_adj)?;
    let privileges = Privileges::of(spec)?;
    if let Some(stdio) = stdio {
        process::take_stdio(stdio)?;
    }
    umask(Mode::empty());
    let root = make_root(spec, sandbox)?;
    let inroot = InRoot(root.as_fd());
    let terminal = if spec.tty { Some(process::take_terminal(inroot, reporter)?) } else { None };
    if let Some(terminal) = &terminal {
        show_console(inroot, terminal)?;
    }
    mounts::protect(inroot, &spec.masked_paths, &spec.readonly_paths)?;
    process::make_working_directory(inroot, &spec.cwd)?;
    if spec.readonly_root {
        sys::mount_setattr(root.as_fd(), false, libc::MOUNT_ATTR_RDONLY, 0, 0).step(|| "make / read-only")?;
    }
    enter(&root)?;
    let env = spec.env.clone();
    let program = Program { spec, args: &spec.args, env, cwd: &spec.cwd, user: &spec.user, privileges };
    process::become_program(program, reporter)
}

/// Makes mount and cgroup namespaces and in them everything the container will see.
fn make_root(spec: &Spec, sandbox: &Sandbox) -> Result<OwnedFd, LaunchError> {
    let shm = sandbox.shm_tree()?;
    sys::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP).step(|| "make a mount namespace")?;
    let sources = mounts::open_sources(&spec.mounts)?;
    // Mounts of the host still arrive here until the container leaves them behind; nothing goes back.
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", slave).step(|| "cut off the host's mounts")?;
    let root = mounts::attach_root(&spec.root)?;
    let context = Context { devices: &spec.devices, cgroups: &spec.cgroups, shm };
    mounts::attach_all(InRoot(root.as_fd()), sources, context)?;
    Ok(root)
}

/// The terminal is `/dev/console` too.
fn show_console(root: InRoot<'_>, terminal: &OwnedFd) -> Result<(), LaunchError> {
    let console = root.make(Path::new("/dev/console"), crate::inroot::Make::File)?;
    let tree = mounts::clone_tree(terminal.as_fd(), Path::new(""), false)
        .step(|| "show the terminal as /dev/console")?;
    mounts::attach(&tree, &console).step(|| "show the terminal as /dev/console")
}

/// Makes `root` the root and drops the old one.
fn enter(root: &OwnedFd) -> Result<(), LaunchError> {
    mounts::become_root(root).step(|| "change the root")?;
    // From here on "/" is the container's in every sense; a check that costs next to nothing.
    let new = rustix::fs::openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .step(|| "open the root")?;
    let same = |a: &rustix::fs::Stat, b: &rustix::fs::Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
    let stat = |fd: &OwnedFd| rustix::fs::fstat(fd).step(|| "look at the root");
    if same(&stat(root)?, &stat(&new)?) {
        return Ok(());
    }
    Err(LaunchError::step("change the root: the old one is still there", rustix::io::Errno::BUSY))
}
