//! What the packages of the node do with files: replace one whole and durably, remove a tree however deep.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Replaces the file at `path`, so that a crash at any moment leaves the old one or the new one. Durable when it returns.
/// It gets the permissions `mode` (less the umask). The directory must exist; beside the file, the name with `.new` behind
/// it is used.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = File::options().create(true).truncate(true).write(true).mode(mode).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_parent(path)
}

/// Makes the names in the directory that holds `path` durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Removes a directory and what is in it. Directories are moved to the top before they are emptied, so that neither the
/// stack nor the number of open files grows with a depth that a pod chose. Fine if it is not there. The caller has made
/// sure that nothing is mounted in it.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let mut moved: u64 = 0;
    let mut open = vec![path.to_owned()];
    while let Some(dir) = open.pop() {
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        for inner in without_files(entries)? {
            // Emptied directories go at once; most are.
            if fs::remove_dir(&inner).is_err() {
                let top = unused(path, &mut moved);
                fs::rename(&inner, &top)?;
                open.push(top);
            }
        }
        if dir != path {
            fs::remove_dir(&dir)?;
        }
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes all but the directories, and answers these.
fn without_files(entries: fs::ReadDir) -> io::Result<Vec<PathBuf>> {
    let mut directories = Vec::new();
    for entry in entries {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => directories.push(entry.path()),
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(directories)
}

/// A name in `dir` that nothing has.
fn unused(dir: &Path, moved: &mut u64) -> PathBuf {
    loop {
        *moved += 1;
        let candidate = dir.join(OsString::from(format!(".removing-{moved}")));
        if fs::symlink_metadata(&candidate).is_err() {
            return candidate;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn replaces_with_the_mode_that_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        replace(&path, b"one", 0o600).unwrap();
        replace(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        assert!(replace(&dir.path().join("missing/a"), b"", 0o600).is_err());
    }

    #[test]
    fn removes_trees_of_any_depth() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("tree");
        fs::create_dir(&top).unwrap();
        fs::write(top.join("file"), b"").unwrap();
        std::os::unix::fs::symlink("/", top.join("link")).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY;
        let mut deep = rustix::fs::openat(rustix::fs::CWD, &top, flags, rustix::fs::Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&deep, "d", rustix::fs::Mode::from_raw_mode(0o700)).unwrap();
            deep = rustix::fs::openat(&deep, "d", flags, rustix::fs::Mode::empty()).unwrap();
        }
        remove_tree(&top).unwrap();
        assert!(!top.exists());
        remove_tree(&top).unwrap();
    }
}
