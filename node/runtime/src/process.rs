//! The last steps that a container's first process and further ones have in common: from a process that is in the
//! right namespaces and sees the right root, to the program.

use crate::caps::CapSet;
use crate::command;
use crate::inroot::InRoot;
use crate::report::{LaunchError, Reporter, Step};
use crate::seccomp::Filters;
use crate::spec::{Rlimit, Spec, User};
use crate::sys;
use crate::user::{self, Identity};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, fchown, fstat};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Resource, Signal, chdir, getcwd, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit, umask,
};
use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What the new process gets as stdin, stdout and stderr.
#[derive(Debug)]
pub struct Stdio {
    /// File descriptor 0.
    pub stdin: OwnedFd,
    /// File descriptor 1.
    pub stdout: OwnedFd,
    /// File descriptor 2.
    pub stderr: OwnedFd,
}

/// The program to become.
pub(crate) struct Program<'a> {
    /// Capabilities, filters, limits and privileges of the container.
    pub(crate) spec: &'a Spec,
    pub(crate) args: &'a [String],
    pub(crate) env: Vec<String>,
    pub(crate) cwd: &'a Path,
    pub(crate) user: &'a User,
    pub(crate) privileges: Privileges,
}

/// What the program may do, worked out.
pub(crate) struct Privileges {
    capabilities: CapSet,
    filters: Filters,
}

impl Privileges {
    /// Call it while files of the host can be read: a seccomp profile is one.
    pub(crate) fn of(spec: &Spec) -> Result<Self, LaunchError> {
        let capabilities = CapSet::resolve(&spec.capabilities)?;
        let filters = Filters::build(&spec.seccomp, capabilities)?;
        Ok(Self { capabilities, filters })
    }
}

/// First steps of any new process: it dies with its maker, hears no signal handlers of it, and has its own session.
pub(crate) fn detach(reporter: &Reporter) -> Result<(), LaunchError> {
    sys::reset_signals();
    die_with_parent(reporter)?;
    rustix::process::setsid().step(|| "start a session")?;
    // Where others see it (a shared process namespace, a container being entered) they must not get at its memory and
    // descriptors, which are the host's. Running the program makes it visible again.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step(|| "hide the process")?;
    // Keys of the host's session stay with the host.
    sys::leave_session_keyring().step(|| "leave the host's keyring")
}

/// Asks for SIGKILL when the maker dies, and stops if it has died before that.
fn die_with_parent(reporter: &Reporter) -> Result<(), LaunchError> {
    set_parent_process_death_signal(Some(Signal::KILL)).step(|| "tie the process to its supervisor")?;
    if reporter.abandoned() {
        Err(LaunchError::step("go on without a supervisor", Errno::PIPE))
    } else {
        Ok(())
    }
}

/// Joins control groups of version 1, and of version 2 where the process was not born in it.
pub(crate) fn join_cgroups(spec: &Spec) -> Result<(), LaunchError> {
    // A process that was born in a part of its group stays there.
    let born_in = |dir: &Path| spec.cgroups.v2_dir.as_deref().is_some_and(|born_in| born_in.starts_with(dir));
    let others = spec.cgroups.procs.iter().filter(|procs| !procs.parent().is_some_and(born_in));
    others.into_iter().try_for_each(|procs| join_cgroup(procs))
}

/// Moves this process, which has one thread, into the control group of a `cgroup.procs` file.
///
/// In version 1 it moves its thread through `tasks` instead, which is the same here, except that the kernel needs no
/// RCU grace period for it: that takes between half a millisecond and, on a busy machine, twenty.
pub(crate) fn join_cgroup(procs: &Path) -> Result<(), LaunchError> {
    let name = || format!("join the control group {}", procs.display());
    match std::fs::write(procs.with_file_name("tasks"), "0") {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => std::fs::write(procs, "0").step(name),
        done => done.step(name),
    }
}

/// Sets `/proc/self/oom_score_adj`. A host that denies its root the right to lower it (CAP_SYS_RESOURCE) leaves it as
/// it is: then `false` is returned.
pub fn set_oom_score_adj(value: i32) -> Result<bool, LaunchError> {
    match std::fs::write("/proc/self/oom_score_adj", value.to_string()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied && !may_lower_oom_score() => {
            Ok(false)
        }
        Err(error) => Err(error).step(|| format!("set the OOM score adjustment to {value}")),
    }
}

