//! What a container is to be: the input of this crate, as plain serialisable data.
//!
//! The fields follow the OCI runtime specification where it has a word for them, but say only what a Kubernetes
//! container can ask for, so that a spec which does not make sense can hardly be written.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Everything needed to start the first process of a container.
///
/// Network, IPC and UTS namespaces are not named here: a container is a child of its pod's supervisor and shares
/// these three with it. Mount and cgroup namespaces are always the container's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Where the root filesystem comes from.
    pub root: Root,
    /// Whether `/` is mounted read-only. Mounts below it have their own flag.
    #[serde(default)]
    pub readonly_root: bool,
    /// The command and its arguments; the first is looked up in `$PATH` of `env` unless it holds a slash.
    pub args: Vec<String>,
    /// The environment, as `NAME=value`; nothing is inherited. `HOME` is added from `/etc/passwd` when absent.
    #[serde(default)]
    pub env: Vec<String>,
    /// The working directory, absolute; made when it does not exist.
    pub cwd: PathBuf,
    /// Who the process runs as.
    #[serde(default)]
    pub user: User,
    /// Mounts, made parents first; of equal depth in the order given. Start from [`default_mounts`].
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Paths that are hidden: files behind `/dev/null`, directories behind an empty read-only tmpfs.
    #[serde(default)]
    pub masked_paths: Vec<PathBuf>,
    /// Paths that become read-only.
    #[serde(default)]
    pub readonly_paths: Vec<PathBuf>,
    /// Which device nodes `/dev` holds.
    #[serde(default)]
    pub devices: Devices,
    /// The capabilities.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// Set for `allowPrivilegeEscalation: false`.
    #[serde(default)]
    pub no_new_privs: bool,
    /// The system call filter.
    #[serde(default)]
    pub seccomp: Seccomp,
    /// Resource limits; those not named are inherited.
    #[serde(default)]
    pub rlimits: Vec<Rlimit>,
    /// `/proc/<pid>/oom_score_adj`, -1000 to 1000.
    #[serde(default)]
    pub oom_score_adj: i32,
    /// Which process namespace the container sees.
    #[serde(default)]
    pub pid: PidNamespace,
    /// Whether the container wants its own user namespace. Not built yet: such a spec is refused.
    #[serde(default)]
    pub user_namespace: bool,
    /// The control groups to run in.
    #[serde(default)]
    pub cgroups: CgroupPaths,
    /// Whether the process gets a terminal of its own as stdin, stdout and stderr.
    #[serde(default)]
    pub tty: bool,
}

impl Spec {
    /// A container with the usual defaults of an unprivileged Kubernetes container: default mounts, masked paths,
    /// capabilities and devices, the default seccomp profile, user root, working directory `/`.
    #[must_use]
    pub fn new(root: Root, args: Vec<String>) -> Self {
        Self {
            root,
            readonly_root: false,
            args,
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()],
            cwd: PathBuf::from("/"),
            user: User::default(),
            mounts: default_mounts(),
            masked_paths: default_masked_paths(),
            readonly_paths: default_readonly_paths(),
            devices: Devices::Default,
            capabilities: Capabilities::default(),
            no_new_privs: false,
            seccomp: Seccomp::RuntimeDefault,
            rlimits: Vec::new(),
            oom_score_adj: 0,
            pid: PidNamespace::Private,
            user_namespace: false,
            cgroups: CgroupPaths::default(),
            tty: false,
        }
    }

    /// Turns this into a privileged container: every capability and device, no filter, nothing hidden, `/sys` and
    /// `/sys/fs/cgroup` writable.
    pub fn make_privileged(&mut self) {
        self.capabilities.privileged = true;
        self.devices = Devices::Host;
        self.seccomp = Seccomp::Unconfined;
        self.no_new_privs = false;
        self.masked_paths.clear();
        self.readonly_paths.clear();
        for mount in &mut self.mounts {
            if matches!(mount.kind, MountKind::Sysfs | MountKind::Cgroup) {
                mount.read_only = false;
            }
        }
    }
}

