//! What is on the disk is what was written, or the store is not opened.
//!
//! redb keeps a checksum of each page, but compares them only after a crash: a bit that flips while the store is down would be served.
//! So all of the file is compared when the store opens, which reads it anyway.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use crate::backend::Backend;
use crate::error::OpenError;

type Result<T> = std::result::Result<T, OpenError>;

fn corrupt(path: &Path, detail: String) -> OpenError {
    OpenError::Corrupt { path: path.to_owned(), detail }
}

/// Opens the history in the file at `path`. Some damage makes redb panic, which is refused like any other.
pub(crate) fn whole<T>(path: &Path, open: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it cannot be read");
        Err(corrupt(path, text.to_owned()))
    })
}

impl Backend {
    /// Compares the checksums of all of the file. Blocks on the disk.
    pub(crate) fn verify(&self) -> Result<()> {
        let mut slot = self.slot();
        let Some(database) = slot.as_mut().and_then(Arc::get_mut) else { return Ok(()) };
        match database.check_integrity() {
            Ok(true) => Ok(()),
            Ok(false) => Err(corrupt(&self.path, "its pages do not match their checksums".to_owned())),
            Err(error) => {
                *slot = None;
                Err(corrupt(&self.path, error.to_string()))
            }
        }
    }
}
