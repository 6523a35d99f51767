//! The mounts of a container, made with the file-descriptor based mount calls.
//!
//! A filesystem or bind is first made detached, gets its flags there, and is then moved onto a target that was opened
//! inside the root filesystem. Nothing is named twice, so nothing can be swapped in between.

use crate::devices;
use crate::inroot::{InRoot, Make, normal};
use crate::report::{LaunchError, Step};
use crate::spec::{CgroupPaths, Devices, Mount, MountKind, Propagation, Root};
use crate::sys;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, fstatfs, mkdirat, statx};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{chdir, chroot, fchdir, pivot_root};
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};

const PROC_SUPER_MAGIC: i64 = 0x9fa0;
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;

/// Files below /proc that may be mounted over: what lxcfs and the like replace.
const PROC_FILES: [&str; 8] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
];

/// What the mounts of a container are made from, beside its list.
pub(crate) struct Context<'a> {
    pub(crate) devices: &'a Devices,
    pub(crate) cgroups: &'a CgroupPaths,
    /// The pod's `/dev/shm`, detached.
    pub(crate) shm: Option<OwnedFd>,
}

/// Mounts in the order in which they are to be made, with the host's side of binds already opened.
pub(crate) struct Opened<'a>(Vec<(&'a Mount, Option<OwnedFd>)>);

/// Opens the sources of bind mounts. Call it while mounts of this namespace are still peers of the host's, as
/// propagation both ways needs that.
pub(crate) fn open_sources(mounts: &[Mount]) -> Result<Opened<'_>, LaunchError> {
    let mut opened = Vec::with_capacity(mounts.len());
    for mount in in_order(mounts) {
        let source = match &mount.kind {
            MountKind::Bind { source } => Some(open_bind(mount, source)?),
            _ => None,
        };
        opened.push((mount, source));
    }
    Ok(Opened(opened))
}

/// Parents first. Of several with one target the last counts: a volume takes the place of a default mount. A volume at
/// `/dev` takes the place of all that would be made below it, as it is the host's `/dev` more often than not.
fn in_order(mounts: &[Mount]) -> Vec<&Mount> {
    let volume = |mount: &Mount| matches!(mount.kind, MountKind::Bind { .. } | MountKind::Tmpfs { .. });
    let dev_is_volume =
        mounts.iter().any(|mount| volume(mount) && normal(&mount.target) == Path::new("/dev"));
    let mut chosen: Vec<(PathBuf, &Mount)> = Vec::with_capacity(mounts.len());
    for mount in mounts {
        let target = normal(&mount.target);
        if dev_is_volume && !volume(mount) && target.starts_with("/dev") {
            continue;
        }
        chosen.retain(|(known, _)| *known != target);
        chosen.push((target, mount));
    }
    // Stable: of equal depth, the order given counts.
    chosen.sort_by_key(|(target, _)| target.components().count());
    chosen.into_iter().map(|(_, mount)| mount).collect()
}

fn open_bind(mount: &Mount, source: &Path) -> Result<OwnedFd, LaunchError> {
    let name = || format!("mount {} at {}", source.display(), mount.target.display());
    check_propagation(mount, source)?;
    let tree = clone_tree(CWD, source, true).step(name)?;
    let propagation = match mount.propagation {
        Propagation::None => libc::MS_PRIVATE,
        Propagation::HostToContainer => libc::MS_SLAVE,
        Propagation::Bidirectional => 0,
    };
    if propagation != 0 {
        sys::mount_setattr(tree.as_fd(), true, 0, 0, propagation).step(name)?;
    }
    set_flags(tree.as_fd(), mount).step(name)?;
    Ok(tree)
}

fn set_flags(tree: BorrowedFd<'_>, mount: &Mount) -> Result<(), Errno> {
    let flags = attributes(mount) & !MountAttrFlags::MOUNT_ATTR_RDONLY.bits();
    if flags != 0 {
        sys::mount_setattr(tree, false, u64::from(flags), 0, 0)?;
    }
    if mount.read_only || mount.recursive_read_only {
        sys::mount_setattr(tree, mount.recursive_read_only, libc::MOUNT_ATTR_RDONLY, 0, 0)?;
    }
    Ok(())
}

