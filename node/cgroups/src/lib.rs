//! Control groups of pods and containers, on version 2 and on hybrid hosts.
//!
//! All calls are file operations on kernel memory: quick, but blocking; `kill`, `remove` and `purge` may wait for
//! processes to die and belong on a thread for blocking work.

mod error;
mod host;
mod limits;
mod stats;
mod tree;

pub use error::CgroupError;
pub use limits::{DevicePolicy, Limits};
pub use stats::{OomWatch, Stats};

use carrack_runtime::device_access;
use error::{At, if_exists};
use host::Host;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Which control group interface the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One tree for everything.
    V2,
    /// Version 1 controllers, with a version 2 tree beside them for membership, killing and eBPF.
    Hybrid,
}

/// The control groups below one base directory, in every hierarchy of the host.
#[derive(Clone, Debug)]
pub struct Cgroups {
    host: Arc<Host>,
    base: PathBuf,
}

/// One control group, in every hierarchy of the host. It need not exist.
#[derive(Clone, Debug)]
pub struct Cgroup {
    host: Arc<Host>,
    /// From the mount points.
    path: PathBuf,
}

impl Cgroups {
    /// Finds the host's hierarchies and makes the base directory `base` (such as `carrack`) in each.
    pub fn open(base: &str) -> Result<Self, CgroupError> {
        let cgroups = Self { host: Arc::new(Host::find()?), base: relative(base)? };
        make(&cgroups.host, &cgroups.base)?;
        Ok(cgroups)
    }

    /// Which interface the host has.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.host.mode
    }

    /// Makes the control group `path` (relative to the base) and its parents, or updates the limits of one that exists.
    pub fn create(&self, path: &str, limits: &Limits) -> Result<Cgroup, CgroupError> {
        let cgroup = self.get(path)?;
        make(&self.host, &cgroup.path)?;
        cgroup.limit(limits)?;
        Ok(cgroup)
    }

    /// A handle for a control group that may or may not exist.
    pub fn get(&self, path: &str) -> Result<Cgroup, CgroupError> {
        Ok(Cgroup { host: self.host.clone(), path: self.base.join(relative(path)?) })
    }

    /// Kills everything below the base and removes it and the base, in every hierarchy. Blocks for as long as
    /// processes take to die. Idempotent.
    pub fn purge(&self) -> Result<(), CgroupError> {
        let base = Cgroup { host: self.host.clone(), path: self.base.clone() };
        base.kill()?;
        base.remove()
    }

    /// The base directory in the version 2 tree: eBPF programs attach here.
    #[must_use]
    pub fn v2_path(&self) -> PathBuf {
        self.host.v2.join(&self.base)
    }
}

impl Cgroup {
    /// `cgroup.procs` of every hierarchy.
    #[must_use]
    pub fn procs_files(&self) -> Vec<PathBuf> {
        self.dirs().map(|dir| dir.join("cgroup.procs")).collect()
    }

    /// The directory in the version 2 tree.
    #[must_use]
    pub fn v2_dir(&self) -> Option<PathBuf> {
        Some(self.v2())
    }

    /// CPU time used so far, in nanoseconds; 0 for a group that does not exist.
    pub fn cpu_time(&self) -> Result<u64, CgroupError> {
        match self.host.mode {
            Mode::V2 => Ok(stats::keyed(&self.v2().join("cpu.stat"), "usage_usec")?.saturating_mul(1000)),
            Mode::Hybrid => stats::number(&self.v1("cpuacct")?.join("cpuacct.usage")),
        }
    }

