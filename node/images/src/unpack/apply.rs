//! Turns the entries of a layer's archive into files, in the form overlayfs wants for a lower folder.

use std::collections::HashSet;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::fs as sys;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::limits::Limits;
use super::tar::{Entry, Kind, read_error};
use super::tree::{self, Tree, components};
use crate::error::LayerError;

/// A name that begins so says that the rest of it is deleted.
const WHITEOUT: &[u8] = b".wh.";
/// Says that the folder it is in hides all that lower layers have there.
const OPAQUE_WHITEOUT: &[u8] = b".wh..wh..opq";
/// Other names of this form are aufs' own bookkeeping and mean nothing.
const AUFS: &[u8] = b".wh..wh.";

/// What files take on disk, as far as it can be known before the file system has allocated them.
const PAGE: u64 = 4096;

/// Applies entries to a tree and keeps count.
pub(super) struct Applier {
    tree: Tree,
    limits: Limits,
    entries: u64,
    /// Bytes of files, rounded up to pages, and a page for each folder.
    pub(super) disk_bytes: u64,
    /// Folders whose times are set last, since filling them changes these.
    dirs: Vec<Entry>,
    buffer: Vec<u8>,
}

/// Names the entry that an error belongs to, and tells the errors apart that people can do something about.
fn at(entry: &Entry) -> impl Fn(io::Error) -> LayerError + '_ {
    |error| match Errno::from_io_error(&error) {
        Some(Errno::NOSPC | Errno::DQUOT) => LayerError::NoSpace,
        Some(Errno::NAMETOOLONG) => refused(entry, "its name is too long"),
        Some(Errno::LOOP) => refused(entry, "its path runs in a circle of links"),
        Some(Errno::NOTDIR) => refused(entry, "its path leads through something that is not a directory"),
        _ => LayerError::Io { path: entry.name(), source: error },
    }
}

fn refused(entry: &Entry, reason: &'static str) -> LayerError {
    LayerError::Refused { path: entry.name(), reason }
}

impl Applier {
    pub(super) fn new(tree: Tree, limits: Limits) -> Applier {
        Applier { tree, limits, entries: 0, disk_bytes: 0, dirs: Vec::new(), buffer: vec![0; 128 << 10] }
    }

