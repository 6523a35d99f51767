//! What can be asked of the store, and what it answers: transactions and range reads.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::arrange::{Limits, Sort};
use crate::kv::{KeyRange, KeyValue, LeaseId, Revision};

/// If all of `compare` hold, do `then`, else do `otherwise`. All or nothing, and in one revision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Txn {
    /// What must hold. None: `then` is done.
    pub compare: Vec<Compare>,
    /// Done in order if all comparisons hold; later reads see earlier changes.
    pub then: Vec<Op>,
    /// Done in order if one does not.
    pub otherwise: Vec<Op>,
}

/// One condition on a key (or on all keys of a range).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compare {
    /// The keys it is about. With more than one key, it has to hold for each; with none that exists, it is judged
    /// as for one key that does not exist.
    pub keys: KeyRange,
    /// How the key's field relates to the operand.
    pub op: CompareOp,
    /// Which field, and the operand. A key that does not exist has 0 in all fields; comparisons of its value fail.
    pub target: CompareTarget,
}

/// `field op operand`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareOp {
    /// The field equals the operand.
    Equal,
    /// The field differs from the operand.
    NotEqual,
    /// The field is greater than the operand.
    Greater,
    /// The field is less than the operand.
    Less,
}

/// The field of a key that is compared, with the operand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CompareTarget {
    /// Puts since the key came to be.
    Version(i64),
    /// Revision in which the key came to be; 0 if it does not exist.
    CreateRevision(Revision),
    /// Revision of its last change; 0 if it does not exist.
    ModRevision(Revision),
    /// Its bytes.
    Value(Bytes),
    /// Its lease.
    Lease(LeaseId),
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// Write a key.
    Put(Put),
    /// Delete the keys of a range.
    Delete {
        /// Which keys.
        keys: KeyRange,
        /// Whether to answer with what was deleted.
        prev_kv: bool,
    },
    /// Read as of this point of the transaction, or as of an older revision.
    Range(Range),
    /// A transaction inside this one. Its conditions are judged before anything of the whole changes.
    Txn(Txn),
}

/// A key to write.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Put {
    /// The key; not empty.
    pub key: Bytes,
    /// The bytes.
    pub value: Bytes,
    /// The lease it goes away with; 0 for none.
    pub lease: LeaseId,
    /// Whether to answer with what the key held before.
    pub prev_kv: bool,
    /// Keep the value that the key has, which has to exist, and change only the lease.
    pub ignore_value: bool,
    /// Keep the lease that the key has, which has to exist, and change only the value.
    pub ignore_lease: bool,
}

/// A read of a range of keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Which keys.
    pub keys: KeyRange,
    /// As of which revision; `None`: the newest, which inside a transaction includes its own changes so far.
    pub revision: Option<Revision>,
    /// At most so many keys; 0 for all.
    pub limit: usize,
    /// Answer only with the number of keys.
    pub count_only: bool,
    /// Answer without the values.
    pub keys_only: bool,
    /// The order of the answer; `None`: that of the keys. The limit is applied after it.
    pub sort: Option<Sort>,
    /// Which keys to leave out of the answer; they are counted nevertheless.
    pub limits: Limits,
    /// Answer from this member without asking whether it is up to date.
    pub serializable: bool,
}

/// The outcome of a transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TxnResponse {
    /// The store's revision right after the transaction: that of the changes, if it made any.
    pub revision: Revision,
    /// Whether the comparisons held, so that `then` was done.
    pub succeeded: bool,
    /// One answer for each step that was done, in order.
    pub responses: Vec<OpResponse>,
}

/// The answer to one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OpResponse {
    /// Written.
    Put {
        /// What the key held before, if asked for and there was anything.
        prev: Option<Arc<KeyValue>>,
    },
    /// Deleted.
    Delete {
        /// How many keys.
        deleted: u64,
        /// What they held, if asked for.
        prev: Vec<Arc<KeyValue>>,
    },
    /// Read.
    Range(RangeResponse),
    /// What the transaction inside did.
    Txn(TxnResponse),
}

