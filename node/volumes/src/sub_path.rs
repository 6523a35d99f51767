//! `subPath`: a part of a volume, found without being led out of it, and held fast.
//!
//! Containers can write in volumes, so a path in one can change at any moment. The kernel resolves it beneath the
//! volume (`openat2` with `RESOLVE_BENEATH`), and what it found is bound to a place of the node's own by its
//! descriptor, so that no path is resolved twice.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self as sys, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};

use crate::mounts::is_mounted;

/// Why a sub path cannot be used.
#[derive(Debug)]
pub(crate) enum SubPathError {
    /// It is not a path inside a volume; what is wrong with it.
    Path(String),
    Io(io::Error),
}

impl From<io::Error> for SubPathError {
    fn from(error: io::Error) -> SubPathError {
        SubPathError::Io(error)
    }
}

impl From<Errno> for SubPathError {
    fn from(error: Errno) -> SubPathError {
        SubPathError::Io(error.into())
    }
}

/// Whether the text can be a sub path at all.
pub(crate) fn check(path: &str) -> Result<(), SubPathError> {
    if path.starts_with('/') {
        return Err(SubPathError::Path(format!("\"{path}\" must not be an absolute path")));
    }
    if path.contains('\0') {
        return Err(SubPathError::Path("it must not contain NUL".to_owned()));
    }
    match path.split('/').any(|part| part == "..") {
        true => Err(SubPathError::Path(format!("\"{path}\" must not contain '..'"))),
        false => Ok(()),
    }
}

/// Finds the path beneath the volume, and makes folders for what is missing of it, with the volume's own mode.
pub(crate) fn open(volume: &Path, path: &str) -> Result<OwnedFd, SubPathError> {
    check(path)?;
    let root = sys::openat(CWD, volume, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mode = Mode::from_raw_mode(sys::fstat(&root)?.st_mode & 0o7777);
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let mut found = root.try_clone()?;
    for depth in 1..=parts.len() {
        let prefix = parts[..depth].join("/");
        found = match beneath(&root, &prefix) {
            Err(SubPathError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                make_dir(&found, parts[depth - 1], mode)?;
                beneath(&root, &prefix)?
            }
            other => other?,
        };
    }
    Ok(found)
}

fn make_dir(parent: &OwnedFd, name: &str, mode: Mode) -> Result<(), SubPathError> {
    match sys::mkdirat(parent, name, mode) {
        // The name is there but leads nowhere: a broken link.
        Err(Errno::EXIST) => Err(SubPathError::Path(format!("\"{name}\" is a link that leads nowhere"))),
        other => {
            other?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(sys::fchmod(sys::openat(parent, name, flags, Mode::empty())?, mode)?)
        }
    }
}

fn beneath(root: &OwnedFd, path: &str) -> Result<OwnedFd, SubPathError> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match sys::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Err(Errno::XDEV) => Err(SubPathError::Path(format!("\"{path}\" leads out of the volume"))),
        Err(Errno::LOOP) => Err(SubPathError::Path(format!("\"{path}\" is a circle of links"))),
        Err(Errno::NOTDIR) => Err(SubPathError::Path(format!("\"{path}\" leads through a file"))),
        other => Ok(other?),
    }
}

/// Binds what was found to a place that nobody else can change. A place that shows it already stays as it is.
pub(crate) fn pin(found: &OwnedFd, place: &Path) -> io::Result<()> {
    let stat = sys::fstat(found)?;
    if is_mounted(place)? {
        let there = sys::statat(CWD, place, AtFlags::SYMLINK_NOFOLLOW)?;
        if (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino) {
            return Ok(());
        }
        unmount(place, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)?;
    }
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    make_place(place, FileType::from_raw_mode(stat.st_mode) == FileType::Directory)?;
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(found, "", flags)?;
    Ok(move_mount(&tree, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Folders are bound on folders, everything else on files.
fn make_place(place: &Path, is_dir: bool) -> io::Result<()> {
    match fs::symlink_metadata(place) {
        Ok(found) if found.is_dir() == is_dir => return Ok(()),
        Ok(found) if found.is_dir() => fs::remove_dir(place)?,
        Ok(_) => fs::remove_file(place)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    match is_dir {
        true => fs::create_dir(place),
        false => fs::File::create_new(place).map(drop),
    }
}
