//! Control groups of pods and containers, on version 2 and on hybrid hosts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Which control group interface the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One tree for everything.
    V2,
    /// Version 1 controllers, with a version 2 tree beside them for membership, killing and eBPF.
    Hybrid,
}

/// What may go wrong with control groups.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A path that is not relative, or leaves its parent.
    #[error("{0:?} is not a relative control group path")]
    BadPath(String),
    /// The host lacks something.
    #[error("this host has no {0}")]
    Missing(String),
    /// A system call failed.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// Which devices a control group may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DevicePolicy {
    /// What the parent may. For pods and QoS classes.
    #[default]
    Inherit,
    /// The usual list for an unprivileged container.
    Container,
    /// Everything. For privileged containers.
    All,
}

/// Limits of a control group, in Kubernetes' units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// CPU request in thousandths of a core: becomes a weight.
    pub cpu_millis_request: Option<u64>,
    /// CPU limit in thousandths of a core: becomes a quota of each 100 ms.
    pub cpu_millis_limit: Option<u64>,
    /// Memory limit in bytes; no swap beyond it.
    pub memory_limit: Option<u64>,
    /// Memory request in bytes: what reclaim spares as long as it can.
    pub memory_request: Option<u64>,
    /// Most processes and threads.
    pub pids_limit: Option<u64>,
    /// Devices.
    pub device_policy: DevicePolicy,
    /// On out-of-memory kill all processes of the group (version 2 only). For containers, not for pods.
    pub oom_group: bool,
}

/// The control groups below one base directory, in every hierarchy of the host.
#[derive(Clone, Debug)]
pub struct Cgroups;

/// One control group, in every hierarchy of the host. It need not exist.
#[derive(Clone, Debug)]
pub struct Cgroup;

/// Use of resources at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// CPU time used so far, nanoseconds.
    pub cpu_usage_ns: u64,
    /// Memory charged, bytes.
    pub memory_current: u64,
    /// Memory charged without inactive file cache, bytes: what eviction looks at.
    pub memory_working_set: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// Becomes readable when an out-of-memory kill may have happened; non-blocking, fit for tokio's `AsyncFd`.
#[derive(Debug)]
pub struct OomWatch(OwnedFd);

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
impl std::os::fd::AsRawFd for OomWatch {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}
impl OomWatch {
    /// Takes what is pending, so that the descriptor becomes readable only at the next event; then read
    /// [`Cgroup::oom_kills`].
    pub fn drain(&self) -> Result<(), CgroupError> {
        Err(CgroupError::Missing("not built yet".into()))
    }
}

impl Cgroups {
    /// Finds the host's hierarchies and makes the base directory `base` (such as `carrack`) in each.
    pub fn open(_base: &str) -> Result<Self, CgroupError> {
        Err(CgroupError::Missing("not built yet".into()))
    }
    /// Which interface the host has.
    #[must_use]
    pub fn mode(&self) -> Mode {
        Mode::V2
    }
    /// Makes a control group and its parents, or updates the limits of one that exists.
    pub fn create(&self, _path: &str, _limits: &Limits) -> Result<Cgroup, CgroupError> {
        Err(CgroupError::Missing("not built yet".into()))
    }
    /// A handle for a control group that may or may not exist.
    pub fn get(&self, _path: &str) -> Result<Cgroup, CgroupError> {
        Err(CgroupError::Missing("not built yet".into()))
    }
    /// Kills everything below the base and removes it, in every hierarchy. Blocks for as long as processes take to die.
    pub fn purge(&self) -> Result<(), CgroupError> {
        Err(CgroupError::Missing("not built yet".into()))
    }
    /// The base directory in the version 2 tree: eBPF programs attach here.
    #[must_use]
    pub fn v2_path(&self) -> PathBuf {
        PathBuf::new()
    }
}

impl Cgroup {
    /// `cgroup.procs` of every hierarchy.
    #[must_use]
    pub fn procs_files(&self) -> Vec<PathBuf> {
        Vec::new()
    }
    /// The directory in the version 2 tree.
    #[must_use]
    pub fn v2_dir(&self) -> Option<PathBuf> {
        None
    }
    /// Use of resources now.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        Err(CgroupError::Missing("not built yet".into()))
    }
    /// Processes killed for want of memory so far, in this group and those below.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        Err(CgroupError::Missing("not built yet".into()))
    }
    /// A source of out-of-memory events.
    pub fn oom_watch(&self) -> Result<OomWatch, CgroupError> {
        Err(CgroupError::Missing("not built yet".into()))
    }
    /// Kills every process in it and below. One that does not exist is no error.
    pub fn kill(&self) -> Result<(), CgroupError> {
        Err(CgroupError::Missing("not built yet".into()))
    }
    /// Process numbers in it and below.
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        Err(CgroupError::Missing("not built yet".into()))
    }
    /// Removes it and what is below. Blocks shortly while killed processes vanish. Idempotent.
    pub fn remove(&self) -> Result<(), CgroupError> {
        Err(CgroupError::Missing("not built yet".into()))
    }
}
