//! What may go wrong with control groups.

use std::path::{Path, PathBuf};

/// Why an operation on control groups failed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A path that is not relative, or leaves its parent.
    #[error("{0:?} is not a relative control group path")]
    BadPath(String),
    /// The host lacks something.
    #[error("this host has no {0}")]
    Missing(String),
    /// Processes would not go away.
    #[error("the control group {} still has processes: {pids:?}", .path.display())]
    Busy {
        /// Which one.
        path: PathBuf,
        /// Who is in there.
        pids: Vec<u32>,
    },
    /// A system call failed.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// Names what was tried on which file.
pub(crate) trait At<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, CgroupError>;
}

impl<T, E: Into<std::io::Error>> At<T> for Result<T, E> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, CgroupError> {
        self.map_err(|source| CgroupError::Io { action, path: path.to_owned(), source: source.into() })
    }
}

/// A missing file is no error: `None`.
pub(crate) fn if_exists<T>(result: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        // ENODEV: the group was removed while the file was open.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(19) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
