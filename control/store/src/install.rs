//! Taking a received snapshot over: the file beside the history becomes the history, and what is in memory is made
//! anew from it. A crash at any moment leaves the old history or the new one, whole.

use std::io;
use std::sync::atomic::Ordering;

use crate::backend::Backend;
use crate::image::RECEIVED;
use crate::log::{Position, SegmentLog};
use crate::mvcc::{Marks, Mvcc, Window};
use crate::shared::Shared;

/// Takes over what was received, which must go up to the entry `wanted`. Blocks on the disk.
pub(crate) fn install(shared: &Shared, wanted: Option<Position>) -> io::Result<()> {
    let options = &shared.options;
    let path = options.dir.join(RECEIVED);
    let mut state = Mvcc::new(Window::new(options.window_revisions, options.window_bytes));
    let received =
        Backend::open(options.disk.clone(), path.clone(), options.cache_bytes).map_err(io::Error::other)?;
    received.load(&mut state).map_err(io::Error::other)?;
    received.close();
    let marks = state.marks().clone();
    if marks.applied.is_none() || marks.applied != wanted {
        return Err(io::Error::other(format!(
            "the received snapshot goes up to {:?}, not to {wanted:?}",
            marks.applied
        )));
    }
    // No checkpoint of the old state may get into the new file.
    let _no_checkpoint = shared.checkpointing.lock();
    shared.backend.replace(&path)?;
    let (revision, next) = (state.revision(), marks.applied.map_or(0, |at| at.index + 1));
    shared.removed.send_replace(marks.removed.clone());
    *shared.checkpointed.lock() = marks;
    *shared.state.write() = state;
    shared.trigger.waiting(0, false, false);
    shared.applied_next.store(next, Ordering::Release);
    shared.applied.send_replace(next);
    shared.announce(revision);
    tracing::info!(index = next.saturating_sub(1), revision, "installed a snapshot of the leader");
    Ok(())
}

/// After a crash between the installation of a snapshot and the purge of the log: purges the log, which ends before
/// the snapshot does, or contradicts it. True if it did.
pub(crate) fn finish(log: &mut SegmentLog, marks: &Marks) -> io::Result<bool> {
    let Some(applied) = marks.applied.filter(|_| marks.installed == marks.applied) else {
        return Ok(false);
    };
    if log.purged().is_some_and(|purged| purged.index >= applied.index) {
        return Ok(false);
    }
    let same = log.read(applied.index..applied.index + 1)?.first().is_some_and(|record| record.at == applied);
    if same {
        return Ok(false);
    }
    log.truncate(log.purged())?.sync()?;
    log.purge(applied)?;
    Ok(true)
}