/// Where a root filesystem comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Root {
    /// An overlay mount, made inside the container's mount namespace: the host never sees it and it ends with it.
    Overlay {
        /// Unpacked layers, topmost first. At least one.
        lower: Vec<PathBuf>,
        /// Directory that takes what the container writes. Must exist.
        upper: PathBuf,
        /// Overlayfs' scratch directory: empty, on the same filesystem as `upper`. Must exist.
        work: PathBuf,
    },
    /// A directory of the host as it is.
    Path(PathBuf),
}

/// Who a process runs as.
///
/// The image's user is resolved against the container's own `/etc/passwd` and `/etc/group`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The image's `User`: empty (root), `name`, `uid`, `name:group` or `uid:gid`.
    #[serde(default)]
    pub image_user: String,
    /// `runAsUser`; wins over `image_user`.
    #[serde(default)]
    pub uid: Option<u32>,
    /// `runAsGroup`; wins over the user's primary group.
    #[serde(default)]
    pub gid: Option<u32>,
    /// `supplementalGroups` and `fsGroup`.
    #[serde(default)]
    pub supplemental_groups: Vec<u32>,
    /// `supplementalGroupsPolicy: Strict`: memberships written in `/etc/group` are left out.
    #[serde(default)]
    pub strict_groups: bool,
    /// The umask; 0022 when absent.
    #[serde(default)]
    pub umask: Option<u32>,
}

/// One mount of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside the container. Symbolic links in it are resolved inside the root filesystem; what does
    /// not exist is made.
    pub target: PathBuf,
    /// What is mounted.
    pub kind: MountKind,
    /// Read-only (for a bind of several mounts: the topmost one only, as in Kubernetes).
    #[serde(default)]
    pub read_only: bool,
    /// `recursiveReadOnly`: submounts become read-only too. Implies `read_only`.
    #[serde(default)]
    pub recursive_read_only: bool,
    /// Ignore set-user-ID bits and file capabilities.
    #[serde(default)]
    pub nosuid: bool,
    /// Device nodes cannot be opened.
    #[serde(default)]
    pub nodev: bool,
    /// Nothing can be executed.
    #[serde(default)]
    pub noexec: bool,
    /// `mountPropagation`.
    #[serde(default)]
    pub propagation: Propagation,
}

impl Mount {
    /// A writable bind mount of a file or directory of the host, its submounts included.
    #[must_use]
    pub fn bind(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self::new(target, MountKind::Bind { source: source.into() })
    }

    /// A mount of any kind without flags.
    #[must_use]
    pub fn new(target: impl Into<PathBuf>, kind: MountKind) -> Self {
        Self {
            target: target.into(),
            kind,
            read_only: false,
            recursive_read_only: false,
            nosuid: false,
            nodev: false,
            noexec: false,
            propagation: Propagation::None,
        }
    }

    /// The same mount, read-only or not.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// A file or directory of the host.
    Bind {
        /// Absolute path on the host; must exist.
        source: PathBuf,
    },
    /// Memory.
    Tmpfs {
        /// Size in bytes; the kernel's default (half of memory) when absent.
        size: Option<u64>,
        /// Permission bits of its root.
        mode: u32,
    },
    /// The process filesystem.
    Proc,
    /// `/sys`, of the pod's network namespace.
    Sysfs,
    /// `/dev`: a tmpfs filled with the nodes of [`Spec::devices`] and the usual links.
    Dev,
    /// Pseudo terminals of the container's own.
    Devpts,
    /// POSIX message queues of the pod's IPC namespace.
    Mqueue,
    /// The container's own control groups, as `/sys/fs/cgroup`.
    Cgroup,
    /// The pod's `/dev/shm`, shared by its containers.
    Shm,
}