/// Mounts can only travel when the host's mount lets them; else that would silently not work.
fn check_propagation(mount: &Mount, source: &Path) -> Result<(), LaunchError> {
    let (wanted, fits): (&str, &[&str]) = match mount.propagation {
        Propagation::None => return Ok(()),
        Propagation::HostToContainer => ("a shared or slave mount", &["shared:", "master:"]),
        Propagation::Bidirectional => ("a shared mount", &["shared:"]),
    };
    let name = || format!("look at the mount of {}", source.display());
    let id = statx(CWD, source, AtFlags::empty(), rustix::fs::StatxFlags::MNT_ID)
        .step(name)?
        .stx_mnt_id
        .to_string();
    let table = std::fs::read_to_string("/proc/self/mountinfo").step(name)?;
    // "36 35 98:0 /mnt1 /mnt2 rw,noatime shared:1 master:2 - ext3 ...": tags lie between the sixth field and the dash.
    let tagged = table.lines().map(|line| line.split(' ').collect::<Vec<_>>()).any(|fields| {
        fields.first() == Some(&id.as_str())
            && fields
                .iter()
                .skip(6)
                .take_while(|field| **field != "-")
                .any(|tag| fits.iter().any(|f| tag.starts_with(f)))
    });
    if tagged {
        return Ok(());
    }
    Err(LaunchError::invalid(format!(
        "{} is not on {wanted}, as its mount propagation needs",
        source.display()
    )))
}

/// Makes the root filesystem and puts it over `/` of this namespace, from where `pivot_root` will take it.
pub(crate) fn attach_root(root: &Root) -> Result<OwnedFd, LaunchError> {
    let mount = match root {
        Root::Overlay { lower, upper, work } => overlay(lower, upper, work)?,
        Root::Path(path) => {
            let name = || format!("use {} as root filesystem", path.display());
            let tree = clone_tree(CWD, path, true).step(name)?;
            sys::mount_setattr(tree.as_fd(), true, 0, 0, libc::MS_PRIVATE).step(name)?;
            tree
        }
    };
    move_mount(&mount, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .step(|| "mount the root filesystem")?;
    Ok(mount)
}

/// Makes `root`, which lies over `/`, the root of this process and of its mount namespace, and drops what was there.
pub(crate) fn become_root(root: &OwnedFd) -> Result<(), Errno> {
    fchdir(root)?;
    match pivot_root(".", ".") {
        // Old and new in one place: the old root lies over the new one now, "." still names it, and it goes away.
        Ok(()) => unmount(".", UnmountFlags::DETACH)?,
        // A host that runs from its initial RAM filesystem: that cannot be moved, only lain over. `..` does not lead
        // beneath, and a process that enters the namespace arrives on top.
        Err(Errno::INVAL) if runs_from_initial_ram() => chroot(".")?,
        Err(errno) => return Err(errno),
    }
    chdir("/")
}

fn runs_from_initial_ram() -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().any(|line| line.split(' ').nth(4) == Some("/") && line.contains(" - rootfs "))
}

/// An overlay of image layers. `volatile`: it skips a sync of the whole host filesystem at unmount; the upper
/// directory lives as long as the container and is never mounted again.
fn overlay(lower: &[PathBuf], upper: &Path, work: &Path) -> Result<OwnedFd, LaunchError> {
    if lower.is_empty() {
        return Err(LaunchError::invalid("a root filesystem needs at least one layer"));
    }
    let mount = |layers: &dyn Fn(BorrowedFd<'_>) -> Result<(), Errno>| {
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        layers(fs.as_fd())?;
        fsconfig_set_string(&fs, "upperdir", upper)?;
        fsconfig_set_string(&fs, "workdir", work)?;
        fsconfig_set_flag(&fs, "volatile")?;
        create(&fs, MountAttrFlags::empty())
    };
    // Before Linux 6.5 each layer on its own is no option; such kernels may say so only in the end.
    let mounted = match mount(&|fs| set_layers_one_by_one(fs, lower)) {
        Err(Errno::INVAL) => mount(&|fs| set_layers_by_number(fs, lower)),
        done => done,
    };
    mounted.step(|| {
        let layers: Vec<_> = lower.iter().map(|layer| layer.display().to_string()).collect();
        format!("mount the root filesystem from {} with layers {}", upper.display(), layers.join(":"))
    })
}

