//! Carrying out commands.

use std::sync::Arc;

use bytes::Bytes;

use super::{LeaseState, Mvcc};
use crate::codec::record_len;
use crate::command::{Command, Outcome, Refusal};
use crate::kv::{KeyRange, KeyValue, LeaseId, Revision};
use crate::txn::{Compare, CompareOp, CompareTarget, Op, OpResponse, Put, Txn, TxnResponse};
use crate::watch::{Event, EventKind};

impl Mvcc {
    /// Carries out a command that Raft agreed on.
    pub(crate) fn apply(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Txn(txn) => self.txn(txn).map_or_else(Outcome::Refused, Outcome::Txn),
            Command::Compact(revision) => {
                self.compact(*revision).map_or_else(Outcome::Refused, Outcome::Done)
            }
            Command::LeaseGrant { id, ttl } => self.grant(*id, *ttl),
            Command::LeaseRevoke { id } => self.revoke(*id),
        }
    }

    fn txn(&mut self, txn: &Txn) -> Result<TxnResponse, Refusal> {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        let steps = if succeeded { &txn.then } else { &txn.otherwise };
        // All or nothing: what could refuse a step is looked at before the first one.
        for step in steps {
            if let Op::Put(Put { lease, .. }) = step
                && *lease != 0
                && !self.leases.contains_key(lease)
            {
                return Err(Refusal::LeaseNotFound(*lease));
            }
        }
        let mut changes = Changes::new(self.revision() + 1);
        let mut responses = Vec::with_capacity(steps.len());
        for step in steps {
            responses.push(match step {
                Op::Put(put) => {
                    let prev = self.put(put, &mut changes);
                    OpResponse::Put { prev: prev.filter(|_| put.prev_kv) }
                }
                Op::Delete { keys, prev_kv } => {
                    let prev = self.delete(keys, &mut changes);
                    let deleted = prev.len() as u64;
                    OpResponse::Delete { deleted, prev: if *prev_kv { prev } else { Vec::new() } }
                }
                Op::Range(range) => OpResponse::Range(self.read_current(range, changes.revision_so_far())),
            });
        }
        let revision = self.commit(changes);
        // Reads before the first change of this transaction have to name its revision too.
        for response in &mut responses {
            if let OpResponse::Range(range) = response {
                range.revision = revision;
            }
        }
        Ok(TxnResponse { revision, succeeded, responses })
    }

    /// Whether a condition holds.
    fn holds(&self, compare: &Compare) -> bool {
        let Some(bounds) = compare.keys.bounds() else {
            return matches_fields(compare, None);
        };
        let mut keys = self.current.range::<[u8], _>(bounds).peekable();
        if keys.peek().is_none() {
            return matches_fields(compare, None);
        }
        keys.all(|(_, kv)| matches_fields(compare, Some(kv)))
    }

    fn put(&mut self, put: &Put, changes: &mut Changes) -> Option<Arc<KeyValue>> {
        let old = self.current.get(&put.key).cloned();
        let revision = changes.revision;
        let create = old.as_ref().map_or(revision, |old| old.create_revision);
        let version = old.as_ref().map_or(1, |old| old.version + 1);
        let kv = KeyValue::new(put.key.clone(), put.value.clone(), create, revision, version, put.lease);
        let kv = Arc::new(kv.numbered(changes.next_sub()));
        if let Some(old) = &old {
            self.detach(old.lease, &old.key);
            self.retire(old);
        }
        if let Some(lease) = self.leases.get_mut(&put.lease) {
            lease.keys.insert(put.key.clone());
        }
        self.current.insert(put.key.clone(), Arc::clone(&kv));
        self.record(&kv);
        changes.events.push(Event { kind: EventKind::Put, kv, prev: old.clone() });
        old
    }

    fn delete(&mut self, keys: &KeyRange, changes: &mut Changes) -> Vec<Arc<KeyValue>> {
        let Some(bounds) = keys.bounds() else {
            return Vec::new();
        };
        let doomed: Vec<_> = self.current.range::<[u8], _>(bounds).map(|(_, kv)| Arc::clone(kv)).collect();
        for old in &doomed {
            let mark = Arc::new(KeyValue::tombstone(old.key.clone(), changes.revision, changes.next_sub()));
            self.current.remove(&old.key);
            self.detach(old.lease, &old.key);
            self.retire(old);
            self.retire(&mark);
            self.record(&mark);
            changes.events.push(Event { kind: EventKind::Delete, kv: mark, prev: Some(Arc::clone(old)) });
        }
        doomed
    }

    /// Keeps a new version for the next checkpoint.
    fn record(&mut self, kv: &Arc<KeyValue>) {
        let len = record_len(kv);
        self.data_bytes += len as u64;
        self.pending.bytes += len;
        self.pending.records.insert((kv.mod_revision, kv.sub), Arc::clone(kv));
    }

    fn detach(&mut self, lease: LeaseId, key: &Bytes) {
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.keys.remove(key);
        }
    }

    /// Makes the changes a revision of their own, if there are any.
    fn commit(&mut self, changes: Changes) -> Revision {
        if !changes.events.is_empty() {
            self.marks.revision = changes.revision;
            self.window.push(changes.revision, changes.events);
        }
        self.revision()
    }

    fn grant(&mut self, id: LeaseId, ttl: i64) -> Outcome {
        if self.leases.contains_key(&id) {
            return Outcome::Refused(Refusal::LeaseExists(id));
        }
        self.leases.insert(id, LeaseState { ttl, ..LeaseState::default() });
        self.pending.leases.insert(id, Some(ttl));
        Outcome::Done(self.revision())
    }

    fn revoke(&mut self, id: LeaseId) -> Outcome {
        let Some(lease) = self.leases.remove(&id) else {
            return Outcome::Refused(Refusal::LeaseNotFound(id));
        };
        self.pending.leases.insert(id, None);
        let mut changes = Changes::new(self.revision() + 1);
        for key in lease.keys {
            self.delete(&KeyRange::One(key), &mut changes);
        }
        Outcome::Done(self.commit(changes))
    }
}

