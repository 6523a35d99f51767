//! What can be asked of the store, and what it answers: transactions and range reads.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::WriteError;
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
    /// Read as of this point of the transaction.
    Range(Range),
}

/// A key to write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Put {
    /// The key; not empty.
    pub key: Bytes,
    /// The bytes.
    pub value: Bytes,
    /// The lease it goes away with; 0 for none.
    pub lease: LeaseId,
    /// Whether to answer with what the key held before.
    pub prev_kv: bool,
}

/// A read of a range of keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Which keys.
    pub keys: KeyRange,
    /// As of which revision; `None`: the newest. Inside a transaction only `None` is possible.
    pub revision: Option<Revision>,
    /// At most so many keys; 0 for all.
    pub limit: usize,
    /// Answer only with the number of keys.
    pub count_only: bool,
    /// Answer without the values.
    pub keys_only: bool,
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
}

/// The answer to a read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

    /// Whether it could write a key.
    pub(crate) fn puts(&self) -> bool {
        self.then.iter().chain(&self.otherwise).any(|op| matches!(op, Op::Put(_)))
    }

    /// Checks what can be checked without knowing the keys: sizes and contradictions.
    pub(crate) fn check(&self, max_ops: usize) -> Result<(), WriteError> {
        for ops in [self.compare.len(), self.then.len(), self.otherwise.len()] {
            if ops > max_ops {
                return Err(WriteError::TooManyOps { ops, limit: max_ops });
            }
        }
        check_steps(&self.then)?;
        check_steps(&self.otherwise)
    }
}

/// A key may change only once in a revision, so no key may be put twice, or put and deleted, in one branch.
fn check_steps(steps: &[Op]) -> Result<(), WriteError> {
    let mut put = std::collections::BTreeSet::new();
    for step in steps {
        match step {
            Op::Put(one) if one.key.is_empty() => return Err(WriteError::EmptyKey),
            Op::Put(one) if !put.insert(one.key.as_ref()) => {
                return Err(WriteError::DuplicateKey(one.key.clone()));
            }
            Op::Range(Range { revision: Some(_), .. }) => return Err(WriteError::RevisionInTxn),
            Op::Put(_) | Op::Delete { .. } | Op::Range(_) => {}
        }
    }
    for step in steps {
        if let Op::Delete { keys, .. } = step {
            let hit = keys.bounds().and_then(|bounds| put.range::<[u8], _>(bounds).next());
            if let Some(key) = hit {
                return Err(WriteError::DuplicateKey(Bytes::copy_from_slice(key)));
            }
        }
    }
    Ok(())
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
        Op::Put(Put { key: key.into(), value: value.into(), lease: 0, prev_kv: false })
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
        Range { keys, revision: None, limit: 0, count_only: false, keys_only: false, serializable: false }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_change_only_once_in_a_branch() {
        let twice = Txn::of(vec![Op::put("a", "1"), Op::put("a", "2")]);
        assert!(matches!(twice.check(8), Err(WriteError::DuplicateKey(key)) if key == "a"));
        let put_and_deleted =
            Txn::of(vec![Op::Delete { keys: KeyRange::prefix("a"), prev_kv: false }, Op::put("ab", "")]);
        assert!(matches!(put_and_deleted.check(8), Err(WriteError::DuplicateKey(key)) if key == "ab"));
        let in_each_branch = Txn::put("a", "1").or_else(Op::put("a", "2"));
        assert!(in_each_branch.check(8).is_ok());
    }

    #[test]
    fn limits_and_nonsense_are_refused() {
        let many = Txn::of((0..9).map(|i| Op::put(format!("{i}"), "")).collect());
        assert!(matches!(many.check(8), Err(WriteError::TooManyOps { ops: 9, limit: 8 })));
        assert!(matches!(Txn::put("", "x").check(8), Err(WriteError::EmptyKey)));
        let old = Txn::of(vec![Op::Range(Range::key("a").at(3))]);
        assert!(matches!(old.check(8), Err(WriteError::RevisionInTxn)));
    }
}
