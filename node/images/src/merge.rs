//! Owner and mode of folders that a layer uses without describing them.
//!
//! A layer may hold `tmp/x` and say nothing about `tmp`. Unpacked alone, such a folder gets a default mode, and
//! since overlayfs shows the topmost folder's mode, it would hide the lower layer's (`/tmp` would lose its 1777).
//! So an image with such folders gets one more layer on top, which holds just these folders with the
//! attributes that the layers below describe.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs as sys;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::unpack::{OPAQUE, is_whiteout};

/// A layer on disk, and its folders that have no entry of their own.
pub(crate) struct MergeLayer {
    pub(crate) files: PathBuf,
    pub(crate) implicit: HashSet<OsString>,
}

/// What a layer says about a path.
enum Found {
    /// Nothing: the layers below decide.
    Nothing,
    /// The path, or a folder on the way to it, is hidden or is no folder.
    Hidden,
    /// A folder; `opaque` if it or a folder on the way hides what is below.
    Folder { stat: Box<Stat>, opaque: bool },
}

/// Fills `dir` with the folders whose attributes the topmost layer does not describe. `layers` are topmost
/// first. Gives whether there were any.
pub(crate) fn describe_folders(layers: &[MergeLayer], dir: &Path) -> io::Result<bool> {
    let mut wanted: BTreeSet<&OsStr> = BTreeSet::new();
    for path in layers.iter().flat_map(|layer| &layer.implicit) {
        if needs_help(layers, path)? {
            let ancestors = Path::new(path).ancestors().map(Path::as_os_str);
            wanted.extend(ancestors.filter(|ancestor| !ancestor.is_empty()));
        }
    }
    if wanted.is_empty() {
        return Ok(false);
    }
    // Sorted, so that a folder comes before what is in it; times go in afterwards, innermost first.
    let mut made = Vec::new();
    for path in wanted {
        let Some((stat, _)) = effective(layers, path)? else { continue };
        let place = dir.join(path);
        fs::create_dir(&place)?;
        sys::chownat(
            CWD,
            &place,
            Some(Uid::from_raw(stat.st_uid)),
            Some(Gid::from_raw(stat.st_gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        sys::chmodat(CWD, &place, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
        made.push((place, stat));
    }
    for (place, stat) in made.iter().rev() {
        let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
        sys::futimens(File::open(place)?, &Timestamps { last_access: time, last_modification: time })?;
    }
    Ok(true)
}

/// Whether the topmost layer that has the folder lacks a description that a lower one has.
fn needs_help(layers: &[MergeLayer], path: &OsStr) -> io::Result<bool> {
    Ok(effective(layers, path)?.is_some_and(|(_, depth)| depth > 0))
}

/// The attributes the folder should show, and how many layers that have it without describing it lie above
/// the one they come from. `None` if there is no such folder in the merged view.
fn effective(layers: &[MergeLayer], path: &OsStr) -> io::Result<Option<(Box<Stat>, usize)>> {
    let mut first = None;
    let mut above = 0;
    for layer in layers {
        let (stat, opaque) = match look(&layer.files, path)? {
            Found::Nothing => continue,
            Found::Hidden => break,
            Found::Folder { stat, opaque } => (stat, opaque),
        };
        if !layer.implicit.contains(path) {
            return Ok(Some((stat, above)));
        }
        above += 1;
        first.get_or_insert(stat);
        if opaque {
            break;
        }
    }
    Ok(first.map(|stat| (stat, 0)))
}

/// Walks down a layer, following nothing.
fn look(files: &Path, path: &OsStr) -> io::Result<Found> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut dir: OwnedFd = sys::openat(CWD, files, flags, Mode::empty())?;
    let mut last = None;
    let mut opaque = false;
    for name in path.as_bytes().split(|byte| *byte == b'/') {
        let stat = match sys::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) if opaque => return Ok(Found::Hidden),
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            other => other?,
        };
        if is_whiteout(&stat) || FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(Found::Hidden);
        }
        dir = sys::openat(&dir, name, flags, Mode::empty())?;
        opaque |= is_opaque(&dir)?;
        last = Some(Box::new(stat));
    }
    Ok(last.map_or(Found::Nothing, |stat| Found::Folder { stat, opaque }))
}

fn is_opaque(dir: &OwnedFd) -> io::Result<bool> {
    let mut value = [0; 1];
    match sys::fgetxattr(dir, OPAQUE, &mut value) {
        Ok(_) => Ok(value == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        // Longer than "y": not the mark.
        Err(Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