/// The answer to a read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RangeResponse {
    /// The store's newest revision when the read was answered. A read of the newest is exactly as of this revision:
    /// continue a list, or start a watch one behind it.
    pub revision: Revision,
    /// The keys in order, as many as asked for.
    pub kvs: Vec<Arc<KeyValue>>,
    /// Whether the limit left keys out.
    pub more: bool,
    /// How many keys the range holds in all, the limit aside.
    pub count: u64,
}

impl Txn {
    /// A transaction of `then` without conditions.
    pub fn of(then: Vec<Op>) -> Txn {
        Txn { then, ..Txn::default() }
    }

    /// Writes one key, whatever is there.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Txn {
        Txn::of(vec![Op::put(key, value)])
    }

    /// Deletes one key, whatever is there.
    pub fn delete(key: impl Into<Bytes>) -> Txn {
        Txn::of(vec![Op::delete(key)])
    }

    /// Adds a condition.
    #[must_use]
    pub fn when(mut self, compare: Compare) -> Txn {
        self.compare.push(compare);
        self
    }

    /// Adds a step for when a condition does not hold.
    #[must_use]
    pub fn or_else(mut self, op: Op) -> Txn {
        self.otherwise.push(op);
        self
    }
}

impl Compare {
    /// `key` was last changed in `revision`; 0: it does not exist.
    pub fn mod_revision(key: impl Into<Bytes>, revision: Revision) -> Compare {
        let target = CompareTarget::ModRevision(revision);
        Compare { keys: KeyRange::key(key), op: CompareOp::Equal, target }
    }

    /// `key` does not exist.
    pub fn absent(key: impl Into<Bytes>) -> Compare {
        Compare::mod_revision(key, 0)
    }
}

impl Op {
    /// Writes `key` without a lease.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Op {
        Op::Put(Put { key: key.into(), value: value.into(), ..Put::default() })
    }

    /// Deletes `key`.
    pub fn delete(key: impl Into<Bytes>) -> Op {
        Op::Delete { keys: KeyRange::key(key), prev_kv: false }
    }

    /// Reads `key`.
    pub fn get(key: impl Into<Bytes>) -> Op {
        Op::Range(Range::key(key))
    }
}

impl Range {
    /// Reads these keys at the newest revision, all of them, with values, linearizably.
    pub fn of(keys: KeyRange) -> Range {
        Range {
            keys,
            revision: None,
            limit: 0,
            count_only: false,
            keys_only: false,
            sort: None,
            limits: Limits::default(),
            serializable: false,
        }
    }

    /// Reads one key.
    pub fn key(key: impl Into<Bytes>) -> Range {
        Range::of(KeyRange::key(key))
    }

    /// Reads all keys with a prefix.
    pub fn prefix(prefix: impl Into<Bytes>) -> Range {
        Range::of(KeyRange::prefix(prefix))
    }

    /// The same as of `revision`.
    #[must_use]
    pub fn at(self, revision: Revision) -> Range {
        Range { revision: Some(revision), ..self }
    }

    /// The same with at most `limit` keys.
    #[must_use]
    pub fn limit(self, limit: usize) -> Range {
        Range { limit, ..self }
    }
}

impl TxnResponse {
    /// Names the revision everywhere.
    pub(crate) fn set_revision(&mut self, revision: Revision) {
        self.revision = revision;
        for response in &mut self.responses {
            match response {
                OpResponse::Range(range) => range.revision = revision,
                OpResponse::Txn(inside) => inside.set_revision(revision),
                OpResponse::Put { .. } | OpResponse::Delete { .. } => {}
            }
        }
    }

    /// The reads of older revisions, which are not answered yet.
    pub(crate) fn old_reads<'a>(
        &'a mut self,
        txn: &'a Txn,
        reads: &mut Vec<(&'a Range, &'a mut RangeResponse)>,
    ) {
        let steps = if self.succeeded { &txn.then } else { &txn.otherwise };
        for (step, response) in steps.iter().zip(&mut self.responses) {
            match response {
                OpResponse::Range(answer) => {
                    if let Op::Range(range @ Range { revision: Some(_), .. }) = step {
                        reads.push((range, answer));
                    }
                }
                OpResponse::Txn(inside) => {
                    if let Op::Txn(txn) = step {
                        inside.old_reads(txn, reads);
                    }
                }
                OpResponse::Put { .. } | OpResponse::Delete { .. } => {}
            }
        }
    }
}
