//! Defragmentation: the history is copied to a new file, which takes the place of the old one.
//!
//! Reads go on, of the old file; writes go on too, into the log and memory, until more waits there than may. A crash
//! leaves the old file or the new one, both whole.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use redb::{Database, ReadableTable};

use crate::backend::{Backend, HISTORY, LEASES, MARKS, RedbFile, Result, db};

impl Backend {
    /// Gives back the space of what was deleted. Blocks on the disk, for as long as it takes to copy what is left;
    /// needs that much free space.
    pub(crate) fn defragment(&self) -> Result<()> {
        let _no_checkpoint = self.writing.lock();
        let Some(view) = self.view()? else { return Ok(()) };
        let beside = self.beside();
        let copied = self.copy(&view).and_then(|()| {
            let dir = beside.parent().unwrap_or(&beside);
            // Whoever reads goes on with the old file; who comes next opens the new one.
            let mut slot = self.slot();
            db(self.disk.rename(&beside, &self.path).map_err(redb::Error::Io))?;
            *slot = None;
            db(self.disk.sync_dir(dir).map_err(redb::Error::Io))
        });
        if copied.is_err() {
            // What is left of the copy is no use, and its space is wanted.
            let _ = self.disk.remove(&beside);
        }
        copied
    }

    fn copy(&self, view: &crate::view::View) -> Result<()> {
        let io = |error| redb::Error::Io(error);
        let file = db(self.disk.open(&self.beside(), true).map_err(io))?;
        db(file.set_len(0).map_err(io))?;
        let file = RedbFile { file, bytes: Arc::new(AtomicU64::new(0)) };
        let mut builder = Database::builder();
        let copy = db(builder.set_cache_size(self.cache_bytes).create_with_backend(file))?;
        let mut write = db(copy.begin_write())?;
        write.set_quick_repair(true);
        {
            // One transaction: its pages beyond the cache are written as it goes.
            let mut history = db(write.open_table(HISTORY))?;
            for entry in db(db(view.read().open_table(HISTORY))?.iter())? {
                let (key, value) = db(entry)?;
                db(history.insert(key.value(), value.value()))?;
            }
            let mut leases = db(write.open_table(LEASES))?;
            for entry in db(db(view.read().open_table(LEASES))?.iter())? {
                let (id, ttl) = db(entry)?;
                db(leases.insert(id.value(), ttl.value()))?;
            }
            let mut marks = db(write.open_table(MARKS))?;
            for entry in db(db(view.read().open_table(MARKS))?.iter())? {
                let (name, value) = db(entry)?;
                db(marks.insert(name.value(), value.value()))?;
            }
        }
        db(write.commit())
    }
}