    /// Use of resources now; zeros for a group that does not exist.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        let (current, inactive, pids) = match self.host.mode {
            Mode::V2 => {
                let dir = self.v2();
                (
                    stats::number(&dir.join("memory.current"))?,
                    stats::keyed(&dir.join("memory.stat"), "inactive_file")?,
                    stats::number(&dir.join("pids.current"))?,
                )
            }
            Mode::Hybrid => (
                stats::number(&self.v1("memory")?.join("memory.usage_in_bytes"))?,
                stats::keyed(&self.v1("memory")?.join("memory.stat"), "total_inactive_file")?,
                stats::number(&self.v1("pids")?.join("pids.current"))?,
            ),
        };
        let memory_working_set = current.saturating_sub(inactive);
        Ok(Stats { cpu_usage_ns: self.cpu_time()?, memory_current: current, memory_working_set, pids })
    }

    /// Processes killed for want of memory so far: in this group and those below (version 2), in this group alone
    /// (version 1); 0 for a group that does not exist.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        match self.host.mode {
            Mode::V2 => stats::keyed(&self.v2().join("memory.events"), "oom_kill"),
            Mode::Hybrid => stats::keyed(&self.v1("memory")?.join("memory.oom_control"), "oom_kill"),
        }
    }

    /// A source of out-of-memory events. The group must exist.
    pub fn oom_watch(&self) -> Result<OomWatch, CgroupError> {
        match self.host.mode {
            Mode::V2 => OomWatch::v2(&self.v2()),
            Mode::Hybrid => OomWatch::v1(&self.v1("memory")?),
        }
    }

    /// Sends SIGKILL to every process in it and below. One that does not exist is no error. On hybrid hosts it returns
    /// when they are gone, on version 2 when they are sure to die.
    pub fn kill(&self) -> Result<(), CgroupError> {
        if !tree::kill_v2(&self.v2())? {
            tree::kill_each(&self.v2(), None)?;
        }
        let freezer = self.host.v1_mount("freezer").map(|mount| mount.join(&self.path));
        for hierarchy in &self.host.v1 {
            tree::kill_each(&hierarchy.mount.join(&self.path), freezer.as_deref())?;
        }
        Ok(())
    }

    /// Process numbers in it and below, in any hierarchy.
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        let mut pids = Vec::new();
        for dir in self.dirs() {
            pids.extend(tree::pids(&dir)?);
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Removes it and what is below, in every hierarchy. Blocks shortly while killed processes vanish, and fails when
    /// they do not. Idempotent.
    pub fn remove(&self) -> Result<(), CgroupError> {
        self.dirs().try_for_each(|dir| tree::remove(&dir))
    }

    /// Gives a group that exists other limits; what is absent stays as it is. A memory limit below what is in use is
    /// refused by version 1, and by version 2 met by reclaim and in the end by killing: look at [`Cgroup::stats`] first.
    pub fn limit(&self, limits: &Limits) -> Result<(), CgroupError> {
        let restricted = self.devices_restricted()?;
        for setting in limits::settings(self.host.mode, limits) {
            // Denying everything and allowing some again would hit a running container in between.
            if setting.controller == "devices" && restricted {
                continue;
            }
            let dir = match (setting.controller, setting.optional) {
                ("", _) => self.v2(),
                (controller, false) => self.v1(controller)?,
                (controller, true) => match self.v1(controller) {
                    Ok(dir) => dir,
                    Err(_) => continue,
                },
            };
            write_setting(&dir.join(setting.file), &setting)?;
        }
        if self.host.mode == Mode::V2 && limits.device_policy == DevicePolicy::Container {
            let dir = self.v2();
            let fd = std::fs::File::open(&dir).at("open", &dir)?;
            device_access::restrict(&fd, &device_access::CONTAINER_DEVICES)
                .at("restrict the devices of", &dir)?;
        }
        Ok(())
    }

    /// Whether the devices hierarchy of version 1 holds rules already.
    fn devices_restricted(&self) -> Result<bool, CgroupError> {
        let Ok(dir) = self.v1("devices") else { return Ok(false) };
        let file = dir.join("devices.list");
        let rules = if_exists(std::fs::read_to_string(&file)).at("read", &file)?;
        Ok(rules.is_some_and(|rules| rules.trim() != "a *:* rwm"))
    }

    fn dirs(&self) -> impl Iterator<Item = PathBuf> {
        self.host.mounts().map(|mount| mount.join(&self.path))
    }

    fn v2(&self) -> PathBuf {
        self.host.v2.join(&self.path)
    }

    fn v1(&self, controller: &str) -> Result<PathBuf, CgroupError> {
        let mount = self.host.v1_mount(controller);
        let mount =
            mount.ok_or_else(|| CgroupError::Missing(format!("control group controller {controller}")))?;
        Ok(mount.join(&self.path))
    }
}

/// Writes one value. Lowering memory and swap together in version 1 goes in one order, raising in the other: when the
/// kernel says that a bound would be crossed, the partner is set first.
fn write_setting(file: &Path, setting: &limits::Setting) -> Result<(), CgroupError> {
    let write = |file: &Path| std::fs::write(file, &setting.value);
    match write(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && setting.optional => Ok(()),
        Err(error) if error.raw_os_error() == Some(22) && setting.file == "memory.limit_in_bytes" => {
            let swap = file.with_file_name("memory.memsw.limit_in_bytes");
            if_exists(write(&swap)).at("write", &swap)?;
            write(file).at("write", file)
        }
        done => done.at("write", file),
    }
}

/// Makes `path` in every hierarchy; in version 2 with the controllers switched on in each parent.
fn make(host: &Host, path: &Path) -> Result<(), CgroupError> {
    for hierarchy in &host.v1 {
        let dir = hierarchy.mount.join(path);
        std::fs::create_dir_all(&dir).at("make", &dir)?;
    }
    if host.mode == Mode::Hybrid {
        let dir = host.v2.join(path);
        return std::fs::create_dir_all(&dir).at("make", &dir);
    }
    let mut dir = host.v2.clone();
    for name in path {
        let controllers = dir.join("cgroup.subtree_control");
        std::fs::write(&controllers, "+cpu +memory +pids").at("switch on controllers in", &controllers)?;
        dir.push(name);
        match std::fs::create_dir(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made.at("make", &dir)?,
        }
    }
    Ok(())
}

/// A path of plain names.
fn relative(path: &str) -> Result<PathBuf, CgroupError> {
    let plain = Path::new(path).components().all(|component| matches!(component, Component::Normal(_)));
    if path.is_empty() || !plain {
        return Err(CgroupError::BadPath(path.to_owned()));
    }
    Ok(PathBuf::from(path))
}
