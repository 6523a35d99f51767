//! Watching: each watcher is a position in the history and goes on at its own pace.
//!
//! Positions within the window of recent events are served from memory, older ones from the backend. A watcher that
//! is slow costs nobody else anything; if what it has not seen yet is compacted, it is told so.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::watch;

use crate::error::WatchError;
use crate::kv::{KeyRange, KeyValue, Revision};
use crate::seal::{self, Seal};
use crate::shared::{Progress, Shared};

/// Revisions read from the backend at once. Bounds the memory of a watcher that is far behind.
const HISTORY_STEP: i64 = 256;

/// Revisions of the window looked through without letting go of the lock.
const WINDOW_STEP: usize = 1024;

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was written.
    Put,
    /// It was deleted.
    Delete,
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The key after the change; for a deletion, the key and the revision of the deletion.
    pub kv: Arc<KeyValue>,
    /// The key before the change, if it existed, if it was asked for, and if it is not compacted.
    pub prev: Option<Arc<KeyValue>>,
    encoded: Encoded,
}

impl Event {
    pub(crate) fn new(kind: EventKind, kv: Arc<KeyValue>, prev: Option<Arc<KeyValue>>) -> Event {
        Event { kind, kv, prev, encoded: Encoded::default() }
    }

    /// What `encode` makes of it, by whoever asks first; all watchers who see this event in the window share it.
    /// There is one slot, so all callers have to ask for the same.
    pub(crate) fn encoded(&self, encode: impl FnOnce(&Event) -> Bytes) -> &Bytes {
        self.encoded.0.get_or_init(|| encode(self))
    }
}

/// Holds an encoded form; no part of the event's value, and not cloned with it.
#[derive(Debug, Default)]
struct Encoded(OnceLock<Bytes>);

impl Clone for Encoded {
    fn clone(&self) -> Encoded {
        Encoded::default()
    }
}

impl PartialEq for Encoded {
    fn eq(&self, _: &Encoded) -> bool {
        true
    }
}

/// What to watch.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// Which keys.
    pub keys: KeyRange,
    /// The first revision to deliver; `None`: the one after the newest. May be in the future.
    pub start_revision: Option<Revision>,
    /// Whether events carry what the key held before.
    pub prev_kv: bool,
}

impl Watch {
    /// Watches these keys from now on, with what they held before.
    pub fn of(keys: KeyRange) -> Watch {
        Watch { keys, start_revision: None, prev_kv: true }
    }

    /// Watches all keys with a prefix from now on.
    pub fn prefix(prefix: impl Into<bytes::Bytes>) -> Watch {
        Watch::of(KeyRange::prefix(prefix))
    }

    /// The same from `revision` on.
    #[must_use]
    pub fn since(self, revision: Revision) -> Watch {
        Watch { start_revision: Some(revision), ..self }
    }
}

/// All changes that one revision made to the watched keys.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchBatch {
    /// The revision.
    pub revision: Revision,
    /// The changes, in the order in which the transaction made them; never none.
    pub events: Vec<Event>,
}

/// Delivers the changes of a range of keys: all of them, each once, in order.
pub struct Watcher {
    shared: Arc<Shared>,
    changes: watch::Receiver<Progress>,
    keys: KeyRange,
    prev_kv: bool,
    start: Revision,
    /// The first revision that was not looked at yet.
    next: Revision,
    /// The store's revision at the last look.
    newest: Revision,
    /// Read from history, not delivered yet.
    backlog: VecDeque<WatchBatch>,
    /// Taken and not opened yet, since opening may wait: it stays here if that wait is given up.
    opening: Option<WatchBatch>,
    ended: bool,
    seal: Option<Arc<dyn Seal>>,
}

/// How far a look got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// There may be more at once.
    Again,
    /// All was looked at.
    UpToDate,
    /// All was looked at, and the store is shut down.
    Ended,
    /// The window has moved past the position.
    Behind,
}

impl Watcher {
    pub(crate) fn new(shared: Arc<Shared>, watch: Watch) -> Result<Watcher, WatchError> {
        let changes = shared.progress.subscribe();
        if changes.borrow().closed {
            return Err(WatchError::Stopped);
        }
        let state = shared.state.read();
        let (newest, compacted) = (state.revision(), state.compacted());
        drop(state);
        let start = match watch.start_revision {
            None => newest + 1,
            Some(requested) if requested < 1 => return Err(WatchError::BadRevision(requested)),
            Some(requested) if requested < compacted => {
                return Err(WatchError::Compacted { requested, compacted });
            }
            Some(requested) => requested,
        };
        shared.counters.watchers.fetch_add(1, Ordering::Relaxed);
        let Watch { keys, prev_kv, .. } = watch;
        Ok(Watcher {
            shared,
            changes,
            keys,
            prev_kv,
            start,
            next: start,
            newest,
            backlog: VecDeque::new(),
            opening: None,
            ended: false,
            seal: None,
        })
    }

    /// The same, opening the values that it brings.
    pub(crate) fn sealed(mut self, seal: Option<Arc<dyn Seal>>) -> Watcher {
        self.seal = seal;
        self
    }

    /// The first revision that this watch delivers.
    pub fn start_revision(&self) -> Revision {
        self.start
    }

    /// The revision up to which everything was delivered: no earlier change will follow. It grows while
    /// [`Watcher::next`] waits, even if no watched key changes.
    pub fn progress(&self) -> Revision {
        let waiting = self.opening.as_ref().or(self.backlog.front());
        let looked_at = waiting.map_or(self.next, |batch| batch.revision) - 1;
        looked_at.min(self.newest)
    }

