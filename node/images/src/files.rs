//! Small files of the store.

use std::fs::File;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::error::ImageError;

/// Attaches the path to an error.
pub(crate) fn io_error(path: &Path) -> impl Fn(io::Error) -> ImageError + '_ {
    |source| ImageError::Io { path: path.to_owned(), source }
}

/// Replaces a JSON file so that a crash leaves the old or the new one. Durable when it returns.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), ImageError> {
    let bytes = serde_json::to_vec(value).map_err(|error| io_error(path)(error.into()))?;
    carrack_files::replace(path, &bytes, 0o644).map_err(io_error(path))
}

/// Makes everything on the file system of `path` durable: one call for a whole layer.
pub(crate) fn sync_all(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}
