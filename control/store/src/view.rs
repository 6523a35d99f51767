//! Reading the whole history: for hashes, snapshots, defragmentation and members that lag.

use std::ops::Bound;

use redb::{ReadTransaction, ReadableDatabase, ReadableTable};

use crate::backend::{Backend, HISTORY, LEASES, MARKS, Result, db, decode, read_marks};
use crate::kv::{KeyValue, LeaseId};
use crate::mvcc::{Marks, RecordKey};

/// The history as of the last checkpoint. It stays as it is while this is held; checkpoints go on.
pub(crate) struct View {
    read: ReadTransaction,
    pub(crate) marks: Marks,
}

impl Backend {
    /// Everything up to the last checkpoint; `None` before the first one.
    pub(crate) fn view(&self) -> Result<Option<View>> {
        let read = db(self.database()?.begin_read())?;
        let marks = match read.open_table(MARKS) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            other => read_marks(&db(other)?)?,
        };
        // A newer format would have been refused when the store was opened.
        Ok(marks.ok().map(|marks| View { read, marks }))
    }
}

impl View {
    /// Gives each record, in order, to `visit`, until it fails.
    pub(crate) fn each<E: From<Box<crate::backend::BackendError>>>(
        &self,
        mut visit: impl FnMut(KeyValue) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let history = db(self.read.open_table(HISTORY))?;
        for entry in db(history.iter())? {
            let (key, value) = db(entry)?;
            visit(decode(key.value(), value.value())?)?;
        }
        Ok(())
    }

    /// Gives the encoded records behind `after`, in order, as long as `each` wants more.
    pub(crate) fn records(
        &self,
        after: Option<RecordKey>,
        mut each: impl FnMut(RecordKey, &[u8]) -> bool,
    ) -> Result<()> {
        let table = db(self.read.open_table(HISTORY))?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        for entry in db(table.range::<RecordKey>((from, Bound::Unbounded)))? {
            let (key, value) = db(entry)?;
            if !each(key.value(), value.value()) {
                break;
            }
        }
        Ok(())
    }

    /// All leases with their TTL in seconds, in order.
    pub(crate) fn leases(&self) -> Result<Vec<(LeaseId, i64)>> {
        let table = db(self.read.open_table(LEASES))?;
        let leases = db(table.iter())?;
        leases.map(|entry| db(entry).map(|(id, ttl)| (id.value(), ttl.value()))).collect()
    }

    /// The transaction itself, to copy tables as they are.
    pub(crate) fn read(&self) -> &ReadTransaction {
        &self.read
    }
}