fn set_layers_one_by_one(fs: BorrowedFd<'_>, lower: &[PathBuf]) -> Result<(), Errno> {
    lower.iter().try_for_each(|layer| fsconfig_set_string(fs, "lowerdir+", layer))
}

/// All layers in one option, which may have 255 characters: so they are named by the numbers of open descriptors,
/// relative to `/proc/self/fd`.
fn set_layers_by_number(fs: BorrowedFd<'_>, lower: &[PathBuf]) -> Result<(), Errno> {
    let open = |layer: &PathBuf| {
        let fd = rustix::fs::open(layer, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        // Left open until exec: the kernel looks at them when the filesystem is created.
        Ok(fd.into_raw_fd().to_string())
    };
    let numbers: Result<Vec<String>, Errno> = lower.iter().map(open).collect();
    chdir("/proc/self/fd")?;
    fsconfig_set_string(fs, "lowerdir", numbers?.join(":"))
}

/// Makes every mount of the list inside `root`.
pub(crate) fn attach_all(
    root: InRoot<'_>,
    opened: Opened<'_>,
    mut context: Context<'_>,
) -> Result<(), LaunchError> {
    for (mount, source) in opened.0 {
        let name = || format!("mount at {}", mount.target.display());
        if matches!(mount.kind, MountKind::Cgroup) {
            attach_cgroups(root, mount, context.cgroups)?;
            continue;
        }
        let tree = match source {
            Some(tree) => tree,
            None => make_filesystem(mount, &mut context)?,
        };
        let make = if is_directory(&tree).step(name)? { Make::Directory } else { Make::File };
        let target = open_target(root, mount, make)?;
        attach(&tree, &target).step(name)?;
    }
    Ok(())
}

/// Filesystems of the kernel's own must sit on real directories; a link there would lead security settings, which are
/// written through /proc, somewhere else. And /proc itself is not to be mounted over.
fn open_target(root: InRoot<'_>, mount: &Mount, make: Make) -> Result<OwnedFd, LaunchError> {
    let target = root.make(&mount.target, make)?;
    let name = || format!("mount at {}", mount.target.display());
    if matches!(mount.kind, MountKind::Proc | MountKind::Sysfs | MountKind::Dev) {
        root.open_strict(&mount.target).step(name)?;
        return Ok(target);
    }
    let on_proc = fstatfs(&target).step(name)?.f_type == PROC_SUPER_MAGIC;
    if on_proc && !PROC_FILES.iter().any(|file| mount.target == Path::new(file)) {
        return Err(LaunchError::invalid(format!(
            "{} is inside /proc: nothing can be mounted there",
            mount.target.display()
        )));
    }
    Ok(target)
}

fn make_filesystem(mount: &Mount, context: &mut Context<'_>) -> Result<OwnedFd, LaunchError> {
    let flags = MountAttrFlags::from_bits_retain(attributes(mount));
    let name = || format!("mount at {}", mount.target.display());
    let with = |fs: &str, options: &[(&str, String)]| filesystem(fs, options, flags).step(name);
    match &mount.kind {
        MountKind::Proc => with("proc", &[]),
        MountKind::Sysfs => with("sysfs", &[]),
        MountKind::Mqueue => with("mqueue", &[]),
        MountKind::Tmpfs { size, mode } => {
            let mut options = vec![("mode", format!("{mode:o}"))];
            options.extend(size.map(|size| ("size", size.to_string())));
            with("tmpfs", &options)
        }
        MountKind::Dev => {
            let tmpfs = with("tmpfs", &[("mode", "755".into()), ("size", "64m".into())])?;
            devices::fill(tmpfs.as_fd(), context.devices)?;
            Ok(tmpfs)
        }
        MountKind::Devpts => {
            let fs = fsopen("devpts", FsOpenFlags::FSOPEN_CLOEXEC).step(name)?;
            // Group 5 is "tty" by custom.
            for (option, value) in [("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")] {
                fsconfig_set_string(&fs, option, value).step(name)?;
            }
            create(&fs, flags).step(name)
        }
        MountKind::Shm => {
            let tree = match context.shm.take() {
                Some(tree) => tree,
                None => with("tmpfs", &[("mode", "1777".into()), ("size", "64m".into())])?,
            };
            set_flags(tree.as_fd(), mount).step(name)?;
            Ok(tree)
        }
        MountKind::Bind { .. } | MountKind::Cgroup => {
            Err(LaunchError::invalid(format!("cannot mount at {}", mount.target.display())))
        }
    }
}

/// `/sys/fs/cgroup`: in version 2 the container's own directory; on hybrid hosts a tmpfs with its directory of each
/// hierarchy, under the names these have on the host.
fn attach_cgroups(root: InRoot<'_>, mount: &Mount, cgroups: &CgroupPaths) -> Result<(), LaunchError> {
    let name = || format!("mount at {}", mount.target.display());
    let target = root.make(&mount.target, Make::Directory)?;
    let unified = rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|fs| fs.f_type == CGROUP2_SUPER_MAGIC);
    if let Some(dir) = cgroups.v2_dir.as_deref().filter(|_| unified) {
        return attach(&bind_cgroup(dir, mount).step(name)?, &target).step(name);
    }
    let flags = MountAttrFlags::from_bits_retain(attributes(mount));
    let tmpfs = filesystem("tmpfs", &[("mode", "755".into())], flags - MountAttrFlags::MOUNT_ATTR_RDONLY)
        .step(name)?;
    let hierarchies: Vec<_> = cgroups
        .procs
        .iter()
        .filter_map(|procs| procs.parent())
        .filter_map(|dir| Some((dir.strip_prefix("/sys/fs/cgroup").ok()?.iter().next()?, dir)))
        .collect();
    for (hierarchy, _) in &hierarchies {
        mkdirat(&tmpfs, *hierarchy, Mode::from_raw_mode(0o755)).step(name)?;
    }
    if mount.read_only {
        sys::mount_setattr(tmpfs.as_fd(), false, libc::MOUNT_ATTR_RDONLY, 0, 0).step(name)?;
    }
    attach(&tmpfs, &target).step(name)?;
    for (hierarchy, dir) in hierarchies {
        let place = root.open(&mount.target.join(hierarchy), OFlags::PATH).step(name)?;
        attach(&bind_cgroup(dir, mount).step(name)?, &place).step(name)?;
    }
    Ok(())
}

