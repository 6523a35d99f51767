//! The state on its way to a member that lags: the history as it was at a checkpoint, in parts that are read from a redb transaction and written to a
//! file beside the receiver's history. Neither side ever holds more than one part in memory.
//!
//! A part is a list of [`Item`]s. Leases come first, then the records in order; the marks come last, so that a file
//! without them is not complete.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::backend::{Backend, BackendError};
use crate::disk::Disk;
use crate::kv::LeaseId;
use crate::mvcc::{Marks, RecordKey};
use crate::view::View;

/// Bytes of records in a part, at least; a part ends with the record that reaches it.
const PART: usize = 512 << 10;

/// The file that a snapshot is received into, beside the history.
pub(crate) const RECEIVED: &str = "history.redb.new";

/// What a part is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Item {
    Lease(LeaseId, i64),
    Record(RecordKey, Vec<u8>),
    Marks(Marks),
}

/// A snapshot that is read.
pub(crate) struct Export {
    view: View,
}

/// Where a reader of a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cursor {
    Start,
    Behind(RecordKey),
    End,
}

impl Export {
    /// The history as of the last checkpoint; `None` if there was none.
    pub(crate) fn of(backend: &Backend) -> Result<Option<Export>, Box<BackendError>> {
        // Before the first checkpoint there are marks, but of nothing.
        Ok(backend.view()?.filter(|view| view.marks.applied.is_some()).map(|view| Export { view }))
    }

    /// What it contains.
    pub(crate) fn marks(&self) -> &Marks {
        &self.view.marks
    }

    /// Reads the next part. Blocks on the disk.
    pub(crate) fn part(&self, from: Cursor) -> Result<(Vec<Item>, Cursor), Box<BackendError>> {
        let mut items = Vec::new();
        let after = match from {
            Cursor::Start => {
                let leases = self.view.leases()?;
                items.extend(leases.into_iter().map(|(id, ttl)| Item::Lease(id, ttl)));
                None
            }
            Cursor::Behind(key) => Some(key),
            Cursor::End => return Ok((items, Cursor::End)),
        };
        let mut bytes = 0;
        let mut next = Cursor::End;
        self.view.records(after, |key, record| {
            bytes += record.len();
            items.push(Item::Record(key, record.to_vec()));
            let full = bytes >= PART;
            if full {
                next = Cursor::Behind(key);
            }
            !full
        })?;
        if next == Cursor::End {
            items.push(Item::Marks(self.view.marks.clone()));
        }
        Ok((items, next))
    }
}

/// A snapshot that is received.
pub(crate) struct Import {
    backend: Backend,
}

impl Import {
    /// Begins anew: what was received before is gone. Blocks on the disk.
    pub(crate) fn start(disk: &Arc<dyn Disk>, path: PathBuf, cache_bytes: usize) -> Result<Import, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        remove(disk.as_ref(), &path).map_err(|error| text(&error))?;
        let backend = Backend::open(Arc::clone(disk), path, cache_bytes).map_err(|error| text(&error))?;
        Ok(Import { backend })
    }

    /// Writes a part. True if that was all. Blocks on the disk.
    pub(crate) fn take(&self, items: &[Item]) -> Result<bool, Box<BackendError>> {
        self.backend.import(items)?;
        Ok(matches!(items.last(), Some(Item::Marks(_))))
    }

    /// Closes the file, which is durable.
    pub(crate) fn finish(self) {
        self.backend.close();
    }
}

/// Removes what is left of a snapshot that was not received to its end.
pub(crate) fn remove(disk: &dyn Disk, path: &std::path::Path) -> std::io::Result<()> {
    let Some(dir) = path.parent() else { return Ok(()) };
    if disk.list(dir)?.iter().any(|found| found == path) {
        disk.remove(path)?;
        disk.sync_dir(dir)?;
    }
    Ok(())
}
