//! Removes folders that pods have filled, however deep they are.

use std::fs;
use std::io;
use std::path::Path;

/// Removes a folder and what is in it. Folders are moved to the top before they are emptied, so that neither
/// the stack nor the number of open files grows with a depth that a pod chose. Fine if it is not there. The
/// caller has made sure that nothing is mounted in it.
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
            if fs::remove_dir(&child).is_ok() {
                continue;
            }
            let top = loop {
                moved += 1;
                let candidate = path.join(format!(".removing-{moved}"));
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
