//! A watch that is woken only for what may concern it.

use carrack_store::{Revision, WatchBatch, WatchError, Watcher};

use super::Entry;

/// Changes of watched keys: all that the watch may be interested in, each once, in order.
pub(crate) struct Feed {
    watcher: Watcher,
    entry: Entry,
    /// Up to here it looks at each change, since nobody noted which of them concern it.
    looks_upto: Revision,
}

/// What to do next.
enum Step {
    /// Look at this revision.
    Look(Revision),
    /// Look at what was not noted.
    LookAtAll,
    Wait,
    /// Take what is left, to the end.
    End,
}

impl Feed {
    pub(super) fn new(watcher: Watcher, entry: Entry) -> Feed {
        let looks_upto = entry.position;
        Feed { watcher, entry, looks_upto }
    }

    /// The next changes that may be of interest; `None` once the store is shut down or after an error. Nothing is lost if
    /// the future is dropped before it is done.
    pub(crate) async fn next(&mut self) -> Option<Result<WatchBatch, WatchError>> {
        loop {
            tokio::task::coop::consume_budget().await;
            let upto = match self.step() {
                Step::End => return self.watcher.next().await,
                Step::Wait => {
                    self.entry.slot.wake.notified().await;
                    continue;
                }
                Step::LookAtAll => self.looks_upto,
                Step::Look(revision) => {
                    self.watcher.skip_to(revision);
                    revision
                }
            };
            match self.watcher.upto(upto).await {
                Some(Ok(None)) => {}
                other => return other.and_then(Result::transpose),
            }
        }
    }

    fn step(&mut self) -> Step {
        let mut news = self.entry.slot.news.lock();
        if news.closed {
            return Step::End;
        }
        if let Some((from, upto)) = news.lost.take() {
            if self.watcher.progress() >= self.looks_upto {
                self.watcher.skip_to(from);
            }
            self.looks_upto = upto;
        }
        let seen = self.watcher.progress();
        if seen < self.looks_upto {
            return Step::LookAtAll;
        }
        // One stays noted until it was delivered, or found to be nothing.
        while news.hits.front().is_some_and(|hit| *hit <= seen) {
            news.hits.pop_front();
        }
        news.hits.front().map_or(Step::Wait, |hit| Step::Look(*hit))
    }

    #[cfg(test)]
    pub(super) fn noted(&self) -> usize {
        self.entry.slot.news.lock().hits.len()
    }

    /// The revision up to which everything was delivered: no earlier change that is of interest will follow.
    pub(crate) fn progress(&mut self) -> Revision {
        // What is noted later than this was read is later than this.
        let noted = self.entry.position();
        if let Step::Wait = self.step() {
            self.watcher.skip_to(noted + 1);
        }
        self.watcher.progress()
    }
}
