//! Exit records on disk: what a container's end is known by when nobody was there to hear of it.

use crate::types::ExitRecord;
use std::path::{Path, PathBuf};

/// Writes a record so that after this returns it survives anything.
pub(crate) fn write(dir: &Path, record: &ExitRecord) -> std::io::Result<()> {
    carrack_files::replace(&path(dir, &record.id), &serde_json::to_vec(record)?, 0o644)
}

/// Deletes a record. One that is not there is no error.
pub(crate) fn remove(dir: &Path, id: &str) -> std::io::Result<()> {
    match std::fs::remove_file(path(dir, id)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Every record in `dir`; none when there is no such directory. Files that were never renamed into place are passed over.
pub(crate) fn read_all(dir: &Path) -> std::io::Result<Vec<ExitRecord>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut records = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let record = serde_json::from_slice(&std::fs::read(&path)?).map_err(|error| {
                std::io::Error::new(std::io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
            })?;
            records.push(record);
        }
    }
    Ok(records)
}

fn path(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!("{id}.json"))
}
