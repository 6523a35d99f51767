//! Which control group hierarchies the host has, and where.

use crate::Mode;
use crate::error::{At, CgroupError};
use std::path::{Path, PathBuf};

/// Controllers that limits and statistics need.
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];

/// Version 1 hierarchies that containers are put into. `cpuset`, `blkio` and the like would cost a write each and
/// carry no limit; `name=systemd` matters where systemd runs: it kills by it when a service stops.
const JOINED: [&str; 7] = ["cpu", "cpuacct", "memory", "pids", "devices", "freezer", "name=systemd"];

/// Where the host's hierarchies are mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) mode: Mode,
    /// Mount point of the version 2 tree.
    pub(crate) v2: PathBuf,
    /// Version 1 mount points and their controllers; empty in version 2 mode.
    pub(crate) v1: Vec<Hierarchy>,
}

/// A version 1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) mount: PathBuf,
    pub(crate) controllers: Vec<String>,
}

impl Host {
    /// Looks at this host.
    pub(crate) fn find() -> Result<Self, CgroupError> {
        let path = Path::new("/proc/self/mountinfo");
        let table = std::fs::read_to_string(path).at("read", path)?;
        let controllers =
            |mount: &Path| std::fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
        let systemd = Path::new("/run/systemd/system").exists();
        Self::from_mountinfo(&table, controllers, systemd)
    }

    fn from_mountinfo(
        table: &str,
        v2_controllers: impl Fn(&Path) -> String,
        systemd: bool,
    ) -> Result<Self, CgroupError> {
        let mounts: Vec<_> = table.lines().filter_map(cgroup_mount).collect();
        let v2 = mounts.iter().find(|mount| mount.v2).map(|mount| mount.point.clone()).ok_or_else(|| {
            CgroupError::Missing(
                "version 2 control group tree (mount -t cgroup2 none /sys/fs/cgroup/unified)".into(),
            )
        })?;
        let available = v2_controllers(&v2);
        let in_v2 = |name: &&str| available.split_whitespace().any(|known| known == *name);
        if NEEDED.iter().all(in_v2) {
            return Ok(Self { mode: Mode::V2, v2, v1: Vec::new() });
        }
        let mut v1: Vec<Hierarchy> = Vec::new();
        for mount in mounts.into_iter().filter(|mount| !mount.v2) {
            let joined =
                |name: &String| JOINED.contains(&name.as_str()) && (systemd || name != "name=systemd");
            let controllers: Vec<_> = mount.options.split(',').map(str::to_owned).filter(joined).collect();
            // A hierarchy may be mounted more than once.
            if !controllers.is_empty() && !v1.iter().any(|known| known.controllers == controllers) {
                v1.push(Hierarchy { mount: mount.point, controllers });
            }
        }
        let missing: Vec<_> = NEEDED
            .into_iter()
            .filter(|name| {
                !v1.iter().any(|hierarchy| hierarchy.controllers.iter().any(|known| known == name))
            })
            .collect();
        if missing.is_empty() {
            return Ok(Self { mode: Mode::Hybrid, v2, v1 });
        }
        Err(CgroupError::Missing(format!("control group controller {}", missing.join(", "))))
    }

    /// Mount point of the version 1 hierarchy of a controller.
    pub(crate) fn v1_mount(&self, controller: &str) -> Option<&Path> {
        let has = |hierarchy: &&Hierarchy| hierarchy.controllers.iter().any(|known| known == controller);
        self.v1.iter().find(has).map(|hierarchy| hierarchy.mount.as_path())
    }

    /// Mount points of every hierarchy.
    pub(crate) fn mounts(&self) -> impl Iterator<Item = &Path> {
        self.v1.iter().map(|hierarchy| hierarchy.mount.as_path()).chain([self.v2.as_path()])
    }
}

struct CgroupMount {
    point: PathBuf,
    v2: bool,
    /// Of the filesystem, not of the mount: for version 1 they name the controllers.
    options: String,
}

/// "36 35 0:30 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct"
fn cgroup_mount(line: &str) -> Option<CgroupMount> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let point = PathBuf::from(mount.split(' ').nth(4)?);
    let mut filesystem = filesystem.split(' ');
    let v2 = match filesystem.next()? {
        "cgroup2" => true,
        "cgroup" => false,
        _ => return None,
    };
    Some(CgroupMount { point, v2, options: filesystem.nth(1).unwrap_or_default().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
29 22 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
30 29 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
31 29 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 29 0:29 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
33 29 0:30 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
34 29 0:31 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
35 29 0:32 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn finds_hybrid_hierarchies() {
        let host = Host::from_mountinfo(HYBRID, |_| "hugetlb\n".into(), false).unwrap();
        assert_eq!(host.mode, Mode::Hybrid);
        assert_eq!(host.v1_mount("cpuacct"), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(host.mounts().count(), 4);
        let host = Host::from_mountinfo(HYBRID, |_| String::new(), true).unwrap();
        assert_eq!(host.mounts().count(), 5, "with systemd its hierarchy is joined too");
    }

    #[test]
    fn prefers_version_2_and_says_what_is_missing() {
        let host = Host::from_mountinfo(HYBRID, |_| "cpuset cpu io memory pids".into(), false).unwrap();
        assert_eq!((host.mode, host.v1.len()), (Mode::V2, 0));
        let without: String =
            HYBRID.lines().filter(|line| !line.contains("pids")).collect::<Vec<_>>().join("\n");
        let error = Host::from_mountinfo(&without, |_| String::new(), false).unwrap_err();
        assert_eq!(error.to_string(), "this host has no control group controller pids");
        let without: String =
            HYBRID.lines().filter(|line| !line.contains("cgroup2")).collect::<Vec<_>>().join("\n");
        assert!(Host::from_mountinfo(&without, |_| String::new(), false).is_err());
    }
}
