//! Mounts below the pods' folders.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Whether something is mounted at exactly this path.
pub(crate) fn is_mounted(path: &Path) -> io::Result<bool> {
    let stat = match rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty()) {
        Err(Errno::NOENT) => return Ok(false),
        other => other?,
    };
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Mounts memory. It is never swapped out where the kernel (6.4 and later) can promise that, since Secrets
/// are kept in it. `size` is in bytes; without one it is half of the machine's memory.
pub(crate) fn mount_memory(path: &Path, size: Option<u64>, flags: MountFlags) -> io::Result<()> {
    let size = size.map_or_else(String::new, |size| format!(",size={size}"));
    let attempt = |options: String| {
        let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
        mount("tmpfs", path, "tmpfs", flags, Some(options.as_c_str()))
    };
    match attempt(format!("mode=1777,noswap{size}")) {
        Err(Errno::INVAL) => Ok(attempt(format!("mode=1777{size}"))?),
        other => Ok(other?),
    }
}

/// Unmounts all that is mounted at or below a path, innermost first. What is still in use goes away when its
/// last user does.
pub(crate) fn unmount_below(path: &Path) -> io::Result<()> {
    // A mount can hide another one at the same place, so this looks again until nothing is left. Each round
    // unmounts something; more rounds than this mean that somebody mounts as fast as this unmounts.
    for _ in 0..100 {
        let mounts = mounts_below(path)?;
        if mounts.is_empty() {
            return Ok(());
        }
        for mounted in mounts.iter().rev() {
            match unmount(mounted, UnmountFlags::NOFOLLOW) {
                Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
                Err(Errno::BUSY) => unmount(mounted, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)?,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Err(io::Error::other("mounts come back as fast as they are taken away"))
}

/// Mount points at or below a path, in the order in which they were made.
fn mounts_below(path: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read("/proc/self/mountinfo")?;
    // The table has resolved paths.
    let path = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let points = table.split(|byte| *byte == b'\n').filter_map(mount_point);
    Ok(points.filter(|point| point.starts_with(&path)).collect())
}

/// The fifth field of a line of `/proc/self/mountinfo`, whose blanks are written in octal.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|byte| *byte == b' ').nth(4)?;
    let mut point = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        point.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    Some(PathBuf::from(std::ffi::OsString::from_vec(point)))
}

/// Whether a name can be one component of a path: names come from the API.
pub(crate) fn is_component(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_mount_table() {
        let line = br"36 35 98:0 /mnt1 /a\040b/c\134d rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line), Some(PathBuf::from("/a b/c\\d")));
        assert_eq!(mount_point(b""), None);
    }

    #[test]
    fn mounts_memory_and_takes_it_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("with blank");
        fs::create_dir(&path).unwrap();
        assert!(!is_mounted(&path).unwrap());
        mount_memory(&path, Some(1 << 20), MountFlags::empty()).unwrap();
        mount_memory(&path, None, MountFlags::empty()).unwrap();
        assert!(is_mounted(&path).unwrap());
        let held = fs::File::create(path.join("held")).unwrap();
        unmount_below(dir.path()).unwrap();
        assert!(!is_mounted(&path).unwrap());
        drop(held);
    }
}