fn bind_cgroup(dir: &Path, mount: &Mount) -> Result<OwnedFd, Errno> {
    let tree = clone_tree(CWD, dir, false)?;
    sys::mount_setattr(tree.as_fd(), false, 0, 0, libc::MS_PRIVATE)?;
    set_flags(tree.as_fd(), mount)?;
    Ok(tree)
}

/// Hides `masked` and write-protects `read_only`. Those that do not exist are passed over.
pub(crate) fn protect(
    root: InRoot<'_>,
    masked: &[PathBuf],
    read_only: &[PathBuf],
) -> Result<(), LaunchError> {
    // One empty filesystem hides all directories.
    let mut empty: Option<OwnedFd> = None;
    for path in masked {
        let name = || format!("mask {}", path.display());
        let Some(target) = existing(root, path).step(name)? else { continue };
        let cover = if !is_directory(&target).step(name)? {
            clone_tree(CWD, Path::new("/dev/null"), false)
        } else if let Some(empty) = &empty {
            clone_tree(empty.as_fd(), Path::new(""), false)
        } else {
            filesystem(
                "tmpfs",
                &[("size", "4k".into()), ("nr_inodes", "1".into())],
                MountAttrFlags::MOUNT_ATTR_RDONLY,
            )
        };
        let cover = cover.step(name)?;
        attach(&cover, &target).step(name)?;
        if empty.is_none() && is_directory(&cover).step(name)? {
            empty = Some(cover);
        }
    }
    for path in read_only {
        let name = || format!("write-protect {}", path.display());
        let Some(target) = existing(root, path).step(name)? else { continue };
        let tree = clone_tree(target.as_fd(), Path::new(""), true).step(name)?;
        sys::mount_setattr(tree.as_fd(), true, libc::MOUNT_ATTR_RDONLY, 0, 0).step(name)?;
        attach(&tree, &target).step(name)?;
    }
    Ok(())
}

