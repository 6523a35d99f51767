//! What all parts of an open store hold together: the state, the disk side of it, and how they wake each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::backend::Backend;
use crate::checkpoint::Trigger;
use crate::disk::DiskFile;
use crate::error::{ReadError, WatchError, WriteError};
use crate::identity::Identity;
use crate::kv::{KeyRange, KeyValue, Revision};
use crate::lease::Lessor;
use crate::log::SegmentLog;
use crate::metrics::Counters;
use crate::mvcc::{Found, Marks, Mvcc, RecordKey};
use crate::options::Options;
use crate::peer::message::{Envelope, Request, Response};
use crate::peer::{Peer, TransportError};
use crate::raft::Incoming;
use crate::space::Gate;
use crate::txn::{Range, RangeResponse};
use crate::upkeep::UpkeepError;
use crate::view::View;
use crate::watch::{Event, EventKind, WatchBatch};

/// Waits until `stop` is true, or nobody can set it any more.
pub(crate) async fn until(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// What watchers wait for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// The newest revision.
    pub(crate) revision: Revision,
    /// Whether the store is shut down.
    pub(crate) closed: bool,
}

/// The parts of an open store.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) identity: Identity,
    pub(crate) state: RwLock<Mvcc>,
    pub(crate) backend: Backend,
    /// Held for writing while the log is written to, not while it is synced.
    pub(crate) log: Mutex<SegmentLog>,
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) counters: Counters,
    pub(crate) lessor: Lessor,
    pub(crate) gate: Gate,
    pub(crate) trigger: Trigger,
    /// Held while a checkpoint is written, and while a snapshot takes the place of the history.
    pub(crate) checkpointing: Mutex<()>,
    /// Snapshots that are sent: attempt, and last entry.
    pub(crate) exporting: Mutex<BTreeMap<u64, u64>>,
    /// The snapshot that is received.
    pub(crate) incoming: Arc<tokio::sync::Mutex<Option<Incoming>>>,
    /// Held by who hashes the history for another member.
    pub(crate) hashing: tokio::sync::Mutex<()>,
    /// What the last checkpoint made durable.
    pub(crate) checkpointed: Mutex<Marks>,
    /// Index of the last applied entry, plus one.
    pub(crate) applied_next: AtomicU64,
    /// The same, for those who wait for it.
    pub(crate) applied: watch::Sender<u64>,
    /// Who was removed, as far as this member has seen it.
    pub(crate) removed: watch::Sender<BTreeSet<u64>>,
    /// Where members are.
    pub(crate) addresses: RwLock<BTreeMap<u64, Vec<String>>>,
    /// Whether this member is all of the cluster: then nobody else can have committed anything, and what is applied
    /// here is all that anybody was told.
    pub(crate) alone: AtomicBool,
    /// Index of the last membership in the log, applied or not.
    pub(crate) membership_index: AtomicU64,
    /// Whether the store is going down: nothing waits any more.
    pub(crate) stopping: AtomicBool,
    /// Why the store stopped working.
    pub(crate) failed: watch::Sender<Option<String>>,
    /// Keeps other processes out; released at the end of a shutdown.
    pub(crate) lock: Mutex<Option<Box<dyn DiskFile>>>,
}

