//! The state machine: all that applying commands changes, in memory.
//!
//! It is deterministic: the same commands in the same order give the same state and the same answers on every
//! member and after every restart. It knows no clock, no disk and no Raft.
//!
//! The newest version of each key is in `current`. Of older versions only revision numbers are here; their values
//! are in [`Layer`]s until a checkpoint wrote them to the backend, and there afterwards.

mod apply;
mod compact;
mod read;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::record_len;
use crate::kv::{FIRST_REVISION, KeyValue, LeaseId, Revision};
use crate::log::Position;

pub(crate) use read::Found;
pub(crate) use window::Window;

/// A record of the history: revision, and place among the changes of that revision.
pub(crate) type RecordKey = (Revision, u32);

/// A version of a key that is not the newest any more, or that marks a deletion.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Past {
    revision: Revision,
    sub: u32,
    /// Bytes it takes in the history.
    len: u32,
    tombstone: bool,
}

/// Changes that are in the log but not in the backend yet.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    /// New records.
    pub(crate) records: BTreeMap<RecordKey, Arc<KeyValue>>,
    /// Records that were compacted away.
    pub(crate) removed: Vec<RecordKey>,
    /// Leases made (with their TTL) and ended.
    pub(crate) leases: BTreeMap<LeaseId, Option<i64>>,
    /// Commands applied, whether they changed anything or not.
    pub(crate) commands: usize,
    /// Bytes of the new records.
    pub(crate) bytes: usize,
}

/// A layer that takes no more changes, with what will be true once it is durable.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) layer: Layer,
    pub(crate) marks: Marks,
}

/// A lease and its keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LeaseState {
    pub(crate) ttl: i64,
    pub(crate) keys: BTreeSet<Bytes>,
}

/// What a checkpoint makes durable besides the records of a layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Marks {
    /// The newest revision.
    pub(crate) revision: Revision,
    /// The oldest that can be read; 0 if nothing was compacted.
    pub(crate) compacted: Revision,
    /// The last entry of the log that is included.
    pub(crate) applied: Option<Position>,
    /// Who belongs to the cluster, in the form the Raft adapter chose, and by which entry.
    pub(crate) membership: Option<(Position, Vec<u8>)>,
    /// Who was a member once and never will be again.
    pub(crate) removed: BTreeSet<u64>,
    /// If the history came as a snapshot: up to which entry.
    pub(crate) installed: Option<Position>,
}

/// The state. Callers put a lock around it.
pub(crate) struct Mvcc {
    marks: Marks,
    current: BTreeMap<Bytes, Arc<KeyValue>>,
    older: BTreeMap<Bytes, Vec<Past>>,
    leases: BTreeMap<LeaseId, LeaseState>,
    window: Window,
    pending: Layer,
    flushing: Option<Arc<Sealed>>,
    data_bytes: u64,
}

impl Mvcc {
    /// An empty state whose window keeps so many revisions and bytes.
    pub(crate) fn new(window: Window) -> Mvcc {
        Mvcc {
            marks: Marks { revision: FIRST_REVISION, ..Marks::default() },
            current: BTreeMap::new(),
            older: BTreeMap::new(),
            leases: BTreeMap::new(),
            window,
            pending: Layer::default(),
            flushing: None,
            data_bytes: 0,
        }
    }

    /// Takes in a record of the backend. They come in order, before any command is applied.
    pub(crate) fn load_record(&mut self, kv: KeyValue) {
        let kv = Arc::new(kv);
        self.data_bytes += record_len(&kv) as u64;
        if kv.is_tombstone() {
            if let Some(old) = self.current.remove(&kv.key) {
                self.retire(&old);
            }
            self.retire(&kv);
        } else if let Some(old) = self.current.insert(kv.key.clone(), kv) {
            self.retire(&old);
        }
    }

    /// Takes in what else the backend knows, after all records.
    pub(crate) fn load_marks(&mut self, marks: Marks, leases: Vec<(LeaseId, i64)>) {
        self.leases =
            leases.into_iter().map(|(id, ttl)| (id, LeaseState { ttl, ..LeaseState::default() })).collect();
        for kv in self.current.values().filter(|kv| kv.lease != 0) {
            if let Some(lease) = self.leases.get_mut(&kv.lease) {
                lease.keys.insert(kv.key.clone());
            }
        }
        self.window.restart_at(marks.revision + 1);
        self.marks = marks;
    }

    /// Remembers a version as an older one.
    fn retire(&mut self, kv: &KeyValue) {
        let past = Past {
            revision: kv.mod_revision,
            sub: kv.sub,
            len: record_len(kv) as u32,
            tombstone: kv.is_tombstone(),
        };
        self.older.entry(kv.key.clone()).or_default().push(past);
    }

    pub(crate) fn marks(&self) -> &Marks {
        &self.marks
    }

    pub(crate) fn revision(&self) -> Revision {
        self.marks.revision
    }

    pub(crate) fn compacted(&self) -> Revision {
        self.marks.compacted
    }

    pub(crate) fn window(&self) -> &Window {
        &self.window
    }

    pub(crate) fn leases(&self) -> &BTreeMap<LeaseId, LeaseState> {
        &self.leases
    }

    /// Number of keys, and bytes of all kept versions.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.current.len() as u64, self.data_bytes)
    }

    /// Says that the log was applied up to `at`.
    pub(crate) fn applied(&mut self, at: Position) {
        self.marks.applied = Some(at);
        self.pending.commands += 1;
    }

    /// Changes who belongs to the cluster.
    pub(crate) fn set_membership(&mut self, at: Position, members: Vec<u8>) {
        self.marks.membership = Some((at, members));
    }

    /// Remembers who is a member no more.
    pub(crate) fn set_removed(&mut self, gone: impl IntoIterator<Item = u64>) {
        self.marks.removed.extend(gone);
    }

    /// What waits for the next checkpoint.
    pub(crate) fn pending(&self) -> &Layer {
        &self.pending
    }

    /// Bytes that wait for this checkpoint and the next.
    pub(crate) fn unflushed_bytes(&self) -> usize {
        self.pending.bytes + self.flushing.as_ref().map_or(0, |sealed| sealed.layer.bytes)
    }

    /// The changes to write next. Gives the same again until [`Mvcc::flushed`] says that they are durable.
    pub(crate) fn seal(&mut self) -> Arc<Sealed> {
        let Mvcc { flushing, pending, marks, .. } = self;
        let sealed = flushing
            .get_or_insert_with(|| Arc::new(Sealed { layer: std::mem::take(pending), marks: marks.clone() }));
        Arc::clone(sealed)
    }

    /// Says that the layer given by [`Mvcc::seal`] is durable.
    pub(crate) fn flushed(&mut self) {
        self.flushing = None;
    }

    /// A record that is not in the backend yet.
    fn unflushed(&self, key: &RecordKey) -> Option<&Arc<KeyValue>> {
        let flushing = || self.flushing.as_ref().and_then(|sealed| sealed.layer.records.get(key));
        self.pending.records.get(key).or_else(flushing)
    }
}
