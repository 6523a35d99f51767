//! What the containers of a pod share: network, IPC and UTS namespaces, `/dev/shm`, and on demand processes.

use crate::mounts;
use crate::report::{LaunchError, Step};
use crate::sys::{self, Fork};
use rustix::fs::CWD;
use rustix::mount::{MountAttrFlags, MountPropagationFlags, MoveMountFlags, mount_change, move_mount};
use rustix::process::{Signal, chroot, fchdir, set_parent_process_death_signal};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Default size of a pod's `/dev/shm`.
const SHM_SIZE: &str = "64m";

/// What a pod's processes are to share, and under which name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxSpec {
    /// Make a network and a UTS namespace with this host name; `None` stays in the host's.
    pub hostname: Option<String>,
    /// Make an IPC namespace and a `/dev/shm`; otherwise both are the host's.
    pub private_ipc: bool,
    /// Make one process namespace for all containers that ask for `PidNamespace::Inherit`.
    pub shared_pid: bool,
    /// Namespaced kernel parameters.
    pub sysctls: BTreeMap<String, String>,
}

/// A pod's namespaces. They last as long as this process or a container of it does.
#[derive(Debug)]
pub struct Sandbox {
    /// A mount namespace that holds nothing but the pod's `/dev/shm`; `None` uses the host's.
    shm: Option<OwnedFd>,
    /// First process of the shared process namespace.
    init: Option<u32>,
}

impl Sandbox {
    /// Moves this process into new namespaces. Everything it starts afterwards is part of the pod.
    pub fn enter(spec: &SandboxSpec) -> Result<Self, LaunchError> {
        if let Some(hostname) = &spec.hostname {
            sys::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWUTS).step(|| "make a network namespace")?;
            rustix::system::sethostname(hostname.as_bytes())
                .step(|| format!("set the host name {hostname}"))?;
            sys::loopback_up().step(|| "bring the loopback interface up")?;
        }
        let mut shm = None;
        if spec.private_ipc {
            sys::unshare(libc::CLONE_NEWIPC).step(|| "make an IPC namespace")?;
            shm = Some(shm_namespace()?);
        }
        apply_sysctls(spec)?;
        let init = if spec.shared_pid { Some(shared_pid_namespace()?) } else { None };
        Ok(Self { shm, init })
    }

    /// The first process of the shared process namespace. When it ends, so does everything in there.
    #[must_use]
    pub fn init(&self) -> Option<u32> {
        self.init
    }

    /// A detached mount of the pod's `/dev/shm`. Called in a container's first process.
    pub(crate) fn shm_tree(&self) -> Result<Option<OwnedFd>, LaunchError> {
        let name = || "share /dev/shm";
        let Some(namespace) = &self.shm else {
            return mounts::clone_tree(CWD, Path::new("/dev/shm"), false).step(name).map(Some);
        };
        let home = Home::remember()?;
        sys::setns(namespace, libc::CLONE_NEWNS).step(name)?;
        let tree = mounts::clone_tree(CWD, Path::new("/"), false).step(name)?;
        home.go_back()?;
        Ok(Some(tree))
    }
}

/// This process' mount namespace and root, to come back to.
struct Home {
    namespace: OwnedFd,
    root: OwnedFd,
}

impl Home {
    fn remember() -> Result<Self, LaunchError> {
        let open = |path: &str, flags| {
            rustix::fs::open(path, flags | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())
                .step(|| format!("open {path}"))
        };
        Ok(Self {
            namespace: open("/proc/self/ns/mnt", rustix::fs::OFlags::RDONLY)?,
            root: open("/", rustix::fs::OFlags::PATH)?,
        })
    }

    /// Entering a mount namespace sets the root to its own; a process under chroot wants its old one.
    fn go_back(self) -> Result<(), LaunchError> {
        let name = || "go back to the host's mounts";
        sys::setns(&self.namespace, libc::CLONE_NEWNS).step(name)?;
        fchdir(&self.root).step(name)?;
        chroot(".").step(name)
    }
}

/// Makes a mount namespace whose root is a new tmpfs and that holds nothing else: it keeps no mount of the host busy,
/// shows nowhere, and is gone with the last descriptor for it.
fn shm_namespace() -> Result<OwnedFd, LaunchError> {
    let name = || "make /dev/shm";
    let home = Home::remember()?;
    sys::unshare(libc::CLONE_NEWNS).step(name)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).step(name)?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let options = [("mode", "1777".to_owned()), ("size", SHM_SIZE.to_owned())];
    let tmpfs = mounts::filesystem("tmpfs", &options, flags).step(name)?;
    let namespace = rustix::fs::open(
        "/proc/self/ns/mnt",
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .step(name)?;
    move_mount(&tmpfs, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).step(name)?;
    mounts::become_root(&tmpfs).step(name)?;
    home.go_back()?;
    Ok(namespace)
}

/// Makes a process namespace for this process' children, and its first process, which reaps.
fn shared_pid_namespace() -> Result<u32, LaunchError> {
    let name = || "make a process namespace";
    sys::unshare(libc::CLONE_NEWPID).step(name)?;
    match sys::fork(0, None).step(name)? {
        Fork::Parent { pid, .. } => Ok(pid),
        Fork::Child => {
            sys::reset_signals();
            if set_parent_process_death_signal(Some(Signal::KILL)).is_err() {
                sys::exit_now(1);
            }
            sys::reap_for_ever()
        }
    }
}

/// Writes the pod's kernel parameters. Only those that have a namespace of their own are taken: others are the host's.
fn apply_sysctls(spec: &SandboxSpec) -> Result<(), LaunchError> {
    const IPC: [&str; 9] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.shm_next_id",
    ];
    for (key, value) in &spec.sysctls {
        // Both spellings are in use: dots, and slashes where a name holds a dot.
        let (path, dotted) = match key.contains('/') {
            true => (key.clone(), key.replace('/', ".")),
            false => (key.replace('.', "/"), key.clone()),
        };
        let network = dotted.starts_with("net.");
        let ipc = IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.");
        if path.split('/').any(|part| part.is_empty() || part == "..") || !(network || ipc) {
            return Err(LaunchError::invalid(format!(
                "sysctl {key:?} is not namespaced: it cannot be set for a pod"
            )));
        }
        if (network && spec.hostname.is_none()) || (ipc && !spec.private_ipc) {
            return Err(LaunchError::invalid(format!(
                "sysctl {key:?} cannot be set: the pod shares the host's"
            )));
        }
        std::fs::write(Path::new("/proc/sys").join(&path), value)
            .step(|| format!("set sysctl {key} to {value:?}"))?;
    }
    Ok(())
}
