//! Carrying out commands.

use std::sync::Arc;

use bytes::Bytes;

use super::{LeaseState, Mvcc};
use crate::alarm::{Alarm, AlarmKind};
use crate::codec::record_len;
use crate::command::{Command, Outcome, Refusal};
use crate::kv::{KeyRange, KeyValue, LeaseId, Revision};
use crate::txn::{
    Compare, CompareOp, CompareTarget, Op, OpResponse, Put, Range, RangeResponse, Txn, TxnResponse,
};
use crate::watch::{Event, EventKind};

impl Mvcc {
    /// Carries out a command that Raft agreed on.
    pub(crate) fn apply(&mut self, command: &Command) -> Outcome {
        // As in etcd: nothing but alarms.
        if self.alarmed(AlarmKind::Corrupt) && !matches!(command, Command::Alarm { .. }) {
            return Outcome::Refused(Refusal::Corrupt);
        }
        match command {
            Command::Txn(txn) => self.txn(txn).map_or_else(Outcome::Refused, Outcome::Txn),
            Command::Compact(revision) => {
                self.compact(*revision).map_or_else(Outcome::Refused, Outcome::Done)
            }
            Command::LeaseGrant { id, ttl } => self.grant(*id, *ttl),
            Command::LeaseRevoke { id } => self.revoke(*id),
            Command::Alarm { alarm, raise } => self.alarm(*alarm, *raise),
        }
    }

    /// Whether an alarm of this kind keeps writes out.
    fn alarmed(&self, kind: AlarmKind) -> bool {
        self.marks.alarms.iter().any(|alarm| alarm.kind == kind)
    }

    fn txn(&mut self, txn: &Txn) -> Result<TxnResponse, Refusal> {
        if self.alarmed(AlarmKind::NoSpace) && txn.puts() {
            return Err(Refusal::NoSpace);
        }
        // All or nothing: what is going to be done is decided, and looked at, before the first change.
        let path = self.path(txn);
        self.check_path(&path)?;
        let mut changes = Changes::new(self.revision() + 1);
        let mut response = self.follow(&path, &mut changes);
        self.tally.txns += u64::from(txn.then.len() != 1 || !txn.compare.is_empty());
        // Reads before the first change of this transaction have to name its revision too.
        response.set_revision(self.commit(changes));
        Ok(response)
    }