fn may_lower_oom_score() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|held| held.effective.contains(rustix::thread::CapabilitySet::SYS_RESOURCE))
}

/// Puts the streams at descriptors 0, 1 and 2.
pub(crate) fn take_stdio(stdio: &Stdio) -> Result<(), LaunchError> {
    rustix::stdio::dup2_stdin(&stdio.stdin)
        .and_then(|()| rustix::stdio::dup2_stdout(&stdio.stdout))
        .and_then(|()| rustix::stdio::dup2_stderr(&stdio.stderr))
        .step(|| "set up stdio")
}

/// Makes a terminal from the container's own `/dev/pts`, sends its master side to the supervisor and makes it stdin,
/// stdout, stderr and controlling terminal. The container might have put something else there: it is checked.
pub(crate) fn take_terminal(root: InRoot<'_>, reporter: &Reporter) -> Result<OwnedFd, LaunchError> {
    const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
    let name = || "open a terminal";
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let master = root.open(Path::new("/dev/pts/ptmx"), flags).step(name)?;
    let filesystem = rustix::fs::fstatfs(&master).step(name)?.f_type;
    let device = fstat(&master).step(name)?.st_rdev;
    if filesystem != DEVPTS_SUPER_MAGIC || device != rustix::fs::makedev(5, 2) {
        return Err(LaunchError::step("open a terminal: /dev/pts/ptmx is none", Errno::NOTTY));
    }
    rustix::pty::unlockpt(&master).step(name)?;
    let flags =
        rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY | rustix::pty::OpenptFlags::CLOEXEC;
    let terminal = rustix::pty::ioctl_tiocgptpeer(&master, flags).step(name)?;
    rustix::process::ioctl_tiocsctty(&terminal).step(|| "take control of the terminal")?;
    rustix::stdio::dup2_stdin(&terminal)
        .and_then(|()| rustix::stdio::dup2_stdout(&terminal))
        .and_then(|()| rustix::stdio::dup2_stderr(&terminal))
        .step(|| "set up stdio")?;
    reporter.console(master.as_fd()).step(|| "hand over the terminal")?;
    Ok(terminal)
}

/// Becomes the program. Returns only with an error.
pub(crate) fn become_program(program: Program<'_>, reporter: &Reporter) -> Result<Infallible, LaunchError> {
    let Program { spec, args, mut env, cwd, user, privileges } = program;
    let identity = {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let root = rustix::fs::open("/", flags, Mode::empty()).step(|| "open the root directory")?;
        user::resolve(InRoot(root.as_fd()), user)?
    };
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={}", identity.home));
    }
    own_stdio(&identity)?;
    set_limits(&spec.rlimits)?;
    umask(Mode::from_raw_mode(user.umask.unwrap_or(0o022)));
    // Whatever is still open leads to the host; a path such as /proc/self/fd/7/.. must not.
    sys::close_all_but(reporter.as_fd()).step(|| "close file descriptors")?;
    let error = match last_steps(spec, &privileges, &identity, cwd, reporter)
        .and_then(|()| command::run(args, &env))
    {
        Ok(never) => match never {},
        Err(error) => error,
    };
    // Owners of descriptors up the stack must not close them again: this is the end, not a return.
    let _ = reporter.failed(error);
    sys::exit_now(1)
}

/// From root with every descriptor closed to the user the program runs as.
fn last_steps(
    spec: &Spec,
    privileges: &Privileges,
    identity: &Identity,
    cwd: &Path,
    reporter: &Reporter,
) -> Result<(), LaunchError> {
    // As root first: a directory that only root can enter is still a fine place to start in.
    let arrived = chdir(cwd);
    if !spec.no_new_privs {
        // Installing takes CAP_SYS_ADMIN, which is about to go.
        privileges.filters.install()?;
    }
    become_user(identity, privileges.capabilities)?;
    if arrived.is_err() {
        chdir(cwd).step(|| format!("change to the working directory {}", cwd.display()))?;
    }
    check_inside()?;
    if spec.no_new_privs {
        rustix::thread::set_no_new_privs(true).step(|| "set no_new_privs")?;
        privileges.filters.install()?;
    }
    // The change of user took it back.
    die_with_parent(reporter)
}