    /// Unpacks one entry; `data` gives what is stored of a file.
    pub(super) fn apply(&mut self, entry: &Entry, data: &mut impl Read) -> Result<(), LayerError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(LayerError::TooLarge(format!("more than {} entries", self.limits.entries)));
        }
        let path = components(&entry.path)?;
        let Some((name, parent)) = path.split_last() else {
            return self.root(entry);
        };
        let parent = self.tree.parent(parent).map_err(at(entry))?;
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(entry, &parent, name, hidden);
        }
        match entry.kind {
            Kind::File => self.file(entry, &parent, name, data),
            Kind::Directory => self.directory(entry, &parent, name),
            Kind::Symlink => self.symlink(entry, &parent, name),
            Kind::HardLink => self.hard_link(entry, &parent, name),
            Kind::Fifo => self.fifo(entry, &parent, name),
            Kind::Device => Err(refused(entry, "device nodes are not allowed in images")),
            Kind::Other(_) => Err(refused(entry, "its type is not known")),
        }
    }

    /// Sets the times of the folders. Gives the folders that have no entry of their own.
    pub(super) fn finish(self) -> Result<(Vec<Vec<u8>>, u64), LayerError> {
        let mut explicit = HashSet::new();
        for entry in self.dirs.iter().rev() {
            let path = components(&entry.path)?.join(&b'/');
            match self.tree.open_dir(&path) {
                Ok(dir) => sys::futimens(&dir, &tree::times(entry)).map_err(io::Error::from),
                // A later entry put something else there.
                Err(error)
                    if matches!(error.raw_os_error(), Some(code) if code == Errno::NOENT.raw_os_error()
                    || code == Errno::NOTDIR.raw_os_error()) =>
                {
                    Ok(())
                }
                Err(error) => Err(error),
            }
            .map_err(at(entry))?;
            explicit.insert(path);
        }
        let implicit = self.tree.implicit.into_iter().filter(|path| !explicit.contains(path)).collect();
        Ok((implicit, self.disk_bytes))
    }

    /// The layer's root may only be a folder; its entry sets owner and mode.
    fn root(&mut self, entry: &Entry) -> Result<(), LayerError> {
        if entry.kind != Kind::Directory {
            return Err(refused(entry, "it would replace the root of the layer"));
        }
        let root = self.tree.root().map_err(at(entry))?;
        tree::set_attributes(&root, entry).map_err(at(entry))?;
        self.dirs.push(entry.clone());
        Ok(())
    }

    fn file(
        &mut self,
        entry: &Entry,
        parent: &OwnedFd,
        name: &[u8],
        data: &mut impl Read,
    ) -> Result<(), LayerError> {
        if entry.size > self.limits.file {
            return Err(LayerError::TooLarge(format!("file \"{}\" of {} bytes", entry.name(), entry.size)));
        }
        self.tree.clear(parent, name).map_err(at(entry))?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = sys::openat(parent, name, flags, Mode::from_raw_mode(0o600));
        let file = file.map_err(|error| at(entry)(error.into()))?;
        match &entry.sparse {
            None => self.copy(entry, &file, data, (0, entry.size))?,
            Some(pieces) => {
                for piece in pieces {
                    self.copy(entry, &file, data, *piece)?;
                }
                sys::ftruncate(&file, entry.size).map_err(|error| at(entry)(error.into()))?;
            }
        }
        tree::set_attributes(&file, entry).map_err(at(entry))?;
        sys::futimens(&file, &tree::times(entry)).map_err(|error| at(entry)(error.into()))
    }

    /// Copies one piece of stored data to its place.
    fn copy(
        &mut self,
        entry: &Entry,
        file: &OwnedFd,
        data: &mut impl Read,
        (offset, length): (u64, u64),
    ) -> Result<(), LayerError> {
        let mut done = 0;
        while done < length {
            let want = usize::try_from(length - done).unwrap_or(usize::MAX).min(self.buffer.len());
            let read = data.read(&mut self.buffer[..want]).map_err(read_error)?;
            if read == 0 {
                return Err(LayerError::Malformed(format!("file \"{}\" ends early", entry.name())));
            }
            let mut written = 0;
            while written < read {
                let to = offset + done + written as u64;
                let count = rustix::io::pwrite(file, &self.buffer[written..read], to);
                written += count.map_err(|error| at(entry)(error.into()))?;
            }
            done += read as u64;
        }
        self.disk_bytes += length.div_ceil(PAGE) * PAGE;
        Ok(())
    }

    fn directory(&mut self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<(), LayerError> {
        let io = at(entry);
        let found = tree::lookup(parent, name).map_err(&io)?;
        let is_there = found.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        if !is_there {
            // After a whiteout of the same name, the folder replaces what lower layers have there.
            let replaced = self.tree.clear(parent, name).map_err(&io)?;
            sys::mkdirat(parent, name, Mode::from_raw_mode(0o700)).map_err(|error| io(error.into()))?;
            if replaced.is_some_and(|stat| tree::is_whiteout(&stat)) {
                tree::set_opaque(&open_dir(parent, name).map_err(&io)?).map_err(&io)?;
            }
            self.disk_bytes += PAGE;
        }
        let dir = open_dir(parent, name).map_err(&io)?;
        tree::set_attributes(&dir, entry).map_err(&io)?;
        self.dirs.push(Entry { xattrs: Vec::new(), ..entry.clone() });
        Ok(())
    }

    fn symlink(&mut self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<(), LayerError> {
        if entry.link.is_empty() || entry.link.contains(&0) {
            return Err(refused(entry, "its target is not a path"));
        }
        self.tree.clear(parent, name).map_err(at(entry))?;
        let make = || {
            sys::symlinkat(entry.link.as_slice(), parent, name)?;
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            sys::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            sys::utimensat(parent, name, &tree::times(entry), AtFlags::SYMLINK_NOFOLLOW)
        };
        make().map_err(|error| at(entry)(error.into()))
    }

    /// A link's target is looked for in the same layer only, from the layer's root.
    fn hard_link(&mut self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<(), LayerError> {
        let target = components(&entry.link).map_err(|error| match error {
            LayerError::Refused { .. } => refused(entry, "its target leads out of the layer"),
            other => other,
        })?;
        let Some((target_name, target_parent)) = target.split_last() else {
            return Err(refused(entry, "its target is the root of the layer"));
        };
        let missing = || refused(entry, "its target is not in the layer");
        let target_parent = match self.tree.open_dir(&target_parent.join(&b'/')) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
            other => other.map_err(at(entry))?,
        };
        let target = tree::lookup(&target_parent, target_name).map_err(at(entry))?.ok_or_else(missing)?;
        if !matches!(
            FileType::from_raw_mode(target.st_mode),
            FileType::RegularFile | FileType::Symlink | FileType::Fifo
        ) {
            return Err(refused(entry, "its target is not a file"));
        }
        if let Some(found) = tree::lookup(parent, name).map_err(at(entry))?
            && (found.st_dev, found.st_ino) == (target.st_dev, target.st_ino)
        {
            return Ok(());
        }
        self.tree.clear(parent, name).map_err(at(entry))?;
        sys::linkat(&target_parent, *target_name, parent, name, AtFlags::empty())
            .map_err(|error| at(entry)(error.into()))
    }

    fn fifo(&mut self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<(), LayerError> {
        self.tree.clear(parent, name).map_err(at(entry))?;
        let make = || {
            sys::mknodat(parent, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            sys::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            // A name just made under a folder that only this process writes to is no link.
            sys::chmodat(parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
            sys::utimensat(parent, name, &tree::times(entry), AtFlags::SYMLINK_NOFOLLOW)
        };
        make().map_err(|error| at(entry)(error.into()))
    }

    /// Whiteouts speak of lower layers only: what this layer itself has under the name stays.
    fn whiteout(
        &mut self,
        entry: &Entry,
        parent: &OwnedFd,
        name: &[u8],
        hidden: &[u8],
    ) -> Result<(), LayerError> {
        let io = at(entry);
        if name == OPAQUE_WHITEOUT {
            return tree::set_opaque(parent).map_err(io);
        }
        if name.starts_with(AUFS) {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(refused(entry, "it is a whiteout of no name"));
        }
        match tree::lookup(parent, hidden).map_err(&io)? {
            None => tree::whiteout(parent, hidden).map_err(io),
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                tree::set_opaque(&open_dir(parent, hidden).map_err(&io)?).map_err(io)
            }
            Some(_) => Ok(()),
        }
    }
}

fn open_dir(parent: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(sys::openat(parent, name, flags, Mode::empty())?)
}
