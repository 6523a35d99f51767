//! The files that a log consists of.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::tail::tail_start;

/// A log's files, oldest first: those that were renamed, in the order of their names, then the present one. There may
/// be none yet.
pub(crate) fn log_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let bad = || io::Error::other("a log without a folder or a name");
    let (folder, name) = (path.parent().ok_or_else(bad)?, path.file_name().ok_or_else(bad)?);
    let prefix = format!("{}.", name.to_string_lossy());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let found = entry?.file_name();
        let found = found.to_string_lossy();
        // Files that are being compressed or are compressed are not lines any more.
        let is_plain = !found.ends_with(".gz") && !found.ends_with(".tmp");
        if found.starts_with(&prefix) && is_plain {
            files.push(folder.join(&*found));
        }
    }
    files.sort();
    if fs::symlink_metadata(path).is_ok() {
        files.push(path.to_owned());
    }
    Ok(files)
}

/// Where to begin: the file and the offset in it. `None` if there is no file.
pub(super) fn start(
    path: &Path,
    tail_lines: Option<u64>,
    since: Option<Timestamp>,
) -> io::Result<Option<(PathBuf, u64)>> {
    let mut files = log_files(path)?;
    if let Some(since) = since {
        // A file that was last written to before that time holds nothing newer. The last file stays in any case.
        let is_old = |file: &PathBuf| fs::metadata(file).is_ok_and(|found| found.mtime() < since.as_second());
        let old = files.iter().take(files.len().saturating_sub(1)).take_while(|file| is_old(file)).count();
        files.drain(..old);
    }
    match tail_lines {
        Some(lines) => tail_start(&files, lines),
        None => Ok(files.into_iter().next().map(|file| (file, 0))),
    }
}

/// The file that follows the one with this number. Without a number, the first; if none has the number any more, the
/// last, since the others are likely older.
pub(super) fn after(files: &[PathBuf], present: Option<u64>) -> io::Result<Option<PathBuf>> {
    let Some(present) = present else { return Ok(files.first().cloned()) };
    for (index, file) in files.iter().enumerate() {
        match fs::metadata(file) {
            Ok(found) if found.ino() == present => return Ok(files.get(index + 1).cloned()),
            Ok(_) => {}
            // Renamed again just now; the notice of it will bring the reader back here.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(files.last().cloned())
}
