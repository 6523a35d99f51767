//! System calls that neither std nor rustix offer in a safe form. All `unsafe` of making containers is here.
#![allow(unsafe_code)]

use rustix::io::Errno;
use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Result of a system call.
pub(crate) type Result<T> = std::result::Result<T, Errno>;

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

fn check(result: libc::c_long) -> Result<libc::c_long> {
    if result < 0 { Err(last_errno()) } else { Ok(result) }
}

/// From linux/sched.h; the libc crate's constant overflows.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of [`fork`] this is.
pub(crate) enum Fork {
    /// The new process.
    Child,
    /// The old one, with the child's number and a pidfd for it (close-on-exec).
    Parent { pid: u32, pidfd: OwnedFd },
}

/// `clone3` with the namespaces of `flags` (`CLONE_NEW*`), born in the control group of the directory `cgroup`.
///
/// Refused in a process of more than one thread: the child could find the allocator's lock held for ever.
pub(crate) fn fork(flags: libc::c_int, cgroup: Option<BorrowedFd<'_>>) -> Result<Fork> {
    if !single_threaded()? {
        return Err(Errno::BUSY);
    }
    let mut pidfd: libc::c_int = -1;
    // SAFETY: an all-zero clone_args is the documented default of every field.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (flags | libc::CLONE_PIDFD) as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: args lives through the call and its size is given. CLONE_VM is not set, so the child has its own
    // copy of this memory and stack and goes on from here; no other thread exists that could hold a lock.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) })?;
    if pid == 0 {
        return Ok(Fork::Child);
    }
    // SAFETY: the kernel stored a new descriptor there, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Fork::Parent { pid: u32::try_from(pid).unwrap_or(0), pidfd })
}

/// Whether this process has one thread: procfs counts the threads among the links of the task directory.
fn single_threaded() -> Result<bool> {
    let stat = rustix::fs::stat("/proc/self/task")?;
    Ok(stat.st_nlink == 3)
}

/// Ends this process at once, without running anything that was meant for the process it was forked from.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: no preconditions.
    unsafe { libc::_exit(code) }
}

/// `mount_setattr(2)` on the mount that `mount` refers to: sets `set`, clears `clear` (`MOUNT_ATTR_*`), and changes
/// propagation (`MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`; 0 leaves it).
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    recursive: bool,
    set: u64,
    clear: u64,
    propagation: u64,
) -> Result<()> {
    let attr = libc::mount_attr { attr_set: set, attr_clr: clear, propagation, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated constant, attr lives through the call and its size is given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(())
}

/// Lets every signal do its default again and blocks none, as a program expects to be started.
pub(crate) fn reset_signals() {
    // SAFETY: SIG_DFL and an empty set are valid for every signal; errors (signals that cannot be changed) do not matter.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Blocks `signals` and gives a descriptor (non-blocking, close-on-exec) that is readable while one is pending.
pub fn signal_fd(signals: &[i32]) -> std::io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before use; the descriptor returned is new and ours.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        let fd = check(libc::c_long::from(libc::signalfd(
            -1,
            &raw const set,
            libc::SFD_NONBLOCK | libc::SFD_CLOEXEC,
        )))?;
        Ok(OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)))
    }
}

/// Closes every descriptor but 0, 1, 2 and `kept`. Only for a process about to exec or end: owners of the others in
/// this process are left with dead numbers.
pub(crate) fn close_all_but(kept: BorrowedFd<'_>) -> Result<()> {
    let close = |first: u32, last: u32| -> Result<()> {
        if first > last {
            return Ok(());
        }
        // SAFETY: the caller gives up every descriptor in this range, see above.
        check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        Ok(())
    };
    let kept = u32::try_from(kept.as_raw_fd()).unwrap_or(2).max(2);
    close(3, kept - 1)?;
    close(kept + 1, u32::MAX)
}