/// The changes of one transaction on their way to a revision.
struct Changes {
    revision: Revision,
    events: Vec<Event>,
}

impl Changes {
    fn new(revision: Revision) -> Changes {
        Changes { revision, events: Vec::new() }
    }

    /// A key changes at most once in a revision, so the number of events numbers the changes.
    fn next_sub(&self) -> u32 {
        self.events.len() as u32
    }

    fn revision_so_far(&self) -> Revision {
        if self.events.is_empty() { self.revision - 1 } else { self.revision }
    }
}

/// Judges one key; `None` is a key that does not exist: all its numbers are 0, and it has no value to compare.
fn matches_fields(compare: &Compare, kv: Option<&Arc<KeyValue>>) -> bool {
    let number = |of: fn(&KeyValue) -> i64| kv.map_or(0, |kv| of(kv));
    let ordering = match &compare.target {
        CompareTarget::Version(operand) => number(|kv| kv.version).cmp(operand),
        CompareTarget::CreateRevision(operand) => number(|kv| kv.create_revision).cmp(operand),
        CompareTarget::ModRevision(operand) => number(|kv| kv.mod_revision).cmp(operand),
        CompareTarget::Lease(operand) => number(|kv| kv.lease).cmp(operand),
        CompareTarget::Value(operand) => match kv {
            None => return false,
            Some(kv) => kv.value.cmp(operand),
        },
    };
    match compare.op {
        CompareOp::Equal => ordering.is_eq(),
        CompareOp::NotEqual => ordering.is_ne(),
        CompareOp::Greater => ordering.is_gt(),
        CompareOp::Less => ordering.is_lt(),
    }
}