    /// Decides which branches are taken.
    fn path<'a>(&self, txn: &'a Txn) -> Path<'a> {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        let steps = if succeeded { &txn.then } else { &txn.otherwise };
        let inside = steps.iter().filter_map(|step| match step {
            Op::Txn(inside) => Some(self.path(inside)),
            Op::Put(_) | Op::Delete { .. } | Op::Range(_) => None,
        });
        Path { succeeded, steps, inside: inside.collect() }
    }

    fn check_path(&self, path: &Path<'_>) -> Result<(), Refusal> {
        for step in path.steps {
            match step {
                Op::Put(put) => self.check_put(put)?,
                Op::Range(Range { revision: Some(revision), .. }) => self.check_revision(*revision)?,
                Op::Range(_) | Op::Delete { .. } | Op::Txn(_) => {}
            }
        }
        path.inside.iter().try_for_each(|inside| self.check_path(inside))
    }

    fn check_put(&self, put: &Put) -> Result<(), Refusal> {
        if (put.ignore_value || put.ignore_lease) && !self.current.contains_key(&put.key) {
            return Err(Refusal::KeyNotFound(put.key.clone()));
        }
        if put.lease != 0 && !put.ignore_lease && !self.leases.contains_key(&put.lease) {
            return Err(Refusal::LeaseNotFound(put.lease));
        }
        Ok(())
    }

    fn check_revision(&self, requested: Revision) -> Result<(), Refusal> {
        let (compacted, current) = (self.compacted(), self.revision());
        if requested > current {
            return Err(Refusal::FutureRevision { requested, current });
        }
        if requested > 0 && requested < compacted {
            return Err(Refusal::Compacted { requested, compacted });
        }
        Ok(())
    }

    fn follow(&mut self, path: &Path<'_>, changes: &mut Changes) -> TxnResponse {
        let mut inside = path.inside.iter();
        let mut responses = Vec::with_capacity(path.steps.len());
        for step in path.steps {
            responses.push(match step {
                Op::Put(put) => {
                    let prev = self.put(put, changes);
                    OpResponse::Put { prev: prev.filter(|_| put.prev_kv) }
                }
                Op::Delete { keys, prev_kv } => {
                    let prev = self.delete(keys, changes);
                    let deleted = prev.len() as u64;
                    OpResponse::Delete { deleted, prev: if *prev_kv { prev } else { Vec::new() } }
                }
                Op::Range(range) => self.look(range, changes.revision_so_far()),
                // There is a path for each of them, in order.
                Op::Txn(_) => match inside.next() {
                    Some(path) => OpResponse::Txn(self.follow(path, changes)),
                    None => continue,
                },
            });
        }
        TxnResponse { revision: 0, succeeded: path.succeeded, responses }
    }

    /// Answers a transaction that changes nothing, for which no entry in the log is needed.
    pub(crate) fn read_txn(&self, txn: &Txn) -> Result<TxnResponse, Refusal> {
        if self.alarmed(AlarmKind::Corrupt) {
            return Err(Refusal::Corrupt);
        }
        let path = self.path(txn);
        self.check_path(&path)?;
        let mut response = self.look_along(&path);
        response.set_revision(self.revision());
        Ok(response)
    }

    /// The reads of a path on which there is nothing else.
    fn look_along(&self, path: &Path<'_>) -> TxnResponse {
        let mut inside = path.inside.iter();
        let answer = |step: &Op| match step {
            Op::Range(range) => Some(self.look(range, self.revision())),
            Op::Txn(_) => inside.next().map(|path| OpResponse::Txn(self.look_along(path))),
            Op::Put(_) | Op::Delete { .. } => None,
        };
        let responses = path.steps.iter().filter_map(answer).collect();
        TxnResponse { revision: 0, succeeded: path.succeeded, responses }
    }

    /// Answers a read within a transaction.
    fn look(&self, range: &Range, revision: Revision) -> OpResponse {
        if range.revision.is_some() {
            // Whoever asked reads it afterwards: it may be on disk, and cannot change any more.
            return OpResponse::Range(RangeResponse::default());
        }
        let mut response = self.read_current(&range.to_fetch(), revision);
        range.arrange(&mut response);
        OpResponse::Range(response)
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
        let kept = |ignore: bool| old.as_ref().filter(|_| ignore);
        let value = kept(put.ignore_value).map_or(&put.value, |old| &old.value).clone();
        let lease = kept(put.ignore_lease).map_or(put.lease, |old| old.lease);
        let kv = KeyValue::new(put.key.clone(), value, create, revision, version, lease);
        let kv = Arc::new(kv.numbered(changes.next_sub()));
        if let Some(old) = &old {
            self.detach(old.lease, &old.key);
            self.retire(old);
        }
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.keys.insert(put.key.clone());
        }
        self.current.insert(put.key.clone(), Arc::clone(&kv));
        self.record(&kv);
        self.tally.puts += 1;
        changes.events.push(Event::new(EventKind::Put, kv, old.clone()));
        old
    }

    fn delete(&mut self, keys: &KeyRange, changes: &mut Changes) -> Vec<Arc<KeyValue>> {
        let Some(bounds) = keys.bounds() else {
            return Vec::new();
        };
        let doomed: Vec<_> = self.current.range::<[u8], _>(bounds).map(|(_, kv)| Arc::clone(kv)).collect();
        self.tally.deletes += doomed.len() as u64;
        for old in &doomed {
            let mark = Arc::new(KeyValue::tombstone(old.key.clone(), changes.revision, changes.next_sub()));
            self.current.remove(&old.key);
            self.detach(old.lease, &old.key);
            self.retire(old);
            self.retire(&mark);
            self.record(&mark);
            changes.events.push(Event::new(EventKind::Delete, mark, Some(Arc::clone(old))));
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

    fn alarm(&mut self, alarm: Alarm, raise: bool) -> Outcome {
        if raise {
            self.marks.alarms.insert(alarm);
        } else {
            self.marks.alarms.remove(&alarm);
        }
        Outcome::Done(self.revision())
    }

    fn grant(&mut self, id: LeaseId, ttl: i64) -> Outcome {
        if self.alarmed(AlarmKind::NoSpace) {
            return Outcome::Refused(Refusal::NoSpace);
        }
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

/// What a transaction is going to do.
struct Path<'a> {
    succeeded: bool,
    steps: &'a [Op],
    /// The same for each transaction among the steps.
    inside: Vec<Path<'a>>,
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