fn existing(root: InRoot<'_>, path: &Path) -> Result<Option<OwnedFd>, Errno> {
    match root.open(path, OFlags::PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// A new filesystem, detached.
pub(crate) fn filesystem(
    kind: &str,
    options: &[(&str, String)],
    flags: MountAttrFlags,
) -> Result<OwnedFd, Errno> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (option, value) in options {
        fsconfig_set_string(&fs, *option, value.as_str())?;
    }
    create(&fs, flags)
}

fn create(fs: &OwnedFd, flags: MountAttrFlags) -> Result<OwnedFd, Errno> {
    fsconfig_create(fs)?;
    fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, flags)
}

/// A detached copy of the mount at `path` (of `from` itself when empty), from there downwards.
pub(crate) fn clone_tree(from: BorrowedFd<'_>, path: &Path, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    flags.set(OpenTreeFlags::AT_EMPTY_PATH, path.as_os_str().is_empty());
    open_tree(from, path, flags)
}

pub(crate) fn attach(tree: &OwnedFd, target: &OwnedFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", target, "", flags)
}

fn is_directory(fd: &OwnedFd) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Directory)
}

fn attributes(mount: &Mount) -> u32 {
    [
        (mount.read_only || mount.recursive_read_only, MountAttrFlags::MOUNT_ATTR_RDONLY),
        (mount.nosuid, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (mount.nodev, MountAttrFlags::MOUNT_ATTR_NODEV),
        (mount.noexec, MountAttrFlags::MOUNT_ATTR_NOEXEC),
    ]
    .iter()
    .filter(|(wanted, _)| *wanted)
    .fold(0, |flags, (_, flag)| flags | flag.bits())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::default_mounts;

    fn targets(mounts: &[Mount]) -> Vec<String> {
        in_order(mounts).iter().map(|mount| mount.target.display().to_string()).collect()
    }

    #[test]
    fn many_layers_can_be_named_in_both_ways() {
        let dir = tempfile::tempdir().unwrap();
        // Long names: all of them together fit into no option.
        let layers: Vec<PathBuf> =
            (0..40).map(|n| dir.path().join(format!("{n}-{}", "x".repeat(100)))).collect();
        for layer in &layers {
            std::fs::create_dir(layer).unwrap();
            std::fs::write(layer.join(layer.file_name().unwrap()), "").unwrap();
        }
        let count = |set: &dyn Fn(BorrowedFd<'_>) -> Result<(), Errno>| {
            let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
            set(fs.as_fd())?;
            let mount = create(&fs, MountAttrFlags::empty())?;
            let root = rustix::fs::openat(&mount, ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            Ok::<_, Errno>(rustix::fs::Dir::read_from(&root)?.filter_map(Result::ok).count() - 2)
        };
        match count(&|fs| set_layers_one_by_one(fs, &layers)) {
            Ok(files) => assert_eq!(files, 40),
            Err(errno) => assert_eq!(errno, Errno::INVAL, "an older kernel: needs root as well"),
        }
        // In a process of its own, so to say: this changes the working directory.
        let files = std::thread::scope(|scope| {
            let in_thread = scope.spawn(|| {
                sys::unshare(libc::CLONE_FS).unwrap();
                count(&|fs| set_layers_by_number(fs, &layers))
            });
            in_thread.join().unwrap().unwrap()
        });
        assert_eq!(files, 40);
    }

    #[test]
    fn volumes_replace_default_mounts() {
        let mut mounts = vec![Mount::bind("/a", "/data/deep"), Mount::bind("/b", "/data")];
        mounts.extend(default_mounts());
        mounts.push(Mount::bind("/shm", "/dev/shm/"));
        let expected = "/data /proc /dev /sys /data/deep /dev/pts /dev/mqueue /dev/shm/ /sys/fs/cgroup";
        assert_eq!(targets(&mounts).join(" "), expected);
        mounts.push(Mount::bind("/dev", "/dev"));
        assert_eq!(targets(&mounts).join(" "), "/data /proc /sys /dev /data/deep /dev/shm/ /sys/fs/cgroup");
    }
}