/// Lets the user reopen `/dev/stdout` and its like.
fn own_stdio(identity: &Identity) -> Result<(), LaunchError> {
    let null = rustix::fs::makedev(1, 3);
    for number in 0..3 {
        let stream = stream(number);
        let stat = fstat(stream).step(|| "look at stdio")?;
        if stat.st_rdev == null || stat.st_uid == identity.uid {
            continue;
        }
        match fchown(stream, Some(Uid::from_raw(identity.uid)), None::<Gid>) {
            // Read-only or foreign filesystems: a file passed as a stream stays as it is.
            Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => {}
            Err(errno) => return Err(LaunchError::step("give stdio to the user", errno)),
        }
    }
    Ok(())
}

fn stream(number: usize) -> BorrowedFd<'static> {
    match number {
        0 => rustix::stdio::stdin(),
        1 => rustix::stdio::stdout(),
        _ => rustix::stdio::stderr(),
    }
}

fn become_user(identity: &Identity, capabilities: CapSet) -> Result<(), LaunchError> {
    capabilities.limit_bounding()?;
    let groups: Vec<Gid> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    rustix::thread::set_thread_groups(&groups).step(|| "set the groups")?;
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid).step(|| format!("become group {}", identity.gid))?;
    rustix::thread::set_keep_capabilities(true).step(|| "keep capabilities")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).step(|| format!("become user {}", identity.uid))?;
    capabilities.apply()?;
    rustix::thread::set_keep_capabilities(false).step(|| "let go of capabilities")
}

/// A working directory outside the root (through a leaked descriptor) shows as unreachable.
fn check_inside() -> Result<(), LaunchError> {
    match getcwd(Vec::new()) {
        Ok(cwd) if cwd.to_bytes().starts_with(b"/") => Ok(()),
        Ok(_) => Err(LaunchError::invalid("the working directory lies outside the container")),
        // Removed meanwhile, or without permission to read a parent: harmless, it is inside by the chdir above.
        Err(errno) => Err(LaunchError::step("find the working directory", errno)),
    }
}

/// Makes the working directory, as image authors expect, when it is missing.
pub(crate) fn make_working_directory(root: InRoot<'_>, cwd: &Path) -> Result<(), LaunchError> {
    if !cwd.is_absolute() {
        return Err(LaunchError::invalid(format!("working directory {} is not absolute", cwd.display())));
    }
    match root.open(cwd, OFlags::PATH) {
        Err(Errno::NOENT) => match root.make(cwd, crate::inroot::Make::Directory) {
            Ok(_) => Ok(()),
            // What is missing on a read-only filesystem will be said by chdir, in plainer words.
            Err(error) if error.errno == Some(Errno::ROFS.raw_os_error()) => Ok(()),
            Err(error) => Err(error),
        },
        _ => Ok(()),
    }
}

fn set_limits(limits: &[Rlimit]) -> Result<(), LaunchError> {
    const RESOURCES: [(&str, Resource); 16] = [
        ("AS", Resource::As),
        ("CORE", Resource::Core),
        ("CPU", Resource::Cpu),
        ("DATA", Resource::Data),
        ("FSIZE", Resource::Fsize),
        ("LOCKS", Resource::Locks),
        ("MEMLOCK", Resource::Memlock),
        ("MSGQUEUE", Resource::Msgqueue),
        ("NICE", Resource::Nice),
        ("NOFILE", Resource::Nofile),
        ("NPROC", Resource::Nproc),
        ("RSS", Resource::Rss),
        ("RTPRIO", Resource::Rtprio),
        ("RTTIME", Resource::Rttime),
        ("SIGPENDING", Resource::Sigpending),
        ("STACK", Resource::Stack),
    ];
    for limit in limits {
        let name = limit.name.strip_prefix("RLIMIT_").unwrap_or(&limit.name);
        let Some((_, resource)) = RESOURCES.iter().find(|(known, _)| *known == name) else {
            return Err(LaunchError::invalid(format!("unknown resource limit {:?}", limit.name)));
        };
        let bound = |value: u64| (value != u64::MAX).then_some(value);
        let value = rustix::process::Rlimit { current: bound(limit.soft), maximum: bound(limit.hard) };
        setrlimit(*resource, value).step(|| format!("set the limit {}", limit.name))?;
    }
    Ok(())
}

/// Opens a directory of the host as a place.
pub(crate) fn open_place(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}
