//! Reading: what memory can answer, and what has to be fetched from the backend.

use std::collections::btree_map;
use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;

use super::{Mvcc, Past, RecordKey};
use crate::error::ReadError;
use crate::kv::{KeyRange, KeyValue, Revision};
use crate::txn::{Range, RangeResponse};

/// A version that a read is about.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// It is in memory.
    Here(Arc<KeyValue>),
    /// It is in the backend, under this key.
    Stored(RecordKey),
}

/// What a read needs to be answered.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The newest revision at the time.
    pub(crate) revision: Revision,
    /// The versions in the order of their keys.
    pub(crate) found: Vec<Found>,
    /// How many keys the range has in all.
    pub(crate) count: u64,
    /// Whether the limit left some out.
    pub(crate) more: bool,
}

impl Mvcc {
    /// Plans a read.
    pub(crate) fn plan(&self, range: &Range) -> Result<Plan, ReadError> {
        let current = self.revision();
        let at = match range.revision {
            None | Some(0) => current,
            Some(requested) if requested > current => {
                return Err(ReadError::FutureRevision { requested, current });
            }
            Some(requested) if requested < self.compacted() => {
                return Err(ReadError::Compacted { requested, compacted: self.compacted() });
            }
            Some(requested) => requested,
        };
        if at == current {
            let RangeResponse { revision, kvs, more, count } = self.read_current(range, current);
            return Ok(Plan { revision, found: kvs.into_iter().map(Found::Here).collect(), count, more });
        }
        let mut plan = Plan { revision: current, found: Vec::new(), count: 0, more: false };
        self.each_at(&range.keys, at, |found| {
            plan.count += 1;
            if range.count_only {
            } else if range.limit == 0 || plan.found.len() < range.limit {
                plan.found.push(found);
            } else {
                plan.more = true;
            }
        });
        Ok(plan)
    }

    /// Reads the newest versions; `revision` is what the answer says.
    pub(super) fn read_current(&self, range: &Range, revision: Revision) -> RangeResponse {
        let mut response = RangeResponse { revision, kvs: Vec::new(), more: false, count: 0 };
        let Some(bounds) = range.keys.bounds() else {
            return response;
        };
        let mut keys = self.current.range::<[u8], _>(bounds);
        if range.count_only {
            response.count = keys.count() as u64;
            return response;
        }
        let limit = if range.limit == 0 { usize::MAX } else { range.limit };
        for (_, kv) in keys.by_ref().take(limit) {
            response.kvs.push(if range.keys_only { Arc::new(kv.without_value()) } else { Arc::clone(kv) });
        }
        let rest = keys.count() as u64;
        response.count = response.kvs.len() as u64 + rest;
        response.more = rest > 0;
        response
    }

    /// The version of `key` as of `revision`, which is not compacted.
    pub(crate) fn version_at(&self, key: &Bytes, revision: Revision) -> Option<Found> {
        let newest = self.current.get(key);
        let versions = self.older.get(key).map_or(&[][..], Vec::as_slice);
        self.pick(newest, versions, revision)
    }

    /// Calls `visit` with the version of each key of `keys` that existed as of `revision`, in order.
    fn each_at(&self, keys: &KeyRange, revision: Revision, mut visit: impl FnMut(Found)) {
        let Some(bounds) = keys.bounds() else {
            return;
        };
        let mut newest = self.current.range::<[u8], _>(bounds).peekable();
        let mut older = self.older.range::<[u8], _>(bounds).peekable();
        while let Some((kv, versions)) = next_key(&mut newest, &mut older) {
            if let Some(found) = self.pick(kv, versions, revision) {
                visit(found);
            }
        }
    }

    fn pick(&self, newest: Option<&Arc<KeyValue>>, versions: &[Past], revision: Revision) -> Option<Found> {
        if let Some(kv) = newest.filter(|kv| kv.mod_revision <= revision) {
            return Some(Found::Here(Arc::clone(kv)));
        }
        let behind = versions.partition_point(|past| past.revision <= revision);
        let past = versions[..behind].last().filter(|past| !past.tombstone)?;
        let key = (past.revision, past.sub);
        Some(self.unflushed(&key).map_or(Found::Stored(key), |kv| Found::Here(Arc::clone(kv))))
    }

    /// The records of revisions `from..=upto` that are not in the backend yet, in order.
    pub(crate) fn unflushed_between(&self, from: Revision, upto: Revision) -> Vec<Arc<KeyValue>> {
        let keys = (from, 0)..=(upto, u32::MAX);
        let flushing = self.flushing.iter().flat_map(|sealed| sealed.layer.records.range(keys.clone()));
        // The layer that is being written is older than the pending one.
        flushing.chain(self.pending.records.range(keys.clone())).map(|(_, kv)| Arc::clone(kv)).collect()
    }
}

type Newest<'a> = Peekable<btree_map::Range<'a, Bytes, Arc<KeyValue>>>;
type Older<'a> = Peekable<btree_map::Range<'a, Bytes, Vec<Past>>>;

/// The next key of either map, with what both know about it.
fn next_key<'a>(
    newest: &mut Newest<'a>,
    older: &mut Older<'a>,
) -> Option<(Option<&'a Arc<KeyValue>>, &'a [Past])> {
    let order = match (newest.peek(), older.peek()) {
        (None, None) => return None,
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (Some((first, _)), Some((second, _))) => first.cmp(second),
    };
    let kv = if order.is_le() { newest.next().map(|(_, kv)| kv) } else { None };
    let versions =
        if order.is_ge() { older.next().map_or(&[][..], |(_, versions)| versions.as_slice()) } else { &[] };
    Some((kv, versions))
}
