//! Device nodes of a container's `/dev`.

use crate::report::{LaunchError, Step};
use crate::spec::Devices;
use rustix::fs::{AtFlags, Dev, FileType, Gid, Mode, Uid, chownat, makedev, mkdirat, mknodat, symlinkat};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Character devices every container has; readable and writable by all.
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Not a host's devices but mounts and terminals.
const NOT_COPIED: [&str; 7] = ["pts", "shm", "mqueue", "fd", "console", "ptmx", "hugepages"];

/// How deep directories of the host's `/dev` are followed.
const MAX_DEPTH: u32 = 6;

/// Fills an empty `/dev`. The umask must be 0.
pub(crate) fn fill(dev: BorrowedFd<'_>, devices: &Devices) -> Result<(), LaunchError> {
    for (name, major, minor) in NODES {
        node(dev, Path::new(name), FileType::CharacterDevice, 0o666, makedev(major, minor))?;
    }
    for (target, name) in LINKS {
        symlinkat(target, dev, name).step(|| format!("link /dev/{name}"))?;
    }
    match devices {
        Devices::Default => Ok(()),
        Devices::Extra(list) => list.iter().try_for_each(|(host, inside)| {
            let inside = inside.strip_prefix("/dev").map_err(|_| {
                LaunchError::invalid(format!("device {} must lie below /dev", inside.display()))
            })?;
            copy(dev, host, inside)
        }),
        Devices::Host => copy_directory(dev, Path::new("/dev"), Path::new(""), 0),
    }
}

fn copy_directory(dev: BorrowedFd<'_>, host: &Path, inside: &Path, depth: u32) -> Result<(), LaunchError> {
    let entries = std::fs::read_dir(host).step(|| format!("list {}", host.display()))?;
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), inside.join(entry.file_name()));
        let Ok(kind) = entry.file_type() else { continue };
        if depth == 0 && NOT_COPIED.iter().any(|skipped| entry.file_name() == *skipped) {
            continue;
        }
        if kind.is_dir() && depth < MAX_DEPTH {
            copy_directory(dev, &path, &name, depth + 1)?;
        } else if kind.is_char_device() || kind.is_block_device() {
            copy(dev, &path, &name)?;
        }
    }
    Ok(())
}

/// Makes a node like the host's one, with its owner and mode. One that vanished meanwhile is passed over.
fn copy(dev: BorrowedFd<'_>, host: &Path, inside: &Path) -> Result<(), LaunchError> {
    let stat = match std::fs::metadata(host) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && host.starts_with("/dev") => {
            return Err(LaunchError::invalid(format!("the host has no device {}", host.display())));
        }
        stat => stat.step(|| format!("look at {}", host.display()))?,
    };
    let kind = FileType::from_raw_mode(stat.mode());
    if !matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
        return Err(LaunchError::invalid(format!("{} is not a device", host.display())));
    }
    let mut parent = PathBuf::new();
    for name in inside.parent().into_iter().flatten() {
        parent.push(name);
        match mkdirat(dev, &parent, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(LaunchError::step(format!("make /dev/{}", parent.display()), errno)),
        }
    }
    node(dev, inside, kind, stat.mode() & 0o7777, stat.rdev())?;
    chownat(
        dev,
        inside,
        Some(Uid::from_raw(stat.uid())),
        Some(Gid::from_raw(stat.gid())),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .step(|| format!("give /dev/{} its owner", inside.display()))
}

fn node(dev: BorrowedFd<'_>, name: &Path, kind: FileType, mode: u32, device: Dev) -> Result<(), LaunchError> {
    match mknodat(dev, name, kind, Mode::from_raw_mode(mode), device) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(LaunchError::step(format!("make /dev/{}", name.display()), errno)),
    }
}
