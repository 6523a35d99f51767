//! Small durable files and whole folders: written under another name, synced, renamed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::ImageError;

/// Attaches the path to an error.
pub(crate) fn io_error(path: &Path) -> impl Fn(io::Error) -> ImageError + '_ {
    |source| ImageError::Io { path: path.to_owned(), source }
}

/// Replaces a JSON file so that a crash leaves the old or the new one. Durable when it returns.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), ImageError> {
    let bytes = serde_json::to_vec(value).map_err(|error| io_error(path)(error.into()))?;
    let temporary = path.with_extension("new");
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_parent(path)
    };
    write().map_err(io_error(path))
}

/// Makes the names in the folder that holds `path` durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Makes everything on the file system of `path` durable: one call for a whole layer.
pub(crate) fn sync_all(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

/// Removes a folder and what is in it, however deep: folders are moved to the top before they are emptied,
/// so that neither the stack nor the number of open files grows. Fine if it is not there.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let mut moved: u64 = 0;
    let mut open = vec![path.to_owned()];
    while let Some(dir) = open.pop() {
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        let mut inner = Vec::new();
        for entry in entries {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => inner.push(entry.path()),
                false => fs::remove_file(entry.path())?,
            }
        }
        for child in inner {
            // Emptied folders go at once; most are.
            if fs::remove_dir(&child).is_ok() {
                continue;
            }
            let top = loop {
                moved += 1;
                let name = OsString::from(format!(".removing-{moved}"));
                let candidate: PathBuf = path.join(name);
                if fs::symlink_metadata(&candidate).is_err() {
                    break candidate;
                }
            };
            fs::rename(&child, &top)?;
            open.push(top);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_trees_of_any_depth() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("tree");
        fs::create_dir(&top).unwrap();
        fs::write(top.join("file"), b"").unwrap();
        std::os::unix::fs::symlink("/", top.join("link")).unwrap();
        let mut deep = rustix::fs::openat(
            rustix::fs::CWD,
            &top,
            rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&deep, "d", rustix::fs::Mode::from_raw_mode(0o700)).unwrap();
            let flags = rustix::fs::OFlags::DIRECTORY;
            deep = rustix::fs::openat(&deep, "d", flags, rustix::fs::Mode::empty()).unwrap();
        }
        remove_tree(&top).unwrap();
        assert!(!top.exists());
        remove_tree(&top).unwrap();
    }
}