    /// The next changes; `None` once the store is shut down or after an error. Nothing is lost if the future is
    /// dropped before it is done.
    pub async fn next(&mut self) -> Option<Result<WatchBatch, WatchError>> {
        self.upto(Revision::MAX).await.and_then(Result::transpose)
    }

    /// The next changes, as [`Watcher::next`]; `Some(Ok(None))` once it has delivered everything up to `revision`. It
    /// does not wait for changes if the store has that revision.
    pub async fn upto(&mut self, revision: Revision) -> Option<Result<Option<WatchBatch>, WatchError>> {
        loop {
            if self.progress() >= revision {
                return Some(Ok(None));
            }
            tokio::task::coop::consume_budget().await;
            if let Some(opened) = self.open().await {
                return Some(opened.map(Some));
            }
            let (mut events, prev_kv) = (Vec::new(), self.prev_kv);
            let mut take = |event: &Event| {
                let prev = event.prev.clone().filter(|_| prev_kv);
                events.push(Event::new(event.kind, Arc::clone(&event.kv), prev));
                1
            };
            let looked = self.feed(1, &mut take).await;
            if let Some(first) = events.first() {
                let batch = WatchBatch { revision: first.kv.mod_revision, events };
                if self.seal.is_none() {
                    return Some(Ok(Some(batch)));
                }
                self.opening = Some(batch);
                continue;
            }
            match looked {
                Ok(Look::Again | Look::Behind) => {}
                Ok(Look::Ended) => return None,
                // An error means that the sender is gone, and `shared` holds the sender.
                Ok(Look::UpToDate) if self.progress() < revision => drop(self.changes.changed().await),
                Ok(Look::UpToDate) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Goes on at `revision`: whoever calls it knows that nothing before it concerns this watch. Never goes back.
    pub fn skip_to(&mut self, revision: Revision) {
        self.opening.take_if(|batch| batch.revision < revision);
        while self.backlog.front().is_some_and(|batch| batch.revision < revision) {
            self.backlog.pop_front();
        }
        self.next = self.next.max(revision);
        self.newest = self.newest.max(revision - 1);
    }

    /// What was taken, with its values opened; `None` if nothing was.
    async fn open(&mut self) -> Option<Result<WatchBatch, WatchError>> {
        let mut batch = self.opening.clone()?;
        let opened = match &self.seal {
            None => Ok(()),
            Some(seal) => seal::open_batch(&**seal, &mut batch).await,
        };
        self.opening = None;
        Some(match opened {
            Ok(()) => Ok(batch),
            Err(error) => {
                self.ended = true;
                Err(error.into())
            }
        })
    }

    /// Shows changes to `sink`, which says how much it took of each, until that is `enough` (no revision is cut) or
    /// there are no more. Does not wait for changes, though possibly for the disk. `prev` of what it shows may be
    /// there even if it was not asked for.
    pub(crate) async fn feed(
        &mut self,
        enough: usize,
        sink: &mut (impl FnMut(&Event) -> usize + Send),
    ) -> Result<Look, WatchError> {
        if self.ended {
            return Ok(Look::Ended);
        }
        let mut taken = 0;
        while let Some(batch) = self.backlog.pop_front() {
            taken += batch.events.iter().map(&mut *sink).sum::<usize>();
            if taken >= enough {
                return Ok(Look::Again);
            }
        }
        // What comes after this look wakes who waits for `changes`.
        let closed = self.changes.borrow_and_update().closed;
        match self.look(enough - taken, sink) {
            // What was found goes out first.
            Look::Behind if taken > 0 => Ok(Look::Again),
            Look::Behind => {
                let read = self.catch_up().await.inspect_err(|_| self.ended = true);
                match read {
                    Err(WatchError::Stopped) => Ok(Look::Ended),
                    read => read.map(|()| Look::Again),
                }
            }
            Look::UpToDate if closed => {
                self.ended = true;
                Ok(Look::Ended)
            }
            found => Ok(found),
        }
    }

    /// Looks through the window for what concerns this watcher.
    fn look(&mut self, enough: usize, sink: &mut impl FnMut(&Event) -> usize) -> Look {
        let state = self.shared.state.read();
        self.newest = state.revision();
        if self.next > self.newest {
            return Look::UpToDate;
        }
        let Some(batches) = state.window().since(self.next) else {
            return Look::Behind;
        };
        let mut taken = 0;
        for (revision, events) in batches.take(WINDOW_STEP) {
            self.next = revision + 1;
            let wanted = events.iter().filter(|event| self.keys.contains(&event.kv.key));
            taken += wanted.map(&mut *sink).sum::<usize>();
            if taken >= enough {
                return Look::Again;
            }
        }
        if self.next > self.newest { Look::UpToDate } else { Look::Again }
    }

    /// Reads the next part of the history.
    async fn catch_up(&mut self) -> Result<(), WatchError> {
        let (shared, keys, from, prev_kv) =
            (Arc::clone(&self.shared), self.keys.clone(), self.next, self.prev_kv);
        self.shared.counters.history_reads.fetch_add(1, Ordering::Relaxed);
        let read = move || shared.history(&keys, from, from + HISTORY_STEP - 1, prev_kv);
        let read = self.shared.options.blocking.run(read).await;
        let (batches, upto) = read.map_err(WatchError::History)??;
        self.backlog = batches.into();
        self.next = upto + 1;
        self.newest = self.newest.max(upto);
        Ok(())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.counters.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}