impl Shared {
    /// Records a fault after which nothing can be promised any more. The first one counts.
    pub(crate) fn fail(&self, why: impl std::fmt::Display) {
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            if first {
                tracing::error!(%why, "the store has failed");
                *failed = Some(why.to_string());
            }
            first
        });
    }

    /// Why the store stopped working, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failed.borrow().clone()
    }

    /// Whether a member was removed from the cluster.
    pub(crate) fn is_removed(&self, id: u64) -> bool {
        self.removed.borrow().contains(&id)
    }

    /// A member and where it is.
    pub(crate) fn peer(&self, id: u64) -> Peer {
        Peer { id, urls: self.addresses.read().get(&id).cloned().unwrap_or_default() }
    }

    /// A message of this member.
    pub(crate) fn envelope(&self, to: u64, request: Request) -> Envelope {
        let Identity { cluster_id, member_id, .. } = self.identity;
        Envelope { cluster_id, from: member_id, to, request }
    }

    /// Asks another member.
    pub(crate) async fn call(
        &self,
        to: u64,
        request: Request,
        timeout: Duration,
    ) -> Result<Response, TransportError> {
        let Some(transport) = &self.options.transport else {
            return Err(TransportError::Undelivered("this store has no transport to peers".to_owned()));
        };
        transport.call(&self.peer(to), self.envelope(to, request), timeout).await
    }

    /// Writes everything that waits to the history now.
    pub(crate) async fn checkpoint(&self) -> Result<(), WriteError> {
        // One that is being written now may have begun too early to contain everything.
        let written = self.trigger.round(true).await && self.trigger.round(true).await;
        if let Some(why) = self.failure() {
            return Err(WriteError::Failed(why));
        }
        if !written {
            return Err(WriteError::Stopped);
        }
        if self.gate.shortage().is_some() {
            // It may be over since somebody last looked.
            self.gate.look_for_space(self).await;
        }
        self.gate.shortage().map_or(Ok(()), |shortage| Err(WriteError::NoSpace(shortage)))
    }

    /// Works on a view of everything that is acknowledged by now, off the threads that serve.
    pub(crate) async fn with_view<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&View) -> Result<T, UpkeepError> + Send + 'static,
    ) -> Result<T, UpkeepError> {
        self.checkpoint().await?;
        let shared = Arc::clone(self);
        let done = self.options.blocking.run(move || {
            let view = shared.backend.view()?;
            let missing = || UpkeepError::History("nothing was written yet".to_owned());
            work(&view.ok_or_else(missing)?)
        });
        done.await.map_err(UpkeepError::History)?
    }

    /// Wakes watchers after something was applied.
    pub(crate) fn announce(&self, revision: Revision) {
        self.progress.send_if_modified(|progress| {
            let newer = revision > progress.revision;
            progress.revision = progress.revision.max(revision);
            newer
        });
    }

    /// Reads what memory has at once; says whether the rest has to be read from the backend.
    pub(crate) fn read(&self, range: &Range) -> Result<Read, ReadError> {
        let plan = self.state.read().plan(range)?;
        let mut read = Read {
            response: RangeResponse {
                revision: plan.revision,
                kvs: Vec::new(),
                more: plan.more,
                count: plan.count,
            },
            missing: Vec::new(),
        };
        for found in plan.found {
            match found {
                Found::Here(kv) => read.response.kvs.push(kv),
                Found::Stored(key) => {
                    read.missing.push((read.response.kvs.len(), key));
                    // Replaced by `complete`.
                    read.response.kvs.push(Arc::new(KeyValue::new("", "", 0, 0, 0, 0)));
                }
            }
        }
        Ok(read)
    }

    /// Reads from the backend what memory did not have. Blocks on the disk.
    pub(crate) fn complete(&self, range: &Range, mut read: Read) -> Result<RangeResponse, ReadError> {
        let keys: Vec<RecordKey> = read.missing.iter().map(|(_, key)| *key).collect();
        let stored = self.backend.get(&keys).map_err(|error| match error.is_end() {
            true => ReadError::Stopped,
            false => ReadError::History(error.to_string()),
        })?;
        for ((place, key), kv) in read.missing.drain(..).zip(stored) {
            let Some(kv) = kv else {
                return Err(self.compacted_meanwhile(range.revision.unwrap_or_default(), key));
            };
            read.response.kvs[place] = Arc::new(kv);
        }
        Ok(read.response)
    }

    /// A record that was there is gone: only a compaction removes records.
    fn compacted_meanwhile(&self, requested: Revision, key: RecordKey) -> ReadError {
        let compacted = self.state.read().compacted();
        if requested < compacted {
            ReadError::Compacted { requested, compacted }
        } else {
            ReadError::History(format!("record {key:?} is missing from the history"))
        }
    }

    /// The changes to `keys` in revisions `from..=upto`, as far as there are any yet, and the revision up to which
    /// that is all of them. Blocks on the disk.
    pub(crate) fn history(
        &self,
        keys: &KeyRange,
        from: Revision,
        upto: Revision,
        prev_kv: bool,
    ) -> Result<(Vec<WatchBatch>, Revision), WatchError> {
        let failed = |error: Box<crate::backend::BackendError>| match error.is_end() {
            true => WatchError::Stopped,
            false => WatchError::History(error.to_string()),
        };
        let (upto, unflushed) = {
            let state = self.state.read();
            let upto = upto.min(state.revision());
            (upto, state.unflushed_between(from, upto))
        };
        // What is not in memory was durable before the lock was let go, so it is found now; what became durable
        // since then is found twice, and is the same.
        let mut records = BTreeMap::new();
        for kv in self.backend.between(from, upto).map_err(failed)?.into_iter().map(Arc::new).chain(unflushed)
        {
            if keys.contains(&kv.key) {
                records.insert((kv.mod_revision, kv.sub), kv);
            }
        }
        // Looked at last: if nothing is compacted now, nothing was missing above.
        let compacted = self.state.read().compacted();
        if from < compacted {
            return Err(WatchError::Compacted { requested: from, compacted });
        }
        let mut previous =
            if prev_kv { self.versions_before(records.values()).map_err(failed)? } else { BTreeMap::new() };
        let mut batches: Vec<WatchBatch> = Vec::new();
        for (at, kv) in records {
            let kind = if kv.is_tombstone() { EventKind::Delete } else { EventKind::Put };
            let event = Event::new(kind, kv, previous.remove(&at));
            match batches.last_mut().filter(|batch| batch.revision == at.0) {
                Some(batch) => batch.events.push(event),
                None => batches.push(WatchBatch { revision: at.0, events: vec![event] }),
            }
        }
        Ok((batches, upto))
    }

    /// What the keys of these records held before them, as far as that is kept.
    fn versions_before<'a>(
        &self,
        records: impl Iterator<Item = &'a Arc<KeyValue>>,
    ) -> Result<BTreeMap<RecordKey, Arc<KeyValue>>, Box<crate::backend::BackendError>> {
        let mut previous = BTreeMap::new();
        let mut stored = Vec::new();
        {
            let state = self.state.read();
            for kv in records {
                let at = (kv.mod_revision, kv.sub);
                let before = kv.mod_revision - 1;
                match state.version_at(&kv.key, before).filter(|_| before >= state.compacted()) {
                    Some(Found::Here(old)) => drop(previous.insert(at, old)),
                    Some(Found::Stored(key)) => stored.push((at, key)),
                    None => {}
                }
            }
        }
        let keys: Vec<RecordKey> = stored.iter().map(|(_, key)| *key).collect();
        for ((at, _), kv) in stored.iter().zip(self.backend.get(&keys)?) {
            // Gone only if it was compacted just now; then it is left out like any compacted version.
            if let Some(kv) = kv {
                previous.insert(*at, Arc::new(kv));
            }
        }
        Ok(previous)
    }
}

/// An answer with gaps.
pub(crate) struct Read {
    pub(crate) response: RangeResponse,
    /// Where in the answer, and which record belongs there.
    pub(crate) missing: Vec<(usize, RecordKey)>,
}
