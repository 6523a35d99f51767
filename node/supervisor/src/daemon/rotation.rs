//! Rotation of log files. A full file is renamed to `<name>.<date>-<time>`, so that names sort by age, and the oldest of
//! them are removed; readers find the files by that order.

use super::clock;
use std::io::{ErrorKind, Result};
use std::path::{Path, PathBuf};

/// Puts a full log file away under a name of its own. Fine if it is not there: an earlier attempt got this far.
pub(crate) fn put_away(path: &Path, now: u64) -> Result<()> {
    match std::fs::rename(path, rotated_name(path, now)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the oldest of the files that were put away, so that with the present one `max_files` are left.
pub(crate) fn thin_out(path: &Path, max_files: usize) -> Result<()> {
    let old = rotated(path)?;
    for file in &old[..old.len().saturating_sub(max_files.max(1) - 1)] {
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// `0.log.20261121-055003.123456789`: the kubelet's form, with nanoseconds, as a loud container fills files faster than
/// once a second.
fn rotated_name(path: &Path, now: u64) -> PathBuf {
    let time: String = clock::rfc3339(now)
        .chars()
        .filter(|c| !matches!(c, '-' | ':' | 'Z'))
        .collect::<String>()
        .replace('T', "-");
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(time);
    name.into()
}

/// The files that were put away, oldest first.
fn rotated(path: &Path) -> Result<Vec<PathBuf>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_age() {
        let name = |second: u64| rotated_name(Path::new("/x/0.log"), second * 1_000_000_000 + 5);
        assert_eq!(name(1_795_226_400).to_str(), Some("/x/0.log.20261121-020000.000000005"));
        assert!(name(1_795_226_400) < name(1_795_226_401));
    }

    #[test]
    fn the_oldest_go_and_other_logs_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        for name in ["0.log", "0.log.1", "0.log.2", "0.log.3", "10.log", "1.log.0"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        thin_out(&path, 3).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["0.log", "0.log.2", "0.log.3", "1.log.0", "10.log"]);
        thin_out(&path, 1).unwrap();
        assert!(rotated(&path).unwrap().is_empty() && path.exists());
    }
}