/// How mounts made later travel between host and container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Propagation {
    /// Not at all.
    #[default]
    None,
    /// From the host into the container.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// Which device nodes `/dev` holds beside the terminals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Devices {
    /// null, zero, full, random, urandom, tty.
    #[default]
    Default,
    /// These and the host's given ones (absolute host path, and where it appears in the container).
    Extra(Vec<(PathBuf, PathBuf)>),
    /// Every device node of the host.
    Host,
}

/// Capabilities, in Kubernetes' words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Every capability the kernel knows.
    #[serde(default)]
    pub privileged: bool,
    /// Names to add to the default set, with or without `CAP_`, or `ALL`.
    #[serde(default)]
    pub add: Vec<String>,
    /// Names to take away, or `ALL`. Taken away after adding; `ALL` before.
    #[serde(default)]
    pub drop: Vec<String>,
}

/// The system call filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seccomp {
    /// The usual profile of container runtimes, which depends on the capabilities.
    #[default]
    RuntimeDefault,
    /// None.
    Unconfined,
    /// A profile in a file of the host: JSON of the OCI runtime specification's `linux.seccomp`.
    Localhost(PathBuf),
}

/// One resource limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE` and so on.
    pub name: String,
    /// Soft limit; `u64::MAX` is infinity.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// Which process namespace a container sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PidNamespace {
    /// Its own: its first process is number 1.
    #[default]
    Private,
    /// That for children of the supervisor: the pod's shared one, or the host's with `hostPID`.
    Inherit,
    /// That of another process (an ephemeral container's target), by its number on the host.
    Of(u32),
}

/// The control groups a process is to run in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPaths {
    /// The directory in the version 2 tree: the process is born in it.
    #[serde(default)]
    pub v2_dir: Option<PathBuf>,
    /// `cgroup.procs` files of every hierarchy (the one of `v2_dir` may be among them): joined before anything else.
    #[serde(default)]
    pub procs: Vec<PathBuf>,
}

/// A further process inside a running container. Everything not said here is the container's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecProcess {
    /// The command and its arguments.
    pub args: Vec<String>,
    /// Environment as `NAME=value`; wins over the container's, which is kept.
    #[serde(default)]
    pub env: Vec<String>,
    /// Working directory; the container's when absent.
    #[serde(default)]
    pub cwd: Option<PathBuf>,
    /// User; the container's when absent.
    #[serde(default)]
    pub user: Option<User>,
    /// Whether it gets a terminal.
    #[serde(default)]
    pub tty: bool,
}

/// The mounts every container gets: /proc, /dev, /dev/pts, /dev/shm, /dev/mqueue, /sys and /sys/fs/cgroup (both
/// read-only).
#[must_use]
pub fn default_mounts() -> Vec<Mount> {
    let locked =
        |target: &str, kind: MountKind| Mount { nosuid: true, noexec: true, ..Mount::new(target, kind) };
    let locked_nodev = |target: &str, kind: MountKind| Mount { nodev: true, ..locked(target, kind) };
    vec![
        locked_nodev("/proc", MountKind::Proc),
        Mount { nosuid: true, ..Mount::new("/dev", MountKind::Dev) },
        locked("/dev/pts", MountKind::Devpts),
        locked_nodev("/dev/shm", MountKind::Shm),
        locked_nodev("/dev/mqueue", MountKind::Mqueue),
        locked_nodev("/sys", MountKind::Sysfs).read_only(true),
        locked_nodev("/sys/fs/cgroup", MountKind::Cgroup).read_only(true),
    ]
}

/// What an unprivileged container must not read, as containerd has it.
#[must_use]
pub fn default_masked_paths() -> Vec<PathBuf> {
    [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ]
    .map(PathBuf::from)
    .to_vec()
}

/// What an unprivileged container must not write, as containerd has it.
#[must_use]
pub fn default_readonly_paths() -> Vec<PathBuf> {
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"].map(PathBuf::from).to_vec()
}
