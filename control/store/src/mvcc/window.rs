//! The window of recent events: what watchers read, each at its own pace.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::codec::record_len;
use crate::kv::Revision;
use crate::watch::Event;

/// The newest revisions with their events. There is one entry for each revision, without gaps, so that a position
/// is a subtraction.
#[derive(Debug)]
pub(crate) struct Window {
    batches: VecDeque<Batch>,
    /// The revision of the first batch; of the next one to come, if there is none.
    first: Revision,
    bytes: usize,
    max_revisions: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Batch {
    events: Arc<[Event]>,
    bytes: usize,
}

impl Window {
    /// An empty window that keeps at most so many revisions, and so many bytes of keys and values (but always the
    /// newest revision).
    pub(crate) fn new(max_revisions: usize, max_bytes: usize) -> Window {
        Window {
            batches: VecDeque::new(),
            first: crate::kv::FIRST_REVISION + 1,
            bytes: 0,
            max_revisions,
            max_bytes,
        }
    }

    /// Forgets everything: the next revision is `next`.
    pub(super) fn restart_at(&mut self, next: Revision) {
        self.batches.clear();
        (self.first, self.bytes) = (next, 0);
    }

    /// Adds the events of the next revision.
    pub(super) fn push(&mut self, revision: Revision, events: Vec<Event>) {
        debug_assert_eq!(revision, self.first + self.batches.len() as Revision);
        // Values of previous versions count too: nothing else may be holding on to them.
        let bytes = events
            .iter()
            .map(|event| record_len(&event.kv) + event.prev.as_ref().map_or(0, |kv| record_len(kv)));
        let bytes = bytes.sum();
        self.batches.push_back(Batch { events: events.into(), bytes });
        self.bytes += bytes;
        while self.batches.len() > 1
            && (self.batches.len() > self.max_revisions || self.bytes > self.max_bytes)
        {
            if let Some(old) = self.batches.pop_front() {
                self.bytes -= old.bytes;
                self.first += 1;
            }
        }
    }

    /// The revisions from `revision` on with their events; `None` if the window has moved past `revision`.
    pub(crate) fn since(
        &self,
        revision: Revision,
    ) -> Option<impl Iterator<Item = (Revision, &Arc<[Event]>)>> {
        let skip = usize::try_from(revision - self.first).ok()?;
        Some(
            self.batches.iter().skip(skip).zip(revision..).map(|(batch, revision)| (revision, &batch.events)),
        )
    }
}
