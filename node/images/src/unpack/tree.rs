//! The folder that a layer is unpacked into: every path is resolved beneath it by the kernel.
//!
//! `openat2` with `RESOLVE_IN_ROOT` makes the folder the root of all resolution, as a chroot would, so that
//! neither `..` nor an absolute symlink made by an earlier entry leads out of it. The last component of a
//! path is never followed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self as sys, CWD};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::limits::MAX_PATH;
use super::tar::Entry;
use crate::error::LayerError;

/// The attribute by which overlayfs knows a folder that hides what lies under it.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

/// The deepest nesting. Deeper trees than this are made to break tools, not to be used.
const MAX_DEPTH: usize = 255;

/// Mode of folders that the archive puts things into without having an entry for them.
const IMPLICIT_MODE: Mode = Mode::from_raw_mode(0o755);

/// The components of a path in a layer; empty for the layer's root.
pub(super) type Components<'a> = Vec<&'a [u8]>;

/// A folder being filled.
pub(super) struct Tree {
    root: OwnedFd,
    /// Where folders go that are replaced: removing them at once could need unbounded recursion.
    trash: OwnedFd,
    trashed: u64,
    /// The folder that the last entry went into; archives list a folder's entries together.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Folders made without an entry of their own.
    pub(super) implicit: Vec<Vec<u8>>,
}

/// Splits a path and checks it: relative to the root whatever it begins with, and without `..`.
pub(super) fn components(path: &[u8]) -> Result<Components<'_>, LayerError> {
    let refuse = |reason| LayerError::Refused { path: String::from_utf8_lossy(path).into_owned(), reason };
    if path.len() > MAX_PATH {
        return Err(refuse("its path is too long"));
    }
    if path.contains(&0) {
        return Err(refuse("its path holds a NUL"));
    }
    let parts: Components<'_> =
        path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&&b".."[..]) {
        return Err(refuse("its path leads out of the layer with \"..\""));
    }
    match parts.len() <= MAX_DEPTH {
        true => Ok(parts),
        false => Err(refuse("it is nested too deeply")),
    }
}

impl Tree {
    /// Fills `root`; `trash` is a folder on the same file system that the caller removes afterwards.
    pub(super) fn open(root: &Path, trash: &Path) -> io::Result<Tree> {
        let open = |path| sys::openat(CWD, path, dir_flags(), Mode::empty());
        let (root, trash) = (open(root)?, open(trash)?);
        Ok(Tree { root, trash, trashed: 0, parent: None, implicit: Vec::new() })
    }

    pub(super) fn root(&self) -> io::Result<OwnedFd> {
        self.root.try_clone()
    }

    /// Opens the folder that an entry goes into, and makes what is missing of it.
    pub(super) fn parent(&mut self, components: &[&[u8]]) -> io::Result<OwnedFd> {
        let path = components.join(&b'/');
        if let Some((cached, fd)) = &self.parent
            && *cached == path
        {
            return fd.try_clone();
        }
        let fd = match self.open_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make_dirs(components)?,
            other => other?,
        };
        self.parent = Some((path, fd.try_clone()?));
        Ok(fd)
    }

    /// Opens a folder that is there.
    pub(super) fn open_dir(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        Ok(sys::openat2(&self.root, path, dir_flags(), Mode::empty(), confined())?)
    }

    fn make_dirs(&mut self, components: &[&[u8]]) -> io::Result<OwnedFd> {
        let mut dir = self.root.try_clone()?;
        for depth in 1..=components.len() {
            let path = components[..depth].join(&b'/');
            dir = match self.open_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    sys::mkdirat(&dir, components[depth - 1], IMPLICIT_MODE)?;
                    // mkdirat honours the umask.
                    sys::chmodat(&dir, components[depth - 1], IMPLICIT_MODE, AtFlags::empty())?;
                    self.implicit.push(path.clone());
                    self.open_dir(&path)?
                }
                other => other?,
            };
        }
        Ok(dir)
    }

    /// Frees a name. Gives what kind of file was there.
    pub(super) fn clear(&mut self, parent: &OwnedFd, name: &[u8]) -> io::Result<Option<Stat>> {
        let Some(stat) = lookup(parent, name)? else { return Ok(None) };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.trashed += 1;
                sys::renameat(parent, name, &self.trash, self.trashed.to_string())?;
            }
            _ => sys::unlinkat(parent, name, AtFlags::empty())?,
        }
        // The cached folder may have been inside, or reached through a link that is gone.
        self.parent = None;
        Ok(Some(stat))
    }
}

/// What is at a name, without following it.
pub(super) fn lookup(parent: &OwnedFd, name: &[u8]) -> io::Result<Option<Stat>> {
    match sys::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether this is how overlayfs marks a name as deleted.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Makes a whiteout.
pub(super) fn whiteout(parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
    Ok(sys::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)?)
}

/// Marks a folder as hiding what lies under it.
pub(super) fn set_opaque(dir: &OwnedFd) -> io::Result<()> {
    Ok(sys::fsetxattr(dir, OPAQUE, b"y", sys::XattrFlags::empty())?)
}

/// Gives an open file or folder the owner, mode and attributes of its entry, in the order in which none
/// undoes another: chown clears set-id bits and capabilities.
pub(super) fn set_attributes(file: impl AsFd, entry: &Entry) -> io::Result<()> {
    sys::fchown(&file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
    sys::fchmod(&file, Mode::from_raw_mode(entry.mode))?;
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_kept(name)) {
        match sys::fsetxattr(&file, name.as_slice(), value, sys::XattrFlags::empty()) {
            // The attributes of users are a convenience that not every file system offers.
            Err(Errno::OPNOTSUPP) if name.starts_with(b"user.") => {}
            other => other?,
        }
    }
    Ok(())
}

/// Which attributes a layer may set. `trusted.overlay.*` would redirect overlayfs into other folders, and
/// labels of security modules are the host's to give.
fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

pub(super) fn times(entry: &Entry) -> Timestamps {
    let (seconds, nanos) = entry.mtime;
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn dir_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

fn confined() -> ResolveFlags {
    ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS
}