/// `execve(2)`; returns only when it fails.
pub(crate) fn execve(path: &CString, args: &[CString], env: &[CString]) -> Result<Infallible> {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both arrays end with a null pointer and, like the strings they point to, outlive the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    Err(last_errno())
}

/// One instruction of classic BPF, as `seccomp(2)` takes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BpfInstruction {
    pub(crate) code: u16,
    pub(crate) jt: u8,
    pub(crate) jf: u8,
    pub(crate) k: u32,
}

/// Installs a system call filter on this thread. Needs no_new_privs or CAP_SYS_ADMIN.
pub(crate) fn seccomp_filter(program: &[BpfInstruction]) -> Result<()> {
    #[repr(C)]
    struct Program {
        len: u16,
        filter: *const BpfInstruction,
    }
    let len = u16::try_from(program.len()).map_err(|_| Errno::TOOBIG)?;
    let program = Program { len, filter: program.as_ptr() };
    // SAFETY: the structure has the kernel's sock_fprog layout and points to `len` instructions that outlive the call.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) })?;
    Ok(())
}

/// Brings the loopback interface of the current network namespace up.
pub(crate) fn loopback_up() -> Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: an all-zero ifreq is valid; the name is shorter than IFNAMSIZ; SIOC[GS]IFFLAGS read and write the
    // structure's flags, which is the union field used here.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = *from as libc::c_char;
        }
        check(libc::c_long::from(libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCGIFFLAGS as _,
            &raw mut request,
        )))?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        check(libc::c_long::from(libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw mut request,
        )))?;
    }
    Ok(())
}

/// Gives unused heap back to the kernel, so that an idle supervisor stays small.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Enters namespaces of the process behind `pidfd` (`CLONE_NEW*` flags). A process namespace changes for children only.
pub(crate) fn setns(target: impl AsFd, flags: libc::c_int) -> Result<()> {
    // SAFETY: takes a descriptor and flags; memory is not shared with another thread (see `fork`).
    check(libc::c_long::from(unsafe { libc::setns(target.as_fd().as_raw_fd(), flags) }))?;
    Ok(())
}

/// `unshare(2)` with `CLONE_NEW*` flags.
pub(crate) fn unshare(flags: libc::c_int) -> Result<()> {
    // SAFETY: only namespaces are unshared, never the descriptor table or memory.
    check(libc::c_long::from(unsafe { libc::unshare(flags) }))?;
    Ok(())
}

/// `bpf(2)`: commands of the device controller, see [`crate::devices`].
pub(crate) fn bpf(command: libc::c_int, attr: &mut [u8]) -> Result<libc::c_long> {
    // SAFETY: attr is writable for its length, which is given; pointers inside it are the caller's duty, and
    // `devices` only puts pointers to live slices there.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), attr.len()) })
}

/// Waits for children as long as this process lives: the first process of a shared process namespace.
pub(crate) fn reap_for_ever() -> ! {
    // SAFETY: SIGCHLD is blocked and then waited for; waitpid needs no status. The loop touches no other memory.
    unsafe {
        let mut child: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut child);
        libc::sigaddset(&raw mut child, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const child, std::ptr::null_mut());
        loop {
            while libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) > 0 {}
            libc::sigwaitinfo(&raw const child, std::ptr::null_mut());
        }
    }
}

/// Sends a signal of any number, real-time ones included, to the process behind `pidfd`.
pub fn send_signal(pidfd: impl AsFd, signal: i32) -> std::io::Result<()> {
    // SAFETY: takes numbers; a null siginfo means the same as kill(2).
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })?;
    Ok(())
}

/// Starts a session keyring of this process' own. A kernel without keys, or a user without quota for one, has none to share.
pub(crate) fn leave_session_keyring() -> Result<()> {
    // SAFETY: a null name asks for an anonymous keyring; no memory is passed.
    let joined =
        unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) };
    match check(joined) {
        Ok(_) | Err(Errno::NOSYS | Errno::DQUOT | Errno::PERM) => Ok(()),
        Err(errno) => Err(errno),
    }
}
